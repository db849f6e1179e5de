"""Every error of a detector in its context, as HTML that filters without scripts.

The values are shown: it is what the page is for.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from pii.annotations import Document
from pii.labels import LABELS
from pii.metrics import Outcome, match_spans, pair_errors
from pii.spans import Span
from starencoder.page import escaped

MISSED, EXTRA, MISLABELLED, WRONG_LIMITS = "missed", "extra", "mislabelled", "wrong limits"

_ABOUT = {
    MISSED: "annotated, and nothing found there",
    EXTRA: "found, and nothing annotated there",
    MISLABELLED: "found under another label",
    WRONG_LIMITS: "found, with limits too far off",
}

_CONTEXT_LINES = 3
_CONTEXT_CHARACTERS = 200
"""Of a long line, shown before and after what is marked."""
_END_LINES = 4
"""Of spans of many lines, shown from each end."""

_LINE_END = re.compile(r"\r\n|\r|\n")


def _class(name: str) -> str:
    return name.replace(" ", "-").replace("_", "-").lower()


def _filters() -> Iterator[tuple[str, str]]:
    """Class of what a box shows, and its text."""
    for kind in _ABOUT:
        yield f"kind-{_class(kind)}", kind
    for label in LABELS:
        yield f"label-{_class(label)}", label


ERROR_STYLE = """
.error { border-top: 1px solid #ddd; margin-top: 1em; padding-top: 0.4em }
.error pre { background: #f7f7f7; padding: 0.5em; overflow-x: auto; margin: 0.3em 0 }
.error .at { color: #888; user-select: none }
mark { background: none; border-radius: 2px }
mark.gold { background: #ffd9a0 }
mark.found { box-shadow: inset 0 -3px #3572b0 }
label { margin-right: 1em }
""" + "".join(
    f"#{name}:not(:checked) ~ .errors .{name} {{ display: none }}\n" for name, _ in _filters()
)


def kind_of_error(error: Outcome) -> str:
    """One of the four kinds of error."""
    if error.predicted is None:
        return MISSED
    if error.gold is None:
        return EXTRA
    return WRONG_LIMITS if error.gold.label == error.predicted.label else MISLABELLED


def error_browser(documents: Sequence[Document], predictions: Iterable[Sequence[Span]]) -> str:
    """All errors, with boxes that show and hide them by kind and by label."""
    shown: list[str] = []
    counts: Counter[str] = Counter()
    for document, predicted in zip(documents, predictions, strict=True):
        errors = pair_errors(match_spans(document.spans, predicted))
        lines = _lines(document.text) if errors else []
        for error in errors:
            classes = [f"kind-{_class(kind_of_error(error))}", f"label-{_class(error.span.label)}"]
            counts.update(classes)
            shown.append(
                f'<div class="error {" ".join(classes)}">{_heading(document, error)}'
                f"<pre>{_context(document.text, lines, error)}</pre></div>"
            )
    boxes = "".join(
        f'<input type="checkbox" id="{name}" checked><label for="{name}">{escaped(text)} '
        f"({counts[name]})</label>\n"
        for name, text in _filters()
    )
    kinds = "; ".join(f"{kind}: {about}" for kind, about in _ABOUT.items())
    return (
        f"<p>{len(shown):,} errors. {escaped(kinds)}. The label is the annotated one; of extra "
        'spans, the one found. <mark class="gold">Annotated</mark>, '
        '<mark class="found">found</mark>. Values are shown: treat this page as the documents '
        f'themselves.</p>\n<div>{boxes}<div class="errors">\n' + "\n".join(shown) + "</div></div>"
    )


def _heading(document: Document, error: Outcome) -> str:
    parts = []
    if error.gold:
        parts.append(f"annotated {error.gold.label}")
    if error.predicted:
        found = error.predicted
        source = "" if found.source == "model" else f", {found.source}"
        parts.append(f"found {found.label}, score {found.score:.2f}{source}")
    where = (document.id, document.package, document.path, document.language)
    parts.append(" / ".join(part for part in where if part))
    return f"<div><b>{kind_of_error(error)}</b>: {escaped('; '.join(parts))}</div>"


def _lines(text: str) -> list[tuple[int, int]]:
    """Start and end of each line, without what ends it."""
    ends = [match.span() for match in _LINE_END.finditer(text)]
    starts = [0, *(after for _, after in ends)]
    return list(zip(starts, [*(before for before, _ in ends), len(text)], strict=True))


def _context(text: str, lines: Sequence[tuple[int, int]], error: Outcome) -> str:
    """The lines around an error, numbered, with its spans marked."""
    marks = [
        (name, span)
        for name, span in (("gold", error.gold), ("found", error.predicted))
        if span is not None
    ]
    first = bisect_right(lines, min(span.start for _, span in marks), key=lambda line: line[0]) - 1
    last = bisect_left(lines, max(span.end for _, span in marks), key=lambda line: line[0]) - 1
    shown = []
    before = None
    for number in range(max(0, first - _CONTEXT_LINES), min(len(lines), last + _CONTEXT_LINES + 1)):
        # Of spans of many lines only the ends.
        if min(number - first, last - number) >= _END_LINES:
            continue
        if before is not None and number > before + 1:
            shown.append(f'<span class="at">     ({number - before - 1} lines)</span>')
        before = number
        line = _line(text, *lines[number], marks)
        shown.append(f'<span class="at">{number + 1:4} </span>{line}')
    return "\n".join(shown)


def _line(text: str, start: int, end: int, marks: Sequence[tuple[str, Span]]) -> str:
    """One line; of a long one, what lies around its marks, or its beginning."""
    inside = [
        (name, max(start, span.start), min(end, span.end))
        for name, span in marks
        if span.start < end and span.end > start
    ]
    left = min((a for _, a, _ in inside), default=start)
    right = max((b for _, _, b in inside), default=start)
    first, last = max(start, left - _CONTEXT_CHARACTERS), min(end, right + _CONTEXT_CHARACTERS)
    pieces = []
    for a, b in pairwise(sorted({first, last, *(at for _, *pair in inside for at in pair)})):
        piece = escaped(text[a:b].replace("\t", "    "))
        names = [name for name, c, d in inside if c <= a and b <= d]
        pieces.append(f'<mark class="{" ".join(names)}">{piece}</mark>' if names else piece)
    return f"{'…' if first > start else ''}{''.join(pieces)}{'…' if last < end else ''}"
