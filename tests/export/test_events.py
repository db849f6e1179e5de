import re

from hypothesis import given
from hypothesis import strategies as st

from export.events import apply_to_events, form_of_events
from pii.redact import tag_operator
from pii.spans import Span

VALUE = "tr1cky-pw"
parts = st.lists(st.sampled_from([VALUE, "@zoe", "zoe-k", " ", "é", "\n", "username_0", "a"]))
texts = st.one_of(st.none(), parts.map("".join))
events = st.lists(
    st.fixed_dictionaries(
        {"author": st.sampled_from(["zoe", "Zoe-K", "max", "", "username_0", None]), "text": texts},
        optional={"title": texts, "comment": texts, "datetime": st.just(f"zoe-k {VALUE}")},
    ),
    max_size=4,
)


def found(form, value):
    (text,) = form.form.texts
    return [
        Span(start=match.start(), end=match.end(), label="PASSWORD")
        for match in re.finditer(re.escape(value), text)
    ]


def redacted(events, value=VALUE):
    form = form_of_events(events)
    return apply_to_events(events, form, form.form.to_original([found(form, value)]), tag_operator)


def test_authors_and_mentions_get_the_same_pseudonym_in_all_events():
    assert redacted(
        [
            {"action": "opened", "author": "zoe-k", "title": "By Zoe-K", "text": "@max?", "id": 7},
            {"action": "created", "author": "max", "title": None, "text": f"zoe-k: {VALUE}"},
            {"action": "created", "author": None, "title": "max", "text": ""},
        ]
    ) == [
        {
            **{"action": "opened", "author": "username_0", "title": "By username_0"},
            **{"text": "@username_1?", "id": 7},
        },
        {
            **{"action": "created", "author": "username_1", "title": None},
            "text": "username_0: <PASSWORD>",
        },
        {"action": "created", "author": None, "title": "max", "text": ""},
    ]


def test_the_detector_reads_one_field_a_line_and_no_author():
    form = form_of_events(
        [{"author": "zoe", "title": "a", "text": "b"}, {"author": "x", "text": "c"}]
    )

    assert form.form.texts == ("a\nb\nc\n",)


@given(events=events)
def test_events_are_redacted_field_by_field(events):
    for before, after in zip(events, redacted(events), strict=True):
        assert before.keys() == after.keys()
        assert before.get("datetime") == after.get("datetime")
        for name in ("title", "text", "comment"):
            value, by = before.get(name), after.get(name)
            if not isinstance(value, str):
                assert by == value
            else:
                pattern = re.sub(
                    "zoe(?:-k)?", r"(?:zoe(?:-k)?|username_\\d)", value.replace(VALUE, "<PASSWORD>")
                )
                assert re.fullmatch(pattern, by)


@given(events=events, start=st.integers(0, 30), length=st.integers(1, 30))
def test_a_span_over_two_fields_is_split(events, start, length):
    form = form_of_events(events)
    (text,) = form.form.texts
    span = Span(start=start, end=min(len(text), start + length), label="KEY")
    if span.start < span.end:
        for found_span in form.form.to_original([[span]]):
            assert any(
                begins <= found_span.start < found_span.end <= ends
                for _, _, begins, ends in form.fields
            )
