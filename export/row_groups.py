"""The work unit of a scan: one row group of a shard, from its rows to a part of the output.

A part holds the rows of the output, in Arrow's file format. What it holds depends on the row group
and the settings only; batches and caches never cross row groups.
"""

import math
import secrets
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import parquet

from export.rows import Row, StringColumn, open_column
from export.scanner import ScanConfig, ScannedRow, Scanner
from export.shards import (
    MODIFIED_COLUMN,
    SPANS_COLUMN,
    SPANS_TYPE,
    ShardFile,
    Unreadable,
    iter_batches,
    language_column,
    open_row_groups,
    output_schema,
    spans_from_json,
    spans_to_json,
)
from export.tally import Tally
from pii.spans import Span
from pii.tagger import Predict
from starencoder.errors import OutputError, reason_of

NULL, NOT_UTF8 = "null", "not UTF-8"
NOT_SELECTED, BEYOND_LIMIT = "language not selected", "beyond --limit"
NOT_ANNOTATED = "not annotated"
NO_LANGUAGE = "not stated"

_Item = TypeVar("_Item")
_Batch = tuple[pa.RecordBatch, list[list[Span] | None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One row group to scan."""

    file: ShardFile
    group: int
    spans: ShardFile | None = None
    """The shard of an earlier scan that has its spans."""
    limit: int | None = None
    """Rows to scan of it; None: all."""
    part: str = ""
    """Where the output goes; empty: nowhere yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """What came of a row group."""

    tally: Tally
    seconds: float
    """Of work, by the clock."""
    part_bytes: int = 0
    problem: str = ""
    """Why there is no part; empty if there is one."""


class UnitScanner:
    """Scans one row group after another with one model."""

    def __init__(self, config: ScanConfig, predict: Predict | None = None) -> None:
        """Load what the settings name; see `Scanner`."""
        self._config = config
        self._scanner = Scanner(config, predict)

    def __call__(self, unit: Unit) -> UnitResult:
        """Scan a row group and write its part.

        Raises:
            OutputError: The part cannot be written.
        """
        started = time.perf_counter()
        self._scanner.forget()
        tally = Tally()
        try:
            size = self._write_part(unit, tally)
        except Unreadable as error:
            seconds = time.perf_counter() - started
            return UnitResult(tally=Tally(), seconds=seconds, problem=str(error))
        return UnitResult(tally=tally, seconds=time.perf_counter() - started, part_bytes=size)

    def sample(self, unit: Unit, seconds: float) -> Tally:
        """Scan a row group's first batches, for some seconds, and write nothing.

        Raises:
            Unreadable: It cannot be read.
        """
        until = time.perf_counter() + seconds
        most = math.inf if unit.limit is None else unit.limit
        tally = Tally()
        with open_row_groups(unit.file) as shard:
            schema = output_schema(shard.schema_arrow)
            with closing(self._batches(unit, shard)) as batches:
                for batch, spans in batches:
                    self._scan_batch(batch, spans, schema, unit.limit, tally)
                    if time.perf_counter() >= until or tally.rows_in >= most:
                        break
        return tally

    def _write_part(self, unit: Unit, tally: Tally) -> int:
        with open_row_groups(unit.file) as shard:
            schema = output_schema(shard.schema_arrow)
            # Closed here and now: left to the interpreter, a SIGTERM in that moment would be lost.
            with (
                closing(_read_ahead(self._batches(unit, shard))) as ahead,
                write_part(Path(unit.part), schema) as writer,
            ):
                for batch, spans in ahead:
                    writer.write_batch(self._scan_batch(batch, spans, schema, unit.limit, tally))
        return Path(unit.part).stat().st_size

    def _batches(self, unit: Unit, shard: parquet.ParquetFile) -> Generator[_Batch, None, None]:
        """A unit's batches, each with the spans that an earlier scan found if they are used."""
        batches = iter_batches(shard, unit.group)
        if unit.spans is None:
            yield from ((batch, None) for batch in batches)
        else:
            yield from self._earlier_spans(unit, unit.spans, batches)

    def _earlier_spans(
        self, unit: Unit, spans: ShardFile, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[_Batch]:
        """Batches with the spans that an earlier scan found in the same rows."""
        text = self._config.columns.text
        with open_row_groups(spans) as earlier:
            rows = (
                row
                for batch in iter_batches(earlier, unit.group)
                for row in zip(
                    open_column(batch.column(text)).values, batch.column(SPANS_COLUMN), strict=True
                )
            )
            for batch in batches:
                found: list[list[Span] | None] = []
                for value in open_column(batch.column(text)).values:
                    own, of_row = next(rows, (None, None))
                    if of_row is None or own != value:
                        raise Unreadable(
                            f"has other texts than {self._config.from_spans}; annotate it again"
                        )
                    with self._fitting():
                        values = of_row.as_py()
                        found.append(None if values is None else spans_from_json(values))
                yield batch, found
            if next(rows, None) is not None:
                raise Unreadable("has fewer rows than when it was annotated")

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """Where the spans of an earlier scan turn out to be none of its texts."""
        try:
            yield
        except (TypeError, ValueError) as error:
            raise Unreadable(
                f"{self._config.from_spans} has spans that do not fit its texts; annotate it again"
            ) from error

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
        rows: dict[int, Row] = {}
        dropped: set[int] = set()
        column = open_column(batch.column(config.columns.text))
        for index, language in enumerate(languages):
            tally.rows_in += 1
            row, reason = None, ""
            if config.languages and language not in config.languages:
                reason = NOT_SELECTED
                tally.unselected[language] += 1
                if config.drop_unselected:
                    dropped.add(index)
            elif limit is not None and tally.rows_in > limit:
                reason = BEYOND_LIMIT
            elif column.values[index] is None:
                reason = NULL
            elif earlier is not None and earlier[index] is None:
                reason = NOT_ANNOTATED
            else:
                row = column.read(index)
                reason = NOT_UTF8
            if row is None:
                tally.not_scanned[reason] += 1
                continue
            rows[index] = row
            tally.scanned += 1
            tally.text_bytes += column.size(index)
        with nullcontext() if earlier is None else self._fitting():
            found = self._scanner.scan(
                list(rows.values()),
                None if earlier is None else [earlier[index] or [] for index in rows],
            )
        scanned = dict(zip(rows, found, strict=True))
        for index, row in rows.items():
            tally.forms[row.form] += 1
            tally.add_spans(languages[index], scanned[index].spans)
        kept = [index for index in range(batch.num_rows) if index not in dropped]
        tally.rows_out += len(kept)
        new = {index: row.new for index, row in scanned.items() if row.new is not None}
        tally.modified += len(new)
        texts = batch.column(config.columns.text)
        if new:
            texts = column.replaced(kept, new)
        elif dropped:
            texts = texts.take(pa.array(kept, pa.int64()))
        return _output_batch(batch, schema, config.columns.text, texts, kept, scanned, new)


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
        (str(value, "utf-8", "replace") if value is not None else "") or NO_LANGUAGE
        for value in StringColumn(batch.column(column)).values
    ]


def _output_batch(
    batch: pa.RecordBatch,
    schema: pa.Schema,
    text_column: str,
    texts: pa.Array,
    kept: Sequence[int],
    scanned: Mapping[int, ScannedRow],
    modified: Collection[int],
) -> pa.RecordBatch:
    """The kept rows of a batch, with other texts and the two columns of a scan."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name == text_column:
            columns.append(texts)
        elif name in (SPANS_COLUMN, MODIFIED_COLUMN):
            continue  # of an earlier scan
        elif len(kept) < batch.num_rows:
            columns.append(column.take(pa.array(kept, pa.int64())))
        else:
            columns.append(column)
    spans = [spans_to_json(scanned[i].spans) if i in scanned else None for i in kept]
    columns.append(pa.array(spans, SPANS_TYPE))
    columns.append(pa.array([index in modified for index in kept], pa.bool_()))
    return pa.record_batch(columns, schema=schema)


@contextmanager
def write_part(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatchFileWriter]:
    """Write a part, which gets its name when all of it is written.

    Raises:
        OutputError: It cannot be written.
    """
    # Another worker may be at the same part, whose own was lost to the driver: one with the same
    # process id, on another machine.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
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
