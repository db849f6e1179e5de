import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import export.texts
from export.texts import ColumnBuilder, LongText, bytes_of
from pii.redact import redact, starcoder_operator, tag_operator
from pii.spans import Span


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(export.texts, "_BLOCK", 5)


texts = st.text(alphabet="ab\né€\U0001f600", max_size=40)


@given(text=texts, start=st.integers(0, 45), end=st.integers(0, 45))
@example(text="abababababab", start=6, end=4)
def test_parts_of_a_long_text_are_those_of_the_string(text, start, end):
    long = LongText(memoryview(text.encode()))
    assert len(long) == len(text)
    assert long[start:end] == text[start:end]
    assert long.rfind("\n", start, end) == text.rfind("\n", start, end)


@given(text=texts, cuts=st.sets(st.integers(0, 40), max_size=8))
@pytest.mark.parametrize("operator", [tag_operator, starcoder_operator])
def test_a_long_text_is_redacted_as_the_string_is(text, cuts, operator):
    places = sorted(cut for cut in cuts if cut <= len(text))
    spans = [
        Span(start=a, end=b, label="NAME") for a, b in zip(places[::2], places[1::2], strict=False)
    ]
    pieces = LongText(memoryview(text.encode())).iter_redacted(spans, operator)
    assert b"".join(pieces).decode() == redact(text, spans, operator).text


def test_a_block_is_decoded_once_however_many_spans_it_holds(monkeypatch):
    monkeypatch.setattr(export.texts, "_BLOCK", 1000)
    long = LongText(memoryview(("aé" * 5000).encode()))
    spans = [Span(start=at, end=at + 1, label="NAME") for at in range(0, 10_000, 2)]
    decoded = []
    monkeypatch.setattr(
        export.texts, "str", lambda *given: decoded.append(1) or str(*given), raising=False
    )

    assert {long[span.start : span.end] for span in spans} == {"a"}
    assert len(decoded) == 15
    assert b"".join(long.iter_redacted(spans, tag_operator)).decode() == "<NAME>é" * 5000
    assert len(decoded) == 30


@pytest.mark.parametrize(
    "places", [[(3, 3)], [(-1, 2)], [(7, 11)], [(0, 6), (5, 8)], [(8, 9), (0, 1)]]
)
def test_spans_that_do_not_fit_a_long_text_are_refused(places):
    spans = [Span(start=start, end=end, label="NAME") for start, end in places]
    with pytest.raises(ValueError, match="of a text of 10 characters"):
        list(LongText(memoryview(b"aaaaabbbbb")).iter_redacted(spans, tag_operator))


def test_bytes_that_are_no_text_are_refused():
    for broken in (b"abcdefgh\xff", b"abcd\xe2\x82", b"\x80"):
        with pytest.raises(UnicodeDecodeError):
            LongText(memoryview(broken))


@given(values=st.lists(st.none() | st.text(max_size=5)))
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_column_is_built_as_arrow_does(values, kind):
    builder = ColumnBuilder()
    for value in values:
        if value is None:
            builder.append_null()
        else:
            builder.append(value.encode()[:2], value.encode()[2:])
    built = builder.finish(kind)
    built.validate(full=True)
    assert built.equals(pa.array(values, kind))


@given(values=st.lists(st.none() | st.text(max_size=5)), cut=st.integers(0, 5))
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_the_bytes_of_a_column_are_those_of_its_strings(values, cut, kind):
    column = pa.array(values, kind).slice(cut)
    found = [None if data is None else str(data, "utf-8") for data in bytes_of(column)]
    assert found == values[cut:]
