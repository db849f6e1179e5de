"""Detectors for what has a form: e-mail and IP addresses, private keys, tokens, URL credentials.

Every detector is linear in the length of the text, whatever the text: it jumps from one literal
("@", "://", "-----BEGIN", a token's prefix) to the next with `str.find` or a regular expression
that begins with a literal or a character class, and looks at a bounded stretch around it.

Most texts hold none of a detector's literals. That is found out in the distinct words of a text,
which are shorter than the text by half, and the detector is not run.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pii.accounts import (
    find_addressed_handles,
    find_checked_in,
    find_home_directories,
    find_log_authors,
    find_mentions,
    find_note_authors,
    find_profiles,
    find_short_repositories,
)
from pii.addresses import find_emails, find_escaped_emails, find_hidden_emails, find_ipv4, find_ipv6
from pii.assignments import (
    find_assigned_keys,
    find_assigned_passwords,
    find_assigned_users,
    find_login_calls,
    find_option_credentials,
    find_option_passwords,
    lower_of,
)
from pii.boundaries import Found
from pii.credentials import (
    find_basic_auth,
    find_bearer_tokens,
    find_jwts,
    find_private_keys,
    find_registry_auth,
    find_url_credentials,
    token_finder,
)
from pii.providers import CONTEXT_RULES, PREFIX_RULES, TokenRule
from pii.spans import Span, resolve_overlaps


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternRule:
    """One named detector."""

    name: str
    label: str
    """The label of what it finds; a rule for user:password pairs names the first of the two."""
    description: str
    find: Callable[[str], Iterator[Found]]
    """Yields hits; those of one rule do not overlap."""
    literals: tuple[str, ...] = ()
    """If there are any, a text has no hit without one of them in its words in lower case.

    A line break in one is the edge of a word.
    """
    keywords: tuple[str, ...] = ()
    """If there are any, a text has no hit without one of them in one of its long words."""


def _is_named(rule: TokenRule) -> bool:
    """Whether the value stands beside its keyword, so that no one run holds both."""
    return rule in CONTEXT_RULES or " " in rule.regex


def _literals(rule: TokenRule) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keyword.strip().lower() for keyword in rule.keywords))


RULES: tuple[PatternRule, ...] = (
    PatternRule(
        name="email",
        label="EMAIL",
        description="E-mail address: local part, @, domain under a known top-level domain",
        find=find_emails,
        literals=("@",),
    ),
    PatternRule(
        name="email-hidden",
        label="EMAIL",
        description='E-mail address written out: "john at foo dot org", "john (at) foo.org"',
        find=find_hidden_emails,
    ),
    PatternRule(
        name="email-escaped",
        label="EMAIL",
        description="E-mail address in a URL, with %40 for @",
        find=find_escaped_emails,
        literals=("%40",),
    ),
    PatternRule(
        name="ipv4",
        label="IP_ADDRESS",
        description="IPv4 address, without port and prefix length; no version, OID or section",
        find=find_ipv4,
    ),
    PatternRule(
        name="ipv6",
        label="IP_ADDRESS",
        description="IPv6 address, also with an embedded IPv4 address; no scope, slice or MAC",
        find=find_ipv6,
    ),
    PatternRule(
        name="private-key",
        label="KEY",
        description="Base64 body of a private key in PEM or OpenPGP armour",
        find=find_private_keys,
        literals=("-----begin",),
    ),
    PatternRule(
        name="jwt",
        label="KEY",
        description="JSON web token whose first part decodes to a header with an algorithm",
        find=find_jwts,
        literals=("eyj",),
    ),
    PatternRule(
        name="url-credentials",
        label="PASSWORD",
        description="User name and password in a URL: scheme://user:password@host",
        find=find_url_credentials,
        literals=("://",),
    ),
    PatternRule(
        name="basic-auth",
        label="KEY",
        description="Basic authorization value that decodes to user:password",
        find=find_basic_auth,
        literals=("basic",),
    ),
    PatternRule(
        name="registry-auth",
        label="KEY",
        description="Base64 of user:password in a setting of Docker or npm",
        find=find_registry_auth,
        literals=('auth"', "_auth"),
    ),
    PatternRule(
        name="bearer-token",
        label="KEY",
        description="Bearer authorization value that looks random",
        find=find_bearer_tokens,
        literals=("bearer",),
    ),
    *(
        PatternRule(
            name=rule.name,
            label=rule.label,
            description=rule.description,
            find=token_finder(rule),
            literals=_literals(rule) if _is_named(rule) else (),
            keywords=() if _is_named(rule) else rule.keywords,
        )
        for rule in (*PREFIX_RULES, *CONTEXT_RULES)
    ),
    PatternRule(
        name="assigned-key",
        label="KEY",
        description="Random-looking literal given to a token, secret, API key; also in tables",
        find=find_assigned_keys,
        literals=("token", "secret", "key", "salt"),
    ),
    PatternRule(
        name="assigned-password",
        label="PASSWORD",
        description="Literal given to a password in code, data, XML, SQL, options; also in tables",
        find=find_assigned_passwords,
        literals=("pass", "pwd", "identified"),
    ),
    PatternRule(
        name="login-call",
        label="PASSWORD",
        description='User and password of a call: login("USER", "PASSWORD")',
        find=find_login_calls,
        literals=(
            "login(",
            "log_in(",
            "auth(",
            "auth=(",
            "enticate(",
            "entication(",
            "redentials(",
            "redential(",
            "basic(",
            "userpassword(",
            "getconnection(",
        ),
    ),
    PatternRule(
        name="option-credentials",
        label="PASSWORD",
        description="User and password of an option: curl -u USER:PASSWORD",
        find=find_option_credentials,
        literals=("\n-u\n", "\n--user", "\n--proxy-user", "userpwd,"),
    ),
    PatternRule(
        name="option-password",
        label="PASSWORD",
        description="Password of a short option: sshpass -p, mysql -p, /p:, -passin pass:",
        find=find_option_passwords,
        literals=("sshpass", "/p:", "pass:", "mysql"),
    ),
    PatternRule(
        name="assigned-user",
        label="USERNAME",
        description='Handle given to a user name or login: username = "USER"; also in tables',
        find=find_assigned_users,
        literals=("username", "login", "screen", "define(", "_user", ".user", "user_name"),
    ),
    PatternRule(
        name="profile",
        label="USERNAME",
        description="Owner of a profile at a code host: github.com/USER, launchpad.net/~USER",
        find=find_profiles,
        literals=(
            "launchpad.net/~",
            "github.com",
            "gitlab.com",
            "bitbucket.org",
            "codeberg.org",
            "patreon.com",
        ),
    ),
    PatternRule(
        name="short-repository",
        label="USERNAME",
        description='Owner in "repository": "USER/tool" and in uses: USER/tool@v1',
        find=find_short_repositories,
        literals=('"repository"', "uses:"),
    ),
    PatternRule(
        name="home-directory",
        label="USERNAME",
        description="User of a home directory or page: /home/USER, C:\\Users\\USER, host/~USER/",
        find=find_home_directories,
        literals=("/home/", "users", "/~"),
    ),
    PatternRule(
        name="note-author",
        label="USERNAME",
        description="User in TODO(USER), FIXME(USER) and the like",
        find=find_note_authors,
        literals=("todo(", "fixme(", "xxx(", "hack(", "note(", "bug("),
    ),
    PatternRule(
        name="checked-in",
        label="USERNAME",
        description="User in a keyword of version control: $Id: ... USER Exp $",
        find=find_checked_in,
        literals=("$",),
    ),
    PatternRule(
        name="mention",
        label="USERNAME",
        description="Handle in a credit: by @USER, thanks @USER, (@USER)",
        find=find_mentions,
        literals=("@",),
    ),
    PatternRule(
        name="addressed-handle",
        label="USERNAME",
        description="Handle before an e-mail address that has it in it: USER <USER@...>",
        find=find_addressed_handles,
        literals=("@",),
    ),
    PatternRule(
        name="log-author",
        label="USERNAME",
        description="Handle on a line of its own in a change log: [ USER ]",
        find=find_log_authors,
        literals=("\n[\n",),
    ),
)
"""All detectors; names are unique. Of two that find the same span the first names it."""


def find_patterns(text: str, disabled: frozenset[str] = frozenset()) -> list[Span]:
    """Find everything that has a form.

    Args:
        text: A document.
        disabled: Names of rules that are not run.

    Returns:
        Spans of kind `real` in order of their start, none overlapping another. Of two hits that
        overlap the longer stays.
    """
    words = _distinct_words(text)
    return resolve_overlaps(
        Span(start=start, end=end, label=label, source=f"pattern:{rule.name}")
        for rule in _possible_rules(words)
        if rule.name not in disabled
        for start, end, label in rule.find(text)
    )


def _possible_rules(words: Sequence[str]) -> Iterator[PatternRule]:
    """The rules that may have a hit in a text of these words."""
    folded = lower_of("\n".join(("", *words, "")))
    keywords = _keywords_in("\n".join([word for word in words if len(word) >= _LONG_WORD]))
    for rule in RULES:
        if rule.keywords:
            if keywords and any(keyword.startswith(keywords) for keyword in rule.keywords):
                yield rule
        elif not rule.literals or any(map(folded.__contains__, rule.literals)):
            yield rule


def _any_of(literals: Iterable[str]) -> str:
    """An expression for any of some literals; where one begins another, the shorter will do."""
    rests: dict[str, list[str]] = {}
    for literal in literals:
        if not literal:
            return ""
        rests.setdefault(literal[0], []).append(literal[1:])
    return "(?:" + "|".join(re.escape(first) + _any_of(rests[first]) for first in rests) + ")"


_KEYWORD = re.compile(_any_of(keyword for rule in RULES for keyword in rule.keywords))


def _keywords_in(words: str) -> tuple[str, ...]:
    """What the keywords in some words begin with."""
    found: set[str] = set()
    hit = _KEYWORD.search(words)
    while hit is not None:
        found.add(hit[0])
        hit = _KEYWORD.search(words, hit.start() + 1)
    return tuple(found)


_LONG_WORD = 20
"""No key that is known by its prefix is shorter."""
_BLOCK = 1 << 20


def _distinct_words(text: str) -> list[str]:
    """The words of a text, each about once: a fraction of it, quick to search."""
    words: list[str] = []
    start = 0
    while start < len(text):
        end = text.find("\n", start + _BLOCK)
        end = len(text) if end < 0 else end
        words += set(text[start:end].split())
        start = end
    return words
