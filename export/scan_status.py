"""How far a scan is: one screen of text.

It reads the scan's directory only, and changes nothing there, so it works on a scan that goes on,
has ended or was killed.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export.scan_dir import (
    DoneShard,
    DoneUnit,
    Entry,
    find_done,
    is_scan,
    lock_holder,
    read_journal,
    read_manifest,
    read_run,
)
from export.tally import Tally
from pii.files import shown_path
from pii.labels import LABELS
from starencoder.errors import DataError
from starencoder.text import aligned, amount, duration, plain

_WIDTH = 20
"""Characters of a name and what follows it."""
_LANGUAGES_ON_A_SCREEN = 12
_PROBLEMS_ON_A_SCREEN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A shard that a scan reads."""

    shard: str
    """Its place in the output."""
    size: int
    rows: int
    row_groups: int


@dataclass(slots=True, kw_only=True)
class Run:
    """What one process that scanned has done, from its start on."""

    start: float
    """In seconds since 1970."""
    last: float
    """When its last row group was done; its start if none was."""
    units: int = 0
    rows: int = 0
    text_bytes: int = 0
    seconds: float = 0.0
    """Of work, all processes together."""
    share: float = 0.0
    """Bytes of the shards that it has done, row for row."""

    @property
    def wall(self) -> float:
        """Seconds by the clock."""
        return self.last - self.start


@dataclass(frozen=True, slots=True)
class UnitTime:
    """What a row group took."""

    seconds: float
    text_bytes: int


@dataclass(slots=True)
class _Watch:
    """Sees the journal's lines pass, for what the account of what is done leaves out."""

    inputs: Mapping[str, Input]
    runs: list[Run] = field(default_factory=list)
    times: dict[str, dict[int, UnitTime]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def see(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.kind == "start":
                self.runs.append(Run(start=entry.time, last=entry.time))
                self.problems = {}  # it tries again what went wrong
            elif entry.kind == "problem":
                self.problems.setdefault(entry.shard, entry.problem)
            elif entry.kind == "unit" and entry.shard in self.inputs:
                self._see_unit(entry)
            yield entry

    def _see_unit(self, entry: Entry) -> None:
        tally, source = entry.tally, self.inputs[entry.shard]
        self.times.setdefault(entry.shard, {})[entry.group] = UnitTime(
            entry.seconds, tally.text_bytes
        )
        if self.runs:
            run = self.runs[-1]
            run.last = max(run.last, entry.time)
            run.units += 1
            run.rows += tally.rows_in
            run.text_bytes += tally.text_bytes
            run.seconds += entry.seconds
            run.share += _share(source, tally.rows_in)


def _share(source: Input, rows: int) -> float:
    return source.size * rows / source.rows if source.rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanState:
    """What a scan's directory says of it."""

    path: Path
    holder: str | None
    """The process that scans; None: none does."""
    run: Mapping[str, object]
    """What the output depends on; empty: nothing has begun."""
    inputs: Mapping[str, Input]
    """By the place in the output."""
    finished: Mapping[str, DoneShard]
    units: Mapping[tuple[str, int], DoneUnit]
    """Row groups that are done, of shards that are not finished."""
    tally: Tally
    """What was counted in all of them."""
    problems: Mapping[str, str]
    """Shards that could not be scanned, as far as the last run has come, and why."""
    runs: Sequence[Run]
    times: Mapping[str, Mapping[int, UnitTime]]
    """What each row group took, by shard."""
    has_account: bool
    """Whether the last run wrote the manifest."""

    @property
    def shards(self) -> int:
        """All that were given, those that cannot be read among them."""
        return len({*self.inputs, *self.problems})

    @property
    def row_groups(self) -> int:
        """Of all shards that can be read."""
        return sum(source.row_groups for source in self.inputs.values())

    @property
    def row_groups_done(self) -> int:
        """Of finished shards and of others."""
        return len(self.units) + sum(self.inputs[name].row_groups for name in self.finished)

    @property
    def timed_run(self) -> Run | None:
        """The last run that has done a row group: its speed is the scan's."""
        return next((run for run in reversed(self.runs) if run.units), None)

    @property
    def seconds_left(self) -> float | None:
        """At the speed of the run that goes on; None: not known."""
        run = self.runs[-1] if self.runs and self.holder else None
        if run is None or not run.share or run.wall <= 0:
            return None
        left = sum(
            source.size
            for name, source in self.inputs.items()
            if name not in self.finished and name not in self.problems
        )
        done = sum(
            _share(self.inputs[name], unit.tally.rows_in)
            for (name, _), unit in self.units.items()
            if name not in self.problems
        )
        return max(0.0, left - done) / run.share * run.wall

    @property
    def state(self) -> str:
        """In words."""
        if self.holder:
            return f"running ({self.holder})"
        if not self.run:
            return "not started"
        if set(self.finished) | set(self.problems) >= set(self.inputs) and self.has_account:
            count = len(self.problems)
            return f"done, apart from {count} with problems" if count else "done"
        return "stopped before its end; give the same command again to go on"


def read_state(path: Path) -> ScanState:
    """Read a scan's directory.

    Raises:
        DataError: It is none, or its files cannot be read.
    """
    if not is_scan(path):
        raise DataError(f"{shown_path(path)}: no scan's output; give the --output of one")
    # Before the journal: a scan that ends in between then counts as running, not as stopped.
    holder = lock_holder(path)
    run, manifest = read_run(path), read_manifest(path)
    inputs = _inputs(path, run)
    watch = _Watch(inputs)
    # While a scan goes on, a shard that is joined between the reading of the journal and the look
    # at the parts counts as not done once.
    units, finished = find_done(path, inputs, watch.see(read_journal(path)))
    tally = Tally()
    for shard in finished.values():
        tally.add(shard.tally)
    for unit in units.values():
        tally.add(unit.tally)
    accounted = manifest.get("inputs")
    return ScanState(
        path=path,
        holder=holder,
        run=run,
        inputs=inputs,
        finished=finished,
        units=units,
        tally=tally,
        problems=watch.problems,
        runs=watch.runs,
        times=watch.times,
        has_account=isinstance(accounted, list) and len(accounted) == len(finished),
    )


def _inputs(path: Path, run: Mapping[str, object]) -> dict[str, Input]:
    entries = run.get("inputs", []) if run else []
    try:
        if not isinstance(entries, list):
            raise TypeError
        found = [
            Input(
                shard=str(entry["shard"]),
                size=int(entry["size"]),
                rows=int(entry["rows"]),
                row_groups=int(entry["row_groups"]),
            )
            for entry in entries
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shown_path(path)}: what its scan began with is not as expected; it was made by "
            "another version, or changed"
        ) from error
    return {source.shard: source for source in found}


def status_text(path: Path) -> str:
    """One screen about a scan: how far it is, how fast, what it has found, what went wrong.

    Raises:
        DataError: See `read_state`.
    """
    state = read_state(path)
    rows = progress_rows(state)
    left = state.seconds_left
    if left is not None:
        rows.append(("time left", f"about {duration(left)}"))
    run = state.timed_run
    if state.holder and run is not None:
        rows.append(("last row group", f"{duration(max(0.0, time.time() - run.last))} ago"))
    lines = [f"{shown_path(path):<{_WIDTH - 2}}  {state.state}"]
    lines += [f"{name:<{_WIDTH}}{value}" for name, value in rows]
    tally = state.tally
    if tally.scanned:
        lines += ["", *aligned([("label", "spans", "per 1,000 rows"), *label_rows(tally)])]
        lines += ["", *aligned([("language", "rows", "spans"), *_language_rows(tally)])]
    if state.problems:
        lines += ["", "problems"]
        shown = itertools.islice(sorted(state.problems.items()), _PROBLEMS_ON_A_SCREEN)
        lines += [f"  {shown_path(shard)}: {first_line(text)}" for shard, text in shown]
        hidden = len(state.problems) - _PROBLEMS_ON_A_SCREEN
        if hidden > 0:
            lines.append(f"  ({hidden} more in the report)")
    return "\n".join(lines) + "\n"


def first_line(problem: str) -> str:
    """What a problem says before any traceback."""
    return plain(problem.partition("\n")[0])


def progress_rows(state: ScanState) -> list[tuple[str, str]]:
    """Names and values of how far a scan is; only what is known, and nothing of the clock."""
    if not state.run:
        return []
    tally = state.tally
    total = sum(source.rows for source in state.inputs.values())
    rows = [
        ("shards", _of(len(state.finished), state.shards)),
        ("row groups", _of(state.row_groups_done, state.row_groups)),
        ("rows", _of(tally.rows_in, total)),
        ("scanned", f"{tally.scanned:,} rows, {tally.modified:,} modified"),
    ]
    waiting = sum(unit.tally.rows_in for unit in state.units.values())
    if waiting:
        rows.append(("in no output yet", f"{waiting:,} of these rows, of shards not finished"))
    if tally.not_scanned:
        reasons = (f"{count:,} {name}" for name, count in sorted(tally.not_scanned.items()))
        rows.append(("not scanned", ", ".join(reasons)))
    rows.append(("text", amount(tally.text_bytes, "B")))
    run = state.timed_run
    if run is not None:
        rows.append(("rate", rate_text(run)))
    return rows


def rate_text(run: Run) -> str:
    """How fast a run was, by the clock and for each process."""
    parts = []
    if run.wall > 0:
        parts.append(f"{run.text_bytes / run.wall / 1e6:.3f} MB/s")
    if run.seconds > 0:
        parts.append(f"{run.text_bytes / run.seconds / 1e6:.3f} MB/s for each process")
    if run.wall > 0:
        parts.append(f"{run.seconds / run.wall:.1f} processes at work on average")
    return ", ".join(parts) or "-"


def label_rows(tally: Tally) -> list[tuple[str, str, str]]:
    """Label, spans, spans per 1,000 scanned rows; a last row for all."""
    counts = tally.by_label()
    rows = [(label, counts[label]) for label in LABELS]
    return [
        (name, f"{count:,}", per_thousand(count, tally.scanned))
        for name, count in [*rows, ("all", counts.total())]
    ]


def per_thousand(count: int, rows: int) -> str:
    """A rate per 1,000 rows."""
    return f"{count * 1000 / rows:,.1f}" if rows else "-"


def _language_rows(tally: Tally) -> list[tuple[str, str, str]]:
    """Those with most rows."""
    ranked = ranked_languages(tally)
    rows = [
        (name, f"{counts['rows']:,}", f"{spans_of(counts):,}")
        for name, counts in ranked[:_LANGUAGES_ON_A_SCREEN]
    ]
    hidden = ranked[_LANGUAGES_ON_A_SCREEN:]
    if hidden:
        total = sum(counts["rows"] for _, counts in hidden)
        spans = sum(spans_of(counts) for _, counts in hidden)
        rows.append((f"({len(hidden)} more)", f"{total:,}", f"{spans:,}"))
    return rows


def ranked_languages(tally: Tally) -> list[tuple[str, Counter[str]]]:
    """Languages and their counts, those with most rows first."""
    return sorted(tally.languages.items(), key=lambda item: (-item[1]["rows"], item[0]))


def spans_of(counts: Counter[str]) -> int:
    """All spans of a language's counts."""
    return sum(counts[label] for label in LABELS)


def _of(done: int, total: int) -> str:
    return f"{done:,} of {total:,}" + (f" ({done / total:.1%})" if total else "")
