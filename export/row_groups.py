"""The work unit of a scan: one row group of a shard, from its rows to a part of the output.

A part holds the rows of the output, in Arrow's file format. What it holds depends on the row group
and the settings only; batches and caches never cross row groups.
"""

import hashlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from export.forms import Form, apply_form, read_form
from export.shards import (
    MODIFIED_COLUMN,
    SPANS_COLUMN,
    SPANS_TYPE,
    ColumnNames,
    ShardFile,
    Unreadable,
    iter_batches,
    language_column,
    open_row_groups,
    output_schema,
)
from pii.detect import Detector, load_detector, model_folder
from pii.labels import LABELS
from pii.redact import OPERATORS
from pii.session import load_session
from pii.spans import Span
from pii.tagger import Predict, Probs
from starencoder.errors import OutputError, reason_of

MODES = ("redact", "annotate")
NULL, NOT_UTF8 = "null", "not UTF-8"
NOT_SELECTED, BEYOND_LIMIT = "language not selected", "beyond --limit"
NO_LANGUAGE = "not stated"
SCORE_BINS = 20
"""Of the histograms of scores, from 0 to 1."""

_MOST_CACHED = 1 << 15
"""Chunks of a row group that are remembered, about 100 MB."""

_Item = TypeVar("_Item")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One row group to scan."""

    file: ShardFile
    group: int
    spans: ShardFile | None = None
    """The shard of an earlier scan that has its spans."""
    limit: int | None = None
    """Rows to scan of it; None: all."""
    part: str
    """Where the output goes."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was counted in some row groups."""

    rows_in: int = 0
    rows_out: int = 0
    scanned: int = 0
    modified: int = 0
    text_bytes: int = 0
    """UTF-8 bytes of the scanned texts."""
    not_scanned: Counter[str] = field(default_factory=Counter)
    """Rows by reason; those in the output and those that were left out of it."""
    forms: Counter[str] = field(default_factory=Counter)
    """Scanned rows by the form of their text; see `export.forms`."""
    languages: dict[str, Counter[str]] = field(default_factory=dict)
    """By language: scanned `rows`, and spans by label."""
    scores: dict[str, list[int]] = field(default_factory=dict)
    """By label: the model's spans in each of `SCORE_BINS` equal ranges of the score."""

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        for name in ("rows_in", "rows_out", "scanned", "modified", "text_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.not_scanned.update(other.not_scanned)
        self.forms.update(other.forms)
        for language, counts in other.languages.items():
            self.languages.setdefault(language, Counter()).update(counts)
        for label, bins in other.scores.items():
            ours = self.scores.setdefault(label, [0] * SCORE_BINS)
            self.scores[label] = [a + b for a, b in zip(ours, bins, strict=True)]

    def add_spans(self, language: str, spans: Sequence[Span]) -> None:
        """Count a scanned row."""
        counts = self.languages.setdefault(language, Counter())
        counts["rows"] += 1
        for span in spans:
            counts[span.label] += 1
            if span.source == "model":
                bins = self.scores.setdefault(span.label, [0] * SCORE_BINS)
                bins[min(SCORE_BINS - 1, int(span.score * SCORE_BINS))] += 1

    def to_json(self) -> dict[str, object]:
        """As JSON objects, in a fixed order."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "scanned": self.scanned,
            "modified": self.modified,
            "text_bytes": self.text_bytes,
            "not_scanned": dict(sorted(self.not_scanned.items())),
            "forms": dict(sorted(self.forms.items())),
            "languages": {
                language: {key: counts[key] for key in ("rows", *LABELS) if counts[key]}
                for language, counts in sorted(self.languages.items())
            },
            "scores": {label: self.scores[label] for label in LABELS if label in self.scores},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "Tally":
        """Read what `to_json` gave."""
        tally = cls(**values)  # type: ignore[arg-type]
        tally.not_scanned, tally.forms = Counter(tally.not_scanned), Counter(tally.forms)
        tally.languages = {name: Counter(counts) for name, counts in tally.languages.items()}
        return tally


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """What came of a row group."""

    tally: Tally
    seconds: float
    """Of work, by the clock."""
    part_bytes: int = 0
    problem: str = ""
    """Why there is no part; empty if there is one."""


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


class UnitScanner:
    """Scans one row group after another with one model."""

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

    def __call__(self, unit: Unit) -> UnitResult:
        """Scan a row group and write its part.

        Raises:
            OutputError: The part cannot be written.
        """
        started = time.perf_counter()
        if self._cache is not None:
            self._cache.clear()
        tally = Tally()
        try:
            size = self._write_part(unit, tally)
        except Unreadable as error:
            seconds = time.perf_counter() - started
            return UnitResult(tally=Tally(), seconds=seconds, problem=str(error))
        return UnitResult(tally=tally, seconds=time.perf_counter() - started, part_bytes=size)

    def sample(self, unit: Unit, seconds: float) -> int:
        """Scan a row group's first batches, for some seconds, and write nothing.

        Returns:
            UTF-8 bytes of the scanned texts.

        Raises:
            Unreadable: It cannot be read.
        """
        until = time.perf_counter() + seconds
        tally = Tally()
        with open_row_groups(unit.file) as shard:
            schema = output_schema(shard.schema_arrow)
            for batch in iter_batches(shard, unit.group):
                self._scan_batch(batch, None, schema, unit.limit, tally)
                if time.perf_counter() >= until:
                    break
        return tally.text_bytes

    def _write_part(self, unit: Unit, tally: Tally) -> int:
        with open_row_groups(unit.file) as shard:
            schema = output_schema(shard.schema_arrow)
            batches = (
                self._earlier_spans(unit, shard.schema_arrow, iter_batches(shard, unit.group))
                if unit.spans is not None
                else ((batch, None) for batch in iter_batches(shard, unit.group))
            )
            # Closed here and now: left to the interpreter, a SIGTERM in that moment would be lost.
            with (
                closing(_read_ahead(batches)) as ahead,
                write_part(Path(unit.part), schema) as writer,
            ):
                for batch, spans in ahead:
                    writer.write_batch(self._scan_batch(batch, spans, schema, unit.limit, tally))
        return Path(unit.part).stat().st_size

    def _earlier_spans(
        self, unit: Unit, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[tuple[pa.RecordBatch, list[list[Span] | None]]]:
        """Batches with the spans that an earlier scan found in the same rows."""
        assert unit.spans is not None
        text = self._config.columns.text
        with open_row_groups(unit.spans) as earlier:
            rows = _iter_rows(iter_batches(earlier, unit.group), (text, SPANS_COLUMN))
            for batch in batches:
                found: list[list[Span] | None] = []
                for value in batch.column(text):
                    own, spans = next(rows, (None, None))
                    if own is None or own.as_buffer() != value.as_buffer():
                        raise Unreadable(
                            f"row group {unit.group} has other texts than {self._config.from_spans}"
                            "; annotate it again"
                        )
                    found.append(_spans_of(spans))
                yield batch, found
            if next(rows, None) is not None:
                raise Unreadable(
                    f"row group {unit.group} has fewer rows than when it was annotated"
                )

    def _scan_batch(
        self,
        batch: pa.RecordBatch,
        earlier: Sequence[list[Span] | None] | None,
        schema: pa.Schema,
        limit: int | None,
        tally: Tally,
    ) -> pa.RecordBatch:
        """The rows of the output for a batch of rows."""
        config = self._config
        name = language_column(batch.schema, config.columns)
        languages = _languages(batch, name)
        texts: dict[int, str] = {}
        dropped: set[int] = set()
        column = batch.column(config.columns.text)
        for row, (value, language) in enumerate(zip(column, languages, strict=True)):
            tally.rows_in += 1
            reason, text = "", None
            if config.languages and language not in config.languages:
                reason = NOT_SELECTED
                if config.drop_unselected:
                    dropped.add(row)
            elif limit is not None and tally.scanned >= limit:
                reason = BEYOND_LIMIT
            elif not value.is_valid:
                reason = NULL
            elif earlier is not None and earlier[row] is None:
                reason = "not annotated"
            else:
                text = _decoded(value)
                reason = NOT_UTF8 if text is None else ""
            if text is None:
                tally.not_scanned[reason] += 1
                continue
            texts[row] = text
            tally.scanned += 1
            tally.text_bytes += len(value.as_buffer())
        forms = {row: read_form(text) for row, text in texts.items()}
        spans = self._find(forms, earlier)
        redacted: dict[int, bytes] = {}
        for row, text in texts.items():
            tally.forms[forms[row].kind] += 1
            tally.add_spans(languages[row], spans[row])
            if config.mode == "redact" and spans[row]:
                new = apply_form(text, forms[row], spans[row], OPERATORS[config.operator]).text
                if new != text:
                    redacted[row] = new.encode()
        tally.modified += len(redacted)
        kept = [row for row in range(batch.num_rows) if row not in dropped]
        tally.rows_out += len(kept)
        return _output_batch(batch, schema, config.columns.text, kept, spans, redacted)

    def _find(
        self, forms: Mapping[int, Form], earlier: Sequence[list[Span] | None] | None
    ) -> dict[int, list[Span]]:
        """The spans of each row, by its number."""
        if earlier is not None:
            spans = {row: earlier[row] or [] for row in forms}
        else:
            assert self._detector is not None
            texts = [text for form in forms.values() for text in form.texts]
            found = iter(self._detector.detect_all(texts))
            spans = {
                row: form.to_original(list(itertools.islice(found, len(form.texts))))
                for row, form in forms.items()
            }
        config = self._config
        return {
            row: [
                span
                for span in whole
                if span.label in config.labels
                and (config.include_examples or span.kind != "example")
            ]
            for row, whole in spans.items()
        }


def _read_ahead(items: Iterator[_Item]) -> Generator[_Item, None, None]:
    """The same items, the next one read while one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item


def _languages(batch: pa.RecordBatch, column: str | None) -> list[str]:
    if column is None:
        return [NO_LANGUAGE] * batch.num_rows
    return [
        (_decoded(value) if value.is_valid else None) or NO_LANGUAGE
        for value in batch.column(column)
    ]


def _decoded(value: pa.Scalar) -> str | None:
    """A string's text; None if its bytes are none."""
    try:
        return str(value.as_py())
    except UnicodeDecodeError:
        return None


def _iter_rows(
    batches: Iterable[pa.RecordBatch], names: Sequence[str]
) -> Iterator[tuple[pa.Scalar, ...]]:
    for batch in batches:
        yield from zip(*(batch.column(name) for name in names), strict=True)


def _spans_of(value: pa.Scalar) -> list[Span] | None:
    spans = value.as_py()
    return None if spans is None else [Span(**span) for span in spans]


def _output_batch(
    batch: pa.RecordBatch,
    schema: pa.Schema,
    text_column: str,
    kept: Sequence[int],
    spans: Mapping[int, Sequence[Span]],
    redacted: Mapping[int, bytes],
) -> pa.RecordBatch:
    """A batch with its texts redacted and the two columns of a scan, the kept rows of it."""
    columns = []
    for column in schema:
        if column.name == SPANS_COLUMN:
            values = [_as_structs(spans[row]) if row in spans else None for row in kept]
            columns.append(pa.array(values, SPANS_TYPE))
            continue
        if column.name == MODIFIED_COLUMN:
            columns.append(pa.array([row in redacted for row in kept], pa.bool_()))
            continue
        array = batch.column(column.name)
        if len(kept) < batch.num_rows:
            array = array.take(pa.array(kept, pa.int64()))
        if column.name == text_column and redacted:
            array = _replaced(array, kept, redacted)
        columns.append(array)
    return pa.record_batch(columns, schema=schema)


def _as_structs(spans: Sequence[Span]) -> list[dict[str, object]]:
    return [
        {
            "start": span.start,
            "end": span.end,
            "label": span.label,
            "kind": span.kind,
            "score": span.score,
            "source": span.source,
        }
        for span in spans
    ]


def _replaced(array: pa.Array, kept: Sequence[int], redacted: Mapping[int, bytes]) -> pa.Array:
    # As bytes: rows that are not UTF-8 stay as they are.
    binary = pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()
    values = [
        redacted[row] if row in redacted else value.as_py()
        for row, value in zip(kept, array.view(binary), strict=True)
    ]
    return pa.array(values, binary).view(array.type)


@contextmanager
def write_part(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatchFileWriter]:
    """Write a part, which gets its name when all of it is written.

    Raises:
        OutputError: It cannot be written.
    """
    # Another worker may be at the same part, whose own was lost to the driver.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
            yield writer
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({reason_of(error)})") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
