"""The texts of rows: strings, very long ones, lists of events; how each is read and redacted.

A column of a batch gives the rows' texts and takes what stands in their place.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from export.events import apply_to_events, form_of_events
from export.forms import apply_form, read_form
from export.shards import EVENT_TEXTS, event_fields, is_events
from export.texts import LONG_BYTES, ColumnBuilder, LongText, bytes_of
from pii.redact import Operator
from pii.spans import Span

Events = list[dict[str, object] | None]
"""Authors and texts."""

LONG = "long"
"""In place of a form: a text that is too long to be looked at as a whole."""


class TextRow:
    """A string.

    All rows have `form`, what kind of text it is, `texts`, what the detector reads of it, and
    `redacted`, what its column takes in its place, None where nothing has changed.
    """

    def __init__(self, text: str) -> None:
        """Look at its form."""
        self._text = text
        self._form = read_form(text)
        self.form = self._form.kind
        self.texts = self._form.texts

    def to_original(self, found: Sequence[Sequence[Span]]) -> list[Span]:
        """The spans of the original from those of each of `texts`."""
        return self._form.to_original(found)

    def redacted(self, spans: Sequence[Span], operator: Operator) -> list[memoryview] | None:
        """The UTF-8 bytes in pieces."""
        new = apply_form(self._text, self._form, spans, operator).text
        return None if new == self._text else [memoryview(new.encode())]


class LongRow:
    """A string that is never looked at as a whole; its form does not count."""

    form = LONG

    def __init__(self, text: LongText) -> None:
        """Take its text."""
        self._text = text
        self.texts = (text,)

    def to_original(self, found: Sequence[Sequence[Span]]) -> list[Span]:
        """The spans of the original from those of each of `texts`."""
        return list(found[0])

    def redacted(self, spans: Sequence[Span], operator: Operator) -> list[memoryview] | None:
        """The UTF-8 bytes in pieces."""
        pieces = list(self._text.iter_redacted(spans, operator))
        return pieces if len(pieces) > 1 else None


class EventsRow:
    """The events of an issue; offsets are those of its texts, one after the other."""

    def __init__(self, events: "Events") -> None:
        """Look at authors and texts."""
        self._events = events
        self._form = form_of_events([event or {} for event in events])
        self.form = self._form.form.kind
        self.texts = self._form.form.texts

    def to_original(self, found: Sequence[Sequence[Span]]) -> list[Span]:
        """The spans of the original from those of each of `texts`."""
        return self._form.form.to_original(found)

    def redacted(self, spans: Sequence[Span], operator: Operator) -> "Events | None":
        """The events."""
        events = [event or {} for event in self._events]
        new = apply_to_events(events, self._form, spans, operator)
        if new == events:
            return None
        return [
            None if was is None else event for was, event in zip(self._events, new, strict=True)
        ]


Row = TextRow | LongRow | EventsRow


def row_of(data: memoryview) -> TextRow | LongRow:
    """A string by its UTF-8 bytes.

    Raises:
        UnicodeDecodeError: They are not UTF-8.
    """
    return TextRow(str(data, "utf-8")) if len(data) < LONG_BYTES else LongRow(LongText(data))


class StringColumn:
    """A batch's column of strings, in any of Arrow's forms."""

    def __init__(self, array: pa.Array) -> None:
        """Look at the bytes of each row."""
        self._kind = array.type
        plain = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
        self._strings = array if plain else array.cast(pa.large_string())
        self.values: Sequence[memoryview | None] = bytes_of(self._strings)
        """Of each row; None for null."""

    def size(self, row: int) -> int:
        """UTF-8 bytes of a row."""
        return len(self.values[row] or b"")

    def read(self, row: int) -> Row | None:
        """A row's text; None if it is not UTF-8."""
        data = self.values[row]
        assert data is not None
        try:
            return row_of(data)
        except UnicodeDecodeError:
            return None

    def replaced(self, kept: Sequence[int], new: Mapping[int, Sequence[memoryview]]) -> pa.Array:
        """The kept rows, some of them new."""
        builder = ColumnBuilder()
        for row in kept:
            value = self.values[row]
            if row in new:
                builder.append(*new[row])
            elif value is None:
                builder.append_null()
            else:
                builder.append(value)
        return builder.finish(self._strings.type).cast(self._kind)


class EventsColumn:
    """A batch's column of lists of events."""

    def __init__(self, array: pa.Array) -> None:
        """Take the rows."""
        self._array = array
        self._fields = event_fields(array.type)
        self.values: Sequence[Events | None] = [self._read(row) for row in array]
        """Of each row; None for null; empty also where a string is not UTF-8."""

    def size(self, row: int) -> int:
        """UTF-8 bytes of a row's texts."""
        return sum(
            len(value.encode())
            for event in self.values[row] or ()
            for name, value in (event or {}).items()
            if name in EVENT_TEXTS and isinstance(value, str)
        )

    def read(self, row: int) -> Row | None:
        """A row's events; None if one is not UTF-8."""
        events = self.values[row]
        if not events and len(self._array[row]):
            return None
        return EventsRow(events or [])

    def replaced(self, kept: Sequence[int], new: Mapping[int, "Events"]) -> pa.Array:
        """The kept rows, some of them new."""
        pieces, first = [], 0
        for at, row in enumerate(kept):
            if row in new:
                pieces.append(self._array.take(pa.array(kept[first:at], pa.int64())))
                pieces.append(self._with_texts(row, new[row]))
                first = at + 1
        pieces.append(self._array.take(pa.array(kept[first:], pa.int64())))
        return pa.concat_arrays(pieces)

    def _read(self, row: pa.Scalar) -> Events | None:
        events = row.values
        if events is None:
            return None
        # No other fields: not all that Arrow holds can be a Python object.
        try:
            columns = [events.field(index).to_pylist() for _, index in self._fields]
        except UnicodeDecodeError:
            return []
        names = [name for name, _ in self._fields]
        return [
            dict(zip(names, values, strict=True)) if valid else None
            for valid, *values in zip(events.is_valid().to_pylist(), *columns, strict=True)
        ]

    def _with_texts(self, row: int, new: Events) -> pa.Array:
        """A row with other authors and texts."""
        events = self._array[row].values
        fields = list(events.type)
        columns = [events.field(index) for index in range(len(fields))]
        for name, index in self._fields:
            values = ["" if event is None else event[name] for event in new]
            columns[index] = pa.array(values, fields[index].type)
        rebuilt = pa.StructArray.from_arrays(columns, fields=fields, mask=events.is_null())
        return type(self._array).from_arrays([0, len(new)], rebuilt, type=self._array.type)


def whole_text(array: pa.Array) -> str:
    """The text that the spans of a column's only row count in; of events all that is read.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
        TypeError: There is none.
    """
    if is_events(array.type):
        (events,) = EventsColumn(array).values
        return form_of_events([event or {} for event in events or ()]).form.original
    (value,) = array.to_pylist()
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def open_column(array: pa.Array) -> StringColumn | EventsColumn:
    """A column of strings or events."""
    return EventsColumn(array) if is_events(array.type) else StringColumn(array)
