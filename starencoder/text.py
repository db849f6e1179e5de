"""Names, amounts, durations and tables as lines of text."""

from collections.abc import Sequence

_WIDEST = 40
"""Characters of a name that are shown."""


def plain(text: str) -> str:
    """Text that cannot steer a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def short(name: str) -> str:
    """A name for a table or chart, `plain` and cut: names that come with data may be anything."""
    shown = plain(name)
    return shown if len(shown) <= _WIDEST else f"{shown[: _WIDEST - 1]}…"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of text: names, `short`, to the left, the other columns to the right."""
    rows = [[short(row[0]), *row[1:]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"  {row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def counted(number: int, one: str, more: str = "") -> str:
    """A number and what it counts: 1 shard, 2 shards.

    Args:
        number: How many.
        one: What one is called.
        more: What more are called; empty: the same with an s.
    """
    return f"{number} {one if number == 1 else more or one + 's'}"


def amount(value: float, unit: str = "") -> str:
    """A number with one decimal and the largest decimal prefix it fills: 1500000000 B, 1.5 GB."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:,.1f} {prefix}{unit}"
    return f"{value:,.0f} {unit}".rstrip()


def duration(seconds: float) -> str:
    """Seconds in the two largest units that they fill, from days to seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
