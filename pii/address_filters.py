"""Filters of IP addresses and e-mail addresses, for `pii.filters`."""

import ipaddress
import re
from functools import lru_cache
from itertools import pairwise

from pii.addresses import RESERVED_TLDS
from pii.boundaries import line_before
from pii.placeholders import spelled_from
from pii.spans import Span

# --- IP addresses -------------------------------------------------------------------------------

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_DOCUMENTATION_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        # RFC 5737, 3849, 9637, and the benchmarking networks of RFC 2544 and 5180
        (
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "2001:db8::/32",
            "3fff::/20",
            "198.18.0.0/15",
            "2001:2::/48",
        ),
    )
)
_PUBLIC_RESOLVERS = frozenset(
    map(
        ipaddress.ip_address,
        # BigCode's list (bigcode-dataset, pii_redaction/utils.py) and the same resolvers' IPv6
        (
            "8.8.8.8",
            "8.8.4.4",
            "1.1.1.1",
            "1.0.0.1",
            "76.76.19.19",
            "76.223.122.150",
            "9.9.9.9",
            "149.112.112.112",
            "208.67.222.222",
            "208.67.220.220",
            "8.26.56.26",
            "8.20.247.20",
            "94.140.14.14",
            "94.140.15.15",
            "2001:4860:4860::8888",
            "2001:4860:4860::8844",
            "2606:4700:4700::1111",
            "2606:4700:4700::1001",
            "2620:fe::fe",
            "4.2.2.1",
            "4.2.2.2",
            "114.114.114.114",
            "223.5.5.5",
            "223.6.6.6",
        ),
    )
)
_NAT64 = int(ipaddress.IPv6Address("64:ff9b::")) >> 32


@lru_cache(maxsize=1024)
def _parse_ip(value: str) -> _IPAddress | None:
    try:
        parsed = ipaddress.ip_address(value.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour
        if embedded is not None:
            return embedded
        prefix, low = int(parsed) >> 32, int(parsed) & 0xFFFFFFFF
        if prefix == _NAT64 or (prefix == 0 and low > 0xFFFF):  # RFC 6052; ::a.b.c.d of RFC 4291
            return ipaddress.IPv4Address(low)
    return parsed


def not_an_ip(text: str, span: Span) -> bool:
    """Whether it is neither an IPv4 nor an IPv6 address."""
    return _parse_ip(text[span.start : span.end]) is None


def private_ip(text: str, span: Span) -> bool:
    """Whether the IANA registries hold the address back from the public Internet."""
    address = _parse_ip(text[span.start : span.end])
    return address is not None and (
        not address.is_global or address.is_multicast or address.is_reserved
    )


def documentation_ip(text: str, span: Span) -> bool:
    """Whether the address is one of a network for documentation or benchmarks."""
    address = _parse_ip(text[span.start : span.end])
    return address is not None and any(address in net for net in _DOCUMENTATION_NETWORKS)


def netmask_or_network(text: str, span: Span) -> bool:
    """Whether the bits are those of a netmask, or the host part is zero."""
    address = _parse_ip(text[span.start : span.end])
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        bits = f"{int(address):032b}"
        return "01" not in bits or int(address) & 0xFFFF == 0
    return int(address) & ((1 << 96) - 1) == 0


def public_resolver(text: str, span: Span) -> bool:
    """Whether a public DNS resolver answers at the address."""
    return _parse_ip(text[span.start : span.end]) in _PUBLIC_RESOLVERS


def made_up_ip(text: str, span: Span) -> bool:
    """Octets that repeat or step evenly (5.6.7.8, 44.44.44.44), 12.34.56.78, dead:beef."""
    address = _parse_ip(text[span.start : span.end])
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        groups = address.exploded.lower().split(":")
        filled = [group for group in groups if group != "0000"]
        words = sum(group in ("dead", "beef", "cafe", "babe", "abcd", "1234") for group in groups)
        return (len(filled) <= 2 and groups[1] == "0000") or words >= 2 or groups[0] == "dead"
    octets = [int(octet) for octet in str(address).split(".")]
    evenly = len({b - a for a, b in pairwise(octets)}) == 1 or octets[:3] == [1, 2, 3]
    if evenly or len(set(octets[:3])) == 1 or octets[1:] == [0, 0, 1]:
        return True
    digits = "".join(map(str, octets))
    return digits in "12345678901234567890" or digits in "98765432109876543210"


# --- E-mail addresses ---------------------------------------------------------------------------

_EXAMPLE_DOMAIN = re.compile(
    r"(?:[a-z0-9-]{1,63}\.){0,8}(?:"
    r"example|examples|exemple|foo|bar|baz|qux|foobar|foo-bar|test|tests|testing|domain|mydomain|"
    r"yourdomain|your-domain|somedomain|anydomain|otherdomain|company|yourcompany|your-company|"
    r"mycompany|somewhere|nowhere|myhost|hostname|server|yourserver|site|mysite|yoursite|email|"
    r"emailaddress|address|fake|fakemail|dummy|sample|invalid|none|nospam|acme|abc|xyz|xxx|blah|"
    r"doe|bloggs|whatever|provider|organization|domain-one|placeholder|website|contoso|fabrikam"
    r")(?:\.(?:co|com|org|net|ac|gov|edu))?\.[a-z]{2,10}|"
    r"(?:[a-z]|aa|bb|aaa|bbb|host|127\.0\.0\.1)(?:\.[a-z]{1,3})?"
)
_DOMAIN_CORE = frozenset("domain domains example examples company server website".split())
_DOMAIN_FILLER = frozenset(
    "custom another second sub mail your my our the some any other test".split()
)
_GETTEXT = ("ll", "li.org")
"""What gettext writes into the head of every catalogue that nobody has filled in."""
_PLACEHOLDER_LOCAL = re.compile(
    r"(?:john|jane|joe|john[._-]?doe|jane[._-]?doe|jdoe|joe[._-]?(?:user|bloggs|blow)|your|you|"
    r"your[._-]?(?:name|e?mail|address|username)|my[._-]?e?mail|first[._+-]?(?:name)?[._+-]?last"
    r"(?:name)?|foo|bar|foobar|foo[._+-]bar|test|tester|testing|test[._-]?user|test\d{1,3}|"
    r"user\d{0,3}|username|user[._-]?name|someone|somebody|example|abc|xyz|xxx+|name|e?mail|"
    r"login|dummy|fake|me|jan[._-]?(?:nowak|kowalski)|max[._-]?mustermann|alice|bob)"
)
_FREE_MAIL = re.compile(
    r"(?:gmail|googlemail|yahoo|hotmail|outlook|live|aol|icloud|gmx|qq|163)\..*"
)
_AT = re.compile(r"@|%40|[\W_](?:at|ta)[\W_]", re.IGNORECASE)
_HIDDEN_AT = re.compile(r"[\s\[({<\\_]{1,6}at[\s\])}>\\_]{1,6}", re.IGNORECASE)
_HIDDEN_DOT = re.compile(r"[\s\[({<\\_]{1,6}dot[\s\])}>\\_]{1,6}", re.IGNORECASE)


def not_an_email(text: str, span: Span) -> bool:
    """Whether nothing separates a local part from a domain: "@", "%40", "at"."""
    return not _AT.search(text[span.start : span.end][:320])


def _split_email(value: str) -> tuple[str, str]:
    """Local part and domain in lower case, also of one written out ("john at foo dot org")."""
    local, at, domain = value.strip("<>\"' ").rpartition("@")
    if not at:
        local, *rest = _HIDDEN_AT.split(domain, maxsplit=1)
        domain = _HIDDEN_DOT.sub(".", rest[0]) if rest else ""
    return local.lower(), domain.lower().rstrip(".")


def example_domain(text: str, span: Span) -> bool:
    """Whether the domain is reserved, or the name of one in documentation."""
    local, domain = _split_email(text[span.start : span.end])
    if domain.rpartition(".")[2] in RESERVED_TLDS or _EXAMPLE_DOMAIN.fullmatch(domain):
        return True
    name = domain.split(".")[-2] if "." in domain else ""
    return spelled_from(name, _DOMAIN_CORE, _DOMAIN_FILLER) or (local, domain) == _GETTEXT


def placeholder_email(text: str, span: Span) -> bool:
    """Whether the local part is a placeholder; of a lone first name only at a free mail host."""
    local, domain = _split_email(text[span.start : span.end])
    if domain and re.match(r"(?:my|your|some|dummy|fake|example|sample)[-_]", local):
        return True
    if local in ("s", "d") and text[span.start - 1 : span.start] == "%":  # "%s@corp.io"
        return True
    if not domain or not _PLACEHOLDER_LOCAL.fullmatch(local):
        return False
    specific = re.fullmatch(r"me|login|e?mail|name|alice|bob|john|jane|joe|jdoe|your|you", local)
    return specific is None or bool(_FREE_MAIL.fullmatch(domain))


_ALGORITHM = re.compile(
    r"(?:.*-(?:gcm|ctr|cbc|etm|poly1305|sha1|sha256|sha512|cert-v0[01]|ed25519|nistp\d+|x25519|"
    r"sntrup\w*|aes|agent|req|strict.*)|(?:sk-)?(?:ssh|ecdsa)-.*|(?:hmac|umac|aes|chacha|sntrup|"
    r"curve|rijndael|kex|zlib|ext|auth|eow|no-more|hostkeys|posix|statvfs|fstatvfs|hardlink|fsync|"
    r"lsetstat|limits|expand-path|copy-data|home-directory|users-groups|tun|streamlocal|"
    r"direct|forwarded|cancel|session|keepalive|publickey|ping|pong)[\w-]*)@(?:openssh\.com|libssh\.org|"
    r"ssh\.com|lysator\.liu\.se|tinyssh\.org|putty\.projects\.tartarus\.org)",
    re.IGNORECASE,
)


def algorithm_name(text: str, span: Span) -> bool:
    """Whether it is a name of SSH (RFC 4251, 6): "name@domain"."""
    return bool(_ALGORITHM.fullmatch(text[span.start : span.end]))


_CODE_HOST = re.compile(r"github|gitlab|bitbucket|gitea|codeberg|^git\.|^hg\.|^svn\.|sr\.ht")


def repository_address(text: str, span: Span) -> bool:
    """Whether a path follows, or a command that takes user@host stands before."""
    local, domain = _split_email(text[span.start : span.end])
    after = text[span.end : span.end + 80]
    if local in ("git", "hg", "svn") and (_CODE_HOST.search(domain) or re.match(r"[:/]\w", after)):
        return True
    if re.match(r":[\w.~-]{0,60}/?[\w.-]{1,60}/[\w./-]", after):
        return True
    return bool(re.search(r"\b(?:ssh|scp|rsync|sftp) [^\n]{0,60}\Z", line_before(text, span.start)))


_MESSAGE_ID = re.compile(
    # What mail programs make of the time and of chance; no person has such a local part.
    r"\d{14,}|\d{14}\.[a-z]{2}\d{1,8}|[0-9a-f]{8}\.\d{6,8}|[0-9a-f]{32,}|[0-9a-z]{8,12}\.fsf(?:_-_)?|"
    r"\d{9,13}[.-]\d{1,8}[.-][\w.-]{1,60}|\d{9,13}\.\d{4,9}\.\d{9,13}\.[\w.]{1,40}"
)


def message_id(text: str, span: Span) -> bool:
    """Whether a program made the local part, or a header of messages stands before."""
    before = line_before(text, span.start)
    if re.search(r"(?:message-?id|in-reply-to|references|content-id|cid:)", before, re.IGNORECASE):
        return True
    local, domain = _split_email(text[span.start : span.end])
    if domain == "mail.gmail.com" or _MESSAGE_ID.fullmatch(local):
        return True
    digits = sum(char.isdigit() for char in local)
    return (
        text[span.start - 1 : span.start] == "<" and len(local) >= 16 and digits >= len(local) / 2
    )


def principal(text: str, span: Span) -> bool:
    """user@host without a top-level domain, as in node names and Kerberos principals."""
    value = text[span.start : span.end]
    local, _, domain = value.rpartition("@")
    if not local:  # "john at foo dot org" has no @, and is an address
        return False
    return "." not in domain or domain.startswith("[")
