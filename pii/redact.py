"""Text and spans to redacted text, and where each replacement went."""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pii.spans import Span

Operator = Callable[[str, Span], str | None]
"""From a value and its span to what stands in its place; None leaves the value as it is.

It looks at nothing else, so the same value of a label always gets the same replacement.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One value that was replaced."""

    span: Span
    """Where it lay in the original."""
    start: int
    """Where what replaced it begins in the redacted text, in code points."""
    end: int


@dataclass(frozen=True, slots=True)
class Redaction:
    """A redacted text; outside the replacements it is the original, character for character."""

    text: str
    replacements: tuple[Replacement, ...]
    """In the order of the text."""


def redact(text: str, spans: Sequence[Span], operator: Operator) -> Redaction:
    """Replace the values of some spans.

    Args:
        text: The original.
        spans: Sorted, not empty, without overlaps, inside the text.
        operator: Chooses the replacements.

    Raises:
        ValueError: The spans are not as stated.
    """
    pieces: list[str] = []
    replacements: list[Replacement] = []
    copied, length = 0, 0
    for span in spans:
        check_place(span, copied, len(text))
        value = text[span.start : span.end]
        replacement = operator(value, span)
        if replacement is None or replacement == value:
            replacement = value
        else:
            start = length + span.start - copied
            end = start + len(replacement)
            replacements.append(Replacement(span=span, start=start, end=end))
        pieces += (text[copied : span.start], replacement)
        length += span.start - copied + len(replacement)
        copied = span.end
    pieces.append(text[copied:])
    return Redaction("".join(pieces), tuple(replacements))


def check_place(span: Span, reached: int, length: int) -> None:
    """Refuse a span that is empty, begins before `reached` or ends outside of a text.

    Raises:
        ValueError: It does.
    """
    if not reached <= span.start < span.end <= length:
        raise ValueError(
            f"span {span.start}-{span.end} of a text of {length} characters: expected "
            f"spans in order, not empty, beginning at {reached} or later"
        )


def tag_operator(value: str, span: Span) -> str:
    """Put the label in angle brackets: `<EMAIL>`."""
    return f"<{span.label}>"


# BigCode's rules (bigcode-dataset, pii/ner/pii_redaction/utils.py), from here on. ----------------

_WELL_KNOWN_DNS = frozenset(
    (
        *("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "76.76.19.19", "76.223.122.150"),
        *("9.9.9.9", "149.112.112.112", "208.67.222.222", "208.67.220.220", "8.26.56.26"),
        *("8.20.247.20", "94.140.14.14", "94.140.15.15"),
    )
)
PRIVATE_IPS: Mapping[int, Sequence[str]] = {
    4: ("172.16.31.10", "172.16.58.3", "172.16.17.32", "192.168.127.12", "192.168.3.11"),
    6: (
        "fd00:c2b6:b24b:be67:2827:688d:e6a1:6a3b",
        "fd00:a516:7c1b:17cd:6d81:2137:bd2a:2c5b",
        "fc00:e968:6179::de52:7100",
        "fc00:db20:35b:7399::5",
        "fdf8:f53e:61e4::18",
    ),
}
"""What stands in place of an address, by the version of the protocol."""
_SHORTEST_VALUE = 4
_SHORTEST_KEY = 9


def starcoder_operator(value: str, span: Span) -> str | None:
    """Redact as BigCode did for StarCoder's training data.

    Values of up to three characters, user names, names of a single word, keys of up to eight
    characters or that read like words, and IP addresses that are private, well-known DNS servers
    or not addresses at all stay as they are. IP addresses become one of five private ones, anything
    else its tag.

    Two things differ. Which private address replaces an address is chosen by a keyed hash of it,
    not at random, so that a run can be repeated. And `is_gibberish` is our own measure in place of
    the package gibberish-detector and its trained model.
    """
    if len(value) < _SHORTEST_VALUE or span.label == "USERNAME":
        return None
    if span.label == "IP_ADDRESS":
        return _private_ip(value)
    if span.label == "KEY" and (len(value) < _SHORTEST_KEY or not is_gibberish(value)):
        return None
    if span.label == "NAME" and len(value.split()) < 2:
        return None
    return f"<{span.label}>"


def _private_ip(value: str) -> str | None:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    if address.is_private or value in _WELL_KNOWN_DNS:
        return None
    choices = PRIVATE_IPS[address.version]
    digest = hmac.digest(b"starencoder.redact", str(address).encode(), hashlib.sha256)
    return choices[int.from_bytes(digest[:8]) % len(choices)]


OPERATORS: Mapping[str, Operator] = {"tag": tag_operator, "starcoder": starcoder_operator}

# The 180 most frequent pairs of letters in the words of Python 3.11's standard library (its
# top-level modules): 91 % of all pairs there.
_COMMON_PAIRS = frozenset(
    "se in re er th el on or te de en le at st he es et me lf is ar al ti nt ne co an no if it nd "
    "ro tr li ed ta ur ra am as ng ec io na fi to il tu ex ct pe ef ri pa od ot rn ma ce ss si fo "
    "ea di la ac ve lo ge rt ca nc ns pr im un ad mp ha om ou po ll rr ue op ch ls rs ul va cl ut "
    "mo os pt ts ai ic ep em be rg ck of pl us ty oc ke ee da ho lu hi wi um su xt ob lt ap so gs "
    "do yp sp ir fr up ry fa ab ni tt ag bu ol bl id bj ig rm pp ba ow ff ru sh sa ip ie nu du ly "
    "by xc ci wa ld ze iv mi fu ey wh ds au cr yt".split()
)
_LEAST_COMMON_SHARE = 0.55


def is_gibberish(value: str) -> bool:
    """Whether a value looks random: few of its pairs of letters are common in words.

    Pairs that hold a digit count as uncommon; those that hold anything else do not count. Random
    strings of 9 letters and digits come out as gibberish in 98 of 100 cases (16: 99.8), hexadecimal
    ones in 99.9; identifiers of the standard library of 9 characters or more in 3.
    """
    lowered = value.lower()
    pairs = [
        first + second
        for first, second in pairwise(lowered)
        if first.isalnum() and second.isalnum()
    ]
    common = sum(pair in _COMMON_PAIRS for pair in pairs)
    return common < _LEAST_COMMON_SHARE * len(pairs)
