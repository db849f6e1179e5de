"""How a tagger is trained, as a recipe file says: data, stages, encoder, folds."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pii.annotations import FORMATS
from pii.chunks import ChunkConfig
from starencoder.config import PRESETS
from starencoder.errors import ConfigError
from starencoder.names import check_name
from starencoder.schedule import OptimizerConfig
from starencoder.toml import from_toml, read_toml


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
class StageConfig:
    """One stage of training: what is seen, for how long. Each goes on from the one before."""

    data: tuple[TrainData, ...]
    steps: int
    batch_size: int = 32
    """Chunks per step."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    outside_weight: float = 1.0
    """Weight in the loss of tokens outside all spans, which are most; below 1 recall gains."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("data is empty; expected at least one file of documents")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 < self.outside_weight < math.inf:
            raise ConfigError(f"outside_weight must be above 0, got {self.outside_weight}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A training run."""

    stages: tuple[StageConfig, ...]
    """Such as made-up or pseudo-labelled documents first, annotated ones after."""
    encoder: str = ""
    """What to start from: a checkpoint directory, or `hub:NAME`; empty: random weights."""
    preset: str = "tiny"
    """Architecture, when no encoder is given."""
    tokenizer: str = ""
    """Directory with `tokenizer.json`; empty: the encoder's."""
    seeds: tuple[int, ...] = (1,)
    """Each is trained; the one with the best F1 over the folds is kept."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of matmuls; weights are always float32."""
    dropout: float = 0.1
    """Share of hidden units dropped in training; the encoder's own may have been 0."""
    folds: int = 5
    """Parts of the last stage's documents, by package, each held out once to choose thresholds and
    the number of steps; 0: neither, the thresholds are all 0.5."""
    evaluate_every: int = 500
    """Steps between evaluations on what a fold holds out."""
    patience: int = 3
    """Evaluations without a better F1 after which a fold stops."""
    average_decay: float = 0.999
    """Decay of the moving average of the weights, which is what is evaluated and saved."""
    train_tokens: int = 126
    """Longest chunk that is learned from, without cls and sep."""
    max_tokens: int = 126
    """Longest chunk when detecting. The shorter, the more text a router spares."""
    stride: int = 112
    """Step between chunks when detecting."""
    save_every: int = 1000
    """Steps between checkpoints, from which an interrupted run goes on."""

    def __post_init__(self) -> None:
        ChunkConfig(max_tokens=self.max_tokens, stride=self.stride)  # checks them
        if self.max_tokens > self.train_tokens:
            raise ConfigError(
                f"max_tokens must be at most train_tokens, {self.train_tokens}: the model has seen "
                f"nothing longer; got {self.max_tokens}"
            )
        if not self.stages:
            raise ConfigError("stages is empty; expected at least one [[stages]]")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("seeds must be different whole numbers, 0 or more; at least one")
        if self.folds < 0 or self.folds == 1:
            raise ConfigError(f"folds must be 0, or 2 or more, got {self.folds}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")
        for name in ("evaluate_every", "patience", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.average_decay < 1:
            raise ConfigError(f"average_decay must be in [0, 1), got {self.average_decay}")
        if not self.encoder:
            check_name("preset", self.preset, PRESETS)
            if not self.tokenizer:
                raise ConfigError("tokenizer is missing; without an encoder there is none to take")


def read_recipe(path: Path) -> TrainConfig:
    """Read a recipe; relative paths in it are relative to the current directory.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown, missing, of another type or
            out of range.
    """
    return from_toml(TrainConfig, read_toml(path), str(path))
