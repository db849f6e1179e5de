"""What a data set holds and what was left out: as text, and as a page with a plot."""

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pretrain.shards import SPLITS, Manifest
from starencoder.files import write_whole

REPORT = "report.html"
_COLUMNS = ("documents", "tokens", "characters", "entries")
_PLOTTED = 40
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .7rem;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}svg{max-width:100%}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The outcome of `prepare`."""

    directory: Path
    manifest: Manifest
    reused: bool
    """Whether the data set was there already."""
    seconds: float

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Inputs that could not be read, or not to their end: address -> why."""
        return cast(Mapping[str, str], self.manifest.prepare["unreadable"])


def report_text(report: Report) -> str:
    """Tables of documents, tokens and characters by split and language, and of what is left out."""
    manifest = report.manifest
    lines = []
    for title, rows in _tables(manifest):
        lines += [title, *_aligned(rows), ""]
    lines += [f"not readable: {where}: {why}" for where, why in report.unreadable.items()]
    done = "is there already" if report.reused else f"made in {report.seconds:,.0f} s"
    return "\n".join([*lines, f"{report.directory}: {done}"])


def write_report(report: Report) -> Path:
    """Write the same tables, with a plot, as one HTML page beside the shards.

    Raises:
        OutputError: It cannot be written.
    """
    body = [f"<h1>Token shards in {html.escape(report.directory.name)}</h1>"]
    body.append(_plot(report.manifest))
    for title, (head, *rows) in _tables(report.manifest):
        body.append(f"<h2>{html.escape(title)}</h2><table>{_row(head, 'th')}")
        body += [_row(row, "td") for row in rows]
        body.append("</table>")
    for where, why in report.unreadable.items():
        body.append(f"<p>Not readable: {html.escape(where)}: {html.escape(why)}</p>")
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Token shards</title>'
        f"<style>{_STYLE}</style>{''.join(body)}</html>\n"
    )
    path = report.directory / REPORT
    write_whole(path, page.encode("utf-8", "replace"))
    return path


def _tables(manifest: Manifest) -> list[tuple[str, list[list[str]]]]:
    tables = []
    for split in SPLITS:
        counts = manifest.counts[split]
        total = sum(row["tokens"] for row in counts.values()) or 1
        rows = [["language", *_COLUMNS, "of tokens"]]
        named = sorted(counts.items(), key=lambda item: (-item[1]["tokens"], item[0]))
        sums = {name: sum(row[name] for row in counts.values()) for name in _COLUMNS}
        for language, row in [*named, ("all", sums)]:
            numbers = [f"{row[name]:,}" for name in _COLUMNS]
            rows.append([language, *numbers, f"{row['tokens'] / total:.1%}"])
        tables.append((split, rows))
    rows = [["reason", "documents", "most of them"]]
    for reason, by_language in manifest.left_out.items():
        most = sorted(by_language.items(), key=lambda item: (-item[1], item[0]))[:3]
        text = ", ".join(f"{language} {number:,}" for language, number in most)
        rows.append([reason, f"{sum(by_language.values()):,}", text])
    return [*tables, ("left out", rows)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _plot(manifest: Manifest) -> str:
    """Bars of the tokens that an epoch shows by language, as SVG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    counts = manifest.counts["train"]
    named = sorted(counts.items(), key=lambda item: -item[1]["tokens"])[:_PLOTTED][::-1]
    figure = Figure(figsize=(8, 1 + 0.22 * len(named)), layout="constrained")
    canvas = FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    # A language's name is text, never mathematics between dollar signs.
    labels = [name.replace("$", r"\$") for name, _ in named]
    axes.barh(range(len(named)), [row["tokens"] / 1e6 for _, row in named])
    axes.set_yticks(range(len(named)), labels)
    axes.set_xlabel("million tokens to train on, each document once")
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    # Ids that do not change, so that the same shards have the same page.
    with rc_context({"svg.hashsalt": "starencoder"}):
        canvas.print_svg(file, metadata={"Date": None})
    svg = file.getvalue().decode()
    return svg[svg.index("<svg") :]
