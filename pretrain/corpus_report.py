"""What a data set holds and what was left out: as text, and as a page with a plot."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pretrain.shards import SPLITS, Manifest
from starencoder.files import write_whole
from starencoder.page import bar_chart, escaped, page, table
from starencoder.text import aligned, short

REPORT = "report.html"
_COLUMNS = ("documents", "tokens", "characters", "entries")
_PLOTTED = 40


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
        lines += [title, *aligned(rows), ""]
    lines += [f"not readable: {where}: {why}" for where, why in report.unreadable.items()]
    done = "is there already" if report.reused else f"made in {report.seconds:,.0f} s"
    return "\n".join([*lines, f"{report.directory}: {done}"])


def write_report(report: Report) -> Path:
    """Write the same tables, with a plot, as one HTML page beside the shards.

    Raises:
        OutputError: It cannot be written.
    """
    tokens = {name: row["tokens"] / 1e6 for name, row in report.manifest.counts["train"].items()}
    most = dict(sorted(tokens.items(), key=lambda item: -item[1])[:_PLOTTED])
    sections = [bar_chart("languages", most, "million tokens to train on, each document once")]
    for title, (head, *rows) in _tables(report.manifest):
        sections.append(f"<h2>{escaped(title)}</h2>{table(head, rows)}")
    sections += [
        f"<p>Not readable: {escaped(where)}: {escaped(why)}</p>"
        for where, why in report.unreadable.items()
    ]
    content = page(f"Token shards in {report.directory.name}", sections)
    path = report.directory / REPORT
    write_whole(path, content.encode())
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
        text = ", ".join(f"{short(language)} {number:,}" for language, number in most)
        rows.append([reason, f"{sum(by_language.values()):,}", text])
    return [*tables, ("left out", rows)]
