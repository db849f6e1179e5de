"""A run's metrics to read: one screen of text, or one HTML page that needs nothing beside it.

Both read the run's directory only, so they work on a run that goes on, has ended or was killed.
"""

import itertools
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.run_dir import (
    CONFIG_FILE,
    LOCK_FILE,
    METRICS_FILE,
    MetricsLine,
    is_done,
    is_running,
    read_config,
    read_metrics,
)
from starencoder.errors import DataError
from starencoder.files import write_whole
from starencoder.page import Curve, escaped, line_chart, page, table
from starencoder.text import aligned, duration, plain
from starencoder.toml import flatten

REPORT_FILE = "report.html"

_LANGUAGES_ON_A_SCREEN = 12
_RECENT_LINES = 20
"""Lines of metrics that speed and the time left are taken from."""
_MOST_DATA_WAIT = 0.01
_LISTED_BAD_STEPS = 100

_HELD_OUT_COLUMNS = (
    ("masked tokens", "masked", ",.0f"),
    ("MLM loss", "mlm_loss", ".4f"),
    ("masked accuracy", "masked_accuracy", ".1%"),
    ("unigram", "unigram_accuracy", ".1%"),
    ("pairs", "pairs", ",.0f"),
    ("NSP accuracy", "nsp_accuracy", ".1%"),
    ("chance", "nsp_chance", ".1%"),
)
"""Header, key of the metrics, and how it is written."""
_HELD_OUT_HEADER = ("language", *(name for name, _, _ in _HELD_OUT_COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    path: Path
    state: str
    config: Mapping[str, object]
    lines: Mapping[str, Sequence[MetricsLine]]
    """By kind, in order."""
    damage: str = ""
    """Why the config is empty, if it should not be."""

    def of_kind(self, kind: str) -> Sequence[MetricsLine]:
        return self.lines.get(kind, ())

    @property
    def steps(self) -> int | None:
        """Steps the run is to have."""
        value = flatten(self.config).get("config.run.steps")
        return value if isinstance(value, int) else None


def status_text(run: Path) -> str:
    """One screen about a run: how far it is, how fast, what it has learnt, what went wrong.

    Raises:
        DataError: There is no such directory, or its files cannot be read.
    """
    found = _load(run)
    rows = [(plain(str(run)), found.state), *_progress(found)]
    width = max(20, max(len(name) for name, _ in rows) + 2)
    lines = [f"{name:<{width}}{value}" for name, value in rows]
    held_out = found.of_kind("held_out")
    if held_out:
        *languages, total = _held_out_rows(held_out[-1])
        shown = [*languages[:_LANGUAGES_ON_A_SCREEN], total]
        hidden = len(languages) - _LANGUAGES_ON_A_SCREEN
        lines += ["", f"held out, step {held_out[-1].step:,}", *aligned([_HELD_OUT_HEADER, *shown])]
        if hidden > 0:
            lines.append(f"  ({hidden} more languages in the report)")
    warnings = _warnings(found)
    if warnings:
        lines += ["", "warnings", *(f"  {plain(warning)}" for warning in warnings)]
    return "\n".join(lines) + "\n"


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write a run's page, with curves, and return its path; `RUN/report.html` if none is given.

    Raises:
        DataError: There is no such directory, or its files cannot be read.
        OutputError: The page cannot be written.
        MissingExtraError: The package matplotlib is not installed.
    """
    found = _load(run)
    path = run / REPORT_FILE if output is None else output
    sections = [table(("", ""), [("state", found.state), *_progress(found)])]
    warnings = _warnings(found)
    if warnings:
        items = "".join(f"<li>{escaped(warning)}</li>" for warning in warnings)
        sections.append(f"<h2>Warnings</h2><ul>{items}</ul>")
    sections.append(f'<div class="charts">{"".join(_charts(found))}</div>')
    sections += [
        *_held_out_section(found),
        *_bad_steps_section(found),
        *_checkpoints_section(found),
    ]
    sections.append(
        "<h2>Settings and versions</h2>"
        + table(
            ("key", "value"), ((name, str(value)) for name, value in flatten(found.config).items())
        )
    )
    write_whole(path, page(f"Pretraining run {run.resolve().name}", sections).encode())
    return path


def _load(run: Path) -> _Run:
    if not run.is_dir():
        raise DataError(f"{run}: no such directory; give a pretraining run's or a scan's output")
    if not any((run / name).exists() for name in (LOCK_FILE, CONFIG_FILE, METRICS_FILE)):
        raise DataError(f"{run}: no pretraining run and no scan's output; give one of them")
    lines: dict[str, list[MetricsLine]] = {}
    for line in read_metrics(run):
        lines.setdefault(line.kind, []).append(line)
    if is_done(run):
        state = "done"
    elif is_running(run):
        state = "running"
    elif lines:
        state = "stopped before its last step; go on with --resume"
    else:
        state = "not started"
    try:
        return _Run(path=run, state=state, config=read_config(run), lines=lines)
    except DataError as error:  # the metrics are worth seeing all the same
        return _Run(path=run, state=state, config={}, lines=lines, damage=str(error))


def _progress(run: _Run) -> list[tuple[str, str]]:
    """Names and values of how far the run is; only what is known."""
    train = run.of_kind("train")
    rows: list[tuple[str, str]] = []
    if train:
        last, values = train[-1], train[-1].values
        steps = run.steps
        share = f" of {steps:,} ({last.step / steps:.1%})" if steps else ""
        rows.append(("step", f"{last.step:,}{share}"))
        parts = [f"{name} {_shown(values, key)}" for name, key in _LOSSES[1:]]
        rows.append(("loss", f"{_shown(values, 'loss')} ({', '.join(parts)})"))
        rows.append(("learning rate", _shown(values, "learning_rate", ".3g")))
        rows.append(("tokens", _shown(values, "tokens", ",.0f")))
        recent = [line.values for line in train[-_RECENT_LINES:]]
        speed = f"{_median(recent, 'tokens_per_second', ',.0f')} tokens/s"
        mfu = _median(recent, "mfu", ".1%")
        speed += f", MFU {mfu}" if mfu != "-" else ""
        rows.append(("speed", f"{speed}, {_median(recent, 'data_wait', '.2%')} waiting for data"))
        left = _seconds_left(train, steps)
        if left is not None and run.state == "running":
            rows.append(("time left", duration(left)))
        rows.append(("last metrics", _ago(values)))
    saved = [line for line in run.of_kind("checkpoint") if not line.values.get("error")]
    if saved:
        last, values = saved[-1], saved[-1].values
        stall = _shown(values, "stall", ".2f")
        rows.append(("last checkpoint", f"step {last.step:,}, training waited {stall} s"))
    return rows


def _seconds_left(train: Sequence[MetricsLine], steps: int | None) -> float | None:
    """From the median step, so that a break between two lines does not count."""
    timed = [(line.step, _number(line.values, "time")) for line in train[-_RECENT_LINES:]]
    pairs = [
        (later - earlier) / (step - before)
        for (before, earlier), (step, later) in itertools.pairwise(timed)
        if earlier is not None and later is not None and step > before
    ]
    return statistics.median(pairs) * (steps - train[-1].step) if pairs and steps else None


def _warnings(run: _Run) -> list[str]:
    found = [run.damage] if run.damage else []
    bad = run.of_kind("bad_step")
    if bad:
        last = bad[-1]
        number = "1 bad step" if len(bad) == 1 else f"{len(bad)} bad steps"
        found.append(
            f"{number}; the last at step {last.step:,}: "
            f"{last.values.get('reason', 'unknown')} ({last.values.get('action', 'unknown')})"
        )
    saves = run.of_kind("checkpoint")
    failed = [line for line in saves if line.values.get("error")]
    if failed:
        found.append(
            f"{len(failed)} of {len(saves)} checkpoints not saved; the last at step "
            f"{failed[-1].step:,}: {failed[-1].values['error']}"
        )
    waits = [_number(line.values, "data_wait") for line in run.of_kind("train")[-_RECENT_LINES:]]
    known = [wait for wait in waits if wait is not None]
    if known and statistics.median(known) > _MOST_DATA_WAIT:
        found.append(
            f"{statistics.median(known):.1%} of the time goes into waiting for data; "
            f"raise data.workers"
        )
    return found


def _held_out_rows(line: MetricsLine) -> list[list[str]]:
    """A row per language, those with most masked tokens first, and one for all."""
    languages = line.values.get("languages")
    known = languages.items() if isinstance(languages, Mapping) else ()
    by_name = {str(name): values for name, values in known if isinstance(values, Mapping)}
    names = sorted(by_name, key=lambda name: (-(_number(by_name[name], "masked") or 0), name))
    rows = [_held_out_row(name, by_name[name]) for name in names]
    total = line.values.get("all")
    return [*rows, _held_out_row("all", total if isinstance(total, Mapping) else {})]


def _held_out_row(name: str, values: Mapping[str, object]) -> list[str]:
    return [name, *(_shown(values, key, form) for _, key, form in _HELD_OUT_COLUMNS)]


_LOSSES = (("total", "loss"), ("MLM", "mlm_loss"), ("NSP", "nsp_loss"))


def _charts(run: _Run) -> list[str]:
    train, held_out = run.of_kind("train"), run.of_kind("held_out")
    totals = [
        MetricsLine(line.kind, line.step, dict(total))
        for line in held_out
        if isinstance(total := line.values.get("all"), Mapping)
    ]
    charts: list[tuple[str, dict[str, Curve]]] = [
        (
            "Loss",
            {
                **{f"train, {name}": _curve(train, key) for name, key in _LOSSES},
                "held out, MLM": _curve(totals, "mlm_loss"),
            },
        ),
        (
            "Masked accuracy, held out",
            {
                "model": _curve(totals, "masked_accuracy"),
                "most frequent token (unigram)": _curve(totals, "unigram_accuracy"),
            },
        ),
        (
            "NSP accuracy, held out",
            {"model": _curve(totals, "nsp_accuracy"), "chance": _curve(totals, "nsp_chance")},
        ),
        ("Learning rate", {"": _curve(train, "learning_rate")}),
        ("Gradient norm", {"": _curve(train, "grad_norm")}),
        ("Tokens per second", {"": _curve(train, "tokens_per_second")}),
        (
            "Share of the time",
            {"waiting for data": _curve(train, "data_wait"), "MFU": _curve(train, "mfu")},
        ),
    ]
    drawn = []
    for title, curves in charts:
        known = {name: curve for name, curve in curves.items() if curve[0]}
        if known:
            drawn.append(
                f"<figure><figcaption>{title}</figcaption>{line_chart(title, known)}</figure>"
            )
    return drawn


def _curve(lines: Iterable[MetricsLine], key: str) -> Curve:
    points = [(line.step, _number(line.values, key)) for line in lines]
    known = [(step, value) for step, value in points if value is not None]
    return [step for step, _ in known], [value for _, value in known]


def _held_out_section(run: _Run) -> list[str]:
    lines = run.of_kind("held_out")
    if not lines:
        return []
    forms = enumerate((form for _, _, form in _HELD_OUT_COLUMNS), start=1)
    bars = [index for index, form in forms if form.endswith("%")]
    text = (
        "<p>Unigram: how often always guessing the most frequent token is right. "
        "Chance: how often the more frequent answer is right.</p>"
    )
    title = f"<h2>Held out by language, step {lines[-1].step:,}</h2>"
    return [title, text, table(_HELD_OUT_HEADER, _held_out_rows(lines[-1]), bars=bars)]


def _bad_steps_section(run: _Run) -> list[str]:
    lines = run.of_kind("bad_step")
    if not lines:
        return ["<h2>Bad steps</h2><p>None.</p>"]
    rows = []
    for line in lines[-_LISTED_BAD_STEPS:]:
        documents = line.values.get("documents")
        where = ", ".join(map(str, documents)) if isinstance(documents, list) else ""
        known = [str(line.values.get(key, "")) for key in ("reason", "action", "rank")]
        rows.append([f"{line.step:,}", *known, _shown(line.values, "loss"), where])
    title = f"<h2>Bad steps</h2><p>{len(lines)} in all; the last {len(rows)}:</p>"
    return [title, table(("step", "reason", "action", "rank", "loss", "documents"), rows)]


def _checkpoints_section(run: _Run) -> list[str]:
    lines = run.of_kind("checkpoint")[-_RECENT_LINES:]
    rows = [
        [
            f"{line.step:,}",
            _shown(line.values, "stall", ".3f"),
            _shown(line.values, "seconds", ".1f"),
            _shown(line.values, "bytes", ",.0f"),
            str(line.values.get("error") or "saved"),
        ]
        for line in lines
    ]
    header = ("step", "training waited (s)", "written in (s)", "bytes", "")
    return ["<h2>Last checkpoints</h2>", table(header, rows)] if rows else []


def _number(values: Mapping[str, object], key: str) -> float | None:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _shown(values: Mapping[str, object], key: str, form: str = ".4f") -> str:
    number = _number(values, key)
    return "-" if number is None else format(number, form)


def _median(lines: Iterable[Mapping[str, object]], key: str, form: str) -> str:
    known = [number for values in lines if (number := _number(values, key)) is not None]
    return format(statistics.median(known), form) if known else "-"


def _ago(values: Mapping[str, object]) -> str:
    moment = _number(values, "time")
    return "-" if moment is None else f"{duration(max(0.0, time.time() - moment))} ago"
