"""One small predicate per false-positive rule. A filter sets a span's kind; nothing is forgotten.

`example` marks what would identify nobody and open nothing: placeholders, documentation values,
loopback addresses. `licence` marks attribution. Filters look at the value and at a bounded stretch
of its line, so they cost the same in a file of one 50 MB line. They apply to spans from patterns
and from the model alike.

Here are the table of all filters and those for labels of more than one group; the others are in
`pii.address_filters`, `pii.account_filters` and `pii.secret_filters`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pii.account_filters import (
    code_user,
    note,
    organisation,
    placeholder_name,
    placeholder_user,
    system_user,
    url_part,
)
from pii.address_filters import (
    algorithm_name,
    documentation_ip,
    example_domain,
    made_up_ip,
    message_id,
    netmask_or_network,
    not_an_email,
    not_an_ip,
    placeholder_email,
    principal,
    private_ip,
    public_resolver,
    repository_address,
)
from pii.boundaries import LINE_REACH, line_before
from pii.secret_filters import (
    checksum,
    embedded_data,
    encoded_placeholder,
    expression,
    identifier_uuid,
    low_variety,
    password_hash,
    placeholder_key,
    placeholder_password,
    plain_key,
    public_key,
)
from pii.spans import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One named rule: spans of these labels for which it holds get this kind."""

    name: str
    description: str
    labels: tuple[str, ...]
    kind: str
    holds: Callable[[str, Span], bool]
    """Given the document and a span of one of the labels."""


# --- Labels of more than one group ---------------------------------------------------------------

_TEMPLATE = re.compile(
    r"\$\{[^}]{0,80}\}?|\{\{[^}]{0,80}\}\}|\{%[^%]{0,80}%\}|\$\([^)]{0,80}\)|#\{[^}]{0,80}\}|<%[^%]{0,80}%>|"
    r"%\([a-zA-Z_:.-]{1,40}\)[sdr]|%%[A-Z_]{1,40}%%|@@[A-Z_]{1,40}@@"
)
_WHOLE_TEMPLATE = re.compile(
    r"\$[A-Za-z_][A-Za-z0-9_]*|%[A-Z_]+%|%[sdrvqxu@]|\{[a-zA-Z_][\w.]*\}|\{\d*\}|<[^<>]*>|\[[^\]]*\]|"
    r"__[A-Za-z_]+__|@[A-Za-z_]+@|:[a-z_]+"
)
_MASKED = re.compile(r"\W{0,2}\w{0,4}(?:\.{3}|\u2026|\*{3,})\w{0,4}=?")
_TO_FILL_IN = re.compile(r"[A-Za-z]{1,20} [A-Za-z _-]{1,60}")  # <your password here>
_NO_CONTENT = re.compile(r"(?:&#\d{1,6};?|&[a-z]{2,8};|\\[a-z][+-]?\d{0,2}|[\W_])*+")


def _template(text: str, span: Span) -> bool:
    value = text[span.start : span.end][:300]
    if _TEMPLATE.search(value) or _WHOLE_TEMPLATE.fullmatch(value):
        return True
    before = line_before(text, span.start)
    after = re.split(r"[\r\n]", text[span.end : span.end + LINE_REACH], maxsplit=1)[0]
    line = before + value + after
    opens, closes = line.rfind("<", 0, len(before) + len(value)), line.find(">", len(before))
    return 0 <= opens < closes and bool(_TO_FILL_IN.fullmatch(line, opens + 1, closes))


def _masked(text: str, span: Span) -> bool:
    return bool(_MASKED.fullmatch(text[span.start : span.end]))


def _fragment(text: str, span: Span) -> bool:
    return len(text[span.start : span.end].strip()) < (3 if span.label == "PASSWORD" else 2)


def _punctuation(text: str, span: Span) -> bool:
    return bool(_NO_CONTENT.fullmatch(text[span.start : span.end]))


_COPYRIGHT = re.compile(
    r"copyright|copyleft|\(c\)\s|©|&copy;|\bcopr\.|SPDX-FileCopyrightText|\\u00a9",
    re.IGNORECASE,
)


def _copyright_line(text: str, span: Span) -> bool:
    return bool(_COPYRIGHT.search(line_before(text, span.start)))


# --- All filters ---------------------------------------------------------------------------------


def _filter(
    name: str,
    description: str,
    labels: str,
    holds: Callable[[str, Span], bool],
    kind: str = "example",
) -> Filter:
    return Filter(
        name=name, description=description, labels=tuple(labels.split()), kind=kind, holds=holds
    )


_PERSONAL = "NAME USERNAME EMAIL"
_SECRET = "KEY PASSWORD"

FILTERS: tuple[Filter, ...] = (
    _filter("not-an-ip", "Not a valid IPv4 or IPv6 address", "IP_ADDRESS", not_an_ip),
    _filter(
        "private-ip",
        "Private, loopback, link-local, multicast or reserved address (IANA registries)",
        "IP_ADDRESS",
        private_ip,
    ),
    _filter(
        "documentation-ip",
        "Address of a documentation or benchmarking network (RFC 5737, 3849, 2544)",
        "IP_ADDRESS",
        documentation_ip,
    ),
    _filter(
        "netmask",
        "Netmask, or a network whose host part is all zero",
        "IP_ADDRESS",
        netmask_or_network,
    ),
    _filter("public-resolver", "Well-known public DNS resolver", "IP_ADDRESS", public_resolver),
    _filter(
        "made-up-ip",
        "Obviously made up: 1.2.3.4, 12.34.56.78, 44.44.44.44, dead:beef",
        "IP_ADDRESS",
        made_up_ip,
    ),
    _filter("not-an-email", 'No "@" and no "at"', "EMAIL", not_an_email),
    _filter(
        "example-domain",
        "Address at example.*, .test, foo.*, domain.com and the like",
        "EMAIL",
        example_domain,
    ),
    _filter(
        "placeholder-email",
        "Placeholder local part: john.doe, your.name, firstname.lastname, foo",
        "EMAIL",
        placeholder_email,
    ),
    _filter("algorithm-name", "SSH algorithm or extension of e-mail form", "EMAIL", algorithm_name),
    _filter(
        "repository-address",
        "user@host:path of git, ssh, scp or rsync",
        "EMAIL",
        repository_address,
    ),
    _filter("message-id", "Message-ID and other identifiers of e-mail form", "EMAIL", message_id),
    _filter("principal", "user@host without a top-level domain", "EMAIL", principal),
    _filter("placeholder-name", "John Doe, Alice, Foo Bar, Your Name", "NAME", placeholder_name),
    _filter(
        "system-user",
        "Account that exists on every system or names a role: root, admin, test",
        "USERNAME",
        system_user,
    ),
    _filter(
        "placeholder-user",
        "myuser, your_username, test-user, user42",
        "USERNAME",
        placeholder_user,
    ),
    _filter(
        "url-part",
        "Scheme, host or repository of a URL; its owner of like name: acme/acme; path in a home",
        "USERNAME",
        url_part,
    ),
    _filter(
        "organisation",
        "Account of an organisation or project: google, rust-lang, acme-team",
        "USERNAME",
        organisation,
    ),
    _filter(
        "code-user",
        "Identifier of code: user(), job->name, self.port, --option; a tag; a number",
        "USERNAME",
        code_user,
    ),
    _filter("note", "First word of a note: TODO: check this", "USERNAME", note),
    _filter(
        "placeholder-password",
        "password, changeme, secret, test and their variants",
        "PASSWORD",
        placeholder_password,
    ),
    _filter(
        "password-hash",
        "Hash of a password: crypt, bcrypt, LDAP, Django and hexadecimal forms",
        "PASSWORD",
        password_hash,
    ),
    _filter("placeholder-key", "YOUR_API_KEY, xxxx, EXAMPLE, abc123", "KEY", placeholder_key),
    _filter(
        "encoded-placeholder",
        "Base64 of user:password with a placeholder for the password",
        "KEY",
        encoded_placeholder,
    ),
    _filter(
        "low-variety",
        "Few different characters, or a sequence: 00000000, 12345678, aaaabbbb",
        _SECRET,
        low_variety,
    ),
    _filter("plain-key", "Nothing but words, or a short number: 14155550123", "KEY", plain_key),
    _filter(
        "embedded-data",
        "Base64 of an image, a font or an archive, or of a data: URI",
        _SECRET,
        embedded_data,
    ),
    _filter("uuid", "UUID, an identifier and no secret", "KEY", identifier_uuid),
    _filter(
        "checksum",
        "Hexadecimal digest beside a word such as sha256, commit or integrity",
        "KEY",
        checksum,
    ),
    _filter("public-key", "Body of a public key or certificate", "KEY", public_key),
    _filter(
        "template",
        "Template or variable that is filled in later: ${PASS}, {{ token }}, %s, <key>",
        "KEY PASSWORD USERNAME",
        _template,
    ),
    _filter(
        "masked",
        "All but a few characters left out: q...7, ab***",
        "KEY PASSWORD USERNAME",
        _masked,
    ),
    _filter(
        "expression",
        "Expression of code and no literal: self.password, getToken()",
        _SECRET,
        expression,
    ),
    _filter(
        "punctuation",
        "No letter and no digit",
        "NAME USERNAME EMAIL IP_ADDRESS KEY PASSWORD",
        _punctuation,
    ),
    _filter(
        "fragment",
        "One character; of a password one or two",
        "NAME USERNAME EMAIL KEY PASSWORD",
        _fragment,
    ),
    _filter(
        "copyright-line",
        "Name, handle or address on a copyright line",
        _PERSONAL,
        _copyright_line,
        kind="licence",
    ),
)
"""All filters, in the order they are tried; the first that holds sets the kind."""

_BY_LABEL = {
    label: tuple(rule for rule in FILTERS if label in rule.labels)
    for label in dict.fromkeys(label for rule in FILTERS for label in rule.labels)
}


def classify(
    text: str, spans: Iterable[Span], disabled: frozenset[str] = frozenset()
) -> list[Span]:
    """Set the kind of each span: that of the first filter that holds, else `real`.

    Args:
        text: The document the spans lie in.
        spans: Spans of any source.
        disabled: Names of filters that are not applied.

    Returns:
        The same spans in the same order; nothing but `kind` differs.
    """
    return [replace(span, kind=_kind(text, span, disabled)) for span in spans]


def _kind(text: str, span: Span, disabled: frozenset[str]) -> str:
    for rule in _BY_LABEL.get(span.label, ()):
        if rule.name not in disabled and rule.holds(text, span):
            return rule.kind
    return "real"
