"""From the texts of rows to their spans and what is redacted of them, with one model."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.rows import Row
from export.shards import ColumnNames
from pii.detect import Detector, check_settings, load_detector, model_folder
from pii.labels import LABELS
from pii.redact import OPERATORS
from pii.session import load_session
from pii.spans import Span
from pii.tagger import Predict, Probs
from starencoder.names import check_name

MODES = ("redact", "annotate")

_MOST_CACHED = 1 << 15
"""Chunks that are remembered, about 100 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanConfig:
    """All that the output depends on, the shards apart."""

    mode: str = "redact"
    """`annotate`: the text stays; `redact`: values are replaced."""
    model: str = "tiny"
    device: str = "cpu"
    """Kind of device that the model runs on, `cpu` or `cuda`: last bits differ."""
    operating_point: str = "thorough"
    labels: tuple[str, ...] = LABELS
    min_score: float | None = None
    disabled: tuple[str, ...] = ()
    include_examples: bool = False
    operator: str = "tag"
    columns: ColumnNames = field(default_factory=ColumnNames)
    languages: tuple[str, ...] = ()
    """Rows of other languages are not scanned; empty: all are."""
    drop_unselected: bool = False
    """Leave out rows of other languages."""
    limit: int | None = None
    """Rows to scan, counted from the first shard's first."""
    from_spans: str = ""
    """The output directory of an earlier scan whose spans are used; empty: detect."""

    def __post_init__(self) -> None:
        """Check the names and the score.

        Raises:
            ConfigError: One is not known, or the score is outside [0, 1].
        """
        check_name("mode", self.mode, MODES)
        check_name("operator", self.operator, OPERATORS)
        check_settings(
            operating_point=self.operating_point,
            labels=self.labels,
            min_score=self.min_score,
            disabled=self.disabled,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedRow:
    """What came of a row."""

    spans: list[Span]
    """Of the original."""
    new: Any = None
    """What its column takes in its place; None: nothing has changed."""


class ChunkCache:
    """A predict callable that computes equal chunks once, until it is cleared."""

    def __init__(self, predict: Predict) -> None:
        """Start with nothing remembered."""
        self._predict = predict
        self._known: dict[bytes, Probs] = {}

    def __call__(self, chunks: Sequence[Sequence[int]]) -> list[Probs]:
        """The probabilities of each chunk."""
        keys = [_digest(chunk) for chunk in chunks]
        new = {
            key: chunk for key, chunk in zip(keys, chunks, strict=True) if key not in self._known
        }
        computed = dict(zip(new, self._predict(list(new.values())), strict=True)) if new else {}
        room = _MOST_CACHED - len(self._known)
        self._known.update(itertools.islice(computed.items(), max(0, room)))
        return [computed[key] if key in computed else self._known[key] for key in keys]

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()


def _digest(chunk: Sequence[int]) -> bytes:
    return hashlib.blake2b(np.asarray(chunk, np.int32).tobytes(), digest_size=16).digest()


class Scanner:
    """Finds the spans of rows with one model and, if the settings say so, redacts them."""

    def __init__(self, config: ScanConfig, predict: Predict | None = None) -> None:
        """Load what the settings name.

        Args:
            config: The scan's.
            predict: Computes the model's probabilities; None: its ONNX file on the CPU.

        Raises:
            ConfigError, CheckpointError, MissingExtraError: See `pii.detect.load_detector`.
        """
        self._config = config
        self._detector: Detector | None = None
        self._cache: ChunkCache | None = None
        if config.from_spans:
            return
        if config.model != "none":
            self._cache = ChunkCache(predict or load_session(model_folder(config.model)))
        self._detector = load_detector(
            config.model,
            operating_point=config.operating_point,
            labels=config.labels,
            min_score=config.min_score,
            disabled=frozenset(config.disabled),
            predict=self._cache,
        )

    def forget(self) -> None:
        """Let go of what is remembered of the rows so far."""
        if self._cache is not None:
            self._cache.clear()

    def scan(
        self, rows: Sequence[Row], earlier: Sequence[list[Span]] | None = None
    ) -> list[ScannedRow]:
        """Find the spans of rows, read together, and redact them.

        Args:
            rows: What is scanned.
            earlier: The spans of each, found before; None: detect.
        """
        config = self._config
        if earlier is None:
            assert self._detector is not None
            read = iter(self._detector.detect_all([text for row in rows for text in row.texts]))
            earlier = [
                row.to_original(list(itertools.islice(read, len(row.texts)))) for row in rows
            ]
        scanned = []
        for row, found in zip(rows, earlier, strict=True):
            spans = [
                span
                for span in found
                if span.label in config.labels
                and (config.include_examples or span.kind != "example")
            ]
            redact = config.mode == "redact" and spans
            new = row.redacted(spans, OPERATORS[config.operator]) if redact else None
            scanned.append(ScannedRow(spans=spans, new=new))
        return scanned
