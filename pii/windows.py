"""Very long texts, read in windows: what a detector holds at once does not grow with the file."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pii.spans import Span

LONGEST_WINDOW = 1 << 20
"""Characters that one window answers for. Shorter texts are read whole."""

_CONTEXT = 1 << 14
"""Characters that a window sees on either side; no value is longer than that."""

_LATEST_CUT = 0.9
"""A window ends after a line end in its last tenth, if there is one."""


class Text(Protocol):
    """A `str`, or what makes the parts of one when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> str: ...
    def rfind(self, value: str, start: int, end: int, /) -> int:
        """As of a `str`."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a text: `[start, end)` is read, spans that begin in `[first, last)` are kept."""

    start: int
    end: int
    first: int
    last: int


def iter_windows(text: Text) -> Iterator[Window]:
    """Cut a text; an empty one has one window."""
    first = 0
    while True:
        last = min(first + LONGEST_WINDOW, len(text))
        if last < len(text):
            after_line = text.rfind("\n", first + int(LONGEST_WINDOW * _LATEST_CUT), last) + 1
            last = after_line or last
        yield Window(max(0, first - _CONTEXT), min(last + _CONTEXT, len(text)), first, last)
        first = last
        if first >= len(text):
            return


def join_windows(windows: Sequence[Window], found: Sequence[Sequence[Span]]) -> list[Span]:
    """The spans of a text from those of its windows, sorted and without overlaps."""
    spans: list[Span] = []
    for window, inner in zip(windows, found, strict=True):
        for span in inner:
            start = span.start + window.start
            reached = spans[-1].end if spans else 0
            if max(window.first, reached) <= start < window.last:
                spans.append(replace(span, start=start, end=span.end + window.start))
    return spans


def spans_inside(window: Window, spans: Sequence[Span]) -> list[Span]:
    """Those of a text's spans, sorted and apart, that a window sees whole, as it counts them."""
    first = bisect_left(spans, window.start, key=lambda span: span.start)
    last = bisect_right(spans, window.end, key=lambda span: span.end)
    return [
        replace(span, start=span.start - window.start, end=span.end - window.start)
        for span in spans[first:last]
    ]
