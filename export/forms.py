"""The Stack's special parts: how notebooks, issue threads and commits are read and redacted."""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from export.notebooks import iter_keys, may_be_notebook, read_notebook
from export.pieces import Form
from export.threads import read_marked
from pii.redact import Operator, Redaction, redact
from pii.spans import Span


def read_form(text: str) -> Form:
    """How a text is read; its content alone decides.

    Broken JSON, JSON that is nested too deep, and whatever else is of no known form is plain.
    """
    form = read_marked(text)
    if form is None and may_be_notebook(text):
        form = read_notebook(text)
    return form or Form(kind="plain", original=text, texts=(text,))


def apply_form(text: str, form: Form, spans: Sequence[Span], operator: Operator) -> Redaction:
    """Replace spans of a text.

    What the form knows gets its own replacement, anything else the operator's. The operator sees
    and returns values as they are meant: of a notebook without JSON's escapes. Where two keys of
    one object would be equal then, a number follows what stands in the second one: `<EMAIL>_2`.

    Args:
        text: The original.
        form: What `read_form` gives for it.
        spans: Some of what `form.to_original` gave, from this run or an earlier one.
        operator: Chooses the replacements.

    Raises:
        ValueError: Spans that are not sorted, overlap, or do not lie in the text.
    """
    if not form.known and not form.is_json:
        return redact(text, spans, operator)
    known = {(span.start, span.end, span.label): by for span, by in form.known if by is not None}

    def replacement_of(value: str, span: Span) -> str | None:
        by = known.get((span.start, span.end, span.label))
        if by is not None:
            return by
        if not form.is_json:
            return operator(value, span)
        meant = json.loads(f'"{value}"')
        by = operator(meant, span)
        return None if by is None or by == meant else json.dumps(by, ensure_ascii=False)[1:-1]

    redaction = redact(text, spans, replacement_of)
    numbers = _numbers_in_keys(redaction) if form.is_json and redaction.replacements else {}
    if not numbers:
        return redaction

    def numbered(value: str, span: Span) -> str | None:
        by = replacement_of(value, span)
        return by if by is None else by + numbers.get(span.start, "")

    return redact(text, spans, numbered)


def _numbers_in_keys(redaction: Redaction) -> dict[int, str]:
    """What has to follow replacements so that no key of an object is lost, by the spans' starts."""
    text, replacements = redaction.text, redaction.replacements
    starts = [replacement.start for replacement in replacements]
    numbers: dict[int, str] = {}
    for keys in iter_keys(text):
        taken: set[str] = set()
        redacted: list[tuple[str, str, int]] = []
        for start, end in keys:
            at = bisect_right(starts, end) - 1
            if at < 0 or starts[at] < start:
                taken.add(text[start:end])
            else:
                cut = replacements[at].end
                redacted.append((text[start:cut], text[cut:end], replacements[at].span.start))
        used = Counter[tuple[str, str]]()
        for before, after, place in redacted:
            key = before + after
            while key in taken:
                used[before, after] += 1
                numbers[place] = f"_{used[before, after] + 1}"
                key = before + numbers[place] + after
            taken.add(key)
    return numbers
