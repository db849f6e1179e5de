"""Finders of e-mail and IP addresses, for `pii.patterns`."""

import ipaddress
import re
from collections.abc import Iterator

from pii.boundaries import FONT_ESCAPE, WORD_CHARS, Found, begins_word, places

# --- E-mail addresses ---------------------------------------------------------------------------

_MAX_LOCAL, _MAX_DOMAIN = 64, 253  # RFC 5321, 4.5.3.1
_COUNTRY_TLDS = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs "
    "bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee "
    "eg er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm "
    "hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb "
    "lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz "
    "na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs "
    "ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl "
    "tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
_GENERIC_TLDS = (
    "com org net edu gov mil int info biz name pro aero coop museum jobs mobi travel cat tel asia "
    "post xxx arpa academy agency ai app art bank bar berlin best bio blog boutique build business "
    "cafe camp capital care casa center chat church city click cloud club codes coffee community "
    "company computer consulting cool day dev digital direct directory email energy engineer "
    "engineering enterprises events expert exchange family farm fashion finance fit foundation fun "
    "fund fyi gallery games global gmbh google group guide guru health help holdings host hosting "
    "house how industries ink institute international investments land law legal life limited live "
    "llc london love ltd management market marketing media moe money music network news ngo ninja "
    "nyc ong online page paris partners photo photography photos pictures pizza place plus press "
    "productions promo pub red ren report rest review reviews rip rocks run school science "
    "security services shop show site social software solutions space store stream studio study "
    "support systems team tech technology tips today tokyo tools top town training university "
    "ventures video vip vision wang webcam website wien wiki win work works world wtf xyz zone "
    "abudhabi africa alsace amsterdam barcelona bayern bcn boston bot brussels bzh capetown cat "
    "charity cologne construction corsica cymru desi doha dubai durban eus foo gal gent hamburg "
    "helsinki ing irish ist istanbul joburg koeln krd kyoto lat lgbt madrid melbourne miami moscow "
    "nagoya ngo nrw okinawa osaka quebec rio ruhr ryukyu saarland scot stockholm swiss sydney "
    "taipei tatar tirol vegas versicherung vlaanderen vodka voyage wales yokohama zuerich "
    "onion"  # RFC 7686
)
RESERVED_TLDS = frozenset(
    "test example invalid localhost local localdomain internal lan tld home corp".split()
)
"""Not delegated; used in tests, documentation and private networks (RFC 2606, 6762)."""
_TLDS = RESERVED_TLDS.union(_COUNTRY_TLDS.split(), _GENERIC_TLDS.split())

# Letters with diacritics occur in local parts; other scripts stand beside them without a space.
_LOCAL_REVERSED = re.compile(r"[A-Za-z0-9_.+%'\u00c0-\u024f-]{1,66}")
_DOMAIN = re.compile(
    r"[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f-]{0,62})"
    r"(?:\.[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9\u00c0-\u024f-]{0,62}){1,8}"
)
_PATH_AFTER = re.compile(r"/[A-Za-z0-9_.~-]{1,64}/")
_NOT_LOCAL = frozenset(("this", "super", "self", "return", "break", "continue"))


def _local_start(text: str, at: int) -> int | None:
    """Where the local part that ends before the "@" at `at` begins."""
    run = _LOCAL_REVERSED.match(text[max(0, at - _MAX_LOCAL - 2) : at][::-1])
    if run is None:
        return None
    start = at - run.end()
    before = text[start - 1] if start else ""
    if before == "\\":  # "\njohn@..." or "\u003cjohn@..." in a string literal
        if text[start] == "u" and re.match(r"u[0-9a-fA-F]{4}", text[start : start + 5]):
            start += 5
        elif FONT_ESCAPE.match(text, start - 1):
            start += 2
        elif text[start] == "x" and re.match(r"x[0-9a-fA-F]{2}", text[start : start + 3]):
            start += 3
        elif text[start] in "nrtbfv":
            start += 1
    quoted = text.find("'", start, at)
    while quoted >= 0:  # an apostrophe belongs to a name only between two letters (o'neill)
        if not (quoted - start == 1 and text[start] in "oOdD" and text[quoted + 1].isalpha()):
            start = quoted + 1
        quoted = text.find("'", quoted + 1, at)
    escaped = text.rfind("%", start, at)
    if escaped >= 0 and re.match("%[0-9A-Fa-f]{2}", text[escaped : escaped + 3]):
        start = min(at, escaped + 3)
    while start < at and text[start] in ".-+%":
        start += 1
    if start >= at or at - start > _MAX_LOCAL or text[at - 1] in ".%'":
        return None
    if text[start - 1 : start] == "@" or text[start:at] in _NOT_LOCAL:
        return None
    return start


def _domain_end(text: str, start: int) -> int | None:
    """Where the domain that begins at `start` ends, or None where none does."""
    run = _DOMAIN.match(text, start)
    if run is None:
        return None
    end = run.end()
    labels = text[start:end].split(".")
    while labels and labels[-1].strip("-") == "":
        labels.pop()
    tld = labels[-1]
    if tld.lower().rstrip("-") not in _TLDS and not tld.lower().startswith("xn--"):
        # "... at jane@corp.io.Then" : a sentence that goes on without a space
        if len(labels) < 3 or not tld[0].isupper() or labels[-2].lower() not in _TLDS:
            return None
        labels.pop()
    end = start + len(".".join(labels))
    while text[end - 1] == "-":
        end -= 1
    after = text[end : end + 1]
    if end - start > _MAX_DOMAIN or (after and after in "@(_"):
        return None
    if after == "/" and _PATH_AFTER.match(text, end):  # host/path of a module or repository
        return None
    if after == "\\" or after not in WORD_CHARS:
        return end
    return None


def _inside_url(text: str, start: int) -> bool:
    """Whether `start` lies in the user part of a URL: scheme://user@host, scheme://user:pass@host."""
    before = text[max(0, start - 100) : start]
    scheme = before.rfind("://")
    return scheme >= 0 and not re.search(r"[\s/\"'<>?]", before[scheme + 3 :])


def find_emails(text: str) -> Iterator[Found]:
    """E-mail addresses: local part, @, domain under a known top-level domain."""
    at = text.find("@")
    free = 0
    while at >= 0:
        start = _local_start(text, at)
        if start is not None and start >= free and not _inside_url(text, start):
            end = _domain_end(text, at + 1)
            if end is not None:
                yield start, end, "EMAIL"
                free = at = end
        at = text.find("@", at + 1)


def find_escaped_emails(text: str) -> Iterator[Found]:
    """Addresses in a query or user part, where "%40" stands for @."""
    for at in places(text, "%40"):
        start = _local_start(text, at)
        end = _domain_end(text, at + 3) if start is not None else None
        if start is not None and end is not None and not _inside_url(text, start):
            yield start, end, "EMAIL"


_AT_WORD = re.compile(
    # "at", "AT", "At" or "ta" between two marks; it begins with a letter because those are rarer
    r"[aAt](?<=[ \t(\[{<_\\].)(?:(?<=a)t|(?<=A)[tT]|(?<=t)a)(?=[ \t)\]}>_\\])"
)
_HIDDEN_LOCAL_REVERSED = re.compile(
    r"[\[({<_\\ \t]{0,4}[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}(?: (?:tod|TOD) [A-Za-z0-9_-]{1,20}){0,2}"
)
_HIDDEN_DOMAIN = re.compile(
    r"[\])}>_\\ \t]{0,4}([A-Za-z0-9][A-Za-z0-9-]{0,62})"
    r"((?:(?:[ \t]{0,2}[\[({<]?(?:dot|DOT|Dot|\.)[\])}>]?[ \t]{0,2}|\\?_dot\\?_|\.)"
    r"[A-Za-z0-9][A-Za-z0-9-]{0,62}){1,5})"
)


def find_hidden_emails(text: str) -> Iterator[Found]:
    """Addresses such as "john at foo dot org", "john (at) foo.org", "john AT foo.org"."""
    free = 0
    for start, end in _marked_at(text):
        found = _hidden_email(text, start, end)
        if found is not None and found[0] >= free:
            yield found
            free = found[1]


def _marked_at(text: str) -> Iterator[tuple[int, int]]:
    """Where an "at" stands between two marks, with these; none stands on two sides."""
    free = 0
    for hit in _AT_WORD.finditer(text):
        if hit.start() > free:
            free = hit.end() + 1
            yield hit.start() - 1, free


_SAFE_TLDS = frozenset(
    "com org net edu gov info biz de fr uk eu ch nl se no fi dk jp ru cz pl es br ca au".split()
)
"""Top-level domains that are no file extension, method or English word."""


def _hidden_email(text: str, at_start: int, at_end: int) -> Found | None:
    """The address around an "at", or None where the words around it are prose or code."""
    local = _HIDDEN_LOCAL_REVERSED.match(text[max(0, at_start - 70) : at_start + 1][::-1])
    domain = _HIDDEN_DOMAIN.match(text, at_end - 1)
    if local is None or domain is None:
        return None
    start, end = at_start + 1 - local.end(), domain.end()
    if not begins_word(text, start) or text[start - 1 : start] in ("/", "@", "."):
        return None
    tld = re.split(r"[^A-Za-z0-9-]", domain[2])[-1]
    if tld.lower() not in _TLDS or text[end : end + 1] in ("(", "_", "@", "/"):
        return None
    marks = text[at_start] + text[at_end - 1]
    spelled = re.search(r"dot", domain[2], re.IGNORECASE) is not None
    enclosed = marks in ("()", "[]", "{}", "<>")
    shouted = text[at_start + 1 : at_end - 1] == "AT" and domain[0].strip().islower()
    underscored = marks in ("__", "\\_", "\\\\", "_\\")
    if spelled or enclosed or ((shouted or underscored) and tld in _SAFE_TLDS):
        return start, end, "EMAIL"
    return None


# --- IP addresses -------------------------------------------------------------------------------

_IPV4 = re.compile(r"[0-9][0-9]{0,2}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
_IPV4_END = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")  # quicker: it begins with a literal
_VERSION_BEFORE = re.compile(
    # Not the end of another word: "server" is no "ver", "stable" no "table".
    r"(?:versions?|(?<![a-z])(?:ver|release|rev|revision|v|alpha|beta|build|firmware|oid|"
    r"sections?|sect?\.|chapter|clause|paragraph|annex|figure|table|step|rfc[ -]?[0-9]{1,5},?|iso|"
    r"draft|standard|c\+\+ ?[0-9]{1,2})|[=~^!<>]=|~>|\^|§)[\"'`\s:=(/_-]{0,4}\Z",
    re.IGNORECASE,
)
_VERSION_WORD = 16
"""Characters before a value that such a word and its separators take."""
_UPDATE_TO = re.compile(
    r"\b(?:updat|upgrad|bump|downgrad|patch|mov)(?:e|ed|es|ing)?\b", re.IGNORECASE
)
_NETWORK_NEAR = re.compile(
    r"(?<![a-z])ip(?:s|v4|4)?(?![a-z])|addr|host|dns|server|gateway|subnet|netmask|inet|listen|"
    r"(?<![a-z])(?:bind|ping|nat|ports?|peers?|routes?|clients?|proxy)(?![a-z])|network|resolve|"
    r"allow|deny|remote|cidr|ranges?\b|://",
    re.IGNORECASE,
)
_OBJECT_IDENTIFIER = re.compile(r"(?:1\.3\.(?:6|14|36|101|132|133)|2\.5\.(?:4|8|21|29))\.")
"""Arcs of X.500, certificates and curves (ITU-T X.660) that have the length of an address."""
_CONTEXT = 60
"""Characters before a value in which a word may tell a version from an address."""


def find_ipv4(text: str) -> Iterator[Found]:
    """IPv4 addresses, without port and prefix length; no versions, OIDs, sections."""
    if _IPV4_END.search(text) is None:
        return
    for hit in _IPV4.finditer(text):
        start, end = hit.span()
        if _ipv4_bounded(text, start, end) and _is_ipv4(text, start, end):
            yield start, end, "IP_ADDRESS"


def _ipv4_bounded(text: str, start: int, end: int) -> bool:
    """Whether the digits stand alone: not in a word, an OID, a longer number or a version."""
    if not begins_word(text, start):
        return False
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before[-1:] in (".", "$") or after[:1] in WORD_CHARS or after[:1] == "+":
        return False
    if after[:1] == "." and after[1:].isalnum():
        return False
    if before[-1:] == "-" and before[:1].isalpha():  # package-1.2.3.4
        return False
    if after[:1] == "-" and after[1:].isalnum():  # 1.2.3.4-1, but 10.0.0.1-10.0.0.9 is a range
        return re.match(r"-[0-9]{1,3}\.[0-9]", text[end : end + 5]) is not None
    return True


def _is_ipv4(text: str, start: int, end: int) -> bool:
    octets = text[start:end].split(".")
    if any(int(octet) > 255 or (octet[0] == "0" and len(octet) > 1) for octet in octets):
        return False
    context = _context(text, start)
    if _VERSION_BEFORE.search(context[-_VERSION_WORD:]) or _OBJECT_IDENTIFIER.match(text, start):
        return False
    if context.endswith(" to ") and _UPDATE_TO.search(context):
        return False
    if _between_decimals(text, start, end):
        return False
    if octets[0] == "0" and octets != ["0", "0", "0", "0"]:
        return False
    if end - start <= 8 and octets[0] not in ("0", "10", "127") and max(map(int, octets)) < 100:
        # As short as a version or section number: only beside a word of networking.
        return bool(_NETWORK_NEAR.search(context) or re.match(r"[/:][0-9]", text[end : end + 2]))
    return True


_NUMBER_BEFORE = re.compile(r"[0-9.]{1,20}\Z")
_NUMBER_AFTER = re.compile(r"[ ,]?-?([0-9.]{1,20})|-([0-9.]{1,20})")


def _between_decimals(text: str, start: int, end: int) -> bool:
    """Whether the neighbours are decimal numbers, as in a path: "2.12 3.51.98.32 2.03"."""
    if text[start - 1 : start] not in (" ", ",", "-"):
        return False
    before = _NUMBER_BEFORE.search(text[max(0, start - 21) : start - 1])
    after = _NUMBER_AFTER.match(text, end)
    if before is None or after is None:
        return False
    numbers = (before[0], after[1] or after[2])
    return all("." in number and number.count(".") != 3 for number in numbers)


_TWO_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6_RIGHT = re.compile(r"[0-9A-Fa-f:]{0,45}(?:\.[0-9]{1,3}){0,3}")
_HEX_AND_COLON = "0123456789abcdefABCDEF:"


def find_ipv6(text: str) -> Iterator[Found]:
    """IPv6 addresses, also with an embedded IPv4 address; no scopes, slices, MACs."""
    free = 0
    hit = _TWO_COLONS.search(text)
    while hit is not None:
        left = text[max(free, hit.start() - 40) : hit.start()]
        start = hit.start() - (len(left) - len(left.rstrip(_HEX_AND_COLON)))
        run = _IPV6_RIGHT.match(text, hit.start())
        end = hit.end() if run is None else run.end()
        found = _ipv6_within(text, start, end)
        if found is not None:
            yield found
        free = max(end, hit.end() - 1)
        hit = _TWO_COLONS.search(text, free)


def _ipv6_within(text: str, start: int, end: int) -> Found | None:
    if end - start > 45:
        return None
    if text[start] == ":" and text[start + 1 : start + 2] != ":":
        start += 1
    if text[end - 1] == ":" and text[end - 2 : end - 1] != ":":
        end -= 1
    value = text[start:end]
    if value.count(":") < 2 or not _ipv6_plausible(text, start, end):
        return None
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return None
    return start, end, "IP_ADDRESS"


def _ipv6_plausible(text: str, start: int, end: int) -> bool:
    """Whether these hexadecimal groups are an address and no C++ scope, slice, MAC or time."""
    value = text[start:end]
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if not begins_word(text, start) or before in (":", ".", "$", "-"):
        return False
    if after in WORD_CHARS and after:
        return False
    if after in ("(", ":") or (after == "." and text[end + 1 : end + 2].isalnum()):
        return False
    groups = value.split(":")
    filled = [group for group in groups if group]
    if len(filled) == 8 and all(len(group) == 2 for group in filled):  # EUI-64, fingerprints
        return False
    quoted = before in ('"', "'", "`") and after in ('"', "'", "`", "/", "%")
    bracketed = (
        before == "[" and after == "]" and text[max(0, start - 3) : start - 1] in ("//", "@")
    )
    prefixed = after == "/" and text[end + 1 : end + 2].isdigit()
    if not any(char.isdigit() for char in value):
        if not filled:
            return value == "::" and (prefixed or (quoted and _network_before(text, start)))
        return (len(filled) >= 3 or filled[0].lower().startswith(("fe", "fd", "fc", "ff"))) and (
            len(filled[0]) == 4
        )
    if len(filled) >= 3 or (len(filled) == 2 and len(filled[0]) == 4):
        return True
    if re.fullmatch(r"(?:[23][0-9a-f]{3}|f[cdef][0-9a-f]{2})::", value, re.IGNORECASE):
        return True
    if _network_before(text, start):
        return before != "[" or after != "]"
    return quoted or bracketed or prefixed


_IPV6_NEAR = re.compile(r"ipv?6|inet6|loopback|host|addr|listen|bind", re.IGNORECASE)


def _network_before(text: str, start: int) -> bool:
    return _IPV6_NEAR.search(_context(text, start)) is not None


def _context(text: str, start: int) -> str:
    """What stands before a value on its line, at most `_CONTEXT` characters."""
    near = text[max(0, start - _CONTEXT) : start]
    return near[near.rfind("\n") + 1 :]
