"""The architecture of an encoder, read from and written to Hugging Face's BERT `config.json`.

Imports no torch, so that detecting and redacting can read a model directory's labels and sizes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starencoder.errors import CheckpointError, ConfigError
from starencoder.files import read_json_object

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PICKLE_FILE = "pytorch_model.bin"

_STARENCODER_VOCAB_AND_PAD = (49156, 49152)
"""`vocab_size` and `pad_token_id` of bigcode/starencoder, whose config.json has no NSP key."""

_JSON_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "layer_norm_eps": "layer_norm_eps",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "initializer_range": "initializer_range",
    "pad_id": "pad_token_id",
}
_DEFAULTED_KEYS = {
    # What Hugging Face's BertConfig assumes where a config.json leaves the key out.
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
_FLOAT_FIELDS = frozenset(
    {"layer_norm_eps", "hidden_dropout", "attention_dropout", "initializer_range"}
)
_REQUIRED_VALUES: Mapping[str, object] = {
    # Another value means another architecture. Only `model_type` may not be left out.
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """A BERT encoder (Devlin et al. 2018): post-layer-norm, exact GELU, learned positions."""

    vocab_size: int
    """Token ids are in `range(vocab_size)`."""
    hidden_size: int
    """Width of a token's vector; a multiple of `num_heads`."""
    num_layers: int
    num_heads: int
    intermediate_size: int
    """Width between the two matrices of a feed-forward block."""
    max_positions: int
    """Longest input in tokens, cls and sep included."""
    pad_id: int
    type_vocab_size: int = 2
    """Number of segment ids: 2 for the pairs of next-sentence prediction."""
    layer_norm_eps: float = 1e-12
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    nsp_is_next_index: int = 1
    """Which NSP logit means "B follows A": 1 in StarEncoder, 0 in Hugging Face's BERT."""

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "intermediate_size",
            "max_positions",
            "type_vocab_size",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{_JSON_KEYS[name]} must be at least 1, got {getattr(self, name)}"
                )
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size ({self.hidden_size}) must be a multiple of "
                f"num_attention_heads ({self.num_heads})"
            )
        if not 0 <= self.pad_id < self.vocab_size:
            raise ConfigError(
                f"pad_token_id must be in 0..{self.vocab_size - 1} (vocab_size is "
                f"{self.vocab_size}), got {self.pad_id}"
            )
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"{_JSON_KEYS[name]} must be in [0, 1), got {getattr(self, name)}"
                )
        for name in ("layer_norm_eps", "initializer_range"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in (0, 1), got {getattr(self, name)}")
        if self.nsp_is_next_index not in (0, 1):
            raise ConfigError(f"nsp_is_next_index must be 0 or 1, got {self.nsp_is_next_index}")

    def to_json(self) -> dict[str, object]:
        """The keys of a Hugging Face BERT `config.json`, plus `nsp_is_next_index`."""
        values: dict[str, object] = dict(_REQUIRED_VALUES)
        values.update({key: getattr(self, name) for name, key in _JSON_KEYS.items()})
        # Read by Hugging Face from a tagger's config; ours has one dropout for both places.
        values["classifier_dropout"] = None
        values["nsp_is_next_index"] = self.nsp_is_next_index
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "EncoderConfig":
        """Read the keys of a Hugging Face BERT `config.json`.

        Keys that do not change the architecture (`use_cache`, `transformers_version`, ...) are left
        alone. Without `nsp_is_next_index` the convention is StarEncoder's for StarEncoder's
        vocabulary and Hugging Face's for any other.

        Raises:
            ConfigError: A key is missing, has a value of the wrong type, or asks for another
                architecture; the key is named.
        """
        for key, wanted in _REQUIRED_VALUES.items():
            if key == "model_type" and key not in values:
                raise ConfigError('model_type is missing; expected "bert"')
            if values.get(key, wanted) != wanted:
                raise ConfigError(
                    f"{key} is {json.dumps(values[key])}; only {json.dumps(wanted)} is supported"
                )
        fields: dict[str, int | float] = {}
        for name, key in _JSON_KEYS.items():
            value = values.get(key, _DEFAULTED_KEYS.get(key))
            number = (int, float) if name in _FLOAT_FIELDS else int
            if key not in values and value is None:
                raise ConfigError(f"{key} is missing")
            if not isinstance(value, number) or isinstance(value, bool):
                kind = "a number" if name in _FLOAT_FIELDS else "a whole number"
                raise ConfigError(f"{key} is {json.dumps(value)}; expected {kind}")
            fields[name] = value
        classifier_dropout = values.get("classifier_dropout")
        if classifier_dropout is not None and classifier_dropout != fields["hidden_dropout"]:
            raise ConfigError(
                f"classifier_dropout is {json.dumps(classifier_dropout)}; only null or the value "
                f"of hidden_dropout_prob ({fields['hidden_dropout']}) is supported"
            )
        is_starencoder = (fields["vocab_size"], fields["pad_id"]) == _STARENCODER_VOCAB_AND_PAD
        nsp = values.get("nsp_is_next_index", int(is_starencoder))
        if not isinstance(nsp, int) or isinstance(nsp, bool):
            raise ConfigError(f"nsp_is_next_index is {json.dumps(nsp)}; expected 0 or 1")
        return cls(**fields, nsp_is_next_index=nsp)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggerConfig:
    """An encoder with a token-classification head, as its `config.json` describes it."""

    encoder: EncoderConfig
    id2label: Mapping[int, str]
    """Tag of each output column; ids are `range(len(id2label))`."""
    pii: Mapping[str, object] = field(default_factory=dict)
    """Key "pii" of config.json: what the tagger's training fixed (chunks, operating points)."""

    def to_json(self) -> dict[str, object]:
        """The keys of a Hugging Face token-classification `config.json`, plus "pii"."""
        values = self.encoder.to_json()
        values["id2label"] = {str(index): label for index, label in sorted(self.id2label.items())}
        values["label2id"] = {label: index for index, label in sorted(self.id2label.items())}
        values["pii"] = dict(self.pii)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "TaggerConfig":
        """Read a token-classification `config.json`; "pii" may be missing, `id2label` may not.

        Raises:
            ConfigError: As `EncoderConfig.from_json`, and where id2label is not a full numbering.
        """
        encoder = EncoderConfig.from_json(values)
        raw = values.get("id2label")
        if not isinstance(raw, dict) or not raw:
            raise ConfigError(
                "id2label is missing or empty; expected the tag of each id "
                "(is this a pretraining checkpoint rather than a tagger?)"
            )
        if set(raw) != {str(index) for index in range(len(raw))}:
            raise ConfigError(f"id2label must number its {len(raw)} tags 0..{len(raw) - 1}")
        labels = {index: raw[str(index)] for index in range(len(raw))}
        for index, label in labels.items():
            if not isinstance(label, str):
                raise ConfigError(f"id2label maps {index} to {json.dumps(label)}; expected a tag")
        if len(set(labels.values())) != len(labels):
            raise ConfigError("id2label names the same tag twice")
        pii = values.get("pii", {})
        if not isinstance(pii, dict):
            raise ConfigError(f"pii is {json.dumps(pii)}; expected an object")
        return cls(encoder=encoder, id2label=labels, pii=pii)


PRESETS: Mapping[str, EncoderConfig] = {
    # bigcode/starencoder as models derived from it publish it.
    "starencoder-125m": EncoderConfig(
        vocab_size=49156,
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        intermediate_size=3072,
        max_positions=1024,
        pad_id=49152,
    ),
    # The embedded model: small enough for the wheel and for a laptop's core.
    "tiny": EncoderConfig(
        vocab_size=16384,
        hidden_size=256,
        num_layers=3,
        num_heads=4,
        intermediate_size=1024,
        max_positions=128,
        pad_id=16380,
        # Attention dropout would leave torch's fast CPU kernel.
        attention_dropout=0.0,
    ),
}


def load_config(directory: Path) -> EncoderConfig:
    """Read the architecture in a model directory's `config.json`.

    Raises:
        CheckpointError: The file is missing or does not describe a BERT encoder.
    """
    values = read_config_json(directory)
    try:
        return EncoderConfig.from_json(values)
    except ConfigError as error:
        raise CheckpointError(f"{directory / CONFIG_FILE}: {error}") from error


def load_tagger_config(directory: Path) -> TaggerConfig:
    """Read the architecture and the tags in a tagger directory's `config.json`.

    Raises:
        CheckpointError: The file is missing or does not describe a BERT token classifier.
    """
    values = read_config_json(directory)
    try:
        return TaggerConfig.from_json(values)
    except ConfigError as error:
        raise CheckpointError(f"{directory / CONFIG_FILE}: {error}") from error


def refuse_lone_pickle(directory: Path) -> None:
    """Say how to convert a directory whose only weights are a pickle.

    Raises:
        CheckpointError: It is one.
    """
    if (directory / PICKLE_FILE).is_file() and not (directory / WEIGHTS_FILE).exists():
        raise CheckpointError(
            f"{directory}: only {PICKLE_FILE} found, a pickle, which is never loaded here; "
            f"convert it with: starencoder export convert {directory} OUT"
        )


def read_config_json(directory: Path) -> dict[str, object]:
    """The object in a model directory's `config.json`.

    Raises:
        CheckpointError: The directory or the file is missing, or it is not a JSON object.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such model directory")
    path = directory / CONFIG_FILE
    try:
        return read_json_object(path, CheckpointError, advice="write or download the file again")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: missing; a model directory has config.json, model.safetensors "
            f"and tokenizer.json"
        ) from error
