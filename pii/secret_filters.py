"""Filters of passwords and keys, for `pii.filters`."""

import re
from itertools import pairwise

from pii.boundaries import line_before
from pii.credentials import decoded_base64
from pii.placeholders import FILLER, KEY_CORE, spelled_from
from pii.providers import UUID
from pii.redact import is_gibberish
from pii.spans import Span

# --- Passwords ----------------------------------------------------------------------------------

_PASSWORD_CORE = frozenset(
    """password passwords passwd passwort passphrase pass phrase word passw0rd pa55w0rd p@ssw0rd
    p@ssword pasword passw pwd pswd psw pw secret secrets credentials credential""".split()
)
_TOKEN_CORE = frozenset("token tokens key apikey appid".split())
_TOKEN_FILLER = frozenset(
    "access api app auth bearer hook jwt master secret session webhook wrong".split()
)
_WEAK_PASSWORDS = frozenset(
    """changeme change-me change_me changeit change-it change_it changethis change-this fixme todo
    test tests testing test1 test12 test123 test1234 testing123 tester foo bar baz qux foobar
    foobaz foo123 bar123 hello world helloworld admin admin123 administrator root toor user guest
    demo example sample dummy fake letmein welcome welcome1 qwerty qwerty123 qwertyuiop qwertzuiop
    asdf asdfgh asdfghjkl asdfghjkl; zxcvbn abc abc123 abcd abcd1234 abcdef abcdefg abcdefgh
    abcdefghij 1q2w3e 1q2w3e4r 1q2w3e4r5t 1qaz2wsx 12345asdfg iloveyou monkey dragon master
    something anything whatever none null nil undefined true false empty string value redacted
    removed hidden masked plain plaintext hash unsecure insecure notsecret nopass nopassword blank
    required optional prompt ask wrong bad good invalid valid correct pending runtime mongo mongodb
    postgres mysql mariadb redis oracle sa vagrant docker ubuntu minio minioadmin rabbitmq elastic
    xxx xxxx yyyy zzzz asd aaa aaaa bbb a b c x y z""".split()
)
_PASSWORD_HASH = re.compile(
    r"\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|argon2\w{1,2}|scrypt|pbkdf2[-\w]*|bcrypt[-\w]*|P|H|S)\$.+|"
    r"\{(?:S?SHA\d*|S?MD5|CRYPT|PBKDF2[\w-]*|ARGON2|BCRYPT|SMD5|NTLM|CLEARTEXT|PLAIN)[\w.-]*\}.*|"
    r"(?:pbkdf2_sha\d+|bcrypt(?:_sha256)?|argon2\w*|scrypt|sha1|md5|sha256|sha512)\$.+|"
    r"SCRAM-SHA-\d+\$.+|md5[0-9a-f]{32}|\*[0-9A-F]{40}|"
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})|"
    r"(?:[0-9A-F]{32}|[0-9A-F]{40}|[0-9A-F]{64}|[0-9A-F]{128})"
)


def placeholder_password(text: str, span: Span) -> bool:
    """Whether it is a word for passwords, or among the commonest of them."""
    return _is_placeholder_password(text[span.start : span.end].strip("\"'`<>[]() "))


def _is_placeholder_password(value: str) -> bool:
    if re.fullmatch(r"\d{1,4}", value) or (value.isdigit() and value in "12345678901234567890"):
        return True
    if re.fullmatch(r"secret\d{2,}", value, re.IGNORECASE):
        return False  # specific enough to be somebody's (annotation guidelines)
    return (
        value.lower() in _WEAK_PASSWORDS
        or spelled_from(value, _PASSWORD_CORE, FILLER)
        or spelled_from(value, _TOKEN_CORE, _TOKEN_FILLER)
    )


def password_hash(text: str, span: Span) -> bool:
    """Whether it is the hash of a password, salted or not."""
    return bool(_PASSWORD_HASH.fullmatch(text[span.start : span.end]))


# --- Keys ---------------------------------------------------------------------------------------

_PLACEHOLDER_IN_KEY = re.compile(
    r"your[-_ ]?|my[-_ ]?(?:api|secret|access|token|key)|example|sample|placeholder|redacted|"
    r"removed|change[-_ ]?me|insert|replace|dummy|fake|mock|todo|fixme|xxxx|foobar|deadbeef|"
    r"test[-_ ]?(?:key|token|secret|api)|abc123|abcdef|123456789|012345|\.\.\.|\u2026",
    re.IGNORECASE,
)
_WEAK_KEYS = frozenset(
    """foo bar baz qux abc test testing secret none null nil true false dumbo dummy hello world
    newvalue something anything whatever default value string token key""".split()
)
_HEX_DIGEST = re.compile(r"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128})")
_DIGEST_NEAR = re.compile(
    r"sha-?\d*|md5|hash|checksum|commit|integrity|digest|fingerprint|revision|\brev\b|etag|"
    r"\bgit\b|\bblob\b|\btree\b|parent|crc|thumbprint",
    re.IGNORECASE,
)
_SECRET_NEAR = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_INTEGRITY = re.compile(r"(?:sha(?:1|256|384|512)[-:=]|md5[-:=]|h1:)[A-Za-z0-9+/=_-]+")


def placeholder_key(text: str, span: Span) -> bool:
    """Whether its words say that a key is to stand there, or it is too short for one."""
    value = text[span.start : span.end].strip("\"'`")[:200]
    return (
        len(value) <= 5
        or value.lower().rstrip("0123456789") in _WEAK_KEYS
        or bool(_PLACEHOLDER_IN_KEY.search(value))
        or spelled_from(value, KEY_CORE, FILLER)
    )


def plain_key(text: str, span: Span) -> bool:
    """A few words, an identifier without digits, or a short number, as of a telephone."""
    value = text[span.start : span.end][:200]
    if value.isdigit():
        return len(value) <= 15
    words = value.split()
    plain = all(word.isalpha() for word in words) or value.replace("_", "").isalpha()
    return plain and len(words) <= 6 and not is_gibberish(value)


def encoded_placeholder(text: str, span: Span) -> bool:
    """A Basic authorization value whose password is a placeholder: base64 of user:password."""
    decoded = decoded_base64(text[span.start : span.end][:400])
    _, colon, password = (decoded or "").partition(":")
    return bool(colon) and _is_placeholder_password(password)


def low_variety(text: str, span: Span) -> bool:
    """Few different characters, one run repeated, or neighbours of the alphabet in a row."""
    value = text[span.start : span.end][:400]
    body = [char.lower() for char in value if char.isalnum()]
    if len(body) < 6:
        return False
    steps = [ord(b) - ord(a) for a, b in pairwise(body)]
    sequential = max(steps.count(0), steps.count(1), steps.count(-1))
    return sequential >= 0.6 * len(steps) or (len(body) >= 12 and len(set(body)) <= 4)


def identifier_uuid(text: str, span: Span) -> bool:
    """Whether it is a UUID that no word before it calls a secret."""
    value = text[span.start : span.end].strip("{}")
    return re.fullmatch(UUID, value) is not None and not _SECRET_NEAR.search(
        line_before(text, span.start)
    )


def checksum(text: str, span: Span) -> bool:
    """Whether it is a digest that the words before it call one."""
    value = text[span.start : span.end]
    if _INTEGRITY.fullmatch(value):
        return True
    before = line_before(text, span.start)
    return bool(
        _HEX_DIGEST.fullmatch(value)
        and _DIGEST_NEAR.search(before)
        and not _SECRET_NEAR.search(before)
    )


_PUBLIC_DER = re.compile(
    # Public keys of OpenSSH; SubjectPublicKeyInfo (RSA, elliptic curves, Edwards curves), also as
    # the "p=" of DKIM; RSAPublicKey; certificates (X.509 version 3)
    r"AAAA(?:B3NzaC1|C3NzaC1|E2VjZHNh|GnNr)|(?:p=)?(?:MII[B-E]\wjANBgkqhkiG9w0B|"
    r"MIGfMA0GCSqGSIb3DQEB|MF[kY]wE[wA]YHKoZIzj0C|MHYwEAYHKoZIzj0C|MCowBQYDK2V)|"
    r"MIIBCgKCAQEA|MIGJAoGBA|"
    r"MII[\w+/]{3}CC[\w+/]{3}gAwIB"
)
_MEDIA = re.compile(
    # PNG, JPEG, GIF, RIFF (WebP), SVG, XML, PDF, ZIP, gzip, zlib, OpenType, WOFF, ICO
    r"iVBORw0KGgo|/9j/|R0lGOD|UklGR|PHN2Zy|PD94bW|JVBERi|UEsDB|H4sI|eJ[w-z][\w+/]{100}|"
    r"AAEAAA|T1RUTw|d09G[MR]|AAABAA"
)
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"
_LONGEST_DATA = 16_384
"""Characters of base64 before a span from which on it lies in no key: RSA-8192 has 6,300."""


def embedded_data(text: str, span: Span) -> bool:
    """Part of an image, a font or an archive in base64, or of any data: URI."""
    at, kept = span.start, 0
    limit = max(0, at - _LONGEST_DATA)
    while at > limit and not kept:
        block = text[max(limit, at - 256) : at]
        kept = len(block.rstrip(_BASE64))
        at -= len(block) - kept
    if span.start - at >= _LONGEST_DATA or text.endswith("base64,", 0, at):
        return True
    # What stands before a blank line is a header.
    at = max(at, text.rfind("\n\n", at, span.start), text.rfind("\n\r\n", at, span.start))
    while at < span.start and text[at] in "\r\n":
        at += 1
    return _MEDIA.match(text, at) is not None


_ARMOUR = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_LONGEST_ARMOUR = 16_384
"""Characters of a certificate or public key in PEM or OpenPGP armour that are looked back over."""


def public_key(text: str, span: Span) -> bool:
    """Whether it begins as public keys do in DER, or lies in an armour that is not private."""
    value = text[span.start : span.end]
    if _PUBLIC_DER.match(value):
        return True
    near = max(0, span.start - _LONGEST_ARMOUR)
    begin = text.rfind("-----BEGIN ", near, span.start)
    armour = _ARMOUR.match(text, begin) if begin >= 0 else None
    return (
        armour is not None
        and "PRIVATE" not in armour[1]
        and text.find("-----END ", begin, span.start) < 0
    )


# --- Any secret ---------------------------------------------------------------------------------

_EXPRESSION = re.compile(
    r"(?!eyJ)[A-Za-z_$][\w$]{0,39}(?:(?:\.|->|::)[A-Za-z_$][\w$]{0,39})+(?:[(\[].*)?|"
    r"[A-Za-z_$][\w$]{0,39}[(\[].*|"
    r"(?:os\.environ|process\.env|getenv|ENV\[|System\.get).*|"
    r"(?:None|null|nil|undefined|true|false|True|False|NULL|self|this|function|return|await|new|"
    r"str|string|String|int|bool|bytes|optional|required)|0x[0-9a-f]{1,16}",
    re.DOTALL,
)
_ASSIGNED_TO = re.compile(r"\s?=[\s\"'\w]")
_DECLARES = re.compile(
    r"(?:\A|[^\w])(?:class|def|func|function|struct|enum|trait|interface|import|new|extends|"
    r"return|fn)\s\Z"
)


def expression(text: str, span: Span) -> bool:
    """Whether code computes it: a member, a call, a declaration, a scheme."""
    value = text[span.start : span.end][:300]
    if text.startswith("://", span.end):  # the scheme of a URL
        return True
    if span.label == "PASSWORD" and value.removeprefix(".").isidentifier():
        after = text[span.end : span.end + 3]
        if after.startswith("(") or _ASSIGNED_TO.match(after):
            return True
        if _DECLARES.search(text[max(0, span.start - 12) : span.start]):
            return True
    quote = text[max(0, span.start - 1) : span.start]
    if quote in ("'", '"') and text.startswith(quote, span.end):
        # A literal that only looks like a call: a bracket stays open, or it is a salt.
        signs = {char for char in value if not char.isalnum()}
        if value.count("(") != value.count(")") or (len(value) >= 32 and len(signs) >= 8):
            return False
    return bool(_EXPRESSION.fullmatch(value))
