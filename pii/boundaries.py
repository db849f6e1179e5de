"""What the finders of addresses and credentials share: hits, and where a word begins."""

import re

Found = tuple[int, int, str]
"""Start, end and label of one hit."""

WORD_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")

FONT_ESCAPE = re.compile(r"\\f[BIRP1-4]")
"""How manual pages change the font: "\\fBname\\fR"."""


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
