"""Where an entity stands in a real file, so that a made-up one can take its place."""

import re
from collections.abc import Iterator

from pii.patterns import find_patterns
from pii.spans import Span, resolve_overlaps

# Words after which a copyright or author field names no person.
_ORGANISATION = re.compile(
    r"\b(?:Inc|Ltd|LLC|GmbH|Corp|Corporation|Company|Co|Foundation|Project|Team|Authors?|Group|"
    r"Contributors?|University|Institute|Labs?|Software|Technologies|Systems|Networks?|Developers?|"
    r"Committee|Consortium|Association|Community|Regents|Limited|Platforms|"
    r"Google|Microsoft|Red Hat|Facebook|Amazon|Oracle|IBM|Intel|Apple|Mozilla|"
    r"Free|Open|The|All|This|License|AG|SA|BV|AB|"
    r"Solutions|Services|Debian|Society|Center|Centre|Laboratory|National|Research|"
    r"Council|Rights)\b"
)
REPOSITORY_URL = "site:repository-url"

# Python's expressions know no class of capitals beyond ASCII: Latin, Greek, Cyrillic, Vietnamese.
_LETTERS = "".join(map(chr, (*range(0x530), *range(0x1E00, 0x1F00))))
_CAPITAL = "[" + "".join(char for char in _LETTERS if char.isupper()) + "]"
_SMALL = "[" + "".join(char for char in _LETTERS if char.islower()) + "]"
# Bounded, and only from the start of a word: lines of base64 would take quadratic time.
_INNER = r"(?:[\w-]|['’](?=\w)){0,24}"
_WORD = rf"(?<!\w){_CAPITAL}(?:\.|{_INNER}{_SMALL}{_INNER})"
_NAME = rf"{_WORD}(?:[ \t]+(?:{_WORD}|{_CAPITAL}\.?(?= )|van|von|de|der|da|del|la|bin)){{1,3}}"
_TELLTALE = re.compile(
    r"(?i)\b(?:authors?|maintainers?|written by|thanks to|copyright|contributed|"
    r"patch(?:es)? (?:by|from)|reported by|credits?)\b"
)
_ENCODED_WORD = re.compile(r"(?i)=\?[\w-]+\?[qb]\?")
_ANY_NAME = re.compile(_NAME)
_MORE_NAMES = re.compile(rf"(?:,[ \t]*(?:and[ \t]+)?|[ \t]+(?:and|&)[ \t]+)(?P<v>{_NAME})")

# (name, label, pattern): group `v` is the value of a site. Passwords, keys and user names are
# replaced only where a literal stands; a name only where it does not look like an organisation.
_SITES: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (name, label, re.compile(pattern))
    for name, label, pattern in (
        (
            "name-address",
            "NAME",
            rf"(?P<v>{_NAME})[ \t]*<[^<>\s]{{1,64}}(?:@| at )[^<>\n]{{1,80}}>",
        ),
        ("name-address", "NAME", rf"(?P<v>{_NAME})[ \t]*\([^()\s]{{1,64}}@[^()\s]{{1,80}}\)"),
        (
            # A name without capitals.
            "name-address",
            "NAME",
            r"(?:(?:Author|From|Maintainer|-by): | -- )"
            r"(?P<v>[^\W\d_]+(?: [^\W\d_]+){1,2}) <[^<>\s]{1,64}@",
        ),
        (
            # A lone name, as translators of Gettext files give it.
            "name-address",
            "NAME",
            rf"(?m)^[ \t]*(?:[#*/;%-]+[ \t]*)?(?P<v>{_WORD})[ \t]+<[^<>\s]{{1,64}}@",
        ),
        (
            "copyright",
            "NAME",
            r"(?i:copyright|©)[ \t]*(?:\([cC]\)|©)?[ \t]*(?:\d{4}[-, \t\d]*)?(?i:by[ \t]+)?"
            rf"(?P<v>{_NAME})",
        ),
        (
            "author-tag",
            "NAME",
            rf"(?:@author|\\author|__author__ = ['\"]|moduleauthor::)[ \t]*(?P<v>{_NAME})",
        ),
        (
            "credit",
            "NAME",
            r"(?:(?i:authors?|maintainer|signed-off-by|reviewed-by)[\"']?[ \t]*[:=]|(?i:written|"
            r"contributed|patch|reported|suggested|developed|created) by|(?i:thanks|credits?) to)"
            rf"[ \t]*[\"']?(?P<v>{_NAME})",
        ),
        ("changelog-name", "NAME", rf"(?m)^[ \t]*\[ (?P<v>{_NAME}) \]$"),
        # Change logs and lists of thanks: a name alone on its line, or in parentheses.
        ("lone-name", "NAME", rf"(?m)^[ \t]*(?:[*-][ \t]*)?\*?(?P<v>{_NAME})\*?[ \t]*$"),
        ("name-in-parentheses", "NAME", rf"\((?P<v>{_WORD} {_WORD})(?=\)|, )"),
        ("todo", "USERNAME", r"(?:TODO|FIXME|XXX)[ \t]?\((?P<v>[a-z][\w.-]{1,30})\)"),
        ("home-folder", "USERNAME", r"/(?:home|Users)/(?P<v>[a-z][\w.-]{1,30})(?=[/\"'\s:])"),
        # Mentions; elsewhere than in a list or after such a word an @ is an array or a decorator.
        (
            "mention",
            "USERNAME",
            r"(?:by|[tT]hanks|cc|from) \[?@(?P<v>[A-Za-z][\w-]{1,38})\b(?![./(])",
        ),
        (
            "mention",
            "USERNAME",
            r"(?m)^[ \t]*[*-] [^\n@]{0,200}[(\[ ]@(?P<v>[A-Za-z][\w-]{1,38})\b(?![./(])",
        ),
        (
            "user-setting",
            "USERNAME",
            r"(?i:user_?name|user_?id|login|db_?user)[\"']?[ \t]*(?:=>|[:=])[ \t]*[\"']"
            r"(?P<v>[A-Za-z][\w.-]{1,30})[\"']",
        ),
        (
            "password-setting",
            "PASSWORD",
            r"(?i:pass(?:word|wd|phrase|code|wort)?|pwd)[\"']?[ \t]*(?:=>|[:=,])[ \t]*[\"']"
            r"(?P<v>[^\s\"'${}<>%()\[\]]{3,40})[\"']",
        ),
        (
            "repository-url",
            "USERNAME",
            r"(?:(?:github|gitlab)\.com(?:/users|/repos)?|bitbucket\.org|travis-ci\.(?:org|com)|"
            r"codecov\.io/(?:gh|github)|githubusercontent\.com)[/:](?P<v>[\w-]{2,38})/"
            r"(?P<repository>[\w.-]+)",
        ),
        ("home-page", "USERNAME", r"(?:\.\w{2,5}|launchpad\.net)/~(?P<v>[\w-]{2,38})/"),
        ("rcs-keyword", "USERNAME", r",v [\d.]+ [\d/-]+ [\d:]+ (?P<v>[a-z][\w-]{1,38}) Exp"),
        (
            # Unquoted, alone on its line, as in configuration files.
            "password-setting",
            "PASSWORD",
            r"(?im)^[ \t]*[\w.-]*(?:password|passwd|passphrase)[ \t]*[:=][ \t]*"
            r"(?P<v>[^\s\"'${}<>%()\[\],;|&]{4,40})$",
        ),
        (
            "key-setting",
            "KEY",
            r"(?i:api_?key|token|access_?key|client_?secret|auth_?key|secret(?:_?key)?)[\"']?[ \t]*"
            r"(?:=>|[:=])[ \t]*[\"'](?P<v>[A-Za-z0-9+/_=-]{10,90})[\"']",
        ),
    )
)
_PROSE_AROUND_PASSWORD = re.compile(
    r"(?i)label|placeholder|title|message|help|msg(?:id|str)|prompt"
)


def find_sites(text: str) -> list[Span]:
    """Values in a text that a made-up one may replace, sorted, without overlaps.

    The source says what kind of site it is. Behind `REPOSITORY_URL` there may also be an
    organisation's account.
    """
    found = [
        span
        for span in find_patterns(text)
        if span.label in ("EMAIL", "IP_ADDRESS", "KEY") or span.source == "pattern:url-credentials"
    ]
    found += _by_context(text)
    return resolve_overlaps(found)


def _by_context(text: str) -> Iterator[Span]:
    for name, label, pattern in _SITES:
        for match in pattern.finditer(text):
            start, end = match.span("v")
            value = match["v"]
            if label == "NAME" and (
                _ORGANISATION.search(value) or _ORGANISATION.match(text, end + 1)
            ):
                continue
            if match.re.groupindex.get("repository"):
                owner, repository = value.lower(), match["repository"].lower()
                # A project under its own name; others may be a person's or an organisation's.
                if owner in repository or repository in owner:
                    continue
            if label == "KEY" and not _looks_random(value):
                continue
            if label == "PASSWORD" and _PROSE_AROUND_PASSWORD.search(_line(text, start, end)):
                continue
            yield Span(start=start, end=end, label=label, source=f"site:{name}")
            if name in ("credit", "copyright", "author-tag"):
                more = _MORE_NAMES.match(text, end)
                while more is not None and not _ORGANISATION.search(more["v"]):
                    start, end = more.span("v")
                    yield Span(start=start, end=end, label=label, source=f"site:{name}")
                    more = _MORE_NAMES.match(text, end)


def names_left(text: str, spans: list[Span]) -> bool:
    """Whether a line about authors holds what may be a person's name outside of the spans.

    Such a text would teach that a name is none.
    """
    if _ENCODED_WORD.search(text):
        return True
    for telltale in _TELLTALE.finditer(text):
        start = text.rfind("\n", 0, telltale.start()) + 1
        end = text.find("\n", telltale.end())
        for name in _ANY_NAME.finditer(text, start, end if end >= 0 else len(text)):
            if _ORGANISATION.search(name[0]):
                continue
            if not any(span.start < name.end() and name.start() < span.end for span in spans):
                return True
    return False


def _line(text: str, start: int, end: int) -> str:
    return text[text.rfind("\n", 0, start) + 1 : text.find("\n", end) + 1 or None]


def _looks_random(value: str) -> bool:
    """Digits and letters mixed, as in a token, not an identifier or a sentence."""
    digits = sum(char.isdigit() for char in value)
    return digits >= 3 and any(char.isalpha() for char in value)
