"""What finders and filters share: hits, places of a literal, where words and lines begin."""

import re
from collections.abc import Iterator

Found = tuple[int, int, str]
"""Start, end and label of one hit."""

WORD_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")

FONT_ESCAPE = re.compile(r"\\f[BIRP1-4]")
"""How manual pages change the font: "\\fBname\\fR"."""

LINE_REACH = 160
"""Characters of a line that a filter looks at on either side of a span."""


def places(text: str, literal: str) -> Iterator[int]:
    """Where the text holds the literal."""
    at = text.find(literal)
    while at >= 0:
        yield at
        at = text.find(literal, at + len(literal))


def line_before(text: str, at: int, reach: int = LINE_REACH) -> str:
    """What stands before position `at` on its line, at most `reach` characters."""
    near = text[max(0, at - reach) : at]
    return near[max(near.rfind("\n"), near.rfind("\r")) + 1 :]


def begins_word(text: str, at: int) -> bool:
    """Whether no word runs into position `at` from the left; a backslash escape is no word."""
    if at == 0:
        return True
    before = text[at - 1]
    if before not in WORD_CHARS:
        return before != "+"
    if before in "nrt" and at > 1 and text[at - 2] == "\\":
        return True
    return FONT_ESCAPE.match(text, max(0, at - 3), at) is not None
