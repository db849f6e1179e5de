"""Finders of keys, tokens and passwords, for `pii.patterns`."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

from pii.boundaries import Found, begins_word, places
from pii.providers import TokenRule

# --- Private keys in PEM armour -----------------------------------------------------------------

_PEM_BEGIN = "-----BEGIN "
_PEM_HEADER = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_JOIN = re.compile(r"(?:\\[nrt]|\\(?=\s)|[\s\"'`+,;.|*#/>()<&$-]|//){1,200}")
_PEM_FIELD = re.compile(r"(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash): ?[^\n\\\"]{0,200}")
_PEM_CHUNK = re.compile(r"=?[A-Za-z0-9+/]{1,4096}={0,2}")
_MIN_PEM_BODY = 24
"""Base64 characters from which on a body is a key and not a word of prose or a placeholder."""


def find_private_keys(text: str) -> Iterator[Found]:
    """Base64 bodies of private keys in PEM or OpenPGP armour."""
    begin = text.find(_PEM_BEGIN)
    while begin >= 0:
        header = _PEM_HEADER.match(text, begin)
        resume = begin + len(_PEM_BEGIN)
        if header is not None:
            start, end, size = _pem_body(text, header.end())
            resume = max(resume, end)
            if size >= _MIN_PEM_BODY:
                yield start, end, "KEY"
        begin = text.find(_PEM_BEGIN, resume)


def _pem_body(text: str, position: int) -> tuple[int, int, int]:
    """Start, end and number of base64 characters of the body that begins at `position`."""
    start = end = position
    size = 0
    while True:
        gap = _PEM_JOIN.match(text, position)
        if text.startswith("-----", position):
            break
        if gap is not None:
            dashes = text.find("-----", position, gap.end())
            position = dashes if dashes >= 0 else gap.end()
            if dashes >= 0:
                break
        field = _PEM_FIELD.match(text, position) if size == 0 else None
        if field is not None:
            position = field.end()
            continue
        chunk = _PEM_CHUNK.match(text, position)
        if chunk is None or not _is_pem_line(text, chunk, first=size == 0):
            break
        if size == 0:
            start = chunk.start()
        size += len(chunk[0])
        position = end = chunk.end()
    return start, end, size


def _is_pem_line(text: str, chunk: re.Match[str], *, first: bool) -> bool:
    """Whether this run of base64 is a line of a body; only the last line may be short."""
    if len(chunk[0]) >= _MIN_PEM_BODY:
        return not first or any(not char.isalpha() for char in chunk[0])
    if first:
        return chunk[0].startswith("MI") and len(chunk[0]) >= 16  # DER; a broken first line
    after = _PEM_JOIN.match(text, chunk.end())
    rest = chunk.end() if after is None else after.end()
    return (
        rest >= len(text)
        or chunk[0].endswith("=")
        or text.startswith("=", rest)  # the check sum of OpenPGP armour
        or "--" in text[chunk.end() : rest + 2]
    )


# --- JSON web tokens ----------------------------------------------------------------------------

_JWT = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,8192}+\.[A-Za-z0-9_-]{2,16384}+\.[A-Za-z0-9_-]{8,8192}+(?:\.[A-Za-z0-9_-]{1,16384}+){0,2}"
)


def find_jwts(text: str) -> Iterator[Found]:
    """JSON web tokens (RFC 7519) whose header names an algorithm."""
    at = text.find("eyJ")
    while at >= 0:
        resume = at + 3
        before = text[at - 1 : at]
        if before != "-" and begins_word(text, at):
            token = _JWT.match(text, at)
            if token is not None and _is_jose_header(token[0].partition(".")[0]):
                yield at, token.end(), "KEY"
                resume = token.end()
        at = text.find("eyJ", resume)


def _is_jose_header(part: str) -> bool:
    """Whether a base64url part decodes to a JSON object that names an algorithm."""
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):  # binascii.Error and UnicodeDecodeError are ValueErrors
        return False
    return isinstance(header, dict) and "alg" in header


# --- Credentials in URLs and in Authorization headers -------------------------------------------

_USERINFO = re.compile(
    r"://(?P<user>[^\s/:@\"'`<>?#\\,;|]{0,128}):(?P<password>[^\s/@\"'`<>?#\\]{1,256})@"
    r"(?=[A-Za-z0-9\[%${<_-])"
)


def find_url_credentials(text: str) -> Iterator[Found]:
    """User name and password of URLs: scheme://user:password@host."""
    at = text.find("://")
    while at >= 0:
        resume = at + 3
        pair = _USERINFO.match(text, at)
        if pair is not None and at and text[at - 1].isalnum():
            if pair["user"]:
                yield pair.start("user"), pair.end("user"), "USERNAME"
            yield pair.start("password"), pair.end("password"), "PASSWORD"
            resume = pair.end()
        at = text.find("://", resume)


_BASIC = re.compile(r"[Bb]asic[ +](?P<value>[A-Za-z0-9+/]{8,400}={0,2})(?![A-Za-z0-9+/=_-])")
_BEARER = re.compile(
    r"[Bb]earer[ +](?P<value>[A-Za-z0-9_~+/.-]{16,4096}={0,2})(?![A-Za-z0-9+/=_-])"
)


def find_basic_auth(text: str) -> Iterator[Found]:
    """Values of Basic authorization (RFC 7617) that decode to user:password."""
    return _find_authorization(text, ("Basic", "basic"), _BASIC, _is_user_password)


_REGISTRY_AUTH = re.compile(
    r"_?auth\"?\s{0,3}[:=]\s{0,3}[\"']?(?P<value>[A-Za-z0-9+/]{8,400}={0,2})(?![A-Za-z0-9+/=_-])"
)


def find_registry_auth(text: str) -> Iterator[Found]:
    """Base64 of user:password in Docker's config.json and .npmrc: `"auth": "..."`, `_auth=...`."""
    for literal in ('auth"', "_auth"):
        for at in places(text, literal):
            hit = _REGISTRY_AUTH.match(text, at)
            if hit is not None and _is_user_password(hit["value"]):
                yield *hit.span("value"), "KEY"


def find_bearer_tokens(text: str) -> Iterator[Found]:
    """Values of Bearer authorization (RFC 6750) that look random."""
    return _find_authorization(text, ("Bearer", "bearer"), _BEARER, _looks_random)


def _find_authorization(
    text: str, schemes: tuple[str, ...], regex: re.Pattern[str], accept: Callable[[str], bool]
) -> Iterator[Found]:
    for scheme in schemes:
        at = text.find(scheme)
        while at >= 0:
            resume = at + len(scheme)
            hit = regex.match(text, at)
            if hit is not None and begins_word(text, at) and accept(hit["value"]):
                yield hit.start("value"), hit.end("value"), "KEY"
                resume = hit.end()
            at = text.find(scheme, resume)


def decoded_base64(value: str) -> str | None:
    """The text that a value is the Base64 of; None where it is that of no UTF-8."""
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError:
        return None


def _is_user_password(value: str) -> bool:
    decoded = decoded_base64(value)
    return decoded is not None and ":" in decoded and decoded.isprintable()


def _looks_random(value: str) -> bool:
    """Whether letters and digits are mixed as in a token, not as in a word or an expression."""
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(value))
    return changes >= 4 and len(set(value)) >= 8


# --- Tokens of known providers ------------------------------------------------------------------


def token_finder(rule: TokenRule) -> Callable[[str], Iterator[Found]]:
    """The finder of a provider's tokens. Its expression is compiled when a keyword is met."""
    group = "value" if "(?P<value>" in rule.regex else 0

    @cache
    def regex() -> re.Pattern[str]:
        return re.compile(rf"(?:{rule.regex})(?![A-Za-z0-9_])")

    def find(text: str) -> Iterator[Found]:
        for keyword in rule.keywords:
            at = text.find(keyword)
            while at >= 0:
                resume = at + 1
                start = at
                if rule.lead:
                    before = text[max(0, at - rule.max_lead) : at]
                    start = at - (len(before) - len(before.rstrip(rule.lead)))
                if rule.glued or begins_word(text, start):
                    hit = regex().match(text, start)
                    if hit is not None:
                        yield hit.start(group), hit.end(group), rule.label
                        resume = max(resume, hit.end())
                at = text.find(keyword, resume)

    return find
