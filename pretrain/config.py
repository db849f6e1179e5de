"""A pretraining run as one TOML file says it: corpus, model, optimiser, schedule, run directory."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from starencoder.config import PRESETS, EncoderConfig
from starencoder.errors import ConfigError
from starencoder.names import check_name
from starencoder.schedule import OptimizerConfig
from starencoder.toml import from_toml, merge, parse_overrides, read_toml

PRESET_FOLDER = Path(__file__).with_name("presets")

MaskPolicy = Literal["80-10-10", "mask"]


MOST_WEIGHT = 100
"""A document that is seen more often in an epoch is learnt by heart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Where documents come from."""

    path: str
    """A file, a folder, a glob, a URL that fsspec opens (`s3://`, `hf://`, ...), or, with the
    format `hub`, the name of a dataset."""
    format: Literal["parquet", "jsonl", "files", "hub"] = "parquet"
    """`files`: source files below a folder; `hub`: streamed by the package datasets."""
    kind: Literal["code", "issues", "commits"] = "code"
    """`issues` and `commits` are put together from their columns, with StarCoder's sentinels."""
    text_column: str = "content"
    """Column of the text, also of issues and commits that are formatted already."""
    language_column: str = ""
    """Column of the language; empty: `lang` or `language`, if there is one."""
    language: str = ""
    """Language of all documents, where no column says it."""
    subset: str = ""
    """Of a dataset on the hub: its configuration, or, with a slash in it, its data folder."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("path must not be empty")
        if self.format == "files" and self.kind != "code":
            raise ConfigError(f"kind must be code where format is files, got {self.kind}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """How documents become token shards."""

    sources: tuple[SourceConfig, ...] = ()
    languages: tuple[str, ...] = ()
    """Only these; empty: all."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """How often a language's documents are seen per epoch, 0 to 100; 0.5: every second one, 2: each
    twice."""
    disable: tuple[str, ...] = ()
    """Filters that are switched off, by name."""
    held_out: float = 0.005
    """Share of the documents kept for evaluation, chosen by their content's hash."""
    held_out_documents: int = 200
    """Most documents kept for evaluation per language."""
    max_chars: int = 1_000_000
    """Longer documents are left out, and counted."""
    shard_tokens: int = 100_000_000
    """Tokens after which a new shard begins."""
    workers: int = 0
    """Processes that tokenise; 0: one per core."""
    limit: int = 0
    """Documents to read per source; 0: all."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out must be in [0, 1), got {self.held_out}")
        for name in ("held_out_documents", "workers", "limit"):
            _at_least(self, name, 0)
        for name in ("max_chars", "shard_tokens"):
            _at_least(self, name, 1)
        for language, weight in self.weights.items():
            if not 0 <= weight <= MOST_WEIGHT:
                raise ConfigError(f"weights.{language} must be in 0..{MOST_WEIGHT}, got {weight}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Token shards, and how rows are made of them."""

    directory: str = "data"
    """Token shards: what `prepare` writes and `run` reads."""
    tokenizer: str = ""
    """Directory with the `tokenizer.json` that `prepare` uses. `run` needs none: the shards carry
    theirs. If it is given all the same, it must be that one."""
    seq_length: int | None = None
    """Tokens in a row; as many as the model has positions when left out."""
    mask_share: float = 0.15
    """Share of a row's tokens that are hidden, in (0, 1)."""
    mask_policy: MaskPolicy = "80-10-10"
    """Of the chosen tokens 80 % become mask, 10 % random, 10 % stay; or all become mask."""
    workers: int = 1
    """Processes per rank that make batches; 0: the training process makes them itself."""
    verify: bool = True
    """Whether the shards' checksums are compared before the first step."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_share < 1:
            raise ConfigError(f"mask_share must be in (0, 1), got {self.mask_share}")
        if self.seq_length is not None:
            _at_least(self, "seq_length", 1)
        _at_least(self, "workers", 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The architecture: a preset of `starencoder.config`, and what differs from it."""

    architecture: str = "tiny"
    hidden_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    intermediate_size: int | None = None
    max_positions: int | None = None
    hidden_dropout: float | None = None
    attention_dropout: float | None = None
    init_from: str = ""
    """Checkpoint directory whose weights the run starts from; empty: random weights."""

    def __post_init__(self) -> None:
        if self.architecture not in PRESETS:
            raise ConfigError(
                f"architecture must be one of {', '.join(PRESETS)}, got {self.architecture}"
            )

    def encoder(self, *, vocab_size: int, pad_id: int) -> EncoderConfig:
        """The architecture over a tokenizer's vocabulary.

        Raises:
            ConfigError: The sizes do not fit each other.
        """
        given = dataclasses.asdict(self)
        del given["architecture"], given["init_from"]
        changed = {name: value for name, value in given.items() if value is not None}
        base = PRESETS[self.architecture]
        return dataclasses.replace(base, **changed, vocab_size=vocab_size, pad_id=pad_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Steps, devices and what is written."""

    output: str = "run"
    """Run directory: checkpoints, metrics, and the finished model in `model/`."""
    steps: int = 1000
    """Updates of the weights, bad steps included."""
    batch_rows: int = 32
    """Rows per step, over all ranks and micro-batches."""
    micro_rows: int = 32
    """Rows per forward pass of one rank."""
    seed: int = 1
    """Of the first weights, the order of documents, cuts, masks and dropout."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of matmuls. Weights, gradients and moments are always float32."""
    attention: Literal["auto", "dense", "varlen"] = "auto"
    """`auto` times both where both exist and keeps the faster one."""
    compile: bool = False
    """Whether encoder layers go through `torch.compile`."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the last ones stay."""
    evaluate_every: int = 1000
    """Steps between evaluations on held-out documents."""
    evaluate_rows: int = 64
    """Most held-out rows per language."""
    log_every: int = 10
    """Steps between lines of progress and of metrics."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go as well; each must be installed."""
    bad_step: Literal["stop", "skip"] = "stop"
    """What happens to a step whose loss or gradients are not finite, or whose loss is a spike."""
    spike_factor: float = 3.0
    """A loss so many times the median of the last 100, once there are 20, is a spike; above 1."""
    saved_precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of the weights in `model/`."""

    def __post_init__(self) -> None:
        for name in (
            "steps", "batch_rows", "micro_rows", "checkpoint_every", "keep_checkpoints",
            "evaluate_every", "log_every",
        ):  # fmt: skip
            _at_least(self, name, 1)
        _at_least(self, "evaluate_rows", 0)
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed must be in [0, 2^64), got {self.seed}")
        if not self.output:
            raise ConfigError("output must not be empty")
        if self.batch_rows % self.micro_rows:
            raise ConfigError(
                f"batch_rows ({self.batch_rows}) must be a multiple of "
                f"micro_rows ({self.micro_rows})"
            )
        if not 1 < self.spike_factor < math.inf:
            raise ConfigError(f"spike_factor must be above 1, got {self.spike_factor}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """Everything one run is made from."""

    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        share = 1 - self.optimizer.decay_share if self.optimizer.schedule == "wsd" else 1
        if self.optimizer.warmup_steps > share * self.run.steps:
            raise ConfigError(
                f"optimizer.warmup_steps ({self.optimizer.warmup_steps}) must be at most "
                f"{int(share * self.run.steps)}, the steps before the learning rate falls "
                f"(run.steps is {self.run.steps})"
            )

    def seq_length(self, encoder: EncoderConfig) -> int:
        """Tokens in a row.

        Raises:
            ConfigError: More than the model has positions.
        """
        length = self.data.seq_length or encoder.max_positions
        if length > encoder.max_positions:
            raise ConfigError(
                f"data.seq_length ({length}) must be at most the model's positions "
                f"({encoder.max_positions}, model.max_positions)"
            )
        return length

    def to_json(self) -> dict[str, object]:
        """All settings, defaults included, as written beside checkpoints."""
        return dataclasses.asdict(self)


def presets() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.toml"))


def load_config(source: str, overrides: Sequence[str] = ()) -> PretrainConfig:
    """Read a config file, or a preset by its name, with `key=value` overrides on top.

    A file may start from a preset: `extends = "tiny"`. Relative paths in it are relative to the
    current directory.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown, of another type or out of
            range.
    """
    path = Path(source)
    if not path.suffix and not path.is_file():
        path = PRESET_FOLDER / f"{check_name('preset', source, presets())}.toml"
    values = read_toml(path)
    base = values.pop("extends", None)
    if base is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{source}: extends must be a preset's name, in quotes")
        name = check_name("preset", base, presets())
        values = merge(read_toml(PRESET_FOLDER / f"{name}.toml"), values)
    return from_toml(PretrainConfig, merge(values, parse_overrides(overrides)), source)


def check_batch(run: RunConfig, world_size: int) -> None:
    """See that every rank gets whole micro-batches.

    Raises:
        ConfigError: The message says which setting to change, and to what.
    """
    if run.batch_rows % world_size:
        unit = world_size * run.micro_rows
        lower = run.batch_rows - run.batch_rows % unit
        raise ConfigError(
            f"run.batch_rows is {run.batch_rows}, which {world_size} processes do not divide; "
            f"choose {lower + unit}" + (f" or {lower}" if lower else "")
        )
    share = run.batch_rows // world_size
    if share % run.micro_rows:
        fitting = largest_divisor(share, run.micro_rows)
        raise ConfigError(
            f"run.micro_rows is {run.micro_rows}, which does not divide the {share} rows "
            f"(run.batch_rows / {world_size} processes) of a rank; choose {fitting}"
        )


def largest_divisor(number: int, at_most: int) -> int:
    """The largest divisor of `number` up to `at_most`."""
    return next(d for d in range(min(number, at_most), 0, -1) if number % d == 0)


def _at_least(config: object, name: str, smallest: int) -> None:
    if getattr(config, name) < smallest:
        raise ConfigError(f"{name} must be {smallest} or more, got {getattr(config, name)}")
