"""Model directories: `config.json` and `model.safetensors` to a model and back.

The layout is that of Hugging Face's BERT: `transformers` loads what is saved here, and what it
saves is loaded here. Tensors that are missing, unexpected or of another shape are errors.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from starencoder.config import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    TaggerConfig,
    load_config,
    load_tagger_config,
    refuse_lone_pickle,
)
from starencoder.errors import CheckpointError, MissingExtraError
from starencoder.files import write_whole
from starencoder.model import Encoder, PretrainingModel, TokenClassifier

_TIED = {
    # Other writers store these copies; here the second name holds the only one.
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_POSITION_IDS = "bert.embeddings.position_ids"
"""A constant 0, 1, 2, ... that transformers before 4.31 stored."""

_HUB = "hub:"
_LISTED = 8
"""Tensor names an error message lists before it only counts."""


def save_pretraining(
    model: PretrainingModel, directory: Path, *, dtype: torch.dtype = torch.float32
) -> None:
    """Write a pretraining checkpoint; `dtype` is that of the stored weights.

    Raises:
        CheckpointError: A weight is not finite, or not any more in `dtype`; nothing is written.
        OutputError: The directory cannot be written.
    """
    values = model.config.to_json()
    _save(model, "BertForPreTraining", values, directory, dtype)


def load_pretraining(directory: Path) -> PretrainingModel:
    """Read a pretraining checkpoint into a float32 model on the CPU, in evaluation mode.

    Raises:
        CheckpointError: A file is missing or damaged, or its tensors are not this architecture's.
    """
    model = PretrainingModel(load_config(directory))
    path, tensors = read_weights(directory)
    _load_into(model, tensors, path)
    return model.eval()


def load_encoder_weights(encoder: Encoder, directory: Path) -> None:
    """Start an encoder from any checkpoint's `bert.*` tensors; the checkpoint's heads stay behind.

    A pooler is loaded if the encoder has one and left behind otherwise.

    Raises:
        CheckpointError: As `load_pretraining`, or the checkpoint's config is not the encoder's.
    """
    found = load_config(directory)
    for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size"):
        # Heads do not show in any tensor's shape, so a mismatch would pass unseen.
        if getattr(found, name) != getattr(encoder.config, name):
            raise CheckpointError(
                f"{directory / CONFIG_FILE}: {name} is {getattr(found, name)}, "
                f"the encoder to start has {getattr(encoder.config, name)}"
            )
    path, tensors = read_weights(directory)
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    if encoder.pooler is None:
        kept = {name: tensor for name, tensor in kept.items() if "bert.pooler." not in name}
    _load_into(encoder, kept, path, prefix="bert.")


def resolve_encoder(name: str) -> Path:
    """The directory of a checkpoint: itself, or for `hub:NAME` where the hub's copy was put.

    Raises:
        CheckpointError: The hub has no such model, or cannot be reached.
        MissingExtraError: The package huggingface_hub is not installed.
    """
    if not name.startswith(_HUB):
        return Path(name)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise MissingExtraError(
            f"huggingface_hub is not installed; {name} needs it: pip install 'starencoder[train]'"
        ) from error
    repository = name.removeprefix(_HUB)
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{name}: cannot be fetched ({type(error).__name__}); check the name, the network, and "
            f"that you are logged in where access is granted by request"
        ) from error


def save_tagger(
    model: TokenClassifier,
    directory: Path,
    *,
    id2label: Mapping[int, str],
    pii: Mapping[str, object],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a token classifier; `pii` is stored as is under the key "pii" of config.json.

    Raises:
        CheckpointError: A weight is not finite, or not any more in `dtype`; nothing is written.
        OutputError: The directory cannot be written.
    """
    if sorted(id2label) != list(range(model.num_labels)):
        raise ValueError(f"id2label must number the model's {model.num_labels} outputs from 0")
    config = TaggerConfig(encoder=model.config, id2label=id2label, pii=pii)
    _save(model, "BertForTokenClassification", config.to_json(), directory, dtype)


def load_tagger(directory: Path) -> tuple[TokenClassifier, TaggerConfig]:
    """Read a token classifier into a float32 model on the CPU, in evaluation mode.

    Raises:
        CheckpointError: A file is missing or damaged, or its tensors are not this architecture's.
    """
    config = load_tagger_config(directory)
    model = TokenClassifier(config.encoder, num_labels=len(config.id2label))
    path, tensors = read_weights(directory)
    _load_into(model, tensors, path)
    return model.eval(), config


def read_weights(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """The tensors in a directory's `model.safetensors`, as stored, and the file's path.

    Raises:
        CheckpointError: The file is missing, cannot be read or is damaged.
    """
    path = directory / WEIGHTS_FILE
    if not path.exists():
        refuse_lone_pickle(directory)
        raise CheckpointError(f"{path}: missing; expected the model's weights there")
    try:
        with safe_open(path, "pt") as file:
            return path, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({path.stat().st_size} bytes; {error}); "
            f"copy or download it again"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_model_directory(
    directory: Path, values: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> None:
    """Write `config.json` and `model.safetensors`, each whole or not at all.

    Raises:
        OutputError: The directory cannot be written.
    """
    # Not save_file, which makes a file that only its owner may read.
    write_whole(directory / WEIGHTS_FILE, save(dict(tensors), metadata={"format": "pt"}))
    write_whole(directory / CONFIG_FILE, (json.dumps(values, indent=2) + "\n").encode())


def _save(
    model: nn.Module,
    architecture: str,
    values: Mapping[str, object],
    directory: Path,
    dtype: torch.dtype,
) -> None:
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{directory}: {name} has values that are not finite in {dtype}; not written"
            )
    stated = {"architectures": [architecture], "dtype": str(dtype).removeprefix("torch."), **values}
    write_model_directory(directory, stated, tensors)


def _load_into(
    model: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, prefix: str = ""
) -> None:
    found = match_weights(model, tensors, path, prefix=prefix)
    model.load_state_dict({name.removeprefix(prefix): found[name] for name in found})


def match_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, prefix: str = ""
) -> dict[str, Tensor]:
    """The tensors that `model` has, under their stored names; every difference is an error.

    Args:
        model: Compared by names and shapes only; it may be on the meta device.
        tensors: What was read. Copies of tied tensors are left out.
        path: The file the errors name.
        prefix: What the stored names have in front of the model's own.

    Raises:
        CheckpointError: Tensors are missing, unexpected, of another shape or not floating-point.
    """
    found = _without_copies(tensors, path)
    wanted = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    misshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    not_float = [
        f"{name} ({found[name].dtype})"
        for name in wanted
        if name in found and not found[name].is_floating_point()
    ]
    problems = [
        f"{kind}: {_shortened(names)}"
        for kind, names in (
            ("missing tensors", missing),
            ("unexpected tensors", unexpected),
            ("tensors of another shape", misshaped),
            ("tensors that are not floating-point", not_float),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{path}: not the weights that {CONFIG_FILE} describes; {'; '.join(problems)}"
        )
    return {name: found[name] for name in wanted}


def _without_copies(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Leave out tensors that repeat another one or a constant, after checking that they do."""
    kept = dict(tensors)
    for copy, original in _TIED.items():
        if copy in kept and original in kept:
            if not torch.equal(kept[copy], kept[original]):
                raise CheckpointError(
                    f"{path}: {copy} differs from {original}; "
                    f"only models that tie the two are supported"
                )
            del kept[copy]
    positions = kept.get(_POSITION_IDS)
    if positions is not None and torch.equal(
        positions.flatten(), torch.arange(positions.numel(), dtype=positions.dtype)
    ):
        del kept[_POSITION_IDS]
    return kept


def _shortened(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
