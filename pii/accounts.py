"""Finders of account handles by the place they stand in, for `pii.patterns`.

Whether a handle is a person's is for the filters: an organisation's is one of kind `example`.
"""

import re
from collections.abc import Iterable, Iterator

from pii.boundaries import WORD_CHARS, Found, places

_HANDLE = r"[A-Za-z0-9](?:[A-Za-z0-9]|[-_](?=[A-Za-z0-9])){0,38}+"
"""An account name of a code host: letters, digits, single hyphens."""


def _users_at(
    text: str, literals: Iterable[str], regex: re.Pattern[str], reach: int = 0
) -> Iterator[Found]:
    """The groups `user` of matches that begin at one of the literals, `reach` to its left."""
    for literal in literals:
        for at in places(text, literal):
            hit = regex.match(text, max(0, at - reach))
            if hit is not None:
                yield *hit.span("user"), "USERNAME"


# --- Owners of profiles and repositories ---------------------------------------------------------

_PROFILE_END = r"(?:/?(?=[\"'`\s<>)\]}|,;]|\\[nr]|\.?\Z|\.[\s\"')])|(?=\.png|\?tab=))"
_SITES: dict[str, re.Pattern[str]] = {
    literal: re.compile(rf"{re.escape(literal)}{path}(?P<user>{_HANDLE}){_PROFILE_END}")
    for literal, path in {
        "github.com": r"\\?/(?:sponsors\\?/)?",
        "gitlab.com": "/",
        "bitbucket.org": "/",
        "codeberg.org": "/",
        "patreon.com": "/",
    }.items()
}
_LAUNCHPAD = re.compile(rf"launchpad\.net/~(?P<user>{_HANDLE})")
_NO_OWNER = frozenset(
    """about apps blog collections contact copilot customer-stories dashboard enterprise events
    explore features gist issues join login logout marketplace new notifications orgs organizations
    pricing pulls search security sessions settings signup site sponsors stars status team topics
    trending user users account profile api repos raw""".split()
)
_LINK_TEXT = re.compile(r"(?P<user>[A-Za-z0-9][\w-]{0,38})\]\((?:https?://)?(?:www\.)?\Z")


def find_profiles(text: str) -> Iterator[Found]:
    """Owners of profiles at code hosts, and the texts of links that name them.

    In `[jane](https://github.com/jane)` both are found. Of the address of a repository the owner
    is left to the encoder: as many belong to organisations as to persons.
    """
    found = set(_users_at(text, ("launchpad.net/~",), _LAUNCHPAD))
    for literal, regex in _SITES.items():
        for at in places(text, literal):
            owner = regex.match(text, at)
            if owner is not None and _begins_host(text, at):
                name = owner["user"].lower()
                if name not in _NO_OWNER:
                    found.add((*owner.span("user"), "USERNAME"))
                    link = _LINK_TEXT.search(text, max(0, at - 60), at)
                    if link is not None and link["user"].lower() == name:
                        found.add((*link.span("user"), "USERNAME"))
    yield from sorted(found)


def _begins_host(text: str, at: int) -> bool:
    """Whether the name of a host begins here, or after "www."."""
    before = text[at - 1 : at]
    return before not in (*WORD_CHARS, ".", "-") or text.endswith("www.", 0, at)


_REPOSITORY_FIELD = re.compile(
    r"\"repository\"\s{0,2}:\s{0,2}\"(?:github:|gitlab:|bitbucket:)?"
    rf"(?P<user>{_HANDLE})/[\w.-]{{1,100}}\""
)
_ACTION = re.compile(rf"uses:\s{{1,4}}[\"']?(?P<user>{_HANDLE})/[\w./-]{{1,100}}@")


def find_short_repositories(text: str) -> Iterator[Found]:
    """Owners in `"repository": "jane/tool"` of packages and `uses: jane/tool@v1` of workflows."""
    yield from _users_at(text, ('"repository"',), _REPOSITORY_FIELD)
    yield from _users_at(text, ("uses:",), _ACTION)


# --- Home directories ----------------------------------------------------------------------------

_HOME = re.compile(
    r"(?:/home/|/Users/|[A-Za-z]:\\{1,4}Users\\{1,4}|[A-Za-z]:/Users/)"
    r"(?P<user>[A-Za-z_][\w.-]{0,31}?)(?=[/\\]{1,4}[\w.~$%*{<@-]|[\"'`\s<>:;,)\]}]|[/\\.]?(?:\s|\Z))"
)
_USER_PAGE = re.compile(r"/~(?P<user>[A-Za-z][\w.-]{0,31})(?=[/\"'\s<>)])")
_HOST_BEFORE = re.compile(r"(?:https?|ftp)://[\w.:-]{1,80}\Z")


def find_home_directories(text: str) -> Iterator[Found]:
    r"""Users in /home/USER, /Users/USER, C:\\Users\\USER and http://host/~USER/."""
    for literal in ("/home/", "/Users/"):
        for at in places(text, literal):
            before = text[at - 1 : at]
            home = _HOME.match(text, at)
            if home is not None and (before not in WORD_CHARS or not before) and before != ".":
                yield *home.span("user"), "USERNAME"
    yield from _users_at(text, (":\\Users\\", ":\\\\Users\\\\", ":/Users/"), _HOME, 1)
    for at in places(text, "/~"):
        page = _USER_PAGE.match(text, at)
        if page is not None and _HOST_BEFORE.search(text, max(0, at - 90), at):
            yield *page.span("user"), "USERNAME"


# --- Handles of those who wrote something --------------------------------------------------------

_NOTES = ("TODO", "FIXME", "XXX", "HACK", "NOTE", "BUG")
_NOTE = re.compile(r"[A-Z]{3,5}\(@?(?P<user>(?![A-Z]{2,10}-\d)[A-Za-z][\w.-]{1,30})\)")


def find_note_authors(text: str) -> Iterator[Found]:
    """Users in TODO(jane), FIXME(jane) and the like."""
    return _users_at(text, (f"{note}(" for note in _NOTES), _NOTE)


_CHECKED_IN = re.compile(
    # $Id: lib.c,v 1.2 2005/09/13 22:20:13 jane Exp $, as RCS, CVS and Subversion write it
    r"\d\d:\d\d:\d\dZ? (?P<user>[A-Za-z][\w.-]{1,30}) (?:Exp(?: (?P<locker>[a-z]\w{0,30}))? )?\$"
)
_ID_KEYWORD = re.compile(r"(?:\$(?:Id|Header|From|Xorg|XFree86)|BSD): ")
_LONGEST_ID = 160


def find_checked_in(text: str) -> Iterator[Found]:
    """Users in the keywords of version control: $Id: lib.c,v 1.2 2005/09/13 22:20:13 jane Exp $."""
    for keyword in _ID_KEYWORD.finditer(text):
        at = keyword.start()
        line = text[at : at + _LONGEST_ID]
        hit = _CHECKED_IN.search(line)
        if hit is not None and "\n" not in line[: hit.start()]:
            yield at + hit.start("user"), at + hit.end("user"), "USERNAME"
            if hit["locker"]:
                yield at + hit.start("locker"), at + hit.end("locker"), "USERNAME"


_MENTION = re.compile(rf"@(?<=[(\[< @]@)(?P<user>{_HANDLE})(?![\w@/.]{{0,64}}[\w/@])")
_CREDIT_BEFORE = re.compile(
    r"(?:\b(?:by|[Tt]hanks,?|[Tt]hanks to|[Tt]hank you,?|[Cc][Cc]:?|[Cc]redits? to|[Ff]rom|"
    r"author:?)|\n {0,8}-) ?\[?(?:@[\w-]{1,39}(?:, and|,| and| &) ){0,9}\Z"
)
_CREDIT_END = re.compile(r"(?:by|anks,?|to|you,?|[Cc]:?|rom|or:?|-|,|and|&) ?\[?\Z")
"""How all that `_CREDIT_BEFORE` matches ends: a few characters tell most code from a credit."""
_GITHUB_LINK = re.compile(r"\]\(https?://github\.com/")
_FENCED = {"(": ")", "[": "]", "<": ">"}
_CHANGE_BEFORE = re.compile(r"(?m)^\s{0,8}(?:[-*+]|\d{1,3}\.|\[)[^\n]{0,200}\Z")


def find_mentions(text: str) -> Iterator[Found]:
    """Handles of credits: `by @jane`, `thanks @jane`, `fix the parser (@jane)`, `[@jane](...)`."""
    for hit in _MENTION.finditer(text):
        if _is_credit(text, hit.start(), hit.end()):
            yield *hit.span("user"), "USERNAME"


def _is_credit(text: str, at: int, end: int) -> bool:
    if _CREDIT_END.search(text, max(0, at - 8), at) and _CREDIT_BEFORE.search(
        text, max(0, at - 200), at
    ):
        return True
    fence = _FENCED.get(text[at - 1 : at])
    if fence is None or not text.startswith(fence, end):
        return False
    if text.startswith("](", end):
        return _GITHUB_LINK.match(text, end) is not None
    return _CHANGE_BEFORE.search(text, max(0, at - 240), at) is not None


_ADDRESS_AFTER = re.compile(r"<(?P<address>[\w.+-]{1,64}@[\w.-]{1,80})>")
_HANDLE_BEFORE = re.compile(
    r"(?:^|[\n\"'*#:;]|//|\bby)[ \t]{0,8}(?P<user>(?=[a-z]|[A-Z]\w{0,38}[A-Z0-9])\w[\w.-]{1,38}?)\Z"
)
_NICK_BEFORE = re.compile(r"[^\W\d][\w.'-]{0,30} \((?P<user>[a-z][\w.-]{1,30})\)\Z")


def find_addressed_handles(text: str) -> Iterator[Found]:
    """Handles before an address that has them in it: `jane7 <jane7@...>`, `Jane Roe (jr) <jr@...>`.

    Without that a lone word there is as often a first name.
    """
    for address in _ADDRESS_AFTER.finditer(text):
        end = address.start() - text.endswith(" ", 0, address.start())
        start = max(0, end - 80)
        for form in (_HANDLE_BEFORE, _NICK_BEFORE):
            hit = form.search(text[start:end])
            if hit is not None and hit["user"].lower() in address["address"].lower():
                yield start + hit.start("user"), start + hit.end("user"), "USERNAME"
                break


_LOG_AUTHOR = re.compile(r"\n {1,3}\[ (?P<user>[a-z][\w.-]{1,30}) \]\r?\n")


def find_log_authors(text: str) -> Iterator[Found]:
    """Handles on lines of their own in Debian change logs: `  [ jane ]`."""
    for at in places(text, " [ "):
        line = text.rfind("\n", max(0, at - 3), at)
        hit = _LOG_AUTHOR.match(text, line) if line >= 0 else None
        if hit is not None:
            yield *hit.span("user"), "USERNAME"
