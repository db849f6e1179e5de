"""Issue threads as The Stack holds them: a list of events, each with an author and texts.

The texts are read as one, so that what is found in one event is found in all; spans are those of
`EventsForm.form.original`, the fields one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export.forms import apply_form
from export.pieces import Form, TextBuilder
from export.shards import AUTHOR, EVENT_TEXTS
from export.threads import Extent, known_accounts, take_without_pseudonyms
from pii.redact import Operator
from pii.spans import Span

Event = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsForm:
    """How a list of events is read."""

    form: Form
    fields: tuple[tuple[int, str, int, int], ...]
    """Of each field that is a string: its event, its name, where it begins and ends."""


def form_of_events(events: Sequence[Event]) -> EventsForm:
    """How events are read: authors and mentions as in a thread of text."""
    fields: list[tuple[int, str, int, int]] = []
    parts: list[str] = []
    length = 0
    for number, event in enumerate(events):
        for name in (AUTHOR, *EVENT_TEXTS):
            value = event.get(name)
            if isinstance(value, str):
                fields.append((number, name, length, length + len(value)))
                parts.append(value + "\n")
                length += len(value) + 1
    original = "".join(parts)
    builder = TextBuilder(original)
    authors: list[Extent] = []
    others: list[Extent] = []
    for _, name, start, end in fields:
        if name == AUTHOR:
            if start < end:
                authors.append((start, end))
        else:
            others.append((start, end))
            take_without_pseudonyms(original, builder, start, end)
            builder.say("\n")
    form = builder.form("issue", known_accounts(original, authors, others))
    return EventsForm(form=form, fields=tuple(fields))


def apply_to_events(
    events: Sequence[Event], form: EventsForm, spans: Sequence[Span], operator: Operator
) -> list[dict[str, object]]:
    """The events with spans of `form.form.to_original` replaced; all other fields as they are.

    Raises:
        ValueError: Spans that are not sorted, overlap, or do not lie in the text.
    """
    redaction = apply_form(form.form.original, form.form, spans, operator)
    redacted = [dict(event) for event in events]
    grown, done = 0, 0
    for number, name, start, end in form.fields:
        begins = start + grown
        while done < len(redaction.replacements) and redaction.replacements[done].span.start < end:
            replacement = redaction.replacements[done]
            grown = replacement.end - replacement.span.end
            done += 1
        redacted[number][name] = redaction.text[begins : end + grown]
    return redacted
