"""Tag probabilities to spans: whole words of one label, trimmed to what can be a value of it."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pii.labels import LABELS, TAGS
from pii.spans import Span
from pii.tagger import Probs

_JOIN_SCORE = 0.2
"""A word belongs to a span from this probability on; the span as a whole meets the threshold."""

_LONGEST_WORD = 64
"""In tokens; it bounds what is held back of a file that is one endless word."""

_NAME_JOINTS = (" ", "-", ". ", ".", "'", "’")

_WORD = re.compile(r"\w")
_STRIP = {
    # A password may begin and end with any printable character but the quotes around it.
    "PASSWORD": " \t\r\n\f\v\"'`",
    "KEY": " \t\r\n\f\v\"'`,;:()<>[]{}",
    "IP_ADDRESS": " \t\r\n\f\v\"'`,;()<>[]{}.!?*#|\\@&$%^~=+-",
}
_SECRET = ("PASSWORD", "KEY")
_JOINT = {"USERNAME": "-"}
"""What may stand between two words of one value."""
_LONGEST_USER = 39
"""Characters of a user name, at GitHub; what is longer and has hyphens is a title in a URL."""
_SEPARATOR = {
    "NAME": re.compile(r",(?! ?(?:[JS]r\b|I{2,3}\b|IV\b))|[;&]|\sand\s|(?<=\w{4})\.\s"),
    "USERNAME": re.compile(r"[^\w.@+$%-]+"),
}
_BY = re.compile(r"(?:(?:[Tt]hanks|thx|by|to|from|with|and|author)[ :]{1,2})++")
_LEGAL_FORM = re.compile(
    r"[ ,(]+(?:Inc(?:orporated)?|L\.?L\.?C|Ltd|Limited|Corp(?:oration)?|GmbH|AG|KG|Pty|PLC|Oyj?|ApS"
    r"|A/S|S\.?[aA]\.?[rR]\.?[lL]|S\.?[rR]\.?[lL]|S\.A\.|B\.?V|N\.?V|[eE]\.V)(?!\w)"
)
_LONGEST_FORM = 16
"""Characters of a legal form and what joins it to the name."""
_NO_USER = re.compile(r"[vV]\d+(?:\.\w+)*|[A-Z][A-Z0-9_]+-\d+")
"""A version or the key of an issue, as in `TODO(v2)`."""
_SUFFIX_DOT = re.compile(r"\b[JS]r\Z")
_TWO_WORDS = re.compile(r"\w[ .'-]{1,3}\w")
_NAME_WORD = re.compile(r"(?:[^\W\d_]['’]?)+")
_PARTICLE = re.compile(
    r"(?:af|al|av|ben|bin|bint|da|de|del|della|den|der|di|do|dos|du|e|el|ibn|la|las|le|los|te|ten|ter"
    r"|til|und|van|von|y|zu|zum|zur)\Z|[dl]['’]|t\Z"
)
_SHORT_KEY = 16
"""Characters; what is shorter is rarely a key."""
_UNLIKELY_POWER = 4
"""Power of the score of what has an unlikely form: a name of one word or with one in lower case, a
key that is short or has no digit. In annotated windows that a model had not learned from, of what
it took for a name with a score of 0.66 and more, 14 of 62 single words were right, and 833 of 849
others; from 0.2 to 0.66, 2 of 188 single words and 52 of 78 others. Of what it alone took for a
key, 2 of 137 that were short or without digits. Any power from 3 to 6 does as well."""
_KEY_LINE = re.compile(r"[A-Za-z0-9+/=_-]{30,}+")
_BESIDE_KEY_LINE = re.compile(r"(?:[^\w\\]|\\[nrt]?){0,80}")
_STRIP_OTHER = " \t\r\n\f\v\"'`,;:()<>[]{}.!?*#|\\@&$%^~=+-"


def decode_spans(text: str, offsets: npt.NDArray[np.int32], probs: Iterable[Probs]) -> list[Span]:
    """Turn tag probabilities into spans of whole words.

    The score is the mean probability, lowered where the value has a form that is unlikely for its
    label (`_UNLIKELY_POWER`).

    Args:
        text: The document.
        offsets: Per token, its `(start, end)` in the text, shape `(n, 2)`.
        probs: Blocks of tag probabilities that together have n rows.

    Returns:
        Spans in order of their start, without overlaps.
    """
    spans: list[Span] = []
    run: list[_Word] = []
    taken = 0  # characters before it belong to the spans so far

    def close() -> None:
        nonlocal taken
        label = LABELS[run[0].label]
        # Offsets leave out spaces, so a word of a space alone has no length.
        weights = [max(1, word.end - word.start) for word in run]
        total = sum(word.score * weight for word, weight in zip(run, weights, strict=True))
        score = round(total / sum(weights), 4)
        start, end = run[0].start, run[-1].end
        run.clear()
        # A later part of a word that was cut for its length, and is a span as a whole already.
        if start < taken and spans and spans[-1].label == label:
            spans[-1] = dataclasses.replace(spans[-1], score=max(spans[-1].score, score))
        start, end = max(start, taken), max(end, taken)
        joint = _JOINT.get(label)
        start, taken = _whole_words(text, start, end, taken, joint)
        for left, right in _trimmed(text, start, taken, label):
            spans.append(Span(start=left, end=right, label=label, score=score))

    for word in _tagged_words(text, offsets, probs):
        if run and not (word.label == run[-1].label and _continues(text, run[-1], word)):
            close()
        run.append(word)
    if run:
        close()
    return [_doubted(text, span) for span in _whole_literals(text, spans)]


def _doubted(text: str, span: Span) -> Span:
    """The span with a lower score if its value has a form that its label rarely has."""
    value = text[span.start : span.end]
    unlikely = (span.label == "NAME" and not _is_full_name(value)) or (
        span.label == "KEY" and (len(value) < _SHORT_KEY or not any(map(str.isdigit, value)))
    )
    return (
        dataclasses.replace(span, score=round(span.score**_UNLIKELY_POWER, 4)) if unlikely else span
    )


def _is_full_name(value: str) -> bool:
    """Whether it has two words, and each begins with a capital or is one like `van`.

    What is written in letters that have no capitals is none.
    """
    words = _NAME_WORD.findall(value)
    return len(words) > 1 and all(word[0].isupper() or _PARTICLE.match(word) for word in words)


def _continues(text: str, before: "_Word", word: "_Word") -> bool:
    """Whether two words of one label that follow each other belong to one entity."""
    label, gap = LABELS[word.label], text[before.end : word.start]
    if label == "NAME":  # first and last name, whatever the tagger says of the joint
        return word.adjoins or gap in _NAME_JOINTS
    if label in ("USERNAME", "IP_ADDRESS") and gap:  # those hold no space
        return False
    return word.adjoins and not (word.begins and gap)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word that more likely has some label than not enough to speak of."""

    start: int
    end: int
    label: int
    """Index in `LABELS` of the likeliest."""
    score: float
    """Its probability, the mean over the word's characters."""
    begins: bool
    """Whether its first token rather begins an entity than continues one."""
    adjoins: bool
    """Whether the word before it is one of these too."""


def _tagged_words(
    text: str, offsets: npt.NDArray[np.int32], probs: Iterable[Probs]
) -> Iterator[_Word]:
    """The words of which some label has at least `_JOIN_SCORE`.

    The pieces of a word share the mean of their probabilities, weighted by their characters: a
    rare name is many pieces, of which each alone says little.
    """
    held = np.zeros((0, len(TAGS)), np.float32)
    base = 0
    previous = -1  # the token after the last word given out
    for block in itertools.chain(probs, [None]):
        rows = held if block is None else np.concatenate([held, block])
        bounds = offsets[base : base + len(rows)]
        end = len(rows)
        if block is not None:
            # The next block may hold more of the last word.
            shortest = max(0, len(rows) - _LONGEST_WORD)
            while end > shortest and not _begins_word(text, bounds, end - 1):
                end -= 1
            end = max(end - 1, shortest)
        by_label = rows[:end, 1::2] + rows[:end, 2::2]
        # Most code holds nothing; there the words need not be told apart.
        if end and by_label.max() >= _JOIN_SCORE:
            starts = np.array([at for at in range(end) if _begins_word(text, bounds, at)])
            sizes = np.maximum(bounds[:end, 1] - bounds[:end, 0], 1)[:, None].astype(np.float32)
            means = np.add.reduceat(by_label * sizes, starts) / np.add.reduceat(sizes, starts)
            for word in np.flatnonzero(means.max(axis=1) >= _JOIN_SCORE):
                first = int(starts[word])
                last = int(starts[word + 1]) - 1 if word + 1 < len(starts) else end - 1
                label = int(means[word].argmax())
                token = base + first
                yield _Word(
                    start=int(bounds[first, 0]),
                    end=int(bounds[last, 1]),
                    label=label,
                    score=float(means[word, label]),
                    begins=bool(rows[first, 1 + 2 * label] > rows[first, 2 + 2 * label]),
                    adjoins=token == previous,
                )
                previous = base + last + 1
        held = rows[end:]
        base += end


def _begins_word(text: str, bounds: npt.NDArray[np.int32], token: int) -> bool:
    """Whether a token begins a word; a symbol is a word of its own, as is a block's first token."""
    start = bounds[token, 0]
    if token == 0 or start > bounds[token - 1, 1]:
        return True
    if start < bounds[token - 1, 1]:  # both are parts of one character
        return False
    return not (_WORD.match(text, start) and _WORD.match(text, start - 1))


def _whole_words(text: str, start: int, end: int, first: int, joint: str | None) -> tuple[int, int]:
    """Widen to whole words, also over a joint between two words, but not to before `first`."""
    left, right = start, end
    while left > first and _runs_over(text, left, joint):
        left -= 1
        if joint and start - left > _LONGEST_USER:
            break
    while right < len(text) and _runs_over(text, right, joint):
        right += 1
        if joint and right - end > _LONGEST_USER:
            break
    if joint and right - left > _LONGEST_USER:
        return _whole_words(text, start, end, first, None)
    return left, right


def _runs_over(text: str, at: int, joint: str | None) -> bool:
    """Whether a word, or two words and the joint between them, run over position `at`."""
    left, right = at - 1, at
    if text[left : left + 1] == joint:
        left -= 1
    elif text[right : right + 1] == joint:
        right += 1
    inside = left >= 0 and right < len(text)
    return inside and bool(_WORD.match(text, left) and _WORD.match(text, right))


def _trimmed(text: str, start: int, end: int, label: str) -> Iterator[tuple[int, int]]:
    """Part what cannot be one value, trim what surrounds a value, and leave companies out."""
    strip = _STRIP.get(label, _STRIP_OTHER)
    for left, right in _parts(text, start, end, label):
        value = text[left:right]
        left += len(value) - len(value.lstrip(strip))
        right = left + len(value.strip(strip))
        if label == "NAME":
            by = _BY.match(text, left, right)
            left = by.end() if by else left
            form = _LEGAL_FORM.search(text, left, right + _LONGEST_FORM)
            if form and form.start() <= right:  # a company
                continue
            if right < end and text[right] == "." and _SUFFIX_DOT.search(text, left, right):
                right += 1
        elif label == "USERNAME" and _NO_USER.fullmatch(text, left, right):
            continue
        elif label == "IP_ADDRESS":  # two colons belong to it: "::1", "fe80::"
            left += text.startswith(":", left, right) and not text.startswith("::", left)
            right -= text.endswith(":", left, right) and not text.endswith("::", left, right)
            right = left + len(text[left:right].rstrip(strip))
        elif label in _SECRET and "\n" not in value:
            right = _literal_end(text, left, right)
            right = left + len(text[left:right].rstrip())
        if right > left:
            yield left, right


def _literal_end(text: str, left: int, right: int) -> int:
    """Where a value that stands in quotes ends, if they close before `right`."""
    quote = text[max(0, left - 1) : left]
    if quote and quote in "\"'`":
        end = text.find(quote, left, right)
        if end > left and text[end - 1] != "\\":
            return end
    return right


_GIVEN_SECRET = re.compile(
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|key|salt)[\"'\])]{0,3}\s{0,4}(?:=>|:=|[=:,])"
    r"\s{0,12}(?P<quote>[\"'`])(?:\\.|(?!(?P=quote))[^\\]){0,160}+\Z",
    re.IGNORECASE,
)
_LONGEST_LITERAL = 160
_PLAIN_WORD = re.compile(r"(?<!\S)[A-Za-z]{2,40}[.,:]?(?!\S)")
_FILLED_IN = re.compile(r"[$#]\{|\$\(|\{\w{0,40}\}|%s|://")


def _whole_literals(text: str, spans: Iterable[Span]) -> list[Span]:
    """Widen what is found in a literal that is given to the name of a secret to all of it.

    Half a password is worth little less than the whole. A literal that has plain words beside what
    was found is a sentence, one that something is filled into holds a part of code.
    """
    kept: list[Span] = []
    for span in spans:
        start, end = span.start, span.end
        if span.label in _SECRET:
            start, end = _literal(text, start, end)
        while kept and kept[-1].start >= start and kept[-1].end <= end:
            span = dataclasses.replace(span, score=max(span.score, kept.pop().score))
        if not kept or kept[-1].end <= start:
            kept.append(dataclasses.replace(span, start=start, end=end))
        elif rest := text[kept[-1].end : span.end].lstrip():
            kept.append(dataclasses.replace(span, start=span.end - len(rest)))
    return kept


def _literal(text: str, start: int, end: int) -> tuple[int, int]:
    """Start and end of the literal around a secret, or of the secret if there is none."""
    near = max(text.rfind("\n", 0, start) + 1, start - 2 * _LONGEST_LITERAL)
    opening = _GIVEN_SECRET.search(text[near:start])
    if opening is None:
        return start, end
    left = right = near + opening.end("quote")
    quote = opening["quote"]
    limit = min(len(text), left + _LONGEST_LITERAL)
    while right < limit and text[right] not in (quote, "\n"):
        right += 1 + (text[right] == "\\")
    beside = f"{text[left:start]} \0 {text[end:right]}"
    if (
        right < end
        or not text.startswith(quote, right)
        or _PLAIN_WORD.search(beside)
        or _FILLED_IN.search(text, left, right)
    ):
        return start, end
    value = text[left:right]
    return left + len(value) - len(value.lstrip()), left + len(value.rstrip())


def _parts(text: str, start: int, end: int, label: str) -> list[tuple[int, int]]:
    """Cut at line ends, which a long key runs over, and at what stands in no value of the label."""
    lines = text[start:end].splitlines(keepends=True)
    if label == "KEY" and all(map(_is_key_line, lines[:-1])):
        return [(start, end)]
    separator = _SEPARATOR.get(label)
    parts: list[tuple[int, int]] = []
    for line in lines:
        cuts = [cut.span() for cut in separator.finditer(line)] if separator else []
        bounds = [0, *itertools.chain.from_iterable(cuts), len(line)]
        pairs = zip(bounds[::2], bounds[1::2], strict=True)
        found = [(start + left, start + right) for left, right in pairs]
        if label == "USERNAME":  # "jane}\\n": the rest is code
            found = [max(found, key=lambda part: part[1] - part[0])]
        elif label == "NAME":  # "Jane Roe, Acme": the rest is no person
            found = [part for part in found if _TWO_WORDS.search(text, *part)] or found
        parts += found
        start += len(line)
    return parts


def _is_key_line(line: str) -> bool:
    """Whether a line is a long piece of a key, in quotes and with line ends written out perhaps."""
    piece = _KEY_LINE.search(line)
    return piece is not None and all(
        _BESIDE_KEY_LINE.fullmatch(beside)
        for beside in (line[: piece.start()], line[piece.end() :])
    )
