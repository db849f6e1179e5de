"""What a detector reads of a text that is not plain, and the way back to the text itself."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pii.spans import Span

_WORD = re.compile(r"\w")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)


class Segment(NamedTuple):
    """A stretch of what is read that stands in the original too. Spans never cross two of them.

    A tuple, as a notebook of 5 MB has 80,000.
    """

    start: int
    """Where it begins in what is read, in code points; `end` likewise."""
    end: int
    original_start: int
    original_end: int
    escaped: bool = False
    """Whether the original is the inside of a JSON string and holds escapes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How one row's text is read: what the detector sees of it, and what is known without it."""

    kind: str
    """`plain`, `notebook`, `issue` or `commit`."""
    original: str
    texts: tuple[str, ...]
    """What the detector reads, each apart."""
    segments: tuple[tuple[Segment, ...], ...] = ()
    """For each text, where its characters stand in the original, in order; what lies between them
    stands only in the text. Empty: the only text is the original."""
    known: tuple[tuple[Span, str | None], ...] = ()
    """Spans of the original that are known beforehand, sorted and apart, and what stands in place
    of each; None leaves that to the operator."""
    is_json: bool = False
    """Whether the original is JSON, so that a replacement is written as inside a string."""

    def to_original(self, found: Sequence[Sequence[Span]]) -> list[Span]:
        """The spans of the original for those of each of `texts`.

        A span that crosses segments is split, its parts trimmed to where they begin and end with
        something other than a space. What is known wins: a found span keeps what lies outside.

        Args:
            found: For each text its spans, sorted and apart.

        Returns:
            Found and known spans, sorted and apart.

        Raises:
            ValueError: Not one list of spans for each text.
        """
        if len(found) != len(self.texts):
            raise ValueError(
                f"spans of {len(found)} texts for a form of {len(self.texts)}: expected one list "
                "for each text"
            )
        if not self.segments:
            return list(found[0])
        spans: list[Span] = []
        for text, segments, of_text in zip(self.texts, self.segments, found, strict=True):
            spans += _mapped(self.original, text, segments, of_text)
        spans.sort(key=lambda span: span.start)
        if not self.known:
            return spans
        return _with_known(self.original, spans, [span for span, _ in self.known])


def _mapped(
    original: str, text: str, segments: Sequence[Segment], spans: Sequence[Span]
) -> Iterator[Span]:
    starts = [segment.start for segment in segments] if spans else []
    walked: tuple[Segment, list[int], list[int]] | None = None
    for span in spans:
        at = max(0, bisect_right(starts, span.start) - 1)
        while at < len(segments) and segments[at].start < span.end:
            segment = segments[at]
            at += 1
            start, end = max(span.start, segment.start), min(span.end, segment.end)
            if (start, end) != (span.start, span.end):
                start, end = _trimmed(text, start, end)
            if start >= end:
                continue
            if segment.escaped:
                if walked is None or walked[0] is not segment:
                    walked = (segment, *_after_escapes(original, segment))
                _, decoded, raw = walked
                start, end = (_raw_place(place, decoded, raw) for place in (start, end))
            else:
                shift = segment.original_start - segment.start
                start, end = start + shift, end + shift
            yield replace(span, start=start, end=end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without spaces at the ends; nothing at all if no word character is left."""
    part = text[start:end]
    if _WORD.search(part) is None:
        return start, start
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def _after_escapes(original: str, segment: Segment) -> tuple[list[int], list[int]]:
    """The place after each escape, in what is read and in the original; first, where both begin."""
    decoded, raw = [segment.start], [segment.original_start]
    for match in _ESCAPE.finditer(original, segment.original_start, segment.original_end):
        decoded.append(decoded[-1] + match.start() - raw[-1] + 1)
        raw.append(match.end())
    return decoded, raw


def _raw_place(place: int, decoded: Sequence[int], raw: Sequence[int]) -> int:
    at = bisect_right(decoded, place) - 1
    return raw[at] + place - decoded[at]


def _with_known(original: str, spans: Sequence[Span], known: Sequence[Span]) -> list[Span]:
    """Both, sorted; of a found span stays what lies outside of the known ones and holds a word."""
    kept = list(known)
    ends = [span.end for span in known]
    for span in spans:
        start = span.start
        at = bisect_right(ends, start)
        while at < len(known) and known[at].start < span.end:
            kept += _rest(original, span, start, known[at].start)
            start = known[at].end
            at += 1
        kept += [span] if start == span.start else _rest(original, span, start, span.end)
    return sorted(kept, key=lambda span: span.start)


def _rest(original: str, span: Span, start: int, end: int) -> list[Span]:
    start, end = _trimmed(original, start, end) if start < end else (start, start)
    return [replace(span, start=start, end=end)] if start < end else []


class TextBuilder:
    """Puts together what a detector reads, and remembers where it comes from."""

    def __init__(self, original: str) -> None:
        self._original = original
        self._parts: list[str] = []
        self._places: list[tuple[int, int] | None] = []
        """Where each part stands in the original, if it does."""
        self._escaped: list[int] = []
        """The parts whose escapes are to be resolved."""

    def say(self, text: str) -> None:
        """Add what stands only here, such as a line end between two comments."""
        self._parts.append(text)
        self._places.append(None)

    def take(self, start: int, end: int) -> None:
        """Add characters of the original as they are."""
        self._parts.append(self._original[start:end])
        self._places.append((start, end))

    def take_escaped(self, start: int, end: int) -> None:
        """Add what a stretch of the inside of a JSON string stands for."""
        self.take(start, end)
        if "\\" in self._parts[-1]:
            self._escaped.append(len(self._parts) - 1)

    def form(
        self, kind: str, known: Iterable[tuple[Span, str | None]] = (), *, is_json: bool = False
    ) -> Form:
        """The form with all that was added as its one text.

        Raises:
            ValueError: What was taken as escaped is not the inside of JSON strings.
        """
        # All at once is five times as fast as one by one.
        raw = '","'.join([self._parts[at] for at in self._escaped])
        decoded = json.loads(f'["{raw}"]') if self._escaped else []
        for at, part in zip(self._escaped, decoded, strict=True):
            self._parts[at] = part
        text = "".join(self._parts)
        if not text.isascii():
            text = _SURROGATE.sub("\ufffd", text)  # a tokenizer refuses half a character
        return Form(
            kind=kind,
            original=self._original,
            texts=(text,),
            segments=(tuple(self._segments()),),
            known=tuple(known),
            is_json=is_json,
        )

    def _segments(self) -> Iterator[Segment]:
        start = 0
        for part, place in zip(self._parts, self._places, strict=True):
            end = start + len(part)
            if place is not None and part:
                yield Segment(start, end, *place, place[1] - place[0] != len(part))
            start = end
