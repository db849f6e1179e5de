import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.filters import FILTERS, classify
from pii.labels import KINDS, LABELS
from pii.spans import Span


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
def test_a_filter_decides_and_can_be_switched_off(kind, name, case):
    (rule,) = (rule for rule in FILTERS if rule.name == name)
    others = frozenset(other.name for other in FILTERS) - {name}

    assert kind(*case) == rule.kind
    assert kind(*case, disabled=others) == rule.kind
    assert kind(*case, disabled=frozenset([*others, name])) == "real"


@pytest.mark.parametrize("label", ["NAME", "EMAIL", "USERNAME"])
@pytest.mark.parametrize(
    "line", ["Copyright (c) 2012 {}", "© 2020-2024 {}", " * (C) {}", "SPDX-FileCopyrightText: {}"]
)
def test_attribution_on_a_copyright_line_is_licence(kind, label, line):
    value = {"NAME": "Ottilie Brandt", "EMAIL": "ob@corp.io", "USERNAME": "obrandt"}[label]
    before, after = line.split("{}")
    assert kind(label, value, f"int x;\n{before}", after + "\n") == "licence"
    assert kind(label, value, f"{before}nobody\n// by ", "\n") == "real"


def test_an_author_tag_is_no_licence(kind):
    assert kind("NAME", "Ottilie Brandt", " * @author ") == "real"


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
