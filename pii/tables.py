"""Tables in a text, cell by cell: CSV, tables of bars (Markdown, grids, consoles), SQL.

A table is looked for where a column's name stands. Most such places are code, which a bounded look
around them tells; what may be no table is none, for a wrong header names what is no value.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Cell:
    """The literal of a cell, `[start, end)` of the text, without quotes around it."""

    start: int
    end: int
    value: str
    """What it says, without the escapes of the table; empty where there is no literal."""


Row = Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns, and one or more rows of as many cells."""

    columns: Sequence[str]
    rows: Sequence[Row]
    end: int
    """Where its last row ends."""
    prose: bool = False
    """Whether it may be part of a document, with words about a column for cells."""


_LONGEST_HEADER = 1000
"""Characters from where a header begins to the name of a column in it."""
_LONGEST_TABLE_NAME = 100
_ENDS_CELL = re.compile(r"[\w .-]{0,60}+[\"'`\]\\* ]{0,4}+(?:[,;|\t\r\n)]|\Z)")


def tables_at(text: str, lower: str, named: Iterable[int]) -> Iterator[Table]:
    """The tables in whose header one of some places lies, in order and apart from each other.

    Args:
        text: A document.
        lower: The same in lower case, character for character.
        named: Where names stand that columns may have.
    """
    # In a header a name is followed by the end of its cell, in most code by something else.
    near_ends = sorted(at for at in named if _ENDS_CELL.match(lower, at))
    if not near_ends:
        return
    newline = "\n" if "\n" in lower else "\r"
    reach = 0
    tried: set[tuple[object, int]] = set()
    for at in near_ends:
        if at < reach:
            continue
        for read, start in _headers(lower, at, newline):
            if start < reach or (read, start) in tried:
                continue
            tried.add((read, start))
            table = read(text, start)
            if table is not None:
                yield table
                reach = table.end
                break


def _headers(
    lower: str, at: int, newline: str
) -> Iterator[tuple[Callable[[str, int], Table | None], int]]:
    """Where a header may begin in which this place lies, and what reads a table that does."""
    near = max(0, at - _LONGEST_HEADER)
    opens = lower.rfind("(", near, at)
    if opens > lower.rfind(")", near, at):
        before = max(0, opens - _LONGEST_TABLE_NAME)
        names = lower[before:opens]
        for word, read in (("into", _inserted), ("copy", _copied)):
            if word in names:
                yield read, before + names.rfind(word)
    line = lower.rfind(newline, near, at) + 1
    if line or not near:
        end = lower.find(newline, at, at + _LONGEST_HEADER)
        if lower.find("|", line, end if end >= 0 else at + _LONGEST_HEADER) >= 0:
            yield _piped, line
        yield _separated, line


def _row(
    form: re.Pattern[str],
    cell: Callable[[re.Match[str]], Cell],
    separator: str,
    text: str,
    at: int,
    width: int,
) -> tuple[Row, int] | None:
    """The cells of a row and where it ends; None if there are not as many as columns.

    Args:
        form: A cell and, in its group `after`, the separator or the row's end.
        cell: Makes a cell of a match.
        separator: Between cells.
        text: The document.
        at: Where the row begins.
        width: The number of columns.
    """
    cells: list[Cell] = []
    while len(cells) < width and (hit := form.match(text, at)):
        cells.append(cell(hit))
        at = hit.end()
        if hit["after"] != separator:
            return (cells, at) if len(cells) == width else None
    return None


# --- Values with a separator ---------------------------------------------------------------------

_WORD = r"[^\W\d][\w.-]{0,60}+"
_WORDS = rf"{_WORD}(?: [\w.-]{{1,40}}+){{0,2}}"
_IN_QUOTES = rf"\"{_WORDS}\"|'{_WORDS}'|`{_WORDS}`"
# Without quotes several words before a comma are a statement: SELECT login, password
_NAME = rf" ?(?:{_IN_QUOTES}|{_WORD})"
_NAME_AT_TAB = rf"(?:{_IN_QUOTES}|{_WORDS})"
_HEADER = re.compile(
    rf"[ \t]{{0,80}}+\ufeff?(?P<columns>"
    # The first may have no name: the number of a data frame's rows.
    rf"(?:{_NAME}|(?=[,;]))(?P<separator>[,;|]){_NAME}(?:(?P=separator){_NAME}){{0,200}}+|"
    rf"{_NAME_AT_TAB}(?:\t{_NAME_AT_TAB}){{1,200}}+) {{0,4}}+(?:\r?\n|\r)"
)
_LINE_END = r"\r?\n|\r|\Z"


@cache
def _cell_form(separator: str) -> re.Pattern[str]:
    """A cell and what ends it. A quote in quotes is doubled; escaped, where that ends no cell."""
    separator = re.escape(separator)
    return re.compile(
        r"\x20*+(?:\"(?P<doubled>(?:[^\"]|\"\")*+)\"|\"(?P<escaped>(?:[^\"\\]|\\.|\"\")*+)\"|"
        rf"'(?P<single>(?:[^'\r\n]|'')*+)'|(?P<plain>(?!\")[^{separator}\r\n]*+))"
        rf"(?P<after>{separator}|{_LINE_END})",
        re.DOTALL,
    )


def _separated(text: str, start: int) -> Table | None:
    """The table whose header begins here: CSV and its kin."""
    header = _HEADER.match(text, start)
    if header is None:
        return None
    separator = header["separator"] or "\t"
    columns = [cell.strip(" \"'`") for cell in header["columns"].split(separator)]
    if len({column.lower() for column in columns}) < len(columns):
        return None
    above = text[max(0, start - _LONGEST_HEADER) : start].splitlines()
    if above and above[-1].count(separator) == len(columns) - 1:
        return None  # a row among others
    rows: list[Row] = []
    end = header.end()
    form = _cell_form(separator)
    while read := _row(form, _separated_cell, separator, text, end, len(columns)):
        row, end = read
        rows.append(row)
    return Table(columns, rows, end) if rows else None


def _separated_cell(hit: re.Match[str]) -> Cell:
    if (value := hit["plain"]) is not None:
        value = value.rstrip(" ")
        return Cell(hit.start("plain"), hit.start("plain") + len(value), value)
    if (value := hit["doubled"]) is not None:
        return Cell(*hit.span("doubled"), value.replace('""', '"'))
    if (value := hit["escaped"]) is not None:
        return Cell(*hit.span("escaped"), _without_backslashes(value.replace('""', '"')))
    return Cell(*hit.span("single"), hit["single"].replace("''", "'"))


def _without_backslashes(value: str) -> str:
    """The value with signs for escaped signs; what a letter after a backslash means stays open."""
    return re.sub(r"\\(\W|_)", r"\1", value)


# --- Bars between cells --------------------------------------------------------------------------

_LEAD = r"(?:[ \t>*/#!;%]{0,40}+(?=[|+]))?[ \t]{0,40}+"
"""What stands before a table in a comment or a quotation."""
_RULE = re.compile(rf"{_LEAD}(?P<rule>[|+: \t]*+[-=][-=|+: \t]*+)(?:{_LINE_END})")
_BAR_ROW = re.compile(rf"{_LEAD}(?P<row>[^\r\n]*+)(?:{_LINE_END})")
_BAR = re.compile(r"(?<!\\)\|")
_MARKED = re.compile(r"(?P<mark>`{1,3}|\*\*|[\"'*_])(?P<value>.+)(?P=mark)")


def _piped(text: str, start: int) -> Table | None:
    """The table whose header begins here: Markdown, a grid, what a database's console prints."""
    header = _piped_row(text, start)
    rule = None if header is None else _RULE.match(text, header[1])
    if header is None or rule is None:
        return None
    columns = [cell.value for cell in header[0]]
    rules = rule["rule"].strip("|+ \t").replace("+", "|").split("|")
    if len(columns) < 2 or len(rules) != len(columns):
        return None
    rows: list[Row] = []
    end = rule.end()
    while end < len(text):
        if rule := _RULE.match(text, end):
            end = rule.end()
            continue
        read = _piped_row(text, end)
        if read is None or len(read[0]) != len(columns):
            break
        row, end = read
        rows.append(row)
    return Table(columns, rows, end, prose=True) if rows else None


def _piped_row(text: str, at: int) -> tuple[Row, int] | None:
    """The cells of a row and where its line ends; None if no bar is in it."""
    line = _BAR_ROW.match(text, at)
    if line is None or "|" not in line["row"]:
        return None
    start, end = line.span("row")
    bars = [start - 1, *(bar.start() for bar in _BAR.finditer(text, start, end)), end]
    cells = [_piped_cell(text, left + 1, right) for left, right in pairwise(bars)]
    if text.startswith("|", start):
        cells = cells[1:]
    if not text[bars[-2] + 1 : end].strip():
        cells = cells[:-1]
    return cells, line.end()


def _piped_cell(text: str, start: int, end: int) -> Cell:
    value = text[start:end]
    start += len(value) - len(value.lstrip())
    value = value.strip()
    marked = _MARKED.fullmatch(value)
    if marked is not None:
        start += marked.start("value")
        value = marked["value"]
    return Cell(start, start + len(value), value.replace("\\|", "|"))


# --- SQL -----------------------------------------------------------------------------------------

_IDENTIFIER = r"(?:`[^`\n]{1,64}`|\\?\"[^\"\\\n]{1,64}\\?\"|\[[^\]\n]{1,64}\]|[^\W\d][\w$]{0,63}+)"
_COLUMNS = (
    rf"\s{{1,20}}{_IDENTIFIER}(?:\.{_IDENTIFIER}){{0,3}}\s{{0,20}}"
    rf"\(\s{{0,40}}(?P<columns>{_IDENTIFIER}(?:\s{{0,20}},\s{{0,60}}{_IDENTIFIER}){{0,200}}+)"
    r"\s{0,40}\)"
)
_INSERTS = re.compile(r"(?:insert|replace)(?:\s{1,4}\w{1,12}){0,3}\s{1,20}\Z", re.IGNORECASE)
_INTO = re.compile(
    # Code may join the words from strings.
    rf"into{_COLUMNS}(?:\\[nrt]|[\s\"'+.&\\]){{0,100}}values?\s{{0,40}}(?=\()",
    re.IGNORECASE,
)
_SQL_CELL = re.compile(
    r"\s*+(?:[NE]?'(?P<escaped>(?:[^'\\]|\\.|'')*+)'|[NE]?'(?P<doubled>(?:[^']|'')*+)'|"
    r"\\'(?P<inner>[^'\\]*+)\\'|\"(?P<double>(?:[^\"\\]|\\.|\"\")*+)\"|"
    # A number, a name, a placeholder or a call
    r"(?=[^\s,)])[^'\"(),]{0,200}+"
    r"(?:\((?:[^()'\"]|'(?:[^'\\]|\\.|''){0,200}+'|\([^()]{0,200}+\)){0,400}+\))?[^'\"(),]{0,60}+)"
    r"(?:::[\w ]{1,40}+)?\s*+(?P<after>[,)])",
    re.DOTALL | re.IGNORECASE,
)
_NEXT_ROW = re.compile(r"\s*+,(?:\s|--[^\n]*+\n)*+(?=\()")


def _inserted(text: str, at: int) -> Table | None:
    """The rows of INSERT INTO table (columns) VALUES (...), (...)."""
    into = _INTO.match(text, at)
    if into is None or not _INSERTS.search(text[max(0, at - 60) : at]):
        return None
    columns = _sql_columns(into)
    rows: list[Row] = []
    end = into.end()
    while read := _row(_SQL_CELL, _sql_cell, ",", text, end + 1, len(columns)):
        row, end = read
        rows.append(row)
        following = _NEXT_ROW.match(text, end)
        if following is None:
            break
        end = following.end()
    return Table(columns, rows, end) if rows else None


def _sql_cell(hit: re.Match[str]) -> Cell:
    if (value := hit["doubled"]) is not None:
        return Cell(*hit.span("doubled"), value.replace("''", "'"))
    if (value := hit["escaped"]) is not None:
        return Cell(*hit.span("escaped"), _without_backslashes(value.replace("''", "'")))
    if (value := hit["double"]) is not None:
        return Cell(*hit.span("double"), _without_backslashes(value.replace('""', '"')))
    if (value := hit["inner"]) is not None:
        return Cell(*hit.span("inner"), value)
    return Cell(hit.start(), hit.start(), "")


def _sql_columns(hit: re.Match[str]) -> list[str]:
    return [name.strip(' \t\r\n`"[]\\') for name in hit["columns"].split(",")]


_COPY = re.compile(
    rf"copy{_COLUMNS}\s{{1,20}}from\s{{1,20}}stdin\s{{0,4}};[ \t]*+\r?\n", re.IGNORECASE
)
_COPIED = re.compile(r"(?!\\\.)[^\r\n]++(?=\r?\n)")


def _copied(text: str, at: int) -> Table | None:
    r"""The rows of COPY table (columns) FROM stdin; up to the line `\.`."""
    copy = _COPY.match(text, at)
    if copy is None:
        return None
    columns = _sql_columns(copy)
    rows: list[Row] = []
    end = copy.end()
    while line := _COPIED.match(text, end):
        values = line[0].split("\t")
        if len(values) != len(columns):
            break
        row = []
        for value in values:
            row.append(Cell(end, end + len(value), _without_backslashes(value)))
            end += len(value) + 1
        rows.append(row)
        end = text.index("\n", line.end()) + 1
    return Table(columns, rows, end) if rows else None
