"""A value found for sure is found wherever else it stands.

A password redacted on one line and left on the next is not redacted. In a document a value is
looked for as it is; over a tree also percent-encoded, escaped as in strings or as in XML and HTML,
and in Base64.
"""

import base64
import dataclasses
import html
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from pii.filters import classify
from pii.spans import Span, resolve_overlaps
from pii.windows import Text

REPEATED = "repeated-value"
"""Name of the rule, by which it is switched off."""

CONFIDENT = 0.8
"""Score from which a value that the tagger found is looked for elsewhere; patterns are sure.

One for all labels: on neither half of the training windows does any label gain from another. A
model's `balanced` thresholds may ask for more (`pii.detect`).
"""
_NO_MORE: Mapping[str, float] = MappingProxyType({})

_SHORTEST = {"NAME": 5, "USERNAME": 4, "EMAIL": 6, "IP_ADDRESS": 3, "KEY": 8, "PASSWORD": 5}
_LONGEST = 4096
"""In characters; what is longer is a block of its own form, such as a PEM key."""

_MOST_COUNTED = 32
"""Values, up to which each is counted."""

_WORDS = re.compile(r"\w+")
_TOKENS = re.compile(r"\w+|\W")
_LETTER_AND_DIGIT = re.compile(r"(?s)(?=.*[^\W\d_]).*\d")
_PASS_PHRASE = re.compile(r"[^\W\d_]{3,}(?:[- ][^\W\d_]{3,}){2,}")
_SECRET = ("PASSWORD", "KEY")

# What runs on into a longer address is another one: 1.2.3.4 in 1.2.3.4.5.
_RUNS_IN = re.compile(r"\w[.+-]")
_RUNS_ON = re.compile(r"[.-]\w")
_WHOLE = ("EMAIL", "IP_ADDRESS")


def is_sure(value: str, span: Span, smallest: Mapping[str, float] = _NO_MORE) -> bool:
    """Whether a value is worth looking for elsewhere: found for sure, and no ordinary word.

    Names must have two words; user names, keys and passwords a letter and a digit, or a password
    three words. On the training windows every weaker rule for one of these labels loses precision:
    `redis`, `git` and `foo` are somebody's user name or password in one place and a word in ten
    others.

    Args:
        value: The span's.
        span: What was found.
        smallest: By label, the score that the tagger must have given, if more than `CONFIDENT`.
    """
    if span.kind == "example" or not _SHORTEST[span.label] <= len(value) <= _LONGEST:
        return False
    if span.source == "model" and span.score < max(CONFIDENT, smallest.get(span.label, 0)):
        return False
    if span.label in _WHOLE:
        return True
    if span.label == "NAME":
        words = _WORDS.findall(value)
        return len(words) > 1 and value.startswith(words[0])
    if span.label == "PASSWORD" and _PASS_PHRASE.fullmatch(value):
        return True
    return _LETTER_AND_DIGIT.match(value) is not None


def sure_values(
    text: Text, spans: Iterable[Span], smallest: Mapping[str, float] = _NO_MORE
) -> dict[str, Span]:
    """The values of a document that are worth looking for elsewhere, each with its surest span."""
    values: dict[str, Span] = {}
    for span in spans:
        value = text[span.start : span.end]
        if is_sure(value, span, smallest) and (
            value not in values or values[value].score < span.score
        ):
            values[value] = span
    return values


class ValueIndex:
    """Finds all of a set of values in one pass over a text, whatever their number.

    It is the automaton of Aho and Corasick (1975) over words and single other characters, so that
    only whole words are found.
    """

    def __init__(self, values: Mapping[str, Span]) -> None:
        """Build the automaton.

        Args:
            values: Each with the span whose label, score and source are those of what is found.
        """
        self._values = values
        self._next: list[dict[str, int]] = [{}]
        self._longest: list[str | None] = [None]  # the longest value that ends in this state
        for value in values:
            state = 0
            for token in _TOKENS.findall(value):
                following = self._next[state].get(token)
                if following is None:
                    following = self._next[state][token] = len(self._next)
                    self._next.append({})
                    self._longest.append(None)
                state = following
            self._longest[state] = value
        self._fallback = [0] * len(self._next)
        states = deque(self._next[0].values())
        while states:
            state = states.popleft()
            for token, following in self._next[state].items():
                self._fallback[following] = self._step(self._fallback[state], token)
                if self._longest[following] is None:
                    self._longest[following] = self._longest[self._fallback[following]]
                states.append(following)

    def _step(self, state: int, token: str) -> int:
        while state and token not in self._next[state]:
            state = self._fallback[state]
        return self._next[state].get(token, 0)

    def find(self, text: str) -> list[Span]:
        """The places of the values in a text, in order; of those that overlap the longest."""
        apart: list[Span] = []
        state = 0
        first = self._next[0]
        for token in _TOKENS.finditer(text):
            # Most code begins no value.
            state = self._step(state, token[0]) if state else first.get(token[0], 0)
            value = self._longest[state] if state else None
            if value is None:
                continue
            end = token.end()
            start = end - len(value)
            template = self._values[value]
            if template.label in _WHOLE and (
                _RUNS_IN.match(text, max(0, start - 2), start) or _RUNS_ON.match(text, end)
            ):
                continue
            found = dataclasses.replace(template, start=start, end=end, kind="real")
            kept = len(apart)
            while kept and apart[kept - 1].end > start:
                if apart[kept - 1].end - apart[kept - 1].start >= end - start:
                    break
                kept -= 1
            else:
                apart[kept:] = [found]
        return apart


class RepeatedValues:
    """Finds where else the sure values of a document stand in it."""

    def __init__(self, values: Mapping[str, Span]) -> None:
        """Take the document's `sure_values`."""
        self._values = values
        # Of few values counting says first, and quickly, which stand twice: mostly none.
        self._index = ValueIndex(values) if len(values) > _MOST_COUNTED else None

    def find(self, text: str, spans: Iterable[Span]) -> list[Span]:
        """All places of values that stand twice, the known ones among them.

        Args:
            text: The document, or a window of it.
            spans: What was found there.
        """
        if self._index is not None:
            return self._index.find(text)
        known = Counter(text[span.start : span.end] for span in spans)
        more = {v: span for v, span in self._values.items() if text.count(v) > known[v]}
        return ValueIndex(more).find(text) if more else []


def merge_repeated(
    text: str, spans: Sequence[Span], repeated: Iterable[Span], disabled: frozenset[str]
) -> list[Span]:
    """Add repeated values to what was found, and set their kinds.

    A repeated value is redacted whole. Of what was found there, a part of it goes, what crosses its
    edge keeps the rest, and what holds all of it stays in its place.

    Args:
        text: The document.
        spans: What was found in it, sorted and apart.
        repeated: Places of values that are known from elsewhere, apart from each other.
        disabled: Names of filters that are switched off.
    """
    ends = [span.end for span in spans]
    fitting = []
    for span in sorted(repeated, key=lambda span: span.start):
        first = bisect_right(ends, span.start)
        held = first < len(spans) and spans[first].start <= span.start <= span.end <= ends[first]
        if not held:
            fitting.append(span)
    if not fitting:
        return list(spans)
    merged = [*classify(text, fitting, disabled), *_outside(text, spans, fitting)]
    return sorted(merged, key=lambda span: span.start)


def _outside(text: str, spans: Iterable[Span], taken: Sequence[Span]) -> Iterator[Span]:
    """What is left of spans outside of others; both are sorted and apart."""
    ends = [span.end for span in taken]
    for span in spans:
        start = span.start
        at = bisect_right(ends, start)
        cuts = [(span.end, span.end)]
        while at < len(taken) and taken[at].start < span.end:
            cuts.insert(-1, (taken[at].start, taken[at].end))
            at += 1
        if len(cuts) == 1:
            yield span
            continue
        for left, right in cuts:
            rest = text[start:left]
            if _WORDS.search(rest):
                begin = start + len(rest) - len(rest.lstrip())
                yield dataclasses.replace(span, start=begin, end=start + len(rest.rstrip()))
            start = max(start, right)


# --------------------------------------------------------------------------------------------------
# Encoded forms


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A text in which every escape is the character that it stands for."""

    text: str
    escapes: "array[int]" = field(default_factory=lambda: array("q"))
    """Where those characters are, in order."""
    shifts: "array[int]" = field(default_factory=lambda: array("q", [0]))
    """How much longer the original is before the first escape, after it, after the second ..."""

    def place(self, at: int) -> int:
        """A position in the original."""
        return at + self.shifts[bisect_left(self.escapes, at)]


_PERCENT = re.compile(r"%[0-7][0-9A-Fa-f]|(?:%[C-Fc-f][0-9A-Fa-f])(?:%[89ABab][0-9A-Fa-f]){1,3}")
_BACKSLASH = re.compile(
    r"\\(?:[nrtbf\"'/\\]|x[0-9A-Fa-f]{2}|u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}"
    r"|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,6}\}|U[0-9A-Fa-f]{8})"
)
_REFERENCE = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});", re.ASCII)
_CONTROLS = dict(zip("nrtbf", "\n\r\t\b\f", strict=True))
_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{6,4096}+={0,2}+(?![A-Za-z0-9+/_=-])", re.ASCII
)
_FROM_URL_SAFE = str.maketrans("-_", "+/", "=")


def _percent_character(escape: str) -> str:
    return bytes.fromhex(escape.replace("%", "")).decode("utf-8")


def _backslash_character(escape: str) -> str:
    letter, digits = escape[1], escape[2:]
    if letter in _CONTROLS:
        return _CONTROLS[letter]
    if letter not in "xuU":
        return letter
    if len(digits) == 10:  # two surrogates
        return bytes.fromhex(digits.replace("\\u", "")).decode("utf-16-be")
    return chr(int(digits.strip("{}"), 16))


def _referenced_character(reference: str) -> str:
    """The character that a reference of XML or HTML stands for.

    Raises:
        ValueError: There is none.
    """
    if not reference.startswith("&#"):
        return html.unescape(reference)
    digits = reference[2:-1]
    return chr(int(digits[1:], 16) if digits[0] in "xX" else int(digits))


def _decode(text: str, pattern: re.Pattern[str], character: Callable[[str], str]) -> _Decoded:
    decoded = _Decoded("")
    pieces: list[str] = []
    copied = length = 0
    for escape in pattern.finditer(text):
        try:
            replacement = character(escape[0])
        except (ValueError, OverflowError):  # no character: it stays as it is
            continue
        pieces += (text[copied : escape.start()], replacement)
        length += escape.start() - copied + 1
        copied = escape.end()
        decoded.escapes.append(length - 1)
        decoded.shifts.append(copied - length)
    pieces.append(text[copied:])
    return dataclasses.replace(decoded, text="".join(pieces))


_ESCAPES = (
    (_PERCENT, _percent_character),
    (_BACKSLASH, _backslash_character),
    (_REFERENCE, _referenced_character),
)


def _in_base64(text: str, index: ValueIndex) -> Iterator[Span]:
    for run in _BASE64.finditer(text):
        symbols = run[0].translate(_FROM_URL_SAFE)
        if len(symbols) % 4 == 1:
            continue
        try:
            plain = base64.b64decode(symbols + "=" * (-len(symbols) % 4)).decode("utf-8")
        except ValueError:
            continue
        # Of `user:password` it is the password that the whole is as good as.
        found = max(
            index.find(plain),
            key=lambda span: (span.label in _SECRET, span.end - span.start),
            default=None,
        )
        if found is not None:
            yield dataclasses.replace(found, start=run.start(), end=run.end())


def with_plus_for_space(values: Mapping[str, Span]) -> dict[str, Span]:
    """Values, and beside those that have spaces what forms make of them: `Jane+Roe`."""
    spaced = {value.replace(" ", "+"): span for value, span in values.items() if " " in value}
    return {**spaced, **values}


def find_everywhere(text: str, index: ValueIndex) -> list[Span]:
    """Where values stand in a text: as they are, percent-encoded, escaped, and in Base64.

    Escapes are those of strings and those of XML and HTML (the five of XML, `&nbsp;` and numbers).
    Base64 may be of either alphabet and hold more than the value, as `user:password` in
    `Authorization: Basic`; the span is all of it. What is encoded twice is not found, nor Base64
    that is glued to other letters or slashes, or longer than 4,096 characters.
    """
    found = dict.fromkeys(index.find(text))
    for pattern, character in _ESCAPES:
        decoded = _decode(text, pattern, character)
        if decoded.escapes:
            for span in index.find(decoded.text):
                start, end = decoded.place(span.start), decoded.place(span.end)
                found[dataclasses.replace(span, start=start, end=end)] = None
    found.update(dict.fromkeys(_in_base64(text, index)))
    return resolve_overlaps(found)
