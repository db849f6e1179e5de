import base64
import ipaddress
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.filters import FILTERS, classify
from pii.labels import KINDS, LABELS
from pii.spans import Span


def kind(label, value, before="x = '", after="'\n", disabled=frozenset()):
    span = Span(start=len(before), end=len(before) + len(value), label=label)
    (classified,) = classify(before + value + after, [span], disabled)
    return classified.kind


@st.composite
def documents_with_spans(draw):
    text = draw(st.text(min_size=1, max_size=200))
    spans = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        label = draw(st.sampled_from(LABELS))
        spans.append(Span(start=start, end=end, label=label, score=0.5, source="model"))
    return text, spans


@given(documents_with_spans())
def test_filters_change_nothing_but_the_kind(document):
    text, spans = document

    classified = classify(text, spans)

    assert [replace(span, kind="real") for span in classified] == spans
    assert {span.kind for span in classified} <= set(KINDS)


@given(documents_with_spans())
def test_with_all_filters_off_every_span_is_real(document):
    text, spans = document
    names = frozenset(rule.name for rule in FILTERS)
    assert classify(text, spans, names) == spans


def test_filter_names_are_unique_words_with_a_description():
    names = [rule.name for rule in FILTERS]
    assert len(set(names)) == len(names)
    assert all(name and name == name.lower() and " " not in name for name in names)
    assert all(rule.description and set(rule.labels) <= set(LABELS) for rule in FILTERS)
    assert {rule.kind for rule in FILTERS} == {"example", "licence"}


# One value per filter on which it alone decides the kind.
DECIDED = {
    "not-an-ip": ("IP_ADDRESS", "256.1.1.1"),
    "private-ip": ("IP_ADDRESS", "192.168.7.9"),
    "documentation-ip": ("IP_ADDRESS", "3fff::7:8:9"),
    "netmask": ("IP_ADDRESS", "93.0.0.0"),
    "public-resolver": ("IP_ADDRESS", "9.9.9.9"),
    "made-up-ip": ("IP_ADDRESS", "12.34.56.78"),
    "not-an-email": ("EMAIL", "lists.corp.io"),
    "example-domain": ("EMAIL", "jane.miller@example.org"),
    "placeholder-email": ("EMAIL", "john.doe@gmail.com"),
    "algorithm-name": ("EMAIL", "aes256-gcm@openssh.com"),
    "repository-address": ("EMAIL", "git@github.com"),
    "principal": ("EMAIL", "jm@workstation7"),
    "placeholder-name": ("NAME", "John Doe"),
    "system-user": ("USERNAME", "root"),
    "placeholder-user": ("USERNAME", "my_test_user7"),
    "placeholder-password": ("PASSWORD", "MyPassword1"),
    "password-hash": ("PASSWORD", "$2b$12$" + "Ab1./" * 10),
    "placeholder-key": ("KEY", "YOUR_API_KEY"),
    "encoded-placeholder": ("KEY", base64.b64encode(b"someuser:password").decode()),
    "low-variety": ("KEY", "a1a1a1a1a1a1a1a1"),
    "uuid": ("KEY", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
    "public-key": ("KEY", "AAAAC3NzaC1lZDI1NTE5AAAAIGt5u7w9xQ2"),
    "plain-key": ("KEY", "refresh the session"),
    "masked": ("PASSWORD", "q...7"),
    "template": ("PASSWORD", "${DB_PASS}"),
    "expression": ("PASSWORD", "self._store.load(7)"),
    "punctuation": ("USERNAME", "---"),
    "fragment": ("PASSWORD", "q7"),
}
WITH_LINE = {
    "organisation": ("USERNAME", "rust-lang", "see https://github.com/", "/rfcs\n"),
    "url-part": ("USERNAME", "widgets", "see https://github.com/obrandt/", "/issues\n"),
    "code-user": ("USERNAME", "lookup", "return db.", "(1)\n"),
    "note": ("USERNAME", "respawn", "// TODO: ", " them\n"),
    "embedded-data": ("KEY", "kRq7Zx2TnV5bWc8Ld1Qf", "url(data:image/x;base64,AAECAwQF", "==)\n"),
    "checksum": ("KEY", "9e107d9d372bb6826bd81d3542a419d6", "md5 of it: ", "\n"),
    "copyright-line": ("NAME", "Ottilie Brandt", "# Copyright (c) 2012 ", " et al.\n"),
    "message-id": ("EMAIL", "abc.def@mx7.corp.io", "Message-ID: <", ">\n"),
    "repository-address": ("EMAIL", "jm@build.corp.io", "rsync -a out ", ":out\n"),
}


def test_every_filter_has_a_value_here():
    assert {*DECIDED, *WITH_LINE} == {rule.name for rule in FILTERS}


@pytest.mark.parametrize(
    ("name", "case"), [*DECIDED.items(), *WITH_LINE.items()], ids=lambda value: str(value)[:20]
)
def test_a_filter_decides_and_can_be_switched_off(name, case):
    (rule,) = (rule for rule in FILTERS if rule.name == name)
    others = frozenset(other.name for other in FILTERS) - {name}

    assert kind(*case) == rule.kind
    assert kind(*case, disabled=others) == rule.kind
    assert kind(*case, disabled=frozenset([*others, name])) == "real"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("IP_ADDRESS", "93.184.216.34"), ("IP_ADDRESS", "2a00:1450:4001:81b::200e"),
        ("IP_ADDRESS", "::ffff:93.184.216.34"), ("IP_ADDRESS", "172.32.7.9"),
        ("IP_ADDRESS", "100.128.7.9"), ("EMAIL", "jane.miller@corp.io"),
        ("EMAIL", "me@jmiller.dev"),
        ("EMAIL", "info@mail.brandt.co.uk"), ("EMAIL", "noreply@corp.io"),
        ("EMAIL", "12+jane@users.noreply.github.com"), ("EMAIL", "ottilie at corp dot io"),
        ("NAME", "Ottilie Brandt"), ("NAME", "John Brandt"), ("USERNAME", "obrandt"),
        ("USERNAME", "admirable"), ("USERNAME", "rooted7"), ("PASSWORD", "s3cr3tW0rd"),
        ("PASSWORD", "tops3cret"), ("PASSWORD", "secret123"), ("PASSWORD", "hunter42"),
        ("PASSWORD", "television"), ("PASSWORD", "passage"), ("KEY", "jMRvtPNxrn3crTAGukpZ"),
        ("KEY", "9e107d9d372bb6826bd81d3542a419d6"), ("KEY", "p" "k_" "7f3b9c1d5e8a2046"),
        ("KEY", "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiYiJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"),
    ],
)  # fmt: skip
def test_what_could_identify_somebody_or_open_something_stays_real(label, value):
    assert kind(label, value) == "real"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        *(("IP_ADDRESS", ip) for ip in (
            "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.9", "255.255.255.0", "224.0.0.251",
            "169.254.7.9", "192.0.2.7", "198.51.100.7", "203.0.113.7", "8.8.8.8", "1.2.3.4",
            "5.6.7.8", "44.44.44.44", "::1", "::", "fe80::7:8:9", "fd12:3456:789a::7", "ff02::fb",
            "2001:db8::7:8:9", "::ffff:10.0.0.7", "2002:7f00:1::", "64:ff9b::7f00:1",
            "2001:4860:4860::8888",
        )),
        *(("EMAIL", mail) for mail in (
            "a@example.com", "jane@mail.example.co.uk", "jane@foo.test", "jane@domain.com",
            "user@localhost", "foo@bar.com", "first.last@gmail.com", "jane@your-domain.net",
            "chacha20-poly1305@openssh.com",
        )),
        *(("NAME", name) for name in ("Jane Doe", "alice", "Foo Bar", "Test User 2", "Your Name")),
        *(("USERNAME", user) for user in (
            "admin", "test", "guest", "postgres", "www-data", "username", "your-username",
            "testUser", "dependabot[bot]",
        )),
        *(("PASSWORD", password) for password in (
            "password", "passwd", "secret", "changeme", "test", "foo", "123456", "pass", "********",
            "<password>", "${PASS}", "%s", "testpass", "mysecret", "password100", "$(cat pass)",
            "{{ password }}", "{SSHA}" + "q1W2" * 8, "$6$salt$" + "q1W2" * 20, "os.environ['PW']",
            "process.env.PASSWORD", "getenv(name)", "self.password", "options.key", "5f4dcc3b5aa7"
            "65d61d8327deb882cf99", "correct-password",
        )),
        *(("KEY", key) for key in (
            "xxxxxxxxxxxxxxxxxxxx", "AKIAIOSFODNN7" "EXAMPLE", "abc123", "<your token>", "${TOKEN}",
            "0123456789abcdef", "00000000000000000000", "SECRET_API_KEY", "getToken()",
        )),
    ],
)  # fmt: skip
def test_placeholders_and_documentation_values_are_examples(label, value):
    assert kind(label, value) == "example"


@given(st.ip_addresses())
def test_every_address_that_is_not_global_is_an_example(address):
    if not address.is_global:
        assert kind("IP_ADDRESS", str(address)) == "example"


@given(st.ip_addresses(v=4, network="93.184.0.0/16"))
def test_ordinary_global_addresses_are_real(address):
    if not str(address).endswith(".0.0"):
        assert kind("IP_ADDRESS", str(address)) == "real"


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_written_as_ipv6_has_the_same_kind(address):
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    assert kind("IP_ADDRESS", str(mapped)) == kind("IP_ADDRESS", str(address))


@pytest.mark.parametrize("label", ["NAME", "EMAIL", "USERNAME"])
@pytest.mark.parametrize(
    "line", ["Copyright (c) 2012 {}", "© 2020-2024 {}", " * (C) {}", "SPDX-FileCopyrightText: {}"]
)
def test_attribution_on_a_copyright_line_is_licence(label, line):
    value = {"NAME": "Ottilie Brandt", "EMAIL": "ob@corp.io", "USERNAME": "obrandt"}[label]
    before, after = line.split("{}")
    assert kind(label, value, f"int x;\n{before}", after + "\n") == "licence"
    assert kind(label, value, f"{before}nobody\n// by ", "\n") == "real"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("EMAIL", "186391612191752@vla1.corp.io", "see ", "\n"),
        ("EMAIL", "20090122213325.GA11572@crow.corp.io", "see ", "\n"),
        ("EMAIL", "4C9AB98E.3000400@corp.io", "see ", "\n"),
        ("EMAIL", "87sg1qxdye.fsf@corp.io", "see ", "\n"),
        ("EMAIL", "CA+Tk8fzb9i9LrC_k4G978c5XR@mail.gmail.com", "see ", "\n"),
        ("EMAIL", "LL@li.org", "Language-Team: LANGUAGE <", ">\n"),
        ("EMAIL", "jane@example7.com", "to ", "\n"),
        ("EMAIL", "jane@another-domain.net", "to ", "\n"),
        ("EMAIL", "jane at example dot com", "to ", "\n"),
        ("EMAIL", "username [at] corp.io", "to ", "\n"),
        ("EMAIL", "s@corp.io", "'%", "' % user\n"),
        ("PASSWORD", "AuthToken", "sms://sid:", "@host\n"),
        ("USERNAME", "TemplateID", "sms://", ":x@host\n"),
        ("USERNAME", "acme", "https://github.com/", "/Acme-widgets\n"),
        ("USERNAME", "widgets", "git@github.com:obrandt/", ".git\n"),
        ("USERNAME", "acmeorg", "https://github.com/", "/acme.js\n"),
        ("USERNAME", "gizmo", "https://github.com/", "/gizmo-server/issues\n"),
        ("USERNAME", "gizmo", '"repository": "', '/gizmo-server"\n'),
        ("USERNAME", "gizmojs", "https://github.com/", "/widgets\n"),
        ("USERNAME", "gizmo-labs", "https://github.com/", "/widgets\n"),
        ("USERNAME", "linuxbrew", "/home/", "/.linuxbrew\n"),
        ("USERNAME", "fleetmsg", "'", "://host/'\n"),
        ("USERNAME", "builds", "https://", ".corp.io/x\n"),
        ("USERNAME", "job", "x = ", "->name;\n"),
        ("USERNAME", "props", "x = ", ".get('name')\n"),
        ("USERNAME", "rows", "", " = Link('user')\n"),
        ("USERNAME", "MKDIR", "MK = @", "@\n"),
        ("USERNAME", "defer", "@", ".inline\n"),
        ("USERNAME", "widgets", "http://corp.io/~obrandt/", "/x\n"),
        ("USERNAME", "graceful-timeout", "run --", " 1\n"),
        ("USERNAME", "block", "<tal:", " x=1>\n"),
        ("USERNAME", "connector-curve", "<path ink:", '="0"/>\n'),
        ("USERNAME", "widgets", "/home/obrandt/", "/a.sh\n"),
        ("USERNAME", "widgets", "/home/<USERNAME>/", "/a.sh\n"),
        ("PASSWORD", "your", "password: <", " password here>\n"),
        ("PASSWORD", "=<new", "set x password", " password>\n"),
        ("PASSWORD", "&#39;</", "x['password", "b>\n"),
        ("PASSWORD", "\\s0", "PASSWORD", '"\n'),
        ("PASSWORD", ".unpack", "password", "(q)\n"),
        ("PASSWORD", "scheme", "password ", "=x rounds=2\n"),
        ("PASSWORD", "0x7f3442406170", "<Password at ", ">\n"),
        ("USERNAME", "port", "self.", " = 80\n"),
        ("USERNAME", "rows", "x = ", "[0]\n"),
        ("USERNAME", "home", "cd $", "\n"),
        ("USERNAME", "block", "<", " x=1>\n"),
        ("USERNAME", "4128", "String(", ")\n"),
        ("USERNAME", "insert", "# FIXME: ", " proper support\n"),
        ("USERNAME", "Unfortunately", "# FIXME: ", ", there are\n"),
        ("KEY", "14155550123", "token='", "'\n"),
        ("KEY", "p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A", '"v=DKIM1; ', '"\n'),
        ("KEY", "MIIDXTCCAkWgAwIBAgIJAKHBfpE7Qx9r", "cert: ", "\n"),
        ("KEY", "kRq7Zx2TnV5bWc8Ld1Qf", "Encoding: base64\n\niVBORw0KGgoAAAANSUhEUg\nqPw3Zt", "\n"),
        ("KEY", "kRq7Zx2TnV5bWc8Ld1Qf", "'" + "qPw3ZtLm" * 3000, "'\n"),
    ],
)  # fmt: skip
def test_what_stands_around_a_value_can_make_it_an_example(label, value, before, after):
    assert kind(label, value, before, after) == "example"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("EMAIL", "jane@domainfactory-gmbh.de", "to ", "\n"),
        ("EMAIL", "jane at corp dot io", "to ", "\n"),
        ("EMAIL", "20090122@corp.io", "see ", "\n"),
        ("USERNAME", "obrandt", "https://github.com/", "/widgets\n"),
        ("USERNAME", "obrandt", "https://github.com/", "/obrandt.github.io\n"),
        ("USERNAME", "obrandt", "https://github.com/", "/brandnew\n"),
        ("USERNAME", "obrandt", "https://github.com/sponsors/", "\n"),
        ("USERNAME", "obrandt", '"repository": "', '/widgets"\n'),
        ("USERNAME", "teamplayer", "@", " thanks\n"),
        ("USERNAME", "obrandt", "https://api.github.com/repos/", "/widgets\n"),
        ("USERNAME", "obrandt", "https://", ".github.io/widgets\n"),
        ("USERNAME", "o.brandt", "ssh://", "@corp.io\n"),
        ("USERNAME", "brandt", "ftp://", ".o:q7x@corp.io\n"),
        ("USERNAME", "obrandt", '">', "</a>\n"),
        ("USERNAME", "obrandt", "<", "> hello\n"),
        ("USERNAME", "obrandt", "/home/", "/a.sh\n"),
        ("USERNAME", "obrandt", "mysql -u ", " -p\n"),
        ("PASSWORD", "zanzibar", "password=", ", x=1\n"),
        ("PASSWORD", "zanzibar", "password ", " == x\n"),
        ("PASSWORD", "q7x!Lm", '<login password="', '" x>\n'),
        ("PASSWORD", "&#39;q7x", "p=", "\n"),
        ("USERNAME", "obrandt", "# TODO(", "): check\n"),
        ("USERNAME", "obrandt", "# TODO @", " please check\n"),
        ("USERNAME", "obrandt", "thanks to @", ". Next\n"),
        ("USERNAME", "obrandt", "(thanks @", ")\n"),
        ("USERNAME", "obrandt", "", " = s3cr3t\n"),
        ("KEY", "yxvkqwzrplmtgnbs", "token='", "'\n"),
        ("KEY", "kRq7Zx2TnV5bWc8Ld1Qf", "qPw3Zt\n\n", "\n"),
        ("KEY", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "key: ", "\n"),
    ],
)
def test_what_stands_around_a_value_can_leave_it_real(label, value, before, after):
    assert kind(label, value, before, after) == "real"


def test_an_author_tag_is_no_licence():
    assert kind("NAME", "Ottilie Brandt", " * @author ") == "real"


@pytest.mark.parametrize("armour", ["CERTIFICATE", "PUBLIC KEY", "PGP SIGNATURE"])
def test_every_line_of_a_public_armour_is_public_and_nothing_after_it(armour):
    body = "".join("MIIBkTCB+wIJAKHBfpE7Qx9rT2vZ5nLcYdWuGhJb8sVaPeXo\n" for _ in range(30))
    key = "jMRvtPNxrn3crTAGukpZ"

    assert kind("KEY", key, f"-----BEGIN {armour}-----\n{body}", "\n") == "example"
    assert kind("KEY", key, f"-----BEGIN {armour}-----\n{body}-----END {armour}-----\n") == "real"
    assert kind("KEY", key, f"-----BEGIN RSA PRIVATE KEY-----\n{body}", "\n") == "real"


def test_a_filter_reads_only_a_bounded_stretch_of_a_long_line():
    class Watched(str):
        longest = 0

        def __getitem__(self, index):
            part = super().__getitem__(index)
            Watched.longest = max(Watched.longest, len(part))
            return part

    text = Watched("a=1 " * 50_000 + json.dumps("x" * 20) + "a=1 " * 50_000)
    at = text.index("xxx")
    spans = [Span(start=at, end=at + 20, label=label) for label in LABELS]

    assert classify(text, spans)
    assert 0 < Watched.longest <= 400


@pytest.mark.parametrize("address", ["2a02:6b8:b010:cafe:1::115", "2a01:4f8:c0c:1234::1"])
def test_one_group_that_spells_a_word_makes_no_address_up(address):
    assert kind("IP_ADDRESS", address) == "real"
    assert kind("IP_ADDRESS", "2a01:dead:beef::7:1") == "example"


def test_the_scheme_of_a_url_and_what_is_declared_are_no_secrets():
    assert kind("PASSWORD", "srv", 'url = "mongodb+', '://x.corp.io"') == "example"
    assert kind("PASSWORD", "GraniteMoe", "class ", "(Base):") == "example"
    assert kind("KEY", "AutoTokenizer", "import Model, ", "\n") == "example"
    assert kind("KEY", "gv6URkSsqxTz", 'key = "', '"\n') == "real"
