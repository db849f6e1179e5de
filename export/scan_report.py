"""A scan as one HTML page that needs nothing beside it and runs nothing.

The page depends on the scan's directory and the seed of its sample only.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from export.findings import Finding, Sample, sample_findings
from export.scan_dir import JOURNAL_FILE, LOCK_FILE, MANIFEST_FILE, RUN_FILE, SCAN_FOLDER
from export.scan_status import (
    ScanState,
    UnitTime,
    label_rows,
    per_thousand,
    progress_rows,
    ranked_languages,
    read_state,
    spans_of,
)
from export.tally import Tally
from pii.labels import LABELS
from starencoder.errors import ConfigError
from starencoder.files import check_outputs, write_whole
from starencoder.page import escaped, histogram, page, table
from starencoder.text import amount, counted, duration
from starencoder.toml import flatten

REPORT_FILE = "report.html"

_Place = tuple[str, ...]
"""A shard, or a shard and a row group."""

_SLOWEST = 20
_MOST_ROWS = 1000
"""Of a table; what is left out is counted."""

_STYLE = """
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }
mark { background: #ffd9a0; border-radius: 2px }
.warning { font-weight: bold }
"""


def write_scan_report(
    path: Path, output: Path | None = None, *, sample: int = 0, show_values: bool = False
) -> tuple[Path, Mapping[str, str]]:
    """Write a scan's page.

    Args:
        path: The scan's output directory.
        output: The page; None: `_scan/report.html` there.
        sample: Findings of each label to show.
        show_values: Show their values too.

    Returns:
        The page, and shards that the sample could not be drawn from, and why.

    Raises:
        DataError: See `read_state`.
        ConfigError: Values are asked for that are no longer there, or the page would take the
            place of a file of the scan.
        OutputError: The page cannot be written.
    """
    state = read_state(path)
    folder = path / SCAN_FOLDER
    target = folder / REPORT_FILE if output is None else output
    own = [folder / name for name in (RUN_FILE, JOURNAL_FILE, MANIFEST_FILE, LOCK_FILE)]
    check_outputs([target], [*own, *(path / name for name in _same_name(state, target))])
    drawn = _sample(state, sample, show_values) if sample else None
    tally = state.tally
    sections = [
        table(("", ""), [("state", state.state), *progress_rows(state)]),
        *_labels_section(tally),
        *_languages_section(tally),
        *_scores_section(tally),
        *_rows_section(tally),
        *_problems_section(state),
        *_speed_section(state),
        *([] if drawn is None else _sample_section(drawn, show_values, _is_redacted(state))),
        *_settings_section(state),
    ]
    name = path.resolve().name
    write_whole(target, page(f"Scan {name}", sections, style=_STYLE).encode())
    return target, {} if drawn is None else drawn.unread


def _same_name(state: ScanState, target: Path) -> list[str]:
    return [name for name in state.finished if name.rpartition("/")[2] == target.name]


def _config(state: ScanState) -> Mapping[str, object]:
    return flatten({"config": state.run.get("config", {})})


def _is_redacted(state: ScanState) -> bool:
    return _config(state).get("config.mode") != "annotate"


def _sample(state: ScanState, size: int, show_values: bool) -> Sample:
    redacted = _is_redacted(state)
    if show_values and redacted:
        raise ConfigError(
            f"{state.path}: its texts are redacted, so the values are no longer there; leave "
            "--show-values out to see what stands around them, or give the output of "
            "scan --mode annotate"
        )
    return sample_findings(
        state.path,
        [name for name in state.inputs if name in state.finished],
        per_label=size,
        text_column=str(_config(state).get("config.columns.text", "content")),
        redacted=redacted,
        show_values=show_values,
    )


def _labels_section(tally: Tally) -> list[str]:
    counts = tally.by_label()
    per_megabyte = [
        f"{count * 1e6 / tally.text_bytes:,.2f}" if tally.text_bytes else "-"
        for count in (*(counts[label] for label in LABELS), counts.total())
    ]
    rows = [[*row, rate] for row, rate in zip(label_rows(tally), per_megabyte, strict=True)]
    header = ("label", "spans", "per 1,000 rows", "per MB of text")
    return ["<h2>Findings by label</h2>", table(header, rows)]


def _languages_section(tally: Tally) -> list[str]:
    ranked = ranked_languages(tally)
    shown, hidden = ranked[:_MOST_ROWS], ranked[_MOST_ROWS:]
    if hidden:
        rest: Counter[str] = Counter()
        for _, counts in hidden:
            rest.update(counts)
        shown = [*shown, (f"({len(hidden):,} more)", rest)]
    counted = [
        [name, f"{own['rows']:,}", *(f"{own[label]:,}" for label in LABELS), f"{spans_of(own):,}"]
        for name, own in shown
    ]
    rates = [
        [
            name,
            f"{own['rows']:,}",
            *(per_thousand(own[label], own["rows"]) for label in LABELS),
            per_thousand(spans_of(own), own["rows"]),
        ]
        for name, own in shown
    ]
    header = ("language", "rows", *LABELS, "all")
    return [
        "<h2>Findings by language</h2>",
        table(header, counted),
        "<h2>Findings by language, per 1,000 rows</h2>",
        table(header, rates),
    ]


def _scores_section(tally: Tally) -> list[str]:
    charts = "".join(
        histogram(f"{label}, {sum(tally.scores[label]):,} spans", tally.scores[label])
        for label in LABELS
        if label in tally.scores
    )
    if not charts:
        return ["<h2>Scores</h2><p>None: nothing was found by a model.</p>"]
    about = "<p>What the model found; the scores of patterns are not counted.</p>"
    return ["<h2>Scores</h2>", about, f'<div class="charts">{charts}</div>']


def _rows_section(tally: Tally) -> list[str]:
    left_out = tally.rows_in - tally.rows_out
    rows = [
        ("read", f"{tally.rows_in:,}"),
        ("scanned", f"{tally.scanned:,}"),
        *((f"not scanned: {name}", f"{count:,}") for name, count in _sorted(tally.not_scanned)),
        ("left out of the output", f"{left_out:,}"),
        ("written", f"{tally.rows_out:,}"),
        ("modified", f"{tally.modified:,}"),
    ]
    forms = [(name, f"{count:,}") for name, count in _sorted(tally.forms)]
    return [
        "<h2>Rows</h2>",
        table(("rows", "number"), rows),
        "<h2>Forms of the texts</h2>",
        table(("form", "rows"), forms) if forms else "<p>None.</p>",
    ]


def _sorted(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items())


def _problems_section(state: ScanState) -> list[str]:
    if not state.problems:
        return ["<h2>Problems</h2><p>None.</p>"]
    rows = sorted(state.problems.items())
    return [
        f"<h2>Problems</h2><p>{counted(len(rows), 'shard')} without an output"
        + (f"; the first {_MOST_ROWS:,}" if len(rows) > _MOST_ROWS else "")
        + ":</p>",
        table(("shard", "problem"), rows[:_MOST_ROWS]),
    ]


def _speed_section(state: ScanState) -> list[str]:
    runs = [run for run in state.runs if run.units]
    if not runs:
        return []
    rows = [
        (
            f"{datetime.fromtimestamp(run.start, UTC):%Y-%m-%d %H:%M:%S}",
            duration(run.wall),
            f"{run.units:,}",
            amount(run.text_bytes, "B"),
            _rate(run.text_bytes, run.wall),
            _rate(run.text_bytes, run.seconds),
            f"{run.seconds / run.wall:.1f}" if run.wall > 0 else "-",
        )
        for run in runs[-_MOST_ROWS:]
    ]
    header = (
        "started (UTC)", "took", "row groups", "text", "MB/s", "MB/s for each process",
        "processes at work on average",
    )  # fmt: skip
    groups: dict[_Place, UnitTime] = {
        (shard, str(group)): took
        for shard, own in state.times.items()
        for group, took in own.items()
    }
    shards: dict[_Place, UnitTime] = {
        (shard,): UnitTime(
            sum(took.seconds for took in own.values()),
            sum(took.text_bytes for took in own.values()),
        )
        for shard, own in state.times.items()
    }
    seconds = sum(took.seconds for took in shards.values())
    average = sum(took.text_bytes for took in shards.values()) / seconds if seconds else 0.0
    about = (
        f"<p>Those that took most time beyond what their text takes at the average rate of a "
        f"process, {average / 1e6:.3f} MB/s.</p>"
    )
    names = ("seconds", "text", "MB/s", "seconds beyond the average")
    return [
        "<h2>Speed by run</h2>",
        table(header, rows),
        "<h2>Slow shards</h2>",
        about,
        table(("shard", *names), _slowest(shards, average)),
        "<h2>Slow row groups</h2>",
        about,
        table(("shard", "row group", *names), _slowest(groups, average)),
    ]


def _slowest(times: Mapping[_Place, UnitTime], average: float) -> list[Sequence[str]]:
    beyond = {
        key: took.seconds - (took.text_bytes / average if average else 0.0)
        for key, took in times.items()
    }
    slow = [key for key in times if beyond[key] > 0]
    return [
        (
            *key,
            f"{times[key].seconds:,.2f}",
            amount(times[key].text_bytes, "B"),
            _rate(times[key].text_bytes, times[key].seconds),
            f"{beyond[key]:+,.2f}",
        )
        for key in sorted(slow, key=lambda key: (-beyond[key], key))[:_SLOWEST]
    ]


def _rate(text_bytes: int, seconds: float) -> str:
    return f"{text_bytes / seconds / 1e6:.3f}" if seconds > 0 else "-"


def _sample_section(sample: Sample, show_values: bool, redacted: bool) -> list[str]:
    if redacted:
        about = (
            "The texts are redacted: the values are no longer there. What stands in the place of "
            "one is shown with the rest of its line."
        )
    elif show_values:
        about = "Values are shown: treat this page as the documents themselves."
    else:
        about = "A block stands for each value that was found, whatever its length."
    parts = [
        "<h2>A sample of findings</h2>",
        f'<p class="warning">{escaped(about)}</p>',
        "<p>Drawn at random, each finding of a label as likely as any other. Rows count from 0, "
        "lines from 1.</p>",
    ]
    if sample.unread:
        parts += ["<p>Not drawn from:</p>", table(("shard", "problem"), sample.unread.items())]
    for label, findings in sample.findings.items():
        parts.append(f"<h3>{escaped(label)}</h3>")
        parts.append(_findings_table(findings) if findings else "<p>None.</p>")
    return parts


def _findings_table(findings: Iterable[Finding]) -> str:
    head = "".join(
        f"<th>{name}</th>" for name in ("where", "line", "kind", "score", "source", "context")
    )
    body = []
    for finding in findings:
        where = [f"{finding.shard}, row {finding.row}", *finding.place.values()]
        cells = [
            "<br>".join(escaped(part) for part in where),
            "-" if finding.line is None else f"{finding.line:,}",
            escaped(finding.span.kind),
            f"{finding.span.score:.2f}",
            escaped(finding.span.source),
            f"<pre>{escaped(finding.before)}<mark>{escaped(finding.shown)}</mark>"
            f"{escaped(finding.after)}</pre>"
            if finding.shown
            else "left as it is",
        ]
        body.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{''.join(body)}</tbody></table>"


def _settings_section(state: ScanState) -> list[str]:
    settings = {key: value for key, value in state.run.items() if key != "inputs"}
    rows = [
        *((name, str(value)) for name, value in flatten(settings).items()),
        ("inputs", counted(len(state.inputs), "shard")),
        ("inputs, size", amount(sum(source.size for source in state.inputs.values()), "B")),
    ]
    return ["<h2>Settings and versions</h2>", table(("key", "value"), rows)]
