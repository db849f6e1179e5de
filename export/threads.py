"""Texts with StarCoder's markers: issue threads, commits, and notebooks laid flat.

The markers themselves are never read: a line end stands for each of them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from export.common_words import ORDINARY
from export.pieces import Form, TextBuilder
from pii.spans import Span

Known = tuple[Span, str | None]
Extent = tuple[int, int]
Part = tuple[str, int, int]
"""The marker before it, and where it begins and ends."""

# What may stand before the first marker: bigcode's metadata of a file.
_BEFORE = (
    r"\ufeff?\s*+(?:<\|endoftext\|>)?(?:<reponame>[^<\n]{0,300}+)?(?:<filename>[^<\n]{0,1000}+)?"
    r"(?:<gh_stars>[^<\n]{0,20}+\n?)?"
)
_FIRST = re.compile(
    _BEFORE + r"<(?:(?P<issue>issue_(?:start|comment))|(?P<commit>commit_(?:before|msg))"
    r"|(?P<notebook>jupyter_(?:start|text|code)|start_jupyter))>"
)
_MARKERS = {
    "issue": re.compile(r"<issue_(?:start|comment|closed)>"),
    "commit": re.compile(r"<commit_(?:before|msg|after)>"),
    "notebook": re.compile(
        r"<(?:jupyter_(?:start|text|code|output|script)|start_jupyter|empty_output)>"
    ),
}

_AUTHOR = re.compile(r"\s*+(?P<login>[A-Za-z0-9][A-Za-z0-9_-]{0,99}+(?:\[bot\])?):(?=\s|$)")
_TITLE = re.compile(r"\s*+[^\n]++\n")
_NO_AUTHORS = frozenset(("Title", "Status"))
PSEUDONYM = re.compile(r"username_(\d{1,9})")
"""What stands in place of an author."""
_PSEUDONYM = re.compile(rf"\b{PSEUDONYM.pattern}\b")
# A word as logins have them. Latin letters with accents belong to it; Chinese ones do not, as they
# may stand right beside a name.
_WORD = re.compile(r"[A-Za-z0-9_\u00c0-\u024f-]+")
_BRANCH = re.compile(r"(?P<login>.+)-patch-\d{1,6}")  # what GitHub calls a branch made on its pages
_PROFILE = "github.com/"
_IN_ADDRESS = re.compile(r"[\w.+-]@")
_GOES_ON_AS_ADDRESS = re.compile(r"@\w")

_SHORTEST_BARE = 6
_CASE_INSIDE = re.compile(r"[a-z][A-Z]")
_LETTERS = re.compile(r"[A-Za-z]+")
_HUMPS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_DISTINCT = re.compile(r"[0-9_-]")

# "Reviewed-by: A Name <a@mail>", as git and the Linux kernel have them.
_TRAILER = re.compile(
    r"^[ \t]{0,8}(?:[A-Z][a-z]{1,20}(?:-[A-Za-z]{1,20}){0,3}-[Bb]y|C[Cc]):[ \t]{1,8}\"?"
    r"(?P<name>[^<>\n:@\"\s](?:[^<>\n:@\"]{0,98}[^<>\n:@\"\s])?)\"?[ \t]{1,8}<[^<>\s]{1,200}@",
    re.MULTILINE,
)


def read_marked(text: str) -> Form | None:
    """The form of a text that begins with a marker; None for any other."""
    first = _FIRST.match(text)
    if first is None or first.lastgroup is None:
        return None
    kind = first.lastgroup
    if kind == "commit" and not ("<commit_msg>" in text and "<commit_after>" in text):
        return None
    return _READERS[kind](text, _parts(text, _MARKERS[kind]), TextBuilder(text))


def _parts(text: str, markers: re.Pattern[str]) -> Iterator[Part]:
    """What lies before, between and after the markers."""
    marker, start = "", 0
    for match in markers.finditer(text):
        yield marker, start, match.start()
        marker, start = match[0], match.end()
    yield marker, start, len(text)


def _read_notebook(text: str, parts: Iterable[Part], builder: TextBuilder) -> Form:
    for _, start, end in parts:
        builder.take(start, end)
        builder.say("\n")
    return builder.form("notebook")


def _read_commit(text: str, parts: Iterable[Part], builder: TextBuilder) -> Form:
    known: list[Known] = []
    for marker, start, end in parts:
        builder.take(start, end)
        builder.say("\n")
        if marker == "<commit_msg>":
            known += _trailer_names(text, start, end)
    return builder.form("commit", known)


def _trailer_names(text: str, start: int, end: int) -> Iterator[Known]:
    message = text[start:end]
    for match in _TRAILER.finditer(message):
        if not match["name"].endswith("[bot]"):
            begin, finish = match.span("name")
            span = Span(
                start=start + begin, end=start + finish, label="NAME", source="pattern:trailer-name"
            )
            yield span, None


def _read_issue(text: str, parts: Iterable[Part], builder: TextBuilder) -> Form:
    others: list[Extent] = []
    authors: list[Extent] = []
    is_head = True
    for marker, start, end in parts:
        author = _author(text, start, end, is_head=is_head) if marker else None
        if author is None:
            take_without_pseudonyms(text, builder, start, end)
            others += [(start, end)] if marker else []
        else:
            authors.append(author)
            take_without_pseudonyms(text, builder, start, author[0])
            take_without_pseudonyms(text, builder, author[1] + 1, end)
            others += [(start, author[0]), (author[1], end)]
        builder.say("\n")
        is_head = is_head and (not marker or not text[start:end].strip())
    return builder.form("issue", known_accounts(text, authors, others))


def known_accounts(
    text: str, authors: Sequence[Extent], others: Iterable[Extent]
) -> list[tuple[Span, str]]:
    """The spans of a thread's authors and of their mentions, each with its pseudonym.

    Args:
        text: The thread.
        authors: Where the authors of its comments stand, in order.
        others: Where they may be mentioned.
    """
    pseudonyms = choose_pseudonyms(text, (text[start:end] for start, end in authors))
    known = list(_mentions(text, others, pseudonyms))
    for start, end in authors:
        pseudonym = pseudonyms.by_login.get(_account(text[start:end]))
        if pseudonym is not None:
            known.append((_username(start, end, "author"), pseudonym))
    return sorted(known, key=lambda item: item[0].start)


def take_without_pseudonyms(text: str, builder: TextBuilder, start: int, end: int) -> None:
    """Add text; pseudonyms that are there already are read, but never found."""
    for match in _PSEUDONYM.finditer(text, start, end):
        builder.take(start, match.start())
        builder.say(match[0])
        start = match.end()
    builder.take(start, end)


def _author(text: str, start: int, end: int, *, is_head: bool) -> Extent | None:
    """The login that a part begins with; in the first part, after its title.

    A title may look like a login and a text: "parser: fails on tabs". The line after it decides;
    without one, a title that begins with an ordinary word has no author.
    """
    first = _AUTHOR.match(text, start, end)
    if first is not None and first["login"] in _NO_AUTHORS:
        is_head, first = True, None
    if is_head and not (first is not None and _PSEUDONYM.fullmatch(first["login"])):
        title = _TITLE.match(text, start, end)
        second = _AUTHOR.match(text, title.end(), end) if title is not None else None
        if second is not None:
            first = second
        elif first is not None and _is_ordinary(first["login"]):
            first = None
    return None if first is None else first.span("login")


def _account(login: str) -> str:
    """A login as GitHub compares it; a bot is mentioned without its brackets."""
    return login.lower().removesuffix("[bot]")


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What stands for each account of a thread."""

    by_login: Mapping[str, str]
    """For logins in lower case."""
    bare: frozenset[str]
    """The logins that are looked for in the text without an @ before them, too."""


def choose_pseudonyms(text: str, authors: Iterable[str]) -> Pseudonyms:
    """Number the authors in order of their first appearance.

    Those that are pseudonyms already stay, and no number of theirs is given to anybody else.
    """
    taken = {int(number) for number in _PSEUDONYM.findall(text)}
    free = (number for number in count() if number not in taken)
    by_login: dict[str, str] = {}
    bare = set()
    for author in authors:
        account = _account(author)
        if account not in by_login and _PSEUDONYM.fullmatch(author) is None:
            by_login[account] = f"username_{next(free)}"
            if _is_distinct(author.removesuffix("[bot]")):
                bare.add(account)
    return Pseudonyms(by_login, frozenset(bare))


def _is_distinct(login: str) -> bool:
    """Whether a word like this is hardly ever anything but the account."""
    return not _is_ordinary(login) and (
        len(login) >= _SHORTEST_BARE
        or _DISTINCT.search(login) is not None
        or _CASE_INSIDE.search(login) is not None
    )


def _is_ordinary(login: str) -> bool:
    """Whether a login is put together from ordinary words, single letters and digits."""
    return any(
        all(len(word) < 3 or word.lower() in ORDINARY for word in words.findall(login))
        for words in (_LETTERS, _HUMPS)
    )


def _mentions(
    text: str, extents: Iterable[Extent], pseudonyms: Pseudonyms
) -> Iterator[tuple[Span, str]]:
    """Where accounts are named: after an @, as a profile's address, or by a distinct name alone."""
    by_login = pseudonyms.by_login
    if not by_login:
        return
    for from_, to in extents:
        for match in _WORD.finditer(text, from_, to):
            login = match[0].lower()
            start = match.start()
            if login not in by_login:
                if login[0] not in "-_" and login[-1] not in "-_" and "-patch-" not in login:
                    continue  # almost every word
                start += len(login) - len(login.lstrip("-_"))
                login = login.strip("-_")
                branch = _BRANCH.fullmatch(login)
                login = branch["login"] if branch is not None else login
                if login not in by_login:
                    continue
            end = start + len(login)
            if _is_named(text, start, end, is_bare=login in pseudonyms.bare):
                yield _username(start, end, "mention"), by_login[login]


def _is_named(text: str, start: int, end: int, *, is_bare: bool) -> bool:
    """Whether a word that is a login stands for the account; e-mail addresses are others' work."""
    if text[start - 1 : start] == "@":
        return _IN_ADDRESS.match(text, max(0, start - 2)) is None
    if text[max(0, start - len(_PROFILE)) : start].lower() == _PROFILE:
        return True
    return is_bare and _GOES_ON_AS_ADDRESS.match(text, end) is None


def _username(start: int, end: int, where: str) -> Span:
    return Span(start=start, end=end, label="USERNAME", source=f"pattern:issue-{where}")


_READERS: Mapping[str, Callable[[str, Iterable[Part], TextBuilder], Form]] = {
    "issue": _read_issue,
    "commit": _read_commit,
    "notebook": _read_notebook,
}
