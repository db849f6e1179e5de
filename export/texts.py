"""Texts of a column as their bytes: very long ones are never decoded as a whole."""

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pii.redact import Operator, check_place
from pii.spans import Span

LONG_BYTES = 1 << 25
"""UTF-8 bytes from which on a text is not decoded as a whole."""

_BLOCK = 1 << 20


def bytes_of(column: pa.Array) -> list[memoryview | None]:
    """The UTF-8 bytes of each row of strings or large strings, not copied; None for null."""
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    if offsets is None or not len(column):  # no row, or nothing but nulls
        return [None] * len(column)
    ends = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1].tolist()
    whole = memoryview(data) if data is not None else memoryview(b"")
    valid = column.is_valid().to_pylist()
    return [
        whole[start:end] if is_valid else None
        for (start, end), is_valid in zip(itertools.pairwise(ends), valid, strict=True)
    ]


class LongText:
    """A text by its UTF-8 bytes, of which some are decoded at a time."""

    def __init__(self, data: memoryview) -> None:
        """Look through the bytes once.

        Raises:
            UnicodeDecodeError: They are not UTF-8.
        """
        self._data = data
        self._bytes = [0]
        """Where blocks begin, in bytes; the last is the end."""
        self._chars = [0]
        """The same in code points."""
        self._recent = -1, ""
        """The block that was decoded last, as one span is asked for after the other."""
        while self._bytes[-1] < len(data):
            end = min(self._bytes[-1] + _BLOCK, len(data))
            while end < len(data) and data[end] & 0xC0 == 0x80:  # in the middle of a character
                end += 1
            self._chars.append(self._chars[-1] + len(str(data[self._bytes[-1] : end], "utf-8")))
            self._bytes.append(end)

    def __len__(self) -> int:
        return self._chars[-1]

    def __getitem__(self, part: slice) -> str:
        start, end, _ = part.indices(len(self))
        end = max(start, end)
        first = self._block(start)
        last = min(bisect_right(self._chars, max(start, end - 1)), len(self._bytes) - 1)
        text = self._decode(first, last)
        return text[start - self._chars[first] : end - self._chars[first]]

    def rfind(self, value: str, start: int, end: int) -> int:
        """As `str.rfind`, with a start and an end."""
        at = self[start:end].rfind(value)
        return at if at < 0 else at + start

    def iter_redacted(self, spans: Sequence[Span], operator: Operator) -> Iterator[memoryview]:
        """The bytes of the text with the values of spans replaced, in pieces.

        Args:
            spans: Sorted, not empty, without overlaps, inside the text.
            operator: Chooses the replacements.

        Raises:
            ValueError: The spans are not as stated.
        """
        copied = at = reached = 0
        for span in spans:
            check_place(span, reached, len(self))
            block = self._block(span.start)
            if reached < self._chars[block]:
                at, reached = self._bytes[block], self._chars[block]
            value = self[span.start : span.end]
            start = at + len(self[reached : span.start].encode())
            at, reached = start + len(value.encode()), span.end
            replacement = operator(value, span)
            if replacement is not None and replacement != value:
                yield self._data[copied:start]
                yield memoryview(replacement.encode())
                copied = at
        yield self._data[copied:]

    def _block(self, char: int) -> int:
        """The number of the block that a character lies in."""
        return bisect_right(self._chars, char) - 1

    def _decode(self, first: int, last: int) -> str:
        """The blocks from one to before another."""
        if last - first == 1 and self._recent[0] == first:
            return self._recent[1]
        text = str(self._data[self._bytes[first] : self._bytes[last]], "utf-8")
        if last - first == 1:
            self._recent = first, text
        return text


class ColumnBuilder:
    """Makes a column of texts from their bytes, which are copied once."""

    def __init__(self) -> None:
        """Start without rows."""
        self._data = bytearray()
        self._ends = [0]
        self._valid: list[bool] = []

    def append(self, *pieces: memoryview | bytes) -> None:
        """Add a row."""
        for piece in pieces:
            self._data += piece
        self._ends.append(len(self._data))
        self._valid.append(True)

    def append_null(self) -> None:
        """Add a row without a text."""
        self._ends.append(len(self._data))
        self._valid.append(False)

    def finish(self, kind: pa.DataType) -> pa.Array:
        """The column, of strings or large strings. Whether they are UTF-8 is not looked at."""
        width = np.int64 if pa.types.is_large_string(kind) else np.int32
        valid = None if all(self._valid) else pa.array(self._valid).buffers()[1]
        buffers = [valid, pa.py_buffer(np.array(self._ends, width)), pa.py_buffer(self._data)]
        return pa.Array.from_buffers(kind, len(self._valid), buffers)
