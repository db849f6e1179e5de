"""Filters: which documents are not worth training on. Each has a name and can be switched off.

The limits are those of the SantaCoder paper (Ben Allal et al. 2023, 4.1) and of BigCode's
preprocessing where a filter says so, else set by looking at what they leave out.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pretrain.documents import COMMITS, ISSUES, Document
from starencoder.names import check_name

DUPLICATE = "duplicate"
_NEAR_EMPTY_CHARS = 100
_MEAN_LINE_CHARS = 100
_LONGEST_LINE_CHARS = 1000
_ALPHANUMERIC_SHARE = 0.25
_DATA_CHARS = 5000
# Of UTF-8; what is not ASCII counts as a letter.
_ALPHANUMERIC = bytes(byte for byte in range(256) if byte >= 128 or chr(byte).isalnum())
_HEADER_CHARS = 1000
# Lines there are paragraphs, or the text is no source file.
_PROSE = frozenset(
    ["Markdown", "reStructuredText", "Text", "TeX", "Changelog", "HTML", ISSUES, COMMITS]
)
_DATA = frozenset(["JSON", "YAML"])
_GENERATED = re.compile(
    r"@generated\b|\bauto-?(?:matically )?generated\b|\bgenerated (?:automatically|by|from|using)\b"
    r"|\bdo not (?:edit|modify)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Filter:
    """One reason to leave a document out."""

    name: str
    description: str
    drops: Callable[[Document, str, int], bool]
    """Of a document, its text, and the longest text in characters that is wanted."""


def _near_empty(_: Document, text: str, __: int) -> bool:
    return len(text.strip()) < _NEAR_EMPTY_CHARS


def _too_long(_: Document, text: str, max_chars: int) -> bool:
    return len(text) > max_chars


def _minified(document: Document, text: str, _: int) -> bool:
    if document.language in _PROSE:
        return False
    lengths = [len(line) for line in text.splitlines()]
    return (
        sum(lengths) > _MEAN_LINE_CHARS * len(lengths)
        or max(lengths, default=0) > _LONGEST_LINE_CHARS
    )


def _generated(document: Document, text: str, _: int) -> bool:
    return (
        document.language not in (ISSUES, COMMITS)
        and _GENERATED.search(text[:_HEADER_CHARS]) is not None
    )


def _little_text(_: Document, text: str, __: int) -> bool:
    content = text.encode("utf-8", "replace")
    others = len(content.translate(None, _ALPHANUMERIC))
    return len(content) - others < _ALPHANUMERIC_SHARE * len(content)


def _large_data(document: Document, text: str, _: int) -> bool:
    return document.language in _DATA and len(text) > _DATA_CHARS


FILTERS = (
    # Asked in the main process, where all texts pass by.
    Filter(DUPLICATE, "the same text came before", lambda *_: False),
    Filter("too-long", "more characters than prepare.max_chars", _too_long),
    Filter(
        "near-empty",
        f"fewer than {_NEAR_EMPTY_CHARS} characters between blanks at both ends",
        _near_empty,
    ),
    Filter(
        "minified",
        f"lines of more than {_MEAN_LINE_CHARS} characters on average, or one of more than "
        f"{_LONGEST_LINE_CHARS}; not in prose",
        _minified,
    ),
    Filter(
        "auto-generated",
        f"says in its first {_HEADER_CHARS} characters that a program wrote it",
        _generated,
    ),
    Filter(
        "little-text",
        f"letters and digits are less than {_ALPHANUMERIC_SHARE:.0%} of the bytes",
        _little_text,
    ),
    Filter("large-data", f"JSON or YAML of more than {_DATA_CHARS:,} characters", _large_data),
)
"""In the order in which they are asked."""

FILTER_NAMES = tuple(rule.name for rule in FILTERS)


def check_filters(names: Collection[str]) -> frozenset[str]:
    """The names of filters to switch off.

    Raises:
        ConfigError: There is no such filter.
    """
    return frozenset(check_name("filter in prepare.disable", name, FILTER_NAMES) for name in names)


def reason_to_drop(document: Document, *, max_chars: int, disabled: Collection[str]) -> str | None:
    """The name of the first filter that leaves a document out; None when it stays."""
    text = document.text
    for rule in FILTERS:
        if rule.name not in disabled and rule.drops(document, text, max_chars):
            return rule.name
    return None
