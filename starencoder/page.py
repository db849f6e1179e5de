"""One self-contained HTML page: text, tables and charts, all escaped."""

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from starencoder.errors import MissingExtraError
from starencoder.text import plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[list[int], list[float]]
"""Steps and values."""

_MARKED_POINTS = 20
"""A curve of fewer points shows each."""

_STYLE = """
body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; font-size: 0.9em }
th, td { border-bottom: 1px solid #ddd; padding: 0.2em 0.8em; text-align: left }
td { overflow-wrap: anywhere }
.charts { display: flex; flex-wrap: wrap; gap: 1em }
figure { margin: 0 } figcaption { font-weight: bold }
svg { width: 36em; max-width: 100%; height: auto }
.square svg { width: 22em }
"""


def escaped(text: str) -> str:
    """Text as HTML; what no page may hold (control characters, lone surrogates) as escapes."""
    return html.escape(plain(text))


def page(title: str, sections: Iterable[str], *, style: str = "") -> str:
    """A whole page; the policy keeps a browser from loading or running anything.

    Args:
        title: Text.
        sections: HTML.
        style: CSS of our own beside the page's.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escaped(title)}</title><style>{_STYLE}{style}</style></head>\n"
        f"<body><h1>{escaped(title)}</h1>\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, bars: Sequence[int] = ()) -> str:
    """A table of text; cells in the columns `bars` are percentages, drawn as bars too."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in header)
    body = []
    for row in rows:
        cells = [
            _bar(cell) if index in bars else f"<td>{escaped(cell)}</td>"
            for index, cell in enumerate(row)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>\n")
    shown = f"<thead><tr>{head}</tr></thead>\n" if any(header) else ""
    return f"<table>{shown}<tbody>{''.join(body)}</tbody></table>"


def line_chart(title: str, curves: Mapping[str, Curve]) -> str:
    """Curves over steps, as SVG for the inside of a page; names must be our own words.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    figure, axes = _figure(3.2)
    for name, (steps, values) in curves.items():
        marker = "o" if len(steps) < _MARKED_POINTS else ""
        axes.plot(steps, values, label=name, linewidth=1.2, marker=marker, markersize=3)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend(fontsize="small")
    return _svg(figure, title)


def unit_chart(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str
) -> str:
    """Curves through points of the unit square, as SVG for the inside of a page.

    Args:
        title: What no other chart of the page has.
        curves: Points by name, in order; names, as those of the axes, must be our own words.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    figure, axes = _figure(3.6, width=3.6)
    for name, points in curves.items():
        marker = "o" if len(points) < _MARKED_POINTS else ""
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        axes.plot(xs, ys, label=name, linewidth=1.2, marker=marker, markersize=3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize="small")
    return f'<div class="square">{_svg(figure, title)}</div>'


def bar_chart(title: str, bars: Mapping[str, float], unit: str) -> str:
    """Named bars, the first one on top, as SVG for the inside of a page.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    figure, axes = _figure(1 + 0.2 * len(bars))
    # A name is text, never mathematics between dollar signs.
    names = [short(name).replace("$", r"\$") for name in reversed(list(bars))]
    axes.barh(range(len(names)), list(bars.values())[::-1])
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure, title)


def histogram(title: str, bins: Sequence[int]) -> str:
    """Counts in equal ranges from 0 to 1, as SVG for the inside of a page; needs no package."""
    width, height, base = 360, 120, 100
    most = max([1, *bins])
    step = width / max(1, len(bins))
    bars = []
    for index, count in enumerate(bins):
        tall = base * count / most
        bars.append(
            f'<rect x="{index * step + 1:.2f}" y="{base - tall:.2f}" width="{step - 2:.2f}" '
            f'height="{tall:.2f}" fill="#3572b0">'
            f"<title>{index / len(bins):.2f} to {(index + 1) / len(bins):.2f}: {count:,}</title>"
            "</rect>"
        )
    marks = "".join(
        f'<text x="{at * width:g}" y="{height - 5}" font-size="11" text-anchor="{anchor}">{at:g}'
        "</text>"
        for at, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    return (
        f"<figure><figcaption>{escaped(title)}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img">'
        f'<line x1="0" y1="{base}" x2="{width}" y2="{base}" stroke="#888"/>'
        f"{''.join(bars)}{marks}</svg></figure>"
    )


def _bar(percentage: str) -> str:
    number = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", percentage)
    style = f"linear-gradient(#b9d3ee, #b9d3ee) no-repeat; background-size: {percentage} 100%"
    return f'<td style="background: {style}">{percentage}</td>' if number else "<td>-</td>"


def _figure(height: float, width: float = 6) -> "tuple[Figure, Axes]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib is not installed; reports need it: pip install 'starencoder[train]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: "Figure", title: str) -> str:
    """The picture without what only a file of its own needs; the same each time."""
    import matplotlib

    buffer = io.StringIO()
    # The salt makes the names inside different among charts.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    # Names that nothing refers to repeat from chart to chart.
    return re.sub(r' id="([^"]*)"', lambda m: m[0] if f"#{m[1]}" in text else "", text)
