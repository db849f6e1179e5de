"""Fine-tune a token classifier on annotated documents, as one recipe file says."""

import dataclasses
import logging
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pii.annotations import FORMATS, Document, load_label_map, read_annotated
from pii.chunks import ChunkConfig
from pii.dataset import Batch, TokenisedDocument, iter_batches, tokenise
from pii.harvest import harvest_words
from pii.labels import IGNORE_TARGET, LABELS, OPERATING_POINTS, TAGS
from pii.synthesize import revalue
from pii.values import ValueMaker
from starencoder.checkpoint import load_encoder_weights, save_tagger
from starencoder.config import PRESETS, EncoderConfig, load_config
from starencoder.errors import ConfigError, DataError
from starencoder.model import TokenClassifier, flushed_denormals
from starencoder.names import check_name
from starencoder.tokenizer import CodeTokenizer, copy_tokenizer, load_tokenizer
from starencoder.toml import from_toml, read_toml

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainData:
    """One source of annotated documents."""

    path: str
    """A file, or `hub:NAME[:SPLIT]`, as `pii.annotations.read_annotated` reads them."""
    format: str = "auto"
    """One of `pii.annotations.FORMATS`."""
    label_map: str = ""
    """A TOML file of foreign labels, laid over the package's own."""
    copies: int = 1
    """How often the documents are seen per epoch."""
    revalue: bool = False
    """Whether every copy but the first gets fresh values in its spans."""

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ConfigError(f"copies must be 1 or more, got {self.copies}")
        check_name("format", self.format, FORMATS)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A training run, as its recipe file says."""

    data: tuple[TrainData, ...]
    tokenizer: str
    """Directory with `tokenizer.json`."""
    preset: str = "tiny"
    """Architecture, when no encoder is given."""
    encoder: str = ""
    """Checkpoint directory to start from; empty: random weights of the preset."""
    seed: int = 1
    steps: int = 10_000
    batch_size: int = 64
    """Chunks per step."""
    learning_rate: float = 5e-4
    """Peak; it rises over the warm-up and falls linearly to 0."""
    warmup_steps: int = 300
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    average_decay: float = 0.999
    """Decay of the moving average of the weights, which is what is saved."""
    max_tokens: int = 126
    """Longest chunk, without cls and sep."""
    stride: int = 112
    """Step between chunks when detecting."""
    save_every: int = 2000
    """Steps between saves of the averaged weights."""

    def __post_init__(self) -> None:
        ChunkConfig(max_tokens=self.max_tokens, stride=self.stride)  # checks them
        for name in ("steps", "batch_size", "warmup_steps", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}")


def read_recipe(path: Path) -> TrainConfig:
    """Read a recipe; relative paths in it are relative to the current directory.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown, missing, of another type or
            out of range.
    """
    return from_toml(TrainConfig, read_toml(path), str(path))


@flushed_denormals()
def train(config: TrainConfig, output: Path, *, threads: int = 0) -> None:
    """Train a tagger and write its directory: config, averaged weights, tokenizer.

    Thresholds are all 0.5 until `starencoder pii calibrate` sets them.

    Raises:
        ConfigError: The recipe names no data or an unknown preset, its chunks are too long for the
            model, or the loss is not finite.
        CheckpointError: The tokenizer or the encoder to start from cannot be loaded.
        DataError: A data file is not of the stated form, or there is no text in any.
    """
    if not config.data:
        raise ConfigError("the recipe has no [[data]]; expected at least one file of documents")
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    tokenizer = load_tokenizer(Path(config.tokenizer))
    architecture = _architecture(config, tokenizer)
    if config.max_tokens + 2 > architecture.max_positions:
        raise ConfigError(
            f"max_tokens must be at most {architecture.max_positions - 2}: the model reads "
            f"{architecture.max_positions} tokens, cls and sep included; got {config.max_tokens}"
        )
    documents = _load(config, tokenizer)
    if not any(len(document.ids) for document in documents):
        raise DataError("the recipe's data hold no text; expected annotated documents")
    model = TokenClassifier(architecture, num_labels=len(TAGS))
    if config.encoder:
        load_encoder_weights(model.bert, Path(config.encoder))
    average = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    optimiser = torch.optim.AdamW(
        _parameter_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(
            (step + 1) / config.warmup_steps,
            max(0.0, (config.steps - step) / max(1, config.steps - config.warmup_steps)),
        ),
    )
    model.train()
    started, tokens, losses = time.monotonic(), 0, []
    for step, batch in zip(
        range(1, config.steps + 1), _epochs(documents, tokenizer, config, rng), strict=False
    ):
        loss = _loss(model, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimiser.step()
        schedule.step()
        # A decay that grows with the steps, so that the random start is forgotten.
        decay = min(config.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, weight in model.state_dict().items():
                average[name].lerp_(weight, 1 - decay)
        tokens += int(batch.attention_mask.sum())
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ConfigError(f"step {step}: the loss is not finite; lower learning_rate")
        if step % 100 == 0:
            rate = tokens / (time.monotonic() - started)
            _LOG.info(
                "step %d of %d  loss %.4f  %.0f tokens/s  %.0f min left",
                step,
                config.steps,
                sum(losses[-100:]) / 100,
                rate,
                (config.steps - step) * (time.monotonic() - started) / step / 60,
            )
        if step % config.save_every == 0 or step == config.steps:
            _save(model, average, config, output)


def _architecture(config: TrainConfig, tokenizer: CodeTokenizer) -> EncoderConfig:
    if config.encoder:
        return load_config(Path(config.encoder))
    if config.preset not in PRESETS:
        raise ConfigError(f"unknown preset {config.preset!r}; known: {', '.join(PRESETS)}")
    return dataclasses.replace(
        PRESETS[config.preset], vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id
    )


def _load(config: TrainConfig, tokenizer: CodeTokenizer) -> list[TokenisedDocument]:
    """All copies of all documents, tokenised."""
    files = []
    for data in config.data:
        names = load_label_map(Path(data.label_map) if data.label_map else None)
        read = read_annotated(data.path, format=data.format, label_map=names)
        files.append((data, read.documents))
        for reason, count in read.report.left_out.items():
            _LOG.info("%s: left out: %d x %s", data.path, count, reason)
    rng = random.Random(config.seed)
    values = ValueMaker(rng, harvest_words(d.text for _, documents in files for d in documents))
    loaded: list[TokenisedDocument] = []
    for data, documents in files:
        copies: list[Document] = list(documents)
        for _ in range(data.copies - 1):
            copies += [revalue(d, values, rng) for d in documents] if data.revalue else documents
        before = len(loaded)
        loaded += tokenise(copies, tokenizer)
        tokens = sum(len(document.ids) for document in loaded[before:])
        _LOG.info("%s: %d documents, %d tokens", data.path, len(copies), tokens)
    return loaded


def _epochs(
    documents: list[TokenisedDocument],
    tokenizer: CodeTokenizer,
    config: TrainConfig,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    chunks = ChunkConfig(max_tokens=config.max_tokens, stride=config.stride)
    while True:
        yield from iter_batches(documents, tokenizer, chunks, batch_size=config.batch_size, rng=rng)


def _loss(model: TokenClassifier, batch: Batch) -> Tensor:
    logits = model(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
    return functional.cross_entropy(
        logits.flatten(0, 1),
        torch.from_numpy(batch.targets).flatten(),
        ignore_index=IGNORE_TARGET,
    )


def _parameter_groups(model: TokenClassifier, decay: float) -> list[dict[str, object]]:
    """Weight decay on matrices, none on biases and layer norms."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _save(
    model: TokenClassifier, average: dict[str, Tensor], config: TrainConfig, output: Path
) -> None:
    own = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(average)
    even = dict.fromkeys(LABELS, 0.5)
    settings = {
        "max_tokens": config.max_tokens,
        "stride": config.stride,
        "operating_points": dict.fromkeys(OPERATING_POINTS, even),
    }
    save_tagger(
        model,
        output,
        id2label=dict(enumerate(TAGS)),
        pii=settings,
        dtype=torch.float16,
    )
    model.load_state_dict(own)
    copy_tokenizer(Path(config.tokenizer), output)
