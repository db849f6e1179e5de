"""Jupyter notebooks: a reading of their JSON that knows where each character stands in it.

Cells come first, in order, each one's source before its outputs; all other strings follow as lines
`"key": "value"`, since a value says little without its key.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from export.pieces import Form, TextBuilder

DEEPEST = 100
"""Arrays and objects inside each other; the format needs 7, outputs of plots some more."""

_START = re.compile(r"\ufeff?[ \t\r\n]*+\{")
_TOKEN = re.compile(
    r'"(?P<body>[^"\\]*+(?:\\.[^"\\]*+)*+)(?:"(?P<key>[ \t\r\n]*+:)?|(?P<unclosed>))|[{}\[\]]',
    re.DOTALL,
)

# Names of the format (nbformat 3 and 4): an object that lost one of them would be no notebook.
_FORMAT_KEYS = frozenset(
    "application attachments author authors cell_type cells code codemirror_mode collapsed css "
    "data display_name ename evalue execution_count file_extension html id input javascript jpeg "
    "json kernelspec language language_info latex level metadata mimetype name nbconvert_exporter "
    "nbformat nbformat_minor outputs output_type pdf png prompt_number pygments_lexer scrolled "
    "source stream svg tags text title traceback trusted version worksheets".split()
)
_PROSE_KEYS = frozenset("text html svg latex javascript json traceback ename evalue".split())
_MIME = re.compile(r"(?:application|audio|font|image|model|text|video)/[\w.+-]{1,100}")
# What a part is says nothing about anybody; a cell's `id` is a random one, of which no two may be
# the same.
_PART_VALUES = frozenset(
    "code markdown raw heading html stream display_data execute_result error pyout pyerr stdout "
    "stderr update_display_data".split()
)
_PART_KEYS = frozenset(("cell_type", "output_type", "name"))
_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

# How files of these forms begin in Base64: PNG, JPEG, GIF, WebP and other RIFF, PDF, MP4.
_MEDIA = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "JVBERi0", "AAAA")
_SHORTEST_MEDIA = 100
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/= ]++|\\[nr/])*+")
# Escapes are alternatives so that none is taken for the end of the one before it.
_HOLE = re.compile(
    r"(?P<ansi>\\u001[bB]\[[0-9;?]{0,40}[A-Za-z])|\\.|"
    r"data:(?:image|video|audio|font)/[\w.+-]{1,60};base64,(?P<media>[A-Za-z0-9+/=]{100,}+)"
)

_Literal = tuple[int, int, bool]
"""Where the inside of a string begins and ends, and whether it goes on where the last one ended."""


@dataclass(slots=True)
class _Cell:
    sources: list[_Literal] = field(default_factory=list)
    outputs: list[_Literal] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    """An array or object that has not ended yet."""

    is_object: bool
    key: str
    """Of an object the key whose value comes next; of an array the key that it is the value of."""
    cell: _Cell | None
    """The cell it belongs to."""
    is_cell: bool = False
    in_lines: bool = False
    """Whether a string of an array was there already; `in_media`: and was part of a picture."""
    in_media: bool = False


def may_be_notebook(text: str) -> bool:
    """Whether it is worth reading as a notebook."""
    return _START.match(text) is not None and ('"cells"' in text or '"worksheets"' in text)


def read_notebook(text: str) -> Form | None:
    """The form of a notebook's JSON; None if it is none, or not valid, or too deep."""
    builder = TextBuilder(text)
    try:
        _read(text, builder)
        if not _is_notebook(json.loads(text.removeprefix("\ufeff"), parse_int=_no_number)):
            return None
        return builder.form("notebook", is_json=True)
    except ValueError:
        return None


def iter_keys(text: str) -> Iterator[list[tuple[int, int]]]:
    """Where the keys of each object of a notebook stand, those of inner ones first."""
    opened: list[list[tuple[int, int]]] = []
    for match in _TOKEN.finditer(text):
        if match["key"]:
            opened[-1].append(match.span("body"))
        elif match[0] in ("{", "["):
            opened.append([])
        elif match["body"] is None:
            yield opened.pop()


def _no_number(digits: str) -> int:
    """A number of thousands of digits is valid, but takes long."""
    return 0


def _is_notebook(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    cells = document.get("cells")
    if not isinstance(cells, list):
        return isinstance(document.get("worksheets"), list)
    return "nbformat" in document or any(
        isinstance(cell, dict) and "cell_type" in cell for cell in cells
    )


def _read(text: str, builder: TextBuilder) -> None:
    """Add all there is to read.

    Raises:
        ValueError: The JSON is not valid or too deep. Not everything that is not valid is found.
    """
    rest: list[tuple[str, int, int, str]] = []
    opened: list[_Open] = []
    for match in _TOKEN.finditer(text):
        start, end = match.span("body")
        if start < 0:
            _follow_bracket(text, match.start(), opened, builder)
        elif not opened or match["unclosed"] is not None:
            raise ValueError("a string outside of the object, or without an end")
        elif match["key"]:
            key = opened[-1].key = text[start:end]
            if key not in _FORMAT_KEYS and _MIME.fullmatch(key) is None:
                rest.append(('\n"', start, end, '": '))
        else:
            where = opened[-1]
            if _is_media(text, start, end, where) or _says_what_it_is(text, start, end, where):
                continue
            holder = where if where.is_object or len(opened) < 2 else opened[-2]
            lines = _lines_of_cell(where, holder)
            if lines is not None:
                lines.append((start, end, where.in_lines and where.key != "traceback"))
            elif where.key in _FORMAT_KEYS:
                rest.append((f'\n"{where.key}": "', start, end, '"\n'))
            else:
                rest.append(('"', start, end, '"\n'))
            where.in_lines = not where.is_object
    for before, start, end, after in rest:
        builder.say(before)
        _take(text, builder, start, end)
        builder.say(after)


def _follow_bracket(text: str, at: int, opened: list[_Open], builder: TextBuilder) -> None:
    """Open or close an array or object; a cell is added where it ends."""
    is_object = text[at] == "{"
    if not is_object and text[at] != "[":
        if not opened:
            raise ValueError("a bracket closes nothing")
        closed = opened.pop()
        if closed.is_cell and closed.cell is not None:
            for start, end, goes_on in closed.cell.sources + closed.cell.outputs:
                builder.say("" if goes_on else "\n")
                _take(text, builder, start, end)
    elif len(opened) == DEEPEST:
        raise ValueError("too deep")
    elif not opened:
        opened.append(_Open(is_object, "", None))
    else:
        parent = opened[-1]
        is_cell = (
            is_object and not parent.is_object and parent.cell is None and parent.key == "cells"
        )
        cell = _Cell() if is_cell else parent.cell
        opened.append(_Open(is_object, "" if is_object else parent.key, cell, is_cell))


def _says_what_it_is(text: str, start: int, end: int, where: _Open) -> bool:
    """Whether a string is the type of a cell or output, the name of a stream or a cell's id."""
    if where.cell is None or not where.is_object:
        return False
    if where.key in _PART_KEYS:
        return text[start:end] in _PART_VALUES
    return where.is_cell and where.key == "id" and _CELL_ID.fullmatch(text, start, end) is not None


def _lines_of_cell(where: _Open, holder: _Open) -> list[_Literal] | None:
    """Where the text of a cell or an output belongs; None for any other string."""
    if where.cell is None:
        return None
    if holder.is_cell and where.key in ("source", "input"):
        return where.cell.sources
    if where.key in _PROSE_KEYS or _MIME.fullmatch(where.key) is not None:
        return where.cell.outputs
    return None


def _is_media(text: str, start: int, end: int, where: _Open) -> bool:
    """Whether a string is a picture in Base64, or the next line of one in an array."""
    if not where.in_media and (
        end - start < _SHORTEST_MEDIA or not text.startswith(_MEDIA, start, end)
    ):
        return False
    if _BASE64.fullmatch(text, start, end) is None:
        return False
    where.in_media = not where.is_object
    return True


def _take(text: str, builder: TextBuilder, start: int, end: int) -> None:
    """Add a string without what colours it in a terminal and without pictures inside it."""
    body = text[start:end]
    if "\\u001" not in body and ";base64," not in body:
        builder.take_escaped(start, end)
        return
    taken = start
    for hole in _HOLE.finditer(text, start, end):
        if hole.lastgroup is not None:
            builder.take_escaped(taken, hole.start(hole.lastgroup))
            taken = hole.end()
    builder.take_escaped(taken, end)
