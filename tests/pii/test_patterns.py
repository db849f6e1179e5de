import base64
import ipaddress
import json
import random
import re
import string
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii import accounts, addresses, assignments, credentials, patterns
from pii.labels import LABELS
from pii.patterns import RULES, find_patterns
from pii.providers import CONTEXT_RULES, PREFIX_RULES
from pii.secret_values import random_match
from pii.spans import Span, resolve_overlaps

ROOT = Path(__file__).resolve().parents[2]


def found(text, label):
    return [text[span.start : span.end] for span in find_patterns(text) if span.label == label]


def base64_lines(num_bytes, seed=7):
    body = base64.b64encode(bytes((seed * i * i + 31 * i) % 256 for i in range(num_bytes))).decode()
    return [body[at : at + 64] for at in range(0, len(body), 64)]


def jwt(header, payload="eyJhIjoiYiJ9", signature="c2lnbmF0dXJlLXNpZ25hdHVyZQ"):
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{encoded}.{payload}.{signature}"


# Text that comes close to every form, beside arbitrary text.
FRAGMENTS = st.sampled_from(
    ["@", "a@b.de", "1.2.3.4", ".", ":", "::", "ff", "://", "u:p@h",
     "-----BEGIN PRIVATE KEY-----",
     "eyJ", "Basic ", "Bearer ",
     " at ", " dot ", "(at)", "\\n", "\n", "gh" "p_", "AKIA", "'", "%40",
     "A" * 30, "0" * 20, "PrivateKey = ", "=", "\u00e9", "\u4e2d", "\U0001f600"]
)  # fmt: skip
DOCUMENTS = st.one_of(st.text(), st.lists(st.one_of(FRAGMENTS, st.text(max_size=5))).map("".join))


@given(DOCUMENTS)
def test_spans_lie_inside_the_text_in_order_and_apart(text):
    spans = find_patterns(text)

    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert {span.label for span in spans} <= set(LABELS)
    names = {f"pattern:{rule.name}" for rule in RULES}
    assert all(span.source in names and span.kind == "real" for span in spans)


def test_rule_names_are_unique_words_with_a_description():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(name and name == name.lower() and " " not in name for name in names)
    assert all(rule.description and rule.label in LABELS for rule in RULES)


def test_a_disabled_rule_finds_nothing():
    text = "jane@corp.io 93.184.216.34"
    assert {span.label for span in find_patterns(text)} == {"EMAIL", "IP_ADDRESS"}
    spans = find_patterns(text, frozenset(["email"]))
    assert {span.label for span in spans} == {"IP_ADDRESS"}


# --- What is left out of the search --------------------------------------------------------------

# Each rule that is no provider's finds something in each of its texts.
HELD = {
    "email": ["jane@corp.io"],
    "email-hidden": ["jane at corp dot io", "jane (at) corp.io", "jane AT corp.de", "j_ta_corp.de"],
    "email-escaped": ["?to=jane%40corp.io"],
    "ipv4": ["93.184.216.34", "host 1.2.3.4"],
    "ipv6": ["2a00:1450:4001:81b::200e", "host ::1"],
    "private-key": ["-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(base64_lines(120))],
    "jwt": [jwt({"alg": "HS256"})],
    "url-credentials": ["https://jane:x7@corp.io"],
    "basic-auth": ["Basic amFuZTp4N3E5", "basic amFuZTp4N3E5"],
    "registry-auth": ['"auth": "amFuZTp4N3E5"', "_auth=amFuZTp4N3E5"],
    "bearer-token": ["Bearer a1b2c3d4e5f6g7h8"],
    "assigned-key": [
        f"{name}=q7Hs9Kd2Lf4Mn6Zx" for name in ("token", "SECRET", "api_Key")
    ] + ["a,api_key\nx,q7Hs9Kd2Lf4Mn6Zx\n",
         "AUTH_SALT='q7#Hs9$Kd2%Lf4^Mn6&Zx!Vb8*Ty1(Re3'"],
    "assigned-password": [
        'password = "x7q9"', 'PWD = "x7q9"', "identified by 'x7q9'", "<Password>x7q9</Password>",
        "a,password\nx,x7q9\n", "|a|pwd|\n|-|-|\n|x|x7q9|", "insert into t(pwd) values('x7q9')",
    ],
    "login-call": [
        f'{call}("jane7", "x7q9")'
        for call in ("login", "log_in", "Auth", "auth=", "authenticate", "authentication",
                     "credentials", "Credential", "basic", "UserPassword")
    ] + ['getConnection(url, "jane7", "x7q9")'],
    "option-credentials": [
        f"curl {option}jane7:x7q9"
        for option in ("-u ", "--user ", "--user=", "--proxy-user ")
    ] + ["USERPWD, 'jane7:x7q9'"],
    "option-password": ["sshpass -p x7q9", "go /p:x7q9", "-passin pass:x7q9", "mysql -u a -px7q9"],
    "assigned-user": [
        f"{name} = 'jane7'"
        for name in ("username", "user_name", "LOGIN", "screen_name", "screenName")
    ] + ["a;login\nx;jane7\n", "define('DB_USER', 'jane7')", "POSTGRES_USER: jane7",
         "spring.data.user=jane7\nspring.data.password=x"],
    "profile": [
        f"https://{host}/jane"
        for host in ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "patreon.com")
    ] + ["launchpad.net/~jane"],
    "short-repository": ['"repository": "jane/tool"', "uses: jane/tool@v1"],
    "home-directory": ["/home/jane/x", "/Users/jane/x", r"C:\Users\jane\x", r"C:\\Users\\jane\\x",
                       "C:/Users/jane/x", "http://corp.io/~jane/"],
    "note-author": [f"{note}(jane)" for note in ("TODO", "FIXME", "XXX", "HACK", "NOTE", "BUG")],
    "checked-in": [
        f"{word} lib.c,v 1.2 2005/09/13 22:20:13 jane Exp $"
        for word in ("$Id:", "$Header:", "$FreeBSD:", "$From:", "$Xorg:", "$XFree86:")
    ],
    "mention": ["by @jane", "Thanks, @jane", "thank you @jane", "CC: @jane", "credits to @jane",
                "From @jane", "author: [@jane", "\n - @jane", "by @a, @jane", "by @a, and @jane",
                "by @a and @jane", "by @a & @jane", "- fix it (@jane)"],
    "addressed-handle": ["\njane7 <jane7@corp.io>", "Jane Roe (jr) <jr@corp.io>"],
    "log-author": ["\n  [ jane ]\n"],
}  # fmt: skip
# These stand close to what a rule finds.
NEAR = ["_forgotten_password='x7q9'", "aForgottenPassword='x7q9'", "test_password='x7q9'",
        "keystorepass='x7q9' user", "dbpass='x7q9' user", "xpass='x7q9' user", "1.2.3",
        "media @jane", "std::fmt", "v1.2.3.4"]  # fmt: skip
PIECES = sorted({piece for texts in HELD.values() for text in texts for piece in text.split()})
MARKS = ["_", "(", ")", "[", "]", "<", ">", "\\", " ", "\t", "\n", "\u00a0", "\x1f", "\u0130", "'"]
PREFIXES = [keyword for rule in RULES for keyword in rule.keywords]
DRAWN = [rule.regex for rule in PREFIX_RULES if "(?=" not in rule.regex and "(?P" not in rule.regex]
KEYWORDS = [keyword for rule in (*PREFIX_RULES, *CONTEXT_RULES) for keyword in rule.keywords]
CHANGES = [str, str.lower, str.upper, str.swapcase, lambda text: text.replace(" ", "\t")]


@st.composite
def held_texts(draw):
    whole = st.sampled_from([text for texts in HELD.values() for text in texts])
    keys = st.tuples(st.sampled_from(KEYWORDS), st.sampled_from(["x", "0aB3", "'A"])).map(
        lambda pair: pair[0] + pair[1] * 12
    )
    drawn = st.builds(random_match, st.sampled_from(DRAWN), st.builds(random.Random, st.integers()))
    part = st.one_of(
        whole, st.sampled_from(PIECES), st.sampled_from(NEAR), keys, drawn,
        st.sampled_from(MARKS), FRAGMENTS,
        st.sampled_from([" at ", "dot", "a.de", "@jane", " by ", " and "]),
    )  # fmt: skip
    parts = draw(st.lists(part, max_size=8))
    return draw(st.sampled_from(["", " ", "\n"])).join(
        draw(st.sampled_from(CHANGES))(part) for part in parts
    )


def found_by_every_rule(text):
    return resolve_overlaps(
        Span(start=start, end=end, label=label, source=f"pattern:{rule.name}")
        for rule in RULES
        for start, end, label in rule.find(text)
    )


@pytest.mark.parametrize("name", sorted(HELD))
def test_a_rule_is_run_where_it_finds_something(name):
    rule = next(rule for rule in RULES if rule.name == name)
    for text in HELD[name]:
        assert list(rule.find(text)), text
        for document in (text, f"x\n{text}\ny", text.replace(" ", "  ")):
            assert find_patterns(document) == found_by_every_rule(document)


def test_the_expression_of_a_provider_is_compiled_when_its_keyword_is_met(monkeypatch):
    compiled = []
    compile_ = re.compile
    monkeypatch.setattr(re, "compile", lambda text: compiled.append(text) or compile_(text))
    rule = next(rule for rule in PREFIX_RULES if rule.name == "npm-token")

    find = credentials.token_finder(rule)
    assert list(find("no key")) == []
    assert compiled == []
    assert list(find("npm_x npm_y")) == []
    assert len(compiled) == 1


def test_every_rule_that_is_no_providers_has_a_text_for_each_of_its_literals():
    providers = {rule.name for rule in (*PREFIX_RULES, *CONTEXT_RULES)}
    assert set(HELD) == {rule.name for rule in RULES} - providers
    for rule in RULES:
        words = ["\n".join(["", *text.split(), ""]).lower() for text in HELD.get(rule.name, [])]
        for literal in rule.literals if words else ():
            assert any(literal in held for held in words), (rule.name, literal)


@given(held_texts())
def test_the_same_is_found_whether_rules_are_left_out_or_not(text):
    assert find_patterns(text) == found_by_every_rule(text)


def test_a_key_of_any_provider_is_found_though_rules_are_left_out():
    rng = random.Random(5)
    for regex in DRAWN:
        key = random_match(regex, rng)
        for text in (key, f"x ={key};", rf'"\n{key}"'):
            assert find_patterns(text) == found_by_every_rule(text)


@given(st.lists(st.sampled_from([*PREFIXES, *"-_aAkKs1"]), max_size=5).map("".join))
def test_each_keyword_of_a_text_begins_with_one_that_is_seen(text):
    seen = patterns._keywords_in(text)

    assert all(keyword.startswith(seen) for keyword in PREFIXES if keyword in text)
    assert all(keyword in text for keyword in seen)


def check_that_a_quick_look_changes_nothing(text):
    found = [list(rule.find(text)) for rule in RULES]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "_IPV4_END", re.compile(""))
        patch.setattr(accounts, "_CREDIT_END", re.compile(""))
        patch.setattr(assignments, "_LONGEST_PART", 100)
        assert [list(rule.find(text)) for rule in RULES] == found


def test_a_quick_look_before_an_expression_changes_nothing_where_a_rule_finds_something():
    for text in [*NEAR, *(text for texts in HELD.values() for text in texts)]:
        check_that_a_quick_look_changes_nothing(text)


@given(held_texts())
def test_a_quick_look_before_an_expression_changes_nothing_in_any_text(text):
    check_that_a_quick_look_changes_nothing(text)


@given(st.lists(st.sampled_from([*" _(\\\taT", "at", "AT", "At", "ta"])).map("".join))
def test_the_word_at_stands_between_the_marks_that_a_plain_expression_finds(text):
    plain = re.compile(r"[ \t(\[{<_\\](?:at|AT|At|ta)[ \t)\]}>_\\]")

    assert list(addresses._marked_at(text)) == [hit.span() for hit in plain.finditer(text)]


# --- E-mail -------------------------------------------------------------------------------------

LOCAL = st.from_regex(r"[a-z0-9]([a-z0-9_.+-]{0,20}[a-z0-9])?", fullmatch=True)
DOMAIN = st.from_regex(
    r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{1,12})?\.(com|org|de|io|co\.uk)", fullmatch=True
)
LEFT = st.sampled_from(
    ["", " ", "\n", "<", "(", '"', "'", ",", ";", "mailto:", "=", "\\n", "\u4e2d"]
)
RIGHT = st.sampled_from(
    ["", " ", "\n", ">", ")", '"', "'", ",", ";", ".", ". Then", "\\n", "\u4e2d"]
)
SURROUNDING = st.text(st.characters(exclude_characters="@:%\\", exclude_categories=["Cs"]))


@given(before=SURROUNDING, left=LEFT, local=LOCAL, domain=DOMAIN, right=RIGHT, after=SURROUNDING)
def test_an_address_in_any_surrounding_is_found_with_its_limits(
    before, left, local, domain, right, after
):
    address = f"{local}@{domain}"
    text = f"{before} {left}{address}{right} {after}"
    start = len(before) + 1 + len(left)

    spans = [span for span in find_patterns(text) if span.source == "pattern:email"]

    assert (start, start + len(address)) in [(span.start, span.end) for span in spans]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Jane Roe <jane.roe+tag@mail.corp.co.uk>", "jane.roe+tag@mail.corp.co.uk"),
        ("mail o'neill@corp.io now", "o'neill@corp.io"),
        ("'jane@corp.io'", "jane@corp.io"),
        ("u'jane@corp.io'", "jane@corp.io"),
        ('"\\u003cjane@corp.io\\u003e"', "jane@corp.io"),
        ("%3Cjane@corp.io%3E", "jane@corp.io"),
        ("Write to jane@corp.io.Then wait", "jane@corp.io"),
        ("jürgen@müller.de", "jürgen@müller.de"),
        ("sip:jane@corp.io:5060", "jane@corp.io"),
        ("<\\fIjane@corp.io\\fR>", "jane@corp.io"),
        ("联系jane@corp.io。", "jane@corp.io"),
    ],
)
def test_the_limits_of_an_address_in_a_context(text, address):
    assert found(text, "EMAIL") == [address]


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png", "npm i left-pad@1.3.0", "@decorator.method", "@babel/core@7.x", "a@b",
        "return this@MainActivity.name", "user@host.method(", "pip install foo @ git+https://x.io",
        "x @ y.T", "jquery@3.min.js", "@jane@mastodon.social", "git+ssh://git@github.com/a/b",
        "https://jane:pw@corp.io/",
    ],
)  # fmt: skip
def test_what_only_looks_like_an_address_is_none(text):
    assert found(text, "EMAIL") == []


@pytest.mark.parametrize(
    "address",
    [
        "john at foo dot org", "john.doe at foo dot co dot uk", "john (at) foo.org",
        "john [at] foo [dot] org", "john[at]foo[dot]org", "john AT foo.org", "john AT foo DOT org",
        "john <at> foo <dot> org", "john_at_foo_dot_org", "john(at)foo.org", "john {at} foo.org",
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "<{}>", "# Author: Jane Roe ({})\n", "Mail: {}, thanks"])
def test_an_address_written_out_is_found_with_its_limits(address, around):
    assert found(around.format(address), "EMAIL") == [address]


@pytest.mark.parametrize(
    "text",
    [
        "have a look at foo.bar", "look at foo.org for more", "see the notes at example.com",
        "It points at config.py.", "starts at index 0 dot product", "available at www.corp.io",
        "we met at corp.io", "hosted (at) least.", "arrive at noon", "look at https://corp.io",
        "is_at_end.is", "value AT TIME.ZONE", "char_at_index.to_s", "look_at_me.py",
    ],
)  # fmt: skip
def test_prose_with_the_word_at_is_no_address(text):
    assert found(text, "EMAIL") == []


# --- IP addresses -------------------------------------------------------------------------------

FENCES = st.sampled_from(
    [("", ""), ('"', '"'), ("(", ")"), ("[", "]"), ("=", ";"), ("<", ">"), ("\\n", " ")]
)


@given(st.ip_addresses(v=4), FENCES, st.sampled_from(["", ":8080", "/24", ".", ","]))
def test_any_ipv4_address_after_a_word_of_networking_is_found_without_its_port(
    address, fence, tail
):
    value = str(address)
    text = f"host {fence[0]}{value}{tail}{fence[1]} end"
    expected = [value] if value.split(".")[0] != "0" or value == "0.0.0.0" else []
    if value.startswith(("1.3.", "2.5.")):
        return

    assert found(text, "IP_ADDRESS") == expected


@given(
    st.ip_addresses(v=6),
    st.sampled_from([("", ""), ('"', '"'), ("http://[", "]:80/"), ("", "/64"), ("", "%eth0")]),
    st.booleans(),
)
def test_any_ipv6_address_of_three_groups_is_found_without_its_prefix(address, fence, exploded):
    value = address.exploded if exploded else address.compressed
    if len([group for group in value.split(":") if group]) < 3:
        return

    assert found(f"inet6 {fence[0]}{value}{fence[1]} end", "IP_ADDRESS") == [value]


@given(
    st.lists(
        st.sampled_from(
            ["0", "1", "255", "256", "10", "07", "ff", "f00d", ":", "::", ".", " ", "/", "["]
        )
    ).map("".join)
)
def test_what_is_found_as_an_ip_address_is_one(text):
    for value in found(text, "IP_ADDRESS"):
        ipaddress.ip_address(value)


@pytest.mark.parametrize(
    "value",
    ["::1", "fe80::1", "2a00:1450:4001:81b::200e", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"],
)
def test_an_ipv6_address_in_quotes_is_found(value):
    assert found(f'listen("{value}", 80)', "IP_ADDRESS") == [value]


def test_an_address_after_a_font_escape_is_found():
    assert found("\\fB93.184.216.34\\fR", "IP_ADDRESS") == ["93.184.216.34"]
    assert found("\\fX93.184.216.34", "IP_ADDRESS") == []


@pytest.mark.parametrize(
    "text",
    [
        "version 12.34.5.67", "v93.184.21.34", "Version: 93.184.216.34", "foo==93.184.216.34",
        "package-93.184.216.34.tar.gz", "93.184.216.34.5", "1.3.6.1.4.1.311", "OID 1.3.101.112",
        "93.184.216.34-beta", "93.184.216.34-1ubuntu2", "93.184.216.256", "section 4.2.1.3",
        "2.5.29.17", "x93.184.216.34", "93.184.216.34px", "see 3.1.4.1 below", "093.184.216.34",
        "lib.so.93.184.216.34", "1.2.3.4rc1", "$93.184.216.34", "0.12.34.56",
        "deps: update V8 to 6.5.254.31", "See C++14 20.10.4.1", "2.12 3.51.98.32 2.03.5",
        "needs an address, RFC-2821 4.1.1.1",
    ],
)  # fmt: skip
def test_versions_object_identifiers_and_sections_are_no_ipv4_address(text):
    assert found(text, "IP_ADDRESS") == []


@pytest.mark.parametrize(
    "text",
    [
        "std::dec", "ada::add", "x[::2]", "x[1::2]", "x[::-1]", "12:34:56", "a::after", "Foo::Bar",
        "00:1a:2b:3c:4d:5e", "00:11:22:33:44:55:66:77", "ab:cd:ef", "::", "a ? b::c : d",
        "fe::fe()",
        "10:20:30:40:50:60:70", "{a:1,b:2}", "face::Bed",
    ],
)  # fmt: skip
def test_scopes_slices_times_and_hardware_addresses_are_no_ipv6_address(text):
    assert found(text, "IP_ADDRESS") == []


def test_both_ends_of_a_range_of_addresses_are_found():
    assert found("hosts 93.184.216.34-93.184.216.40", "IP_ADDRESS") == [
        "93.184.216.34", "93.184.216.40",
    ]  # fmt: skip


# --- Private keys, tokens, URLs, headers --------------------------------------------------------

KINDS_OF_KEY = ["", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED "]


def armoured(kind, lines, joint):
    return joint.join(
        [f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"]
    )


@pytest.mark.parametrize("kind", KINDS_OF_KEY)
@pytest.mark.parametrize(
    "joint",
    [
        "\n",
        "\r\n",
        "\\n",
        "\\r\\n",
        "\n    ",
        '\\n"\n  "',
        '\\n" +\n    "',
        "\n# ",
        "\n * ",
        "', \n'",
    ],
)
@pytest.mark.parametrize("num_bytes", [60, 118, 610, 1192])
def test_the_body_of_a_private_key_is_one_span_however_it_is_joined(kind, joint, num_bytes):
    lines = base64_lines(num_bytes)
    text = f'KEY = "{armoured(kind, lines, joint)}"\nafter = 1\n'

    assert found(text, "KEY") == [joint.join(lines)]


@pytest.mark.parametrize("num_lines", [1, 2, 5])
def test_a_private_key_cut_at_the_end_of_the_text_reaches_to_the_end(num_lines):
    lines = base64_lines(610)[:num_lines]
    text = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(lines)
    assert found(text, "KEY") == ["\n".join(lines)]
    assert found(text[:-20], "KEY") == ["\n".join(lines)[:-20]]


def test_the_fields_of_an_encrypted_key_stand_before_its_body():
    lines = base64_lines(610)
    fields = [
        "Proc-Type: 4,ENCRYPTED",
        "DEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF",
        "",
    ]
    text = armoured("RSA ", [*fields, *lines], "\n")
    assert found(text, "KEY") == ["\n".join(lines)]


def test_an_openpgp_private_key_block_is_found_with_its_check_sum():
    lines = [*base64_lines(300), "=Ab1+"]
    text = "\n".join(
        ["-----BEGIN PGP PRIVATE KEY BLOCK-----", "Version: 1", "", *lines,
         "-----END PGP PRIVATE KEY BLOCK-----"]
    )  # fmt: skip
    assert found(text, "KEY") == ["\n".join(lines)]


@pytest.mark.parametrize("kind", ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE", "DH PARAMETERS"])
def test_public_keys_and_certificates_are_no_keys(kind):
    text = "\n".join([f"-----BEGIN {kind}-----", *base64_lines(610), f"-----END {kind}-----"])
    assert found(text, "KEY") == []


@pytest.mark.parametrize(
    "text",
    [
        'if "-----BEGIN PRIVATE KEY-----" in text: return parse_private_key_from_string(text)',
        '"-----BEGIN PRIVATE KEY-----\\n" + base64.encode(privateKeyBytesOfTheServer) + "\\n"',
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nyour key here\n-----END PRIVATE KEY-----",
    ],
)
def test_armour_without_a_body_is_no_key(text):
    assert found(text, "KEY") == []


@pytest.mark.parametrize("around", ["{}", '"{}"', "token={}&x=1", "Authorization: Bearer {}\n"])
def test_a_web_token_is_found_by_its_header(around):
    token = jwt({"alg": "HS256", "typ": "JWT"})
    assert found(around.format(token), "KEY") == [token]


@pytest.mark.parametrize("header", [{"typ": "JWT"}, ["alg"], "alg", {}])
def test_three_parts_without_an_algorithm_are_no_web_token(header):
    (rule,) = (rule for rule in RULES if rule.name == "jwt")
    assert list(rule.find(jwt(header))) == []


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("postgres://jane:pw42x@db.corp.io:5432/x", ["jane"], ["pw42x"]),
        ("redis://:pw42x@cache:6379", [], ["pw42x"]),
        ("amqp://jane:p%40ss@[::1]/", ["jane"], ["p%40ss"]),
        ("http://jane:${PASS}@corp.io", ["jane"], None),
        ("http://corp.io:8080/a@b", [], []),
        ("http://corp.io/x:y@z", [], []),
        ("see http://corp.io: mail@corp.io", [], []),
    ],
)
def test_user_and_password_of_a_url(text, user, password):
    assert found(text, "USERNAME") == user
    if password is not None:
        assert found(text, "PASSWORD") == password


def test_a_basic_authorization_value_is_found_when_it_decodes_to_a_pair():
    value = base64.b64encode(b"jane:pw42x").decode()
    assert found(f"Authorization: Basic {value}", "KEY") == [value]
    assert found("Basic knowledge", "KEY") == []
    assert found("Basic " + base64.b64encode(b"no pair").decode(), "KEY") == []


def test_the_login_of_a_registry_is_found_when_it_decodes_to_a_pair():
    pair = base64.b64encode(b"jane:tops3cret").decode()
    for line in (f'"auth": "{pair}"', f"//npm.test/:_auth={pair}", f"_auth = {pair}"):
        assert found(line, "KEY") == [pair]
    assert found('"auth": "c29tZXRoaW5nZWxzZQ=="', "KEY") == []
    assert found("kerberos_auth = CommandLineReader()", "KEY") == []


def test_an_address_escaped_for_a_url_is_found():
    assert found("?to=jane.roe%40corp.io&x=1", "EMAIL") == ["jane.roe%40corp.io"]
    assert found("https://jane%40corp.io:x7@host", "EMAIL") == found("x%40y", "EMAIL") == []


def test_a_key_is_found_in_blocks_and_lines_of_any_length():
    key = "ghp_" + "aB3" * 12
    for text in ("x " * 40_000 + key, "x" * 90_000 + " " + key + "\n" + "y " * 40_000, f"\n{key}"):
        assert found(text, "KEY") == [key]


def test_a_bearer_token_is_found_when_it_looks_random():
    value = "a8Zk2" + "0qLmN4" + "tR7vYw"
    assert found(f"Authorization: Bearer {value}", "KEY") == [value]
    assert found("Bearer authentication-is-required", "KEY") == []


RANDOM_VALUES = [
    "kX93mQp" "27vLrT4bz", "9f2c41d07be8" "55a3c6d1f09e", "q7w089zx34lkj" "sdf55",
    "tGz8JxKp-4QmW_" "72nBvC1LsD",
]  # fmt: skip


@pytest.mark.parametrize("value", RANDOM_VALUES)
@pytest.mark.parametrize(
    "line",
    [
        'api_key = "{}"', "apiKey: '{}',", '"access_token": "{}",', "ACCESS_TOKEN={}\n",
        "$this->secret = '{}';", 'clientSecret := "{}"', "('oauth_token', '{}'),", "token: {}\n",
        "x?access_token={}&y=1",
        '\\"refresh_token\\":\\"{}\\"', 'getenv("API_KEY") == "{}"',
        'defaultApiKey = "{}"', "'consumer_secret' => '{}'", 'SECRET_KEY_BASE64="{}"',
    ],
)  # fmt: skip
def test_a_random_value_given_to_a_secret_is_a_key(line, value):
    assert found(line.format(value), "KEY") == [value]


@pytest.mark.parametrize(
    "line",
    [
        'token = "{}Token2"', "secret = read_secret_1(x)", 'key = "kX93mQp27vLrT4bz"',
        'token_type = "sha256WithRsaEncryption"', "secret: config.secret2.value9",
        "Token: ID3v2Tag", '"nextPageToken": "kX93mQp27vLrT4bz"',
        "PublicKeyToken=9f2c41d07be855a3",
        'client_token = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"', 'token = "calculateSha2Token"',
        "token = tokens2[i4]", 'public_key = "kX93mQp27vLrT4bz"', "secret = aB3dE5fG7hJ9(kL)",
    ],
)  # fmt: skip
def test_identifiers_and_expressions_given_to_a_token_are_no_key(line):
    assert found(line, "KEY") == []


@pytest.mark.parametrize(
    "line",
    [
        'password = "{}"', "'password' => '{}',", '"db_password": "{}"', "PASSWD: '{}'",
        'setPassword("{}")', 'String passphrase = "{}";', '\\"pwd\\": \\"{}\\"',
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "value", ["hunter42", "P4ss#123", "s3cr3t", "a1&(b)[c];", "Xy7"[:2] + "%zz!9"]
)
def test_a_quoted_value_of_letters_and_digits_given_to_a_password_is_one(line, value):
    assert found(line.format(value), "PASSWORD") == [value]


@pytest.mark.parametrize(
    "line",
    [
        'password = "Enter your password"', "password = get_password2()", 'password: "required"',
        'f(password, "utf8")', "password = hunter42", 'passwordHint = "abc1"', 'password = ""',
    ],
)  # fmt: skip
def test_prompts_calls_and_references_are_no_password(line):
    assert found(line, "PASSWORD") == []


# --- Size ---------------------------------------------------------------------------------------

HOSTILE = [
    "a", "@", "1.", "1.1.1.1:", "a.a.", ":", "::", "a:", "-----BEGIN",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n" + "A1" * 32 + "\n", "eyJ", "eyJhbGciOiJIUzI1NiJ9.", " ", "\n",
    " at ", "a at b dot ", "_at_", "://", "://a:b", "a://b:", "a@a.", "M150 0c-23.5.1-46 20.5z ",
    "sk-", "A", "0", "-us", "Bearer ", "Basic aaaaaaaa", "PrivateKey = ",
    "token=", "token='a1B2c3D4e5F6", "password='a1", ":AA", "Q~", "AZDO", "\\",
    "%40", "'", "\u00e9", "\u4e2d@", "EAA", "$", "<", "<a@", "pass=", "password: x1\n",
    "password='a b ", "identified by ", "login('a','b", " -u a:b", "mysql ", "github.com/a-",
    "/home/a", "$Id: 1:", "@a, ", "(@a)", "a <a@b.c> ", "@o1.", "host=a ", "<a.password>",
]  # fmt: skip


def quantifiers(pattern):
    """Upper bounds of all repeats of a regular expression."""

    def walk(node):
        for operation, argument in node:
            if str(operation) in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
                yield argument[1]
                yield from walk(argument[2])
            elif hasattr(argument, "data"):
                yield from walk(argument)
            elif isinstance(argument, tuple):
                for part in argument:
                    if isinstance(part, list):
                        for branch in part:
                            yield from walk(branch)
                    elif hasattr(part, "data"):
                        yield from walk(part)

    return list(walk(re._parser.parse(pattern)))


def test_the_walk_over_an_expression_sees_every_repeat():
    assert quantifiers("a{3}(?:b{1,4}|(c{0,5}))(?=d{6})(?>e{1,7}+)") == [3, 4, 5, 6, 7]


def test_every_repeat_of_every_expression_is_bounded():
    modules = (accounts, addresses, assignments, credentials)
    values = [value for module in modules for value in vars(module).values()]
    expressions = [value.pattern for value in values if isinstance(value, re.Pattern)]
    expressions += [form.after.pattern for form in assignments._FORMS]
    expressions += [rule.regex for rule in (*PREFIX_RULES, *CONTEXT_RULES)]

    unbounded = [text for text in expressions if max(quantifiers(text), default=0) > 20_000]

    assert len(expressions) > 100
    assert unbounded == []


def steps(text):
    """Number of calls, of Python and of C functions, that finding the patterns takes."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        find_patterns(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("unit", HOSTILE)
def test_twice_the_hostile_text_takes_at_most_twice_the_calls(unit):
    once = steps(unit * (8_000 // len(unit)))
    twice = steps(unit * (16_000 // len(unit)))

    assert twice <= 2.1 * once + 500


def test_hostile_text_is_read_well_within_the_limit():
    # A regular expression's steps are not calls; quadratic ones would take hours here.
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from pii.filters import classify\n"
        "from pii.patterns import find_patterns\n"
        "for unit in json.load(sys.stdin):\n"
        "    text = (unit * (200_000 // len(unit) + 1))[:200_000]\n"
        "    classify(text, find_patterns(text))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        input=json.dumps(HOSTILE),
        text=True,
        check=True,
        timeout=300,
    )


# --- Secrets by the name they are assigned to ---------------------------------------------------


def _random_value(length: int = 32) -> str:
    rng = random.Random(length)
    return "".join(rng.choices(string.ascii_letters + string.digits, k=length))


@pytest.mark.parametrize(
    "form",
    [
        'api_key = "{}"',
        "apiKey: '{}',",
        '"client_secret": "{}"',
        "AUTH_TOKEN={}",
        "accessToken => '{}'",
        'secret "{}";',
        'cookie-secret\t"{}"',
        'algorithm "hmac-md5"; secret "{}"; }};',
        'setSecretKey("{}")',
        'headers["X-Api-Key"] = "{}"',
        "secret_key_base: {}",
    ],
)
@pytest.mark.parametrize("length", [16, 32, 64])
def test_a_random_value_given_to_the_name_of_a_key_is_found(form, length):
    value = _random_value(length)
    text = form.format(value)
    assert [(s.label, text[s.start : s.end]) for s in find_patterns(text)] == [("KEY", value)]


@pytest.mark.parametrize(
    "text",
    [
        "api_key = getApiKeyFromEnvironment",
        'token = "AbstractTokenFactoryBean"',
        'primary_key = "' + _random_value() + '"',
        'public_key_token = "' + _random_value(8) + '"',
        'nextPageToken: "' + _random_value() + '"',
        "secret = settings.SECRET_KEY_2_FALLBACK",
        'the secret "to a long and happy life in 2024"',
        "token: 123e4567-e89b-42d3-a456-426614174000",
    ],
)
def test_what_no_key_is_assigned_to_is_left_alone(text):
    assert find_patterns(text) == []


@pytest.mark.parametrize(
    "form", ['password = "{}"', "'passwd' => '{}'", 'DB_PASSWORD: "{}"', "login(password='{}')"]
)
def test_a_quoted_literal_of_letters_and_digits_given_to_a_password_is_found(form):
    value = "Harbour" + "7" + "stone"
    text = form.format(value)
    assert [(s.label, text[s.start : s.end]) for s in find_patterns(text)] == [("PASSWORD", value)]


@pytest.mark.parametrize(
    "text",
    [
        'password = "enter"',
        "password: harbour7",
        'passwordField = "id7"',
        'password_limit: "5/m/user"',
        'AUTHN_PASSWORD = "urn:oid:2.0:x"',
    ],
)
def test_words_and_unquoted_values_are_left_to_the_encoder(text):
    assert find_patterns(text) == []


@pytest.mark.parametrize("word", ["server", "nameserver", "resolver", "driver =", "over", "stable"])
def test_the_end_of_another_word_makes_no_version(word):
    assert [span.label for span in find_patterns(f"{word} 93.184.216.34\n")] == ["IP_ADDRESS"]
