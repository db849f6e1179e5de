"""The Stack's special parts: how notebooks, issue threads and commits are read and redacted."""

import json
from collections.abc import Sequence

from export.notebooks import may_be_notebook, read_notebook
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
    and returns values as they are meant: of a notebook without JSON's escapes.

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

    return redact(text, spans, replacement_of)
