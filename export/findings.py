"""A sample of what a scan has found, with its context, to judge its precision by label."""

import hashlib
import heapq
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export.rows import whole_text
from export.shards import (
    SPANS_COLUMN,
    ShardFile,
    Unreadable,
    is_strings,
    iter_batches,
    open_row_groups,
    spans_from_json,
    stat_shard,
)
from export.threads import PSEUDONYM
from pii.labels import LABELS
from pii.redact import PRIVATE_IPS, tag_operator
from pii.spans import Span

BLOCK = "█████"
"""In place of a value, whatever its length."""

PLACE_COLUMNS = (
    "max_stars_repo_name",
    "max_stars_repo_path",
    "repository_name",
    "repo_name",
    "repo",
    "repo_path",
    "file_path",
    "file_name",
    "filename",
    "path",
)
"""Columns of The Stack and others that say where a text is from."""

_CONTEXT = 100
"""Characters shown before and after a value, of its line."""
_LONGEST_VALUE, _VALUE_END = 200, 50
"""Of a longer value its beginning and so many characters of its end are shown."""
_OTHER_REPLACEMENTS = {
    "USERNAME": PSEUDONYM,
    # Not the beginning of an address that was left as it is.
    "IP_ADDRESS": re.compile(
        f"(?:{'|'.join(re.escape(ip) for ips in PRIVATE_IPS.values() for ip in ips)})(?![0-9a-f])"
    ),
}
"""By label, what may stand in place of a value beside its tag."""
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A span that was drawn."""

    shard: str
    row: int
    """In the output shard, from 0."""
    place: Mapping[str, str]
    """What the columns that say where the text is from hold."""
    span: Span
    line: int | None
    """In the output's text, from 1; None: not known."""
    before: str
    shown: str
    """The value, a block, or what stands in its place; empty: it was left as it is."""
    after: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What was drawn."""

    findings: Mapping[str, Sequence[Finding]]
    """By label, in the order of the shards."""
    unread: Mapping[str, str]
    """Shards that could not be read, and why."""


@dataclass(frozen=True, slots=True, order=True)
class _Drawn:
    shard: int
    group: int
    row: int
    """In the row group."""
    index: int
    """In the row."""


@dataclass(slots=True)
class _Reservoir:
    """The places with the smallest of random keys, one for each place: a fair sample."""

    size: int
    kept: list[tuple[float, _Drawn]] = field(default_factory=list)
    """A heap; keys are negative, so that the largest comes first."""

    def limit(self) -> float:
        return -self.kept[0][0] if len(self.kept) == self.size else np.inf

    def add(self, key: float, drawn: _Drawn) -> None:
        if len(self.kept) < self.size:
            heapq.heappush(self.kept, (-key, drawn))
        elif key < self.limit():
            heapq.heapreplace(self.kept, (-key, drawn))


def sample_findings(
    path: Path,
    shards: Sequence[str],
    *,
    per_label: int,
    text_column: str,
    redacted: bool,
    show_values: bool,
    seed: int = 0,
) -> Sample:
    """Draw findings of each label from a scan's output, each as likely as any other.

    What is drawn depends on the shards and the seed only. Of the texts only those that are shown
    are read.

    Args:
        path: The scan's output.
        shards: Finished ones, by their place in it.
        per_label: Findings of each label, or as many as there are.
        text_column: Its name.
        redacted: Whether the texts are redacted; what stands in place of a value is shown then.
        show_values: Show values; else a block is shown in place of each value found in a text.
        seed: Of the draw.
    """
    reservoirs = {label: _Reservoir(per_label) for label in LABELS}
    unread: dict[str, str] = {}
    for number, shard in enumerate(shards):
        own = {label: _Reservoir(per_label) for label in LABELS}
        try:
            _draw(path, shard, number, own, seed)
        except Unreadable as error:
            unread[shard] = str(error)
            continue
        for label, reservoir in own.items():
            for key, drawn in reservoir.kept:
                reservoirs[label].add(-key, drawn)
    by_shard: dict[int, list[_Drawn]] = defaultdict(list)
    for item in sorted(drawn for own in reservoirs.values() for _, drawn in own.kept):
        by_shard[item.shard].append(item)
    findings: dict[str, list[Finding]] = {label: [] for label in LABELS}
    view = _View(text_column=text_column, redacted=redacted, show_values=show_values)
    for number, items in by_shard.items():
        try:
            for finding in list(_look_up(path, shards[number], items, view)):
                findings[finding.span.label].append(finding)
        except Unreadable as error:
            unread[shards[number]] = str(error)
    return Sample(findings, unread)


def _file(path: Path, shard: str) -> ShardFile:
    try:
        return stat_shard(ShardFile(address=str(path / shard), relative=shard, size=0, changed=""))
    except OSError as error:
        raise Unreadable("is gone") from error


def _draw(
    path: Path, shard: str, number: int, reservoirs: Mapping[str, _Reservoir], seed: int
) -> None:
    with open_row_groups(_file(path, shard)) as opened:
        if SPANS_COLUMN not in opened.schema_arrow.names:
            raise Unreadable(f"no column {SPANS_COLUMN}")
        for group in range(opened.num_row_groups):
            digest = hashlib.sha256(f"{seed}\0{group}\0{shard}".encode("utf-8", "surrogatepass"))
            random = np.random.default_rng(int.from_bytes(digest.digest()))
            first_row = 0
            for batch in iter_batches(opened, group, [SPANS_COLUMN]):
                column = batch.column(SPANS_COLUMN)
                _draw_batch(column, number, group, first_row, random, reservoirs)
                first_row += batch.num_rows


def _draw_batch(
    column: pa.ListArray,
    shard: int,
    group: int,
    first_row: int,
    random: np.random.Generator,
    reservoirs: Mapping[str, _Reservoir],
) -> None:
    labels = column.flatten().field("label")
    keys = random.random(len(labels))
    parents = pc.list_parent_indices(column).to_numpy()
    # How many spans of the same row come before each.
    firsts = np.searchsorted(parents, parents)
    for label, reservoir in reservoirs.items():
        chosen = pc.equal(labels, label).to_numpy(zero_copy_only=False) & (keys < reservoir.limit())
        for at in np.flatnonzero(chosen):
            row, index = int(parents[at]), int(at - firsts[at])
            reservoir.add(float(keys[at]), _Drawn(shard, group, first_row + row, index))


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """How a finding is shown."""

    text_column: str
    redacted: bool
    show_values: bool

    def show(
        self, text: str, spans: Sequence[Span], index: int
    ) -> tuple[int | None, str, str, str]:
        """Line, what is before, what is in place of the value, what is after."""
        span = spans[index]
        if self.redacted:
            place = _place_of_replacement(text, spans, index)
            if place is None:
                return None, "", "", ""
            start, end = place
            shown = text[start:end]
            before, after = _around(text, start, end)
        elif self.show_values:
            start, end = span.start, span.end
            before, after = _around(text, start, end)
            shown = _cut(text[start:end])
        else:
            start, end = span.start, span.end
            shown = BLOCK
            before, after = _masked_around(text, spans, index)
        ends = text.count("\n", 0, start) + text.count("\r", 0, start)
        line = 1 + ends - text.count("\r\n", 0, start)
        return line, before, shown, after

    def place(self, values: Mapping[str, str], text: str, spans: Sequence[Span]) -> dict[str, str]:
        """Where a text is from; without values, if they are not to be shown."""
        if self.redacted or self.show_values:
            return dict(values)
        return {name: _mask_values(value, text, spans) for name, value in values.items()}


def _look_up(path: Path, shard: str, items: Sequence[_Drawn], view: _View) -> Iterator[Finding]:
    by_group: dict[int, list[_Drawn]] = defaultdict(list)
    for item in items:
        by_group[item.group].append(item)
    with open_row_groups(_file(path, shard)) as opened:
        schema = opened.schema_arrow
        if schema.names.count(view.text_column) != 1:
            raise Unreadable(f"no column {view.text_column}")
        places = [
            name
            for name in PLACE_COLUMNS
            if name != view.text_column
            and schema.names.count(name) == 1
            and is_strings(schema.field(name).type)
        ]
        columns = [view.text_column, *places, SPANS_COLUMN]
        before_group = 0
        for group in range(opened.num_row_groups):
            wanted = by_group.get(group, [])
            first_row = 0
            for batch in iter_batches(opened, group, columns) if wanted else ():
                for row, own in itertools.groupby(wanted, lambda item: item.row):
                    if first_row <= row < first_row + batch.num_rows:
                        one = batch.slice(row - first_row, 1)
                        indices = [item.index for item in own]
                        yield from _findings(one, indices, shard, before_group + row, places, view)
                first_row += batch.num_rows
            before_group += opened.metadata.row_group(group).num_rows


def _findings(
    row: pa.RecordBatch,
    indices: Sequence[int],
    shard: str,
    number: int,
    places: Sequence[str],
    view: _View,
) -> Iterator[Finding]:
    """Some of a row's spans; the text is made once for all of them."""
    try:
        values = {
            name: str(row.column(name)[0].as_py())
            for name in places
            if row.column(name)[0].is_valid
        }
        text = whole_text(row.column(view.text_column))
        spans = spans_from_json(row.column(SPANS_COLUMN)[0].as_py())
    except (UnicodeDecodeError, TypeError) as error:
        raise Unreadable(f"row {number} is not as a scan writes it") from error
    place = view.place(values, text, spans)
    for index in indices:
        line, before, shown, after = view.show(text, spans, index)
        yield Finding(
            shard=shard,
            row=number,
            place=place,
            span=spans[index],
            line=line,
            before=before,
            shown=shown,
            after=after,
        )


def _place_of_replacement(text: str, spans: Sequence[Span], index: int) -> tuple[int, int] | None:
    """Where what replaced a span begins and ends in the redacted text; None if nothing did."""
    shift = 0
    for span in spans[: index + 1]:
        start = span.start + shift
        end = _end_of_replacement(text, start, span)
        if end is not None:  # else it was left as it is, by BigCode's rules
            shift = end - span.end
    return None if end is None else (start, end)


def _end_of_replacement(text: str, start: int, span: Span) -> int | None:
    tag = tag_operator("", span)
    if text.startswith(tag, start):
        return start + len(tag)
    other = _OTHER_REPLACEMENTS.get(span.label)
    found = other.match(text, start) if other is not None else None
    return None if found is None else found.end()


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    """What stands before and after in the same line, cut."""
    left = text[max(0, start - _CONTEXT) : start]
    right = text[end : end + _CONTEXT]
    before, after = _LINE_END.split(left)[-1], _LINE_END.split(right)[0]
    if before == left and start > _CONTEXT:
        before = f"…{before}"
    if after == right and end + _CONTEXT < len(text):
        after = f"{after}…"
    return before, after


def _masked_around(text: str, spans: Sequence[Span], index: int) -> tuple[str, str]:
    """As `_around`, with a block for each value."""
    span = spans[index]
    first, last = max(0, span.start - _CONTEXT), min(len(text), span.end + _CONTEXT)
    sides = []
    for begin, stop in ((first, span.start), (span.end, last)):
        pieces, at = [], begin
        for other in spans:
            if other is span or other.end <= begin or other.start >= stop:
                continue
            pieces += [text[at : max(at, other.start)], BLOCK]
            at = min(stop, other.end)
        pieces.append(text[at:stop])
        sides.append("".join(pieces))
    before, after = (_mask_values(side, text, spans) for side in sides)
    before_line, after_line = _LINE_END.split(before)[-1], _LINE_END.split(after)[0]
    if before_line == before and first > 0:
        before_line = f"…{before_line}"
    if after_line == after and last < len(text):
        after_line = f"{after_line}…"
    return before_line, after_line


def _mask_values(shown: str, text: str, spans: Sequence[Span]) -> str:
    """A short text without the values that were found in the row, longest first."""
    for value in sorted(
        {text[span.start : span.end] for span in spans if span.end - span.start <= len(shown)},
        key=lambda value: (-len(value), value),
    ):
        shown = shown.replace(value, BLOCK)
    return shown


def _cut(value: str) -> str:
    if len(value) <= _LONGEST_VALUE:
        return value
    return f"{value[: _LONGEST_VALUE - _VALUE_END]}…{value[-_VALUE_END:]}"
