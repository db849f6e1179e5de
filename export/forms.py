"""Stand-in until the real one is merged."""

from collections.abc import Sequence
from dataclasses import dataclass

from pii.redact import Operator, Redaction, redact
from pii.spans import Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How one row's text is read."""

    kind: str
    texts: tuple[str, ...]
    known: tuple[tuple[Span, str], ...] = ()

    def to_original(self, found: Sequence[Sequence[Span]]) -> list[Span]:
        """Spans of the original text."""
        return list(found[0])


def read_form(text: str) -> Form:
    """The form of a text."""
    return Form(kind="plain", texts=(text,))


def apply_form(text: str, form: Form, spans: Sequence[Span], operator: Operator) -> Redaction:
    """Redact."""
    return redact(text, spans, operator)
