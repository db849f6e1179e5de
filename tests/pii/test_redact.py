import ipaddress
import keyword
import random
import string
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.labels import LABELS
from pii.redact import is_gibberish, redact, starcoder_operator, tag_operator
from pii.spans import Span


@st.composite
def texts_with_spans(draw):
    text = draw(st.text(min_size=1))
    bounds = sorted(draw(st.sets(st.integers(0, len(text)))))
    # Neighbouring bounds, so that spans touch each other and both ends of the text.
    pairs = [pair for pair in pairwise(bounds) if draw(st.booleans())]
    label = st.sampled_from(LABELS)
    return text, [Span(start=start, end=end, label=draw(label)) for start, end in pairs]


@given(texts_with_spans())
def test_every_character_outside_the_spans_stays_and_every_replacement_is_where_it_is_said_to_be(
    drawn,
):
    text, spans = drawn
    redaction = redact(text, spans, tag_operator)
    position, rebuilt = 0, ""
    for replacement in redaction.replacements:
        rebuilt += redaction.text[position : replacement.start]
        rebuilt += text[replacement.span.start : replacement.span.end]
        assert redaction.text[replacement.start : replacement.end] == f"<{replacement.span.label}>"
        position = replacement.end
    assert rebuilt + redaction.text[position:] == text
    kept = [r.span for r in redaction.replacements]
    assert kept == [s for s in spans if text[s.start : s.end] != f"<{s.label}>"]


def test_touching_spans_and_a_span_at_the_start_get_nothing_put_between():
    spans = [Span(start=0, end=3, label="NAME"), Span(start=3, end=6, label="EMAIL")]
    assert redact("abcdef!", spans, tag_operator).text == "<NAME><EMAIL>!"


@pytest.mark.parametrize("bounds", [[(2, 4), (3, 5)], [(3, 4), (1, 2)], [(1, 1)], [(5, 9)]])
def test_spans_that_overlap_are_unsorted_empty_or_outside_are_a_mistake(bounds):
    spans = [Span(start=start, end=end, label="NAME") for start, end in bounds]
    with pytest.raises(ValueError, match="span"):
        redact("abcdef", spans, tag_operator)


def starcoder(value, label):
    return starcoder_operator(value, Span(start=0, end=len(value), label=label))


RANDOM_KEY = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=32))


@pytest.mark.parametrize(
    ("value", "label", "replacement"),
    [
        ("Jane Roe", "NAME", "<NAME>"),
        ("Jane", "NAME", None),
        ("jroe", "USERNAME", None),
        ("j@x.io", "EMAIL", "<EMAIL>"),
        ("a@b", "EMAIL", None),
        ("hunter2", "PASSWORD", "<PASSWORD>"),
        ("abc", "PASSWORD", None),
        (RANDOM_KEY, "KEY", "<KEY>"),
        (RANDOM_KEY[:8], "KEY", None),
        ("authentication_token", "KEY", None),
        ("192.168.0.17", "IP_ADDRESS", None),
        ("8.8.4.4", "IP_ADDRESS", None),
        ("81.2.69.142:80", "IP_ADDRESS", None),
        ("fd12::1", "IP_ADDRESS", None),
    ],
)
def test_bigcodes_rules_say_what_is_replaced(value, label, replacement):
    assert starcoder(value, label) == replacement


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_addresses_become_private_ones_of_their_version_always_the_same(address):
    replacement = starcoder(str(address), "IP_ADDRESS")
    assert starcoder(str(address), "IP_ADDRESS") == replacement
    if address.is_private:
        assert replacement is None
    elif replacement is not None:
        assert ipaddress.ip_address(replacement).version == address.version
        assert ipaddress.ip_address(replacement).is_private


def test_all_five_private_addresses_come_up():
    rng = random.Random(0)
    public = [f"81.{rng.randrange(256)}.{rng.randrange(256)}.7" for _ in range(200)]
    assert len({starcoder(address, "IP_ADDRESS") for address in public}) == 5


def test_random_strings_are_gibberish_and_words_are_not():
    rng = random.Random(0)
    alphabets = (string.hexdigits.lower(), string.ascii_letters + string.digits)
    keys = ["".join(rng.choices(letters, k=20)) for letters in alphabets for _ in range(500)]
    assert sum(map(is_gibberish, keys)) >= 0.99 * len(keys)
    words = ["application_settings", "AuthenticationError", "getElementById", "user-database"]
    words += [f"{a}_{b}" for a in keyword.kwlist for b in ("string", "container")]
    assert sum(map(is_gibberish, words)) <= 0.02 * len(words)
