"""Finders of keys, passwords and user names by the name they are assigned to, for `pii.patterns`.

A name is looked for with `str.find`; what follows it is then tried against bounded expressions,
each for one way to give a name a value: assignments of code and settings, keys of JSON and YAML,
attributes and elements of XML, SQL, arguments, options of a command line, connection strings. Where
it names the column of a table (`pii.tables`), the table's cells are tried.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from pii.boundaries import Found, line_before, places
from pii.providers import UUID
from pii.tables import Cell, Table, tables_at

Extent = tuple[int, int]
"""Start and end of a value."""


def _apart(found: Iterable[Extent]) -> Iterator[Extent]:
    """The extents in order, without those that begin inside the one before."""
    reach = 0
    for start, end in sorted(set(found)):
        if start >= reach:
            yield start, end
            reach = end


def lower_of(text: str) -> str:
    """The text in lower case, character for character: İ, whose lower case is two, stays."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text.replace("İ", "I").lower()


# --- Cells of tables -----------------------------------------------------------------------------


def _in_tables(
    text: str, lower: str, named: Iterable[int], find: Callable[[str], Iterator[Found]]
) -> Iterator[Extent]:
    """Cells of tables that stand beside nothing but the name of their column.

    A table says what JSON objects of its rows would say, so what is found in these is found in it.

    Args:
        text: A document.
        lower: The same in lower case.
        named: Where the names stand that `find` looks for.
        find: Finds what is given to them in a text of assignments.
    """
    for table in tables_at(text, lower, named):
        objects, cells = _as_objects(table)
        for start, end, label in find(objects):
            whole, cell = cells.get(start, (0, None))
            if cell is None or whole != end:
                continue  # part of a cell, in which its own name stands
            if label == "PASSWORD" and table.prose and not _has_letter_and_digit(cell.value):
                continue  # a word about passwords
            yield cell.start, cell.end


def _as_objects(table: Table) -> tuple[str, dict[int, tuple[int, Cell]]]:
    """The rows as JSON; and by where in it a value begins, where that ends and its cell."""
    names = [f"{json.dumps(column, ensure_ascii=False)}: " for column in table.columns]
    parts: list[str] = []
    cells: dict[int, tuple[int, Cell]] = {}
    length = 0
    for row in table.rows:
        for name, cell in zip(names, row, strict=True):
            value = json.dumps(cell.value, ensure_ascii=False)
            parts += (name, value, ", ")
            length += len(name) + len(value)
            cells[length - len(value) + 1] = (length - 1, cell)
            length += 2
        parts.append("\n")
        length += 1
    return "".join(parts), cells


# --- Keys ----------------------------------------------------------------------------------------

_NAME_END = r"s?(?:[_-]?(?:base64|base|b64|hex|value|str|string|[0-9]))?"
_ASSIGNED_KEY = re.compile(
    _NAME_END
    + r"(?:\\?[\"'\])]{0,2}\s{0,4}(?:===?|:=|=>|[:=,(])|\\?[\"']\)?\s|[ \t](?=[ \t]{0,3}\"))"
    r"\s{0,4}(?P<quote>\\?[\"'`]|)(?P<value>[A-Za-z0-9+/=_.~-]{10,512}+)(?P<after>.?)",
    re.DOTALL | re.IGNORECASE,
)
_QUOTED_SECRET = re.compile(
    _NAME_END + r"\\?[\"'\])]{0,2}\s{0,3}(?:=|:=|=>|:)\s{0,3}"
    r"(?P<quote>[\"'`])(?P<value>[^\s\"'`<>\\{}()\[\]/:]{8,128}+)(?P=quote)",
    re.IGNORECASE,
)
_PRINTABLE_SECRET = re.compile(  # WordPress's keys and salts, Django's SECRET_KEY
    _NAME_END + r"[\"'\])]{0,2}\s{0,4}(?:=>?|:=|:|,)\s{0,12}(?P<quote>[\"'])"
    r"(?P<value>(?:(?!(?P=quote))[^\r\n\\]|\\[^\r\n]){32,128}+)(?P=quote)",
    re.IGNORECASE,
)
_KEY_QUALIFIER = re.compile(
    r"(?:api|access|secret|private|consumer|auth|encryption|signing|master|shared|session|license|"
    r"nonce|logged_in)"
    r"[_-]?\Z",
    re.IGNORECASE,
)
_NO_SECRET_TOKEN = re.compile(
    r"(?:page|next|continuation|pagination|cursor|public_?key|resume|sync)[_-]?\Z", re.IGNORECASE
)
_CAMEL_WORD = re.compile(r"(?:\A|[A-Z])[a-z]{3,40}")
_KEY_NAMES = ("token", "secret", "key", "salt")


def find_assigned_keys(text: str) -> Iterator[Found]:
    """Random-looking literals assigned to a token, secret, API key or the like."""
    lower = lower_of(text)
    named = [(at, name) for name in _KEY_NAMES for at in places(lower, name)]
    hits = [
        hit for at, name in named if (hit := _assigned_key(text, at + len(name), name)) is not None
    ]
    hits += _in_tables(text, lower, [at for at, _ in named], find_assigned_keys)
    for start, end in _apart(hits):
        yield start, end, "KEY"


def _assigned_key(text: str, at: int, name: str) -> Extent | None:
    if name == "key" and not _KEY_QUALIFIER.search(text[max(0, at - 14) : at - 3]):
        return None
    if name == "token" and _NO_SECRET_TOKEN.search(text[max(0, at - 24) : at - 5]):
        return None
    if name == "salt":
        hit = _PRINTABLE_SECRET.match(text, at) if text[at - 5 : at - 4] == "_" else None
        return hit.span("value") if hit is not None and _is_printable_secret(hit["value"]) else None
    hit = _ASSIGNED_KEY.match(text, at)
    if hit is not None and _literal_ends(hit):
        if re.fullmatch(UUID, hit["value"]):
            # A key can be a UUID; a "token" that is one is mostly the identifier of a request.
            return None if name == "token" else hit.span("value")
        if _is_random(hit["value"]):
            return hit.span("value")
    hit = _QUOTED_SECRET.match(text, at)
    if hit is not None and _is_mixed(hit["value"]):
        return hit.span("value")
    hit = _PRINTABLE_SECRET.match(text, at)
    return hit.span("value") if hit is not None and _is_printable_secret(hit["value"]) else None


_ENDS_ESCAPED = ('\\"', "\\'", "\\`", "\\n", "\\r", "\\t", "&quot;", "&apos;", "&#")


def _literal_ends(hit: re.Match[str]) -> bool:
    """Whether the value ends where a literal ends, and no expression goes on."""
    quote, after = hit["quote"][-1:], hit["after"]
    if quote:
        rest = hit.string[hit.end("value") : hit.end("value") + 6]
        return after == quote or rest.startswith(_ENDS_ESCAPED)
    return not after or after.isspace() or after in "&\"',;"


def _is_random(value: str) -> bool:
    """Whether upper case, lower case and digits alternate as they do in no identifier."""
    if "." in value or len(set(value)) < 8:
        return False
    if 2 * sum(map(len, _CAMEL_WORD.findall(value))) > len(value):
        return False
    body = [char for char in value if char.isalnum()]
    return _changes(body) >= max(4, len(body) / 6)


def _is_mixed(value: str) -> bool:
    """Whether signs stand among letters and digits that no identifier or address has."""
    signs = sum(not char.isalnum() and char not in "_-.,;$@%" for char in value)
    return signs > 0 and _changes(value) >= 4


def _is_printable_secret(value: str) -> bool:
    """Whether signs, letters and digits of all kinds alternate throughout, as in no text."""
    signs = {char for char in value if not char.isalnum()}
    return (
        len(signs) >= 4
        and len(set(value)) >= 20
        and _changes(value) >= len(value) / 5
        and "://" not in value
    )


def _changes(chars: Iterable[str]) -> int:
    """How often digits, upper case and the rest take turns; 0 where no digit is among them."""
    kinds = ["d" if char.isdigit() else "u" if char.isupper() else "l" for char in chars]
    return sum(a != b for a, b in pairwise(kinds)) if "d" in kinds else 0


# --- Passwords -----------------------------------------------------------------------------------

_PASSWORD_NAME = re.compile(
    r"(?:(?P<full>pass(?:words?|wd|phrases?|wort|code)|pwd)|pass)"
    r"(?:[_-]?(?:value|str|string|plain)|[_-]?[0-9]{1,2})?(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_GLUED_PASS = re.compile(
    r"(?:store|key|db|user|root|admin|ssl|sql|mail|smtp|ssh|ftp|http|proxy|auth|login)\Z",
    re.IGNORECASE,
)
_NO_PASSWORD_NAME = re.compile(
    # reset_password: "..." is a message, hasPassword: "..." a flag, getpass("...") a prompt
    r"(?:\b|_|(?<=[a-z])(?=[A-Z]))(?:reset|forgot|forgotten|change|changed|confirm|show|hide|has|is|"
    r"no|use|require|required|need|min|max|missing|empty|toggle|expired|get|ask|prompt|read|input|"
    r"enter|type|expect|assert|event|test[_-](?=\Z)|all|any|skip|fail|did|will|can|must|should|cd|"
    r"unquote|quote|decode|encode|by|com|render)[_-]?\Z",
    re.IGNORECASE,
)
_LONGEST_PART = 11
"""Characters of a match of the two expressions above: `_forgotten_`."""
_VALUE = r"[^\s\"'`<>\\]{2,64}+"
_LITERAL = (
    # Escapes belong to it, and so do the other quotes; inside `\\"` one has three backslashes.
    r"(?:[rbu@](?=[\"']))?(?P<quote>(?P<escaped>\\)?[\"'`])"
    r"(?P<value>(?:(?!(?P=quote))(?:(?(escaped)[^\s\\\"'`]|[^\s\\])|\\\\\\[^\s]|\\[^\s])){2,64}+)"
    r"(?P=quote)"
)
_USER_WORDS = (
    "user",
    "login",
    "auth",
    "host",
    "smtp",
    "mail",
    "account",
    "acct",
    "rpc",
    "proxy",
    "db_",
)
_COMPARES = re.compile(
    r"(?:assert|equal|cmp|expect)\w{0,24}\s{0,2}\([^()\n;]{0,60}(?:\.|->)\Z", re.IGNORECASE
)
_PUTS = re.compile(
    r"(?:put|set|append|add|define)\w{0,16}\(\s{0,4}[\"'][\w.-]{0,40}\Z", re.IGNORECASE
)
_OPENS_ELEMENT = re.compile(r"<[\w:.-]{0,40}\Z")
_NAMES_FIELD = re.compile(r"(?:name|key|property|id)=[\"'][\w.:-]{0,60}\Z")
_CONNECTS = re.compile(
    r"(?:host|server|source|user|uid|id|username|dbname|database|port)\s?=[^=\n\"'`]{0,60}"
    r"[;&\s]\w{0,12}\Z",
    re.IGNORECASE,
)
_IN_ENVIRONMENT = re.compile(r"(?:\A|[\s\"'`;])(?:-e|-D|export )?[A-Z0-9_]{0,40}\Z")
_ENVIRONMENT_LINE = re.compile(
    r"(?:\A|\n)[ \t]{0,12}(?:export[ \t]{1,4}|set[ \t]|ENV[ \t]|- )?[A-Z0-9_]{0,60}\Z"
)
_IN_OPTION = re.compile(r"(?:\A|[\s\"'`])-{1,2}[a-z][\w.-]{0,30}\Z|(?:\A|[\s\"'`])--\Z")
_BEGINS_LINE = re.compile(r"(?:\A|\n)[ \t#;-]{0,12}[\w.-]{0,60}\Z")


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to give a name a value."""

    after: re.Pattern[str]
    """What follows the name; the group `value` is the value."""
    before: re.Pattern[str] | None = None
    """What must end where the name begins."""
    word: bool = True
    """Whether the value may be a plain word; where code may stand in its place, it may not."""
    short: bool = True
    """Whether `pass` will do as a name."""


_FORMS = (
    # = "x", := "x", => "x", == "x", : "x" of JSON, YAML and arguments; after ["name"] too
    _Form(
        re.compile(
            r"(?:\[\d{0,4}\]|: ?[A-Za-z]{1,12}(?= ?=)| string(?= ?=)|\\?[\"'`]?[\])]?)\s{0,24}"
            rf"(?:[!=]==?|:=|=>|[:=])\s{{0,24}}{_LITERAL}"
        )
    ),
    _Form(re.compile(rf"\(\s{{0,2}}{_LITERAL}\s{{0,2}}(?:\)|,(?!\s?[\"']))"), short=False),
    _Form(re.compile(rf" {{1,2}}{_LITERAL}"), short=False),  # of SQL
    _Form(re.compile(rf"\)?,\s{{0,3}}{_LITERAL}\s{{0,2}}[,)]"), _COMPARES),
    _Form(re.compile(rf"[\"']\s{{0,4}},\s{{0,12}}{_LITERAL}"), _PUTS),
    _Form(re.compile(r">(?P<value>[^\s<>\"'`\\]{2,64}+)</"), _OPENS_ELEMENT),
    _Form(re.compile(r"[\"']>(?P<value>[^\s<>\"'`\\]{2,64}+)</"), _NAMES_FIELD),
    _Form(re.compile(rf"[\"']\s{{1,4}}value={_LITERAL}"), _NAMES_FIELD),
    _Form(
        re.compile(r"(?:=|:[ ]{1,4})(?P<value>[^\s\"'`\\]{3,64}+)(?=[ \t]{0,8}(?:\r?\n|\Z))"),
        _ENVIRONMENT_LINE,
    ),
    _Form(
        re.compile(
            r"[ \t]{0,8}[:=][ \t]{0,8}(?P<value>[^\s\"'`\\]{3,64}+)(?=[ \t]{0,8}(?:\r?\n|\Z))"
        ),
        _BEGINS_LINE,
        word=False,
    ),
    _Form(
        re.compile(r"=(?P<value>[^\s;&\"'`<>\\,(){}]{2,64}+)(?=[;&\"'`\s\\]|\Z)"),
        _CONNECTS,
    ),
    _Form(
        re.compile(
            r"(?:=|:[ ](?=[^\s]{1,64}[ \t]{0,8}(?:\r?\n|\Z)))"
            r"(?P<value>[^\s\"'`<>()\\;,&|]{3,64}+)(?=[\s;&\"']|\Z)"
        ),
        _IN_ENVIRONMENT,
    ),
    _Form(re.compile(rf"(?:=|[ \t]){_LITERAL}"), _IN_OPTION),
    _Form(
        re.compile(r"(?:=|[ \t])(?P<value>[^\s\"'`<>\\()\[\]{}|;,]{2,64}+)(?=[\s\"'`]|\Z)"),
        _IN_OPTION,
        word=False,
    ),
)
_PASSPHRASE = re.compile(
    r"[\"']?\s?[:=]\s?(?P<quote>\\?[\"'])(?P<value>[a-z']{2,16}(?: [a-z']{2,16}){2,6})"
    r"(?P<after>\\?[\"'])"
)
_SPACED = re.compile(
    # In the line of an environment file; elsewhere several words are a message.
    r"=(?P<quote>[\"'])(?P<value>(?:(?!(?P=quote))[^\r\n\\`]|\\[^\r\n]){2,64}+)(?P=quote)"
    r"(?=[ \t]{0,8}(?:\r?\n|\Z))"
)
_MIXED_WORD = re.compile(r"(?<!\S)(?=[^\s\d]{0,64}\d)(?=[^\sA-Za-z]{0,64}[A-Za-z])")
_GOES_ON = re.compile(
    # A query, a list of settings, a command or code: the value ends before
    r"[;&|,][\w.-]{1,40}=|&&|\|\||[;,({\[]\Z|\$[({]|[<>]"
)
_IDENTIFIED = re.compile(
    r"identified\s{1,3}(?:with\s{1,3}[\w\"'`]{1,40}\s{1,3})?by\s{1,3}(?:password\s{1,3})?"
    + _LITERAL,
    re.IGNORECASE,
)
_NO_VALUES = frozenset(
    """string str text bool boolean int integer varchar char none null nil undefined true false
    optional required any object bytes hidden keyword value yes no on off plain plaintext md5 hash
    hashed binary basic bearer form hmac sha1 sha256 bcrypt scrypt crypt utf8 utf-8 ascii base64 hex
    email username login name field input label type credentials oauth oauth2 key pam ok fail failed
    passed skip skipped error warning info enter confirm confirmed keep private reset show hide save
    cancel submit forgot forgotten missing mismatch changed updated expired wrong incorrect weak
    strong medium""".split()
)
_NO_VALUE = re.compile(
    # Constants, classes, names of fields
    r"[A-Z][A-Z0-9]{0,40}_[A-Z0-9_]{1,64}|(?:[A-Z]?[a-z]{2,20})?(?:[A-Z][a-z]{2,20}){2,8}|Password[A-Z]\w{0,64}|"
    r"[A-Za-z_-]{0,60}(?i:passwords?|passwd)|"
    # Services, symbols, types of contents, members, scopes, calls
    r"@[a-z_]{1,64}|:[a-z_.]{1,64}|[\w.-]{1,40}/[\w.+-]{1,60}|(?:\w{1,40}\.){2,8}\w{1,40}|"
    r"\w{1,40}::.{0,64}|[\w.]{1,40}\((?:.{0,64}\)|\D{0,64})|"
    # Rules, expressions, prompts, options, paths, URLs, formats
    r"[a-z]{2,20}\|.{0,64}|\^.{0,64}|.{0,64}:|--?[A-Za-z].{0,64}|\.{0,2}/.{0,64}|[+,.%].{0,64}"
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,64}")
_SETTING_LINE = re.compile(
    r"[ \t#;]{0,12}(?:\[[\w .:-]{1,60}\]|(?:- )?[A-Za-z][\w.-]{0,60}[ \t]{0,8}[:=]"
    r"(?:[ \t]{0,8}[^\s()\[\]{};\"',]{1,120})?)[ \t]{0,8}"
)


def find_assigned_passwords(text: str) -> Iterator[Found]:
    """Literals given to a password or pass phrase, in whatever notation."""
    lower = lower_of(text)
    named = [at for literal in ("pass", "pwd") for at in places(lower, literal)]
    hits = [hit for at in named if (hit := _assigned_password(text, at)) is not None]
    hits += _in_tables(text, lower, named, find_assigned_passwords)
    hits += [
        sql.span("value")
        for at in places(lower, "identified ")
        if (sql := _IDENTIFIED.match(text, at)) is not None
    ]
    for start, end in _apart(hits):
        yield start, end, "PASSWORD"


def _assigned_password(text: str, at: int) -> Extent | None:
    name = _PASSWORD_NAME.match(text, at)
    if name is None:
        return None
    before = text[max(0, at - 100) : at]
    full = name["full"] is not None
    begins = not before[-1:].isalpha() or (name[0][0] == "P" and before[-1].islower())
    near = max(0, len(before) - _LONGEST_PART)
    if not full and not begins and not _GLUED_PASS.search(before, near):
        return None
    if _NO_PASSWORD_NAME.search(before, near):
        return None
    for form in _FORMS:
        hit = form.after.match(text, name.end())
        if hit is None or (form.before is not None and not form.before.search(before)):
            continue
        if not full and not (form.short and _beside_user(text, at, hit.end())):
            return None
        if form.before in (_IN_ENVIRONMENT, _ENVIRONMENT_LINE) and not name[0].isupper():
            continue
        if form.before in (_BEGINS_LINE, _ENVIRONMENT_LINE) and _GOES_ON.search(hit["value"]):
            continue
        if not form.word and not _is_no_word(text, hit, form.before is _BEGINS_LINE):
            continue
        return hit.span("value") if _can_be_password(hit["value"]) else None
    phrase = _PASSPHRASE.match(text, name.end()) if full else None
    if phrase is None and name[0].isupper() and _ENVIRONMENT_LINE.search(before):
        phrase = _SPACED.match(text, name.end())
        if phrase is not None and not (
            _MIXED_WORD.search(phrase["value"]) and not _COMPUTED.search(phrase["value"])
        ):
            return None
    return None if phrase is None else phrase.span("value")


def _beside_user(text: str, at: int, end: int) -> bool:
    """Whether a user or host is named nearby: `pass` is also the opposite of `fail`."""
    near = text[max(0, at - 160) : end + 80].lower()
    return any(word in near for word in _USER_WORDS)


def _is_no_word(text: str, hit: re.Match[str], whole_line: bool) -> bool:
    """Whether a value without quotes is neither a word nor a name of code."""
    value = hit["value"]
    if not _has_letter_and_digit(value):
        return False
    if not whole_line:
        return True
    if _IDENTIFIER.fullmatch(value) and any(
        value in text[start:end]
        for start, end in ((max(0, hit.start() - 1000), hit.start()), (hit.end(), hit.end() + 1000))
    ):
        return False  # a variable
    line = text.rfind("\n", max(0, hit.start() - 100), hit.start())
    above = text[max(0, line - 200) : max(0, line)].rpartition("\n")[2]
    below = (
        text[hit.end() : hit.end() + 200].lstrip(" \t").removeprefix("\r")[1:].partition("\n")[0]
    )
    return any(_SETTING_LINE.fullmatch(near.rstrip("\r")) for near in (above, below))


def _has_letter_and_digit(value: str) -> bool:
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


_ESCAPE = re.compile(r"\\(?:u(?P<u>[0-9A-Fa-f]{4})|x(?P<x>[0-9A-Fa-f]{2})|(?P<other>.))")
_COMPUTED = re.compile(r"\$[({]|[\"'`] ?[.+,]|[.+,] ?[\"'`]|\A[\"'`]|[\"'`]\Z|<.{0,64}>|[-=]>")
_EXPRESSION = re.compile(r"\\[dDwWsS](?:[+*?{\])]|\Z)|\A\\")


def _escaped_character(escape: re.Match[str]) -> str:
    code = escape["u"] or escape["x"]
    if code:
        return chr(int(code, 16))
    return {"n": "\n", "r": "\n", "t": "\t"}.get(escape["other"], escape["other"])


def _can_be_password(value: str) -> bool:
    if _COMPUTED.search(value):
        return False
    if "\\" in value:
        plain = _ESCAPE.sub(_escaped_character, value)
        kept = _ESCAPE.sub("", value)
        if _EXPRESSION.search(plain) or any(map(str.isspace, plain)):
            return False
        if not plain.isascii() and not any(map(str.isdigit, kept)):
            return False  # a word of another language
        value = plain
    return (
        value.lower() not in _NO_VALUES
        and value.count("/") + value.count(":") < 2  # a path, a URN, a limit such as 5/m/user
        and all(ord(char) < 0x250 for char in value)  # else it is a message in another script
        and _NO_VALUE.fullmatch(value) is None
    )


# --- User and password of one call ---------------------------------------------------------------

_PAIR_CALLS = (
    "login(", "log_in(", "auth(", "auth=(", "enticate(", "entication(", "redentials(",
    "redential(", "basic(", "userpassword(",
)  # fmt: skip
_PAIR_ARGUMENTS = (
    rf"[bu]?(?P<left>[\"'])(?P<user>{_VALUE})(?P=left)\s{{0,2}},\s{{0,40}}"
    r"(?:(?:password|passwd|pw)=)?[bu]?(?P<quote>[\"'])(?P<value>[^\s\"'`<>\\]{2,64}+)(?P=quote)"
    r"\s{0,3}[,)]"
)
_PAIR = re.compile(r"\(\s{0,3}" + _PAIR_ARGUMENTS)
_CONNECTION = re.compile(
    r"\(\s{0,40}(?:\"[^\"\n]{1,300}+\"|[\w.]{1,60}+)\s{0,3},\s{0,40}" + _PAIR_ARGUMENTS
)


def find_login_calls(text: str) -> Iterator[Found]:
    """User and password of `login("user", "password")`, `auth=("user", "password")` and so on."""
    lower = lower_of(text)
    found = {
        hit
        for call in _PAIR_CALLS
        for at in places(lower, call)
        if (hit := _PAIR.match(text, at + len(call) - 1)) is not None
    }
    found |= {
        hit
        for at in places(lower, "getconnection(")
        if (hit := _CONNECTION.match(text, at + len("getconnection"))) is not None
    }
    for hit in sorted(found, key=lambda hit: hit.start()):
        if _can_be_password(hit["value"]) and _can_be_user(hit["user"]):
            yield *hit.span("user"), "USERNAME"
            yield *hit.span("value"), "PASSWORD"


_OPTION_PAIR = re.compile(
    r"(?:-u|--user|--proxy-user|USERPWD,?)[ =]{1,2}\\?[\"']?(?P<user>[\w.@%+\\-]{1,64}):"
    r"(?P<value>[^\s\"'`<>\\:/@]{2,64}+)(?=[\s\"'`\\]|\Z)"
)
_CURL = re.compile(r"(?:curl|wget|https?|USERPWD)\b[^\n]{0,200}\Z")


def find_option_credentials(text: str) -> Iterator[Found]:
    """User and password of `curl -u user:password` and of libcurl's USERPWD."""
    found = set()
    for option in (" -u ", " --user ", " --user=", " --proxy-user "):
        for at in places(text, option):
            hit = _OPTION_PAIR.match(text, at + 1)
            if hit is not None and _CURL.search(text, max(0, at - 240), at):
                found.add(hit)
    for at in places(text, "USERPWD, "):
        hit = _OPTION_PAIR.match(text, at)
        if hit is not None:
            found.add(hit)
    for hit in sorted(found, key=lambda hit: hit.start()):
        yield *hit.span("user"), "USERNAME"
        yield *hit.span("value"), "PASSWORD"


_OPTION_PASSWORD = re.compile(
    # sshpass -p x, mysql -px, xfreerdp /p:x, net use /user:..., openssl -passin pass:x
    r"(?:sshpass -p ?|[ \"']/p:|-pass(?:in|out)? pass:|mysql(?:dump|admin)? [^\n|;]{0,80}? -p)"
    r"(?P<quote>[\"']?)(?P<value>[^\s\"'`<>\\|;$({-][^\s\"'`<>\\|;]{1,63}+)"
)


def find_option_passwords(text: str) -> Iterator[Found]:
    """Passwords of options that are not spelled out: sshpass -p, mysql -p, /p: and pass:."""
    hits = [
        hit.span("value")
        for literal in ("sshpass -p", " /p:", "pass:", "mysql")
        for at in places(text, literal)
        if (hit := _option_password(text, at, literal)) is not None
    ]
    for start, end in _apart(hits):
        yield start, end, "PASSWORD"


def _option_password(text: str, at: int, literal: str) -> re.Match[str] | None:
    if literal == "pass:":
        at = max(text.rfind(" -pass", max(0, at - 10), at) + 1, 0)
    hit = _OPTION_PASSWORD.match(text, at)
    if hit is None or (hit["quote"] and not text.startswith(hit["quote"], hit.end())):
        return None
    return hit if _can_be_password(hit["value"]) else None


# --- User names ----------------------------------------------------------------------------------

_USER_GIVEN = re.compile(
    r"(?:user_?name|login_?name|screen_?name|login)\\?[\"'`]?[\])]?\s{0,3}(?:===?|:=|=>|[:=])\s{0,8}"
    r"[bu]?(?P<quote>\\?[\"'`])(?P<value>(?-i:[a-z_][a-z0-9_.-]{2,40}))(?P<after>\\?[\"'`])",
    re.IGNORECASE,
)


_HANDLE = r"(?P<value>[a-z_][a-z0-9_.-]{2,40})"
_USER_ELEMENT = re.compile(rf"<(?i:[\w:.-]{{0,40}}(?:user_?name|login))>{_HANDLE}</")
_USER_DEFINED = re.compile(
    r"define\(\s{0,4}[\"']\w{0,40}(?:USER|USER_?NAME|LOGIN)[\"']\s{0,4},\s{0,12}"
    rf"(?P<quote>[\"']){_HANDLE}(?P=quote)"
)
_LINE_END = r"(?=[ \t]{0,8}(?:\r?\n|\Z))"
_USER_LINE = re.compile(
    # POSTGRES_USER: app_7
    r"(?:\w{0,40}_)?(?:POSTGRES|POSTGRESQL|MYSQL|MARIADB|MONGO(?:DB)?(?:_INITDB_ROOT)?|DB|DATABASE|"
    r"PG|SQL|SMTP|MAIL|EMAIL|FTP|SSH|RABBITMQ(?:_DEFAULT)?|LDAP|IMAP)_USER(?:NAME)?"
    rf"(?:=|:[ ]{{1,4}})(?P<quote>[\"']?){_HANDLE}(?P=quote){_LINE_END}"
)
_USER_PROPERTY = re.compile(
    # spring.datasource.username=app_7
    r"(?P<group>(?!self\.|this\.)[a-z][\w-]{0,30}\.(?:[\w-]{1,30}\.){1,6})user(?:[._-]?name)?="
    rf"{_HANDLE}{_LINE_END}"
)
_LINE_LEAD = re.compile(r"[ \t]{0,160}+(?:- |export )?")


def find_assigned_users(text: str) -> Iterator[Found]:
    """Literals that look like a handle and are given to a user name or login."""
    lower = lower_of(text)
    named = [
        at
        for literal in ("username", "user_name", "login", "screen_name", "screenname")
        for at in places(lower, literal)
    ]
    hits = [
        hit
        for at in named
        if (hit := _USER_GIVEN.match(text, at) or _user_element(text, at)) is not None
    ]
    hits += [
        hit for at in places(text, "define(") if (hit := _USER_DEFINED.match(text, at)) is not None
    ]
    hits += [
        hit
        for literal in ("_USER", ".user")
        for at in places(text, literal)
        if (hit := _user_line(text, at)) is not None
    ]
    extents = [hit.span("value") for hit in hits if _can_be_user(hit["value"])]
    extents += _in_tables(text, lower, named, find_assigned_users)
    for start, end in _apart(extents):
        yield start, end, "USERNAME"


def _user_element(text: str, at: int) -> re.Match[str] | None:
    opens = text.rfind("<", max(0, at - 41), at)
    return _USER_ELEMENT.match(text, opens) if opens >= 0 else None


def _user_line(text: str, at: int) -> re.Match[str] | None:
    """The line of a setting; that of a property needs its password beside it."""
    lead = line_before(text, at)
    gap = _LINE_LEAD.match(lead)
    start = at - len(lead) + (gap.end() if gap else 0)
    hit = _USER_LINE.match(text, start)
    if hit is None:
        hit = _USER_PROPERTY.match(text, start)
        if hit is None or hit["group"] + "pass" not in text[max(0, at - 400) : at + 400]:
            return None
    return hit


def _can_be_user(value: str) -> bool:
    return value.lower() not in _NO_VALUES and _NO_VALUE.fullmatch(value) is None
