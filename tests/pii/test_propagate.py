import base64
import html
import itertools
import json
import re
import sys
from urllib.parse import quote, quote_plus
from xml.sax import saxutils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.propagate import (
    CONFIDENT,
    RepeatedValues,
    ValueIndex,
    find_everywhere,
    is_sure,
    merge_repeated,
    sure_values,
    with_plus_for_space,
)
from pii.spans import Span, resolve_overlaps

PASSWORD = "tr1cky" + "/pä$s w0rd???>>x"
NONE = frozenset()


def span_of(value, label="PASSWORD", start=0, **fields):
    return Span(start=start, end=start + len(value), label=label, **fields)


def index_of(*values, label="PASSWORD"):
    return ValueIndex({value: span_of(value, label) for value in values})


def found(text, spans):
    return [text[span.start : span.end] for span in spans]


# --------------------------------------------------------------------------------------------------
# which values


@pytest.mark.parametrize(
    ("value", "label", "sure"),
    [
        ("Jane Roe", "NAME", True),
        ("Kowalczyk", "NAME", False),
        ("(Jane Roe", "NAME", False),
        ("jroe42", "USERNAME", True),
        ("redis", "USERNAME", False),
        ("4242", "USERNAME", False),
        ("j7", "USERNAME", False),
        ("hunter" + "22", "PASSWORD", True),
        ("new Redis", "PASSWORD", False),
        ("amber-kettle-drum", "PASSWORD", True),
        ("amber kettle drum", "PASSWORD", True),
        ("amber-kettle", "PASSWORD", False),
        ("amber-kettle-drum", "USERNAME", False),
        ("k3" * 6, "KEY", True),
        ("k3", "KEY", False),
        ("k3" * 3000, "KEY", False),
        ("jane@" + "acme-corp.io", "EMAIL", True),
        ("::1", "IP_ADDRESS", True),
    ],
)
def test_only_values_that_are_no_ordinary_words_are_looked_for(value, label, sure):
    assert is_sure(value, span_of(value, label)) is sure


@pytest.mark.parametrize(
    ("fields", "sure"),
    [
        ({"score": CONFIDENT}, True),
        ({"score": CONFIDENT - 0.01}, False),
        ({"score": 0.1, "source": "pattern:email"}, True),
        ({"kind": "example"}, False),
        ({"kind": "licence"}, True),
    ],
)
def test_a_value_counts_from_a_confident_score_or_a_pattern_on_and_never_as_an_example(
    fields, sure
):
    assert is_sure("jane@acme-corp.io", span_of("jane@acme-corp.io", "EMAIL", **fields)) is sure


@pytest.mark.parametrize(
    ("score", "smallest", "sure"),
    [(0.85, 0.9, False), (0.9, 0.9, True), (0.7, 0.5, False), (0.85, 0.5, True)],
)
def test_of_a_confident_score_and_one_that_is_asked_for_the_tagger_must_meet_both(
    score, smallest, sure
):
    span = span_of("jroe42", "USERNAME", score=score)

    assert is_sure("jroe42", span, {"USERNAME": smallest, "NAME": 1.0}) is sure
    assert bool(sure_values("jroe42 jroe42", [span], {"USERNAME": smallest})) is sure


def test_of_a_value_found_twice_the_surest_span_counts():
    text = "jroe42 jroe42"
    spans = [span_of("jroe42", "USERNAME", at, score=score) for at, score in [(0, 0.8), (7, 0.9)]]
    assert sure_values(text, spans)["jroe42"].score == 0.9


# --------------------------------------------------------------------------------------------------
# where they stand

PIECES = st.lists(st.sampled_from(["a", "b1", " ", "-", ".", "é", "\n", "\U0001f600"]), max_size=14)


@given(PIECES.map("".join), st.sets(PIECES.map("".join).filter(bool), max_size=5))
def test_the_index_finds_the_whole_words_that_a_search_for_each_value_finds(text, values):
    def whole(match):
        value = match[1]
        left = re.match(r"\w", value) and re.search(r"\w\Z", text[: match.start()])
        right = re.search(r"\w\Z", value) and re.match(r"\w", text[match.start() + len(value) :])
        return not (left or right)

    expected = {
        (match.start(), match.start() + len(value))
        for value in values
        for match in re.finditer(f"(?s)(?=({re.escape(value)}))", text)
        if whole(match)
    }

    spans = [(span.start, span.end) for span in index_of(*values).find(text)]

    assert expected.issuperset(spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    for start, end in expected:  # each is there, or overlaps what is there
        assert any(s < end and start < e for s, e in spans)


def test_a_value_inside_a_longer_one_hides_no_part_of_it():
    text = "mk77x typed mk77x-mk77x! twice, mk77x-"
    assert found(text, index_of("mk77x", "mk77x-mk77x!").find(text)) == [
        "mk77x",
        "mk77x-mk77x!",
        "mk77x",
    ]


@pytest.mark.parametrize("values", [("ab1 cd ef", "ef gh"), ("ab1 cd", "cd ef gh")])
def test_of_values_that_cross_the_longer_is_found(values):
    text = "see ab1 cd ef gh now"
    assert found(text, index_of(*values).find(text)) == [max(values, key=len)]


def test_of_values_that_begin_or_end_alike_the_longest_is_found():
    text = "see Ann Lee Day, Lee Day, Lee"
    assert found(text, index_of("Ann Lee", "Ann Lee Day", "Lee Day").find(text)) == [
        "Ann Lee Day",
        "Lee Day",
    ]


@pytest.mark.parametrize(
    ("text", "count"),
    [("at 10.20.3.4:80, 10.20.3.4.", 2), ("10.20.3.4.5 1.10.20.3.4 10.20.3.4-rc1 10.20.3.45", 0)],
)
def test_an_address_is_not_found_inside_a_longer_one(text, count):
    assert len(list(index_of("10.20.3.4", label="IP_ADDRESS").find(text))) == count


def lines_run(call):
    """How many lines of Python a call takes: what it costs, whatever the machine is at."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: ("a1 " * n, ["a1 " * k + "b2" for k in range(1, 60)]), id="nested"),
        pytest.param(
            lambda n: ("jane roe " * n, [f"jane x{k}" for k in range(3000)]), id="one first word"
        ),
        pytest.param(lambda n: ("a1 b2 " * n, ["a1 b2", "b2 a1"]), id="overlapping"),
        pytest.param(lambda n: ("." * n, ["." * 500 + "x1"]), id="symbols"),
    ],
)
def test_the_cost_per_character_grows_neither_with_the_text_nor_with_the_values(make):
    costs = []
    for size in (1000, 4000):
        text, values = make(size)
        index = index_of(*values)
        costs.append(lines_run(lambda text=text, index=index: list(index.find(text))) / len(text))
    assert costs[1] < 1.1 * costs[0]
    assert costs[1] < 25


# --------------------------------------------------------------------------------------------------
# in a document


def repeats(text, spans):
    return RepeatedValues(sure_values(text, spans)).find(text, spans)


def test_a_value_found_once_is_found_wherever_it_stands_with_its_label_score_and_source():
    text = "url: x:hunter" + "22@h\nhunter" + "22, hunter" + "222, (hunter" + "22)"
    first = span_of("hunter" + "22", start=7, source="pattern:url-credentials")

    spans = merge_repeated(text, [first], repeats(text, [first]), NONE)

    assert found(text, spans) == ["hunter" + "22"] * 3
    assert {(s.label, s.score, s.source) for s in spans} == {
        ("PASSWORD", 1.0, "pattern:url-credentials")
    }


def test_many_values_that_each_stand_twice_are_all_found():
    values = [f"user{number}" for number in range(100)]
    once = " ".join(values)
    text = f"{once}\n{once}"
    spans = [span_of(v, "USERNAME", text.index(v)) for v in values]
    assert len(merge_repeated(text, spans, repeats(text, spans), NONE)) == 200


def test_what_was_found_stays_unless_it_is_a_part_of_the_value():
    text = "Ann Lee, Ann Lee, Ann Lee, Ann Lee, Ann Lee Day"
    spans = [
        span_of("Ann Lee", "NAME", 0, score=0.9),
        span_of("Ann", "NAME", 9, score=0.9),
        span_of("Lee", "KEY", 22, source="pattern:some"),
        span_of("Ann Lee", "USERNAME", 27, score=0.5),
        span_of("Ann Lee Day", "USERNAME", 36, score=0.5),
    ]

    merged = merge_repeated(text, spans, repeats(text, spans), NONE)

    assert [(text[s.start : s.end], s.label) for s in merged] == [
        ("Ann Lee", "NAME"),
        ("Ann Lee", "NAME"),
        ("Ann Lee", "NAME"),
        ("Ann Lee", "USERNAME"),
        ("Ann Lee Day", "USERNAME"),
    ]


def test_what_crosses_the_edge_of_a_repeated_value_keeps_the_rest_and_the_value_is_whole():
    value = "Vw7#" + "pass/Q+2"
    text = f"a={value}\nplain {value} or {value}=x9 {value}"
    spans = [
        span_of(value, start=2, source="pattern:some"),
        span_of("plain Vw7", start=text.index("plain"), score=0.9),
        span_of("Q+2 or Vw7#", start=text.index("Q+2 or"), score=0.9),
        span_of("2=x9 Vw7", start=text.index("2=x9"), score=0.9),
    ]
    merged = merge_repeated(text, spans, repeats(text, spans), NONE)
    assert found(text, merged) == [value, "plain", value, "or", value, "=x9", value]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=6),
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=6),
)
def test_merging_covers_all_that_was_covered_and_nothing_overlaps(found_at, repeated_at):
    def apart(places):
        spans = [Span(start=at, end=at + size, label="KEY") for at, size in places]
        return resolve_overlaps(spans)

    spans, repeated = apart(found_at), apart(repeated_at)
    merged = merge_repeated("a" * 30, spans, repeated, NONE)
    covered = {at for span in (*spans, *repeated) for at in range(span.start, span.end)}
    assert sorted(covered) == [at for span in merged for at in range(span.start, span.end)]
    for span in repeated:
        assert any(s.start <= span.start and span.end <= s.end for s in merged) or any(
            s.start <= span.start and span.end <= s.end for s in spans
        )


def test_a_pattern_gives_way_where_it_found_a_part_of_what_a_pattern_found_elsewhere():
    text = "pw=a1:b@corp.io a1:b@corp.io"
    spans = [
        span_of("a1:b@corp.io", "PASSWORD", 3, source="pattern:some"),
        span_of("b@corp.io", "EMAIL", 19, source="pattern:email"),
    ]
    merged = merge_repeated(text, spans, repeats(text, spans), NONE)
    assert [span.label for span in merged] == ["PASSWORD", "PASSWORD"]


# --------------------------------------------------------------------------------------------------
# encoded forms

FORMS = {
    "plain": lambda value: value,
    "percent": lambda value: quote(value, safe=""),
    "percent, lower case": lambda value: quote(value, safe="").lower(),
    "percent, path": quote,
    "form": quote_plus,
    "json": lambda value: json.dumps(value)[1:-1],
    "json with slashes escaped": lambda value: json.dumps(value)[1:-1].replace("/", "\\/"),
    "every character escaped": lambda value: "".join(f"\\u{ord(char):04X}" for char in value),
    "hexadecimal escapes": lambda value: "".join(f"\\x{ord(char):02x}" for char in value),
    "XML": saxutils.escape,
    "HTML": html.escape,
    "decimal references": lambda value: "".join(f"&#{ord(char)};" for char in value),
    "hexadecimal references": lambda value: "".join(f"&#x{ord(char):X};" for char in value),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64, URL-safe, not padded": lambda value: (
        base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
    ),
    "basic authorization": lambda value: base64.b64encode(f"me:{value}".encode()).decode(),
    "as user": lambda value: base64.b64encode(f"{value}:secret".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("before", "after"), [('"', '"'), ("Basic ", "\n"), ("=", "")])
def test_a_value_is_found_in_each_form_and_the_span_is_the_form(form, before, after):
    encoded = FORMS[form](PASSWORD)
    assert ("URL-safe" in form) == bool(set("-_") & set(encoded))
    text = f"x{before}{encoded}{after}"
    index = ValueIndex(with_plus_for_space({PASSWORD: span_of(PASSWORD)}))

    spans = find_everywhere(text, index)

    assert found(text, spans) == [encoded]


def test_escapes_around_a_value_do_not_hide_it():
    text = r"print('\njroe42\n%20jroe42%3A \\jroe42')"
    assert (
        found(text, find_everywhere(text, index_of("jroe42", label="USERNAME"))) == ["jroe42"] * 3
    )


@given(st.text(alphabet='ab1 %\\u"/dD8cC0é😀+=&#x;', max_size=30))
def test_any_text_with_broken_escapes_is_taken(text):
    for span in find_everywhere(text, index_of("a1", "b1")):
        assert 0 <= span.start < span.end <= len(text)


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20
    ).filter(lambda value: re.fullmatch(r"\w.*\w", value, re.S)),
    st.sampled_from(["percent", "form", "json", "HTML", "base64", "basic authorization"]),
)
def test_any_value_is_found_in_its_encoded_forms(value, form):
    encoded = FORMS[form](value)
    if "base64" in form and len(encoded.rstrip("=")) < 6:
        return  # too short to be told from a word
    text = f'key "{encoded}"'
    index = ValueIndex(with_plus_for_space({value: span_of(value)}))
    assert (5, 5 + len(encoded)) in [(s.start, s.end) for s in find_everywhere(text, index)]


def test_of_a_user_and_password_in_base64_the_password_gives_the_label():
    encoded = base64.b64encode(b"a-long-user-name-77:sh0rt").decode()
    index = ValueIndex(
        {
            "a-long-user-name-77": span_of("a-long-user-name-77", "USERNAME"),
            "sh0rt": span_of("sh0rt"),
        }
    )
    (span,) = find_everywhere(f"Authorization: Basic {encoded}\n", index)
    assert span.label == "PASSWORD"
