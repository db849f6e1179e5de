import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from pii.annotations import Document
from pii.labels import LABELS
from pii.predictions import read_predictions, write_predictions
from pii.spans import Span
from starencoder.errors import DataError, OutputError

texts = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5)


def document(name, text):
    return Document(id=name, language="", package="", path="", text=text, spans=())


@st.composite
def predicted(draw):
    documents = [document(f"d{n}", text) for n, text in enumerate(draw(texts))]
    spans = []
    for one in documents:
        length = len(one.text)
        starts = draw(st.lists(st.integers(0, length - 1), max_size=3))
        spans.append(
            [
                Span(
                    start=start,
                    end=draw(st.integers(start + 1, length)),
                    label=draw(st.sampled_from(LABELS)),
                    score=draw(st.floats(0, 1)),
                )
                for start in starts
            ]
        )
    return documents, spans


@settings(max_examples=25)
@given(case=predicted())
def test_predictions_come_back_as_they_were_in_any_order_of_documents(case, tmp_path_factory):
    documents, spans = case
    path = tmp_path_factory.mktemp("p") / "p.jsonl"
    write_predictions(documents, spans, path)

    assert read_predictions(path, documents) == spans
    assert read_predictions(path, documents[::-1]) == spans[::-1]


def test_predictions_are_written_without_their_values(tmp_path):
    path = tmp_path / "p.jsonl"
    span = Span(start=2, end=5, label="NAME", score=0.5)
    write_predictions([document("a", "x Ada y")], [[span]], path)

    assert json.loads(path.read_text(encoding="utf-8")) == {
        "id": "a",
        "spans": [{"start": 2, "end": 5, "label": "NAME", "score": 0.5}],
    }
    with pytest.raises(OutputError, match=r"p: cannot be written"):
        write_predictions([], [], path / "p")


def test_a_record_that_fails_leaves_the_predictions_that_were_there(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("before", encoding="utf-8")

    with pytest.raises(ValueError, match="zip"):
        write_predictions([document("a", "")], [], path)
    assert path.read_text(encoding="utf-8") == "before"


def line(**changes):
    return json.dumps({"id": "a", "spans": [{"start": 0, "end": 1, "label": "KEY"} | changes]})


def test_a_score_that_is_not_given_is_one(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(line() + "\n\n", encoding="utf-8")
    (spans,) = read_predictions(path, [document("a", "secret")])
    assert spans == [Span(start=0, end=1, label="KEY")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no line for 1 of 1 documents"),
        ("{", ":1: not JSON; expected an object"),
        ("[]", ":1: a list; expected an object"),
        ('{"id": "a"}', ":1: no field 'spans'; expected a list"),
        ('{"id": "b", "spans": []}', ":1: an id that is not among"),
        (line() + "\n" + line(), ":2: a document's second line"),
        (line(label="secret"), ":1: spans[0]: the label is unknown; known: NAME"),
        (line(end=7), ":1: spans[0]: the span reaches outside the text, which has 6 characters"),
        (line(end=0), ":1: spans[0]: the span is empty"),
        (line(start=True), ":1: spans[0]: the field 'start' is true or false; expected a whole"),
        (line(score="1"), ":1: spans[0]: the field 'score' is text; expected a number"),
        (line(score=1.5), "score is outside 0..1"),
        (line(score=float("nan")), "score is outside 0..1"),
    ],
)
def test_predictions_that_do_not_fit_are_one_line_without_values(tmp_path, content, message):
    path = tmp_path / "p.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_predictions(path, [document("a", "secret")])
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "secret" not in str(caught.value).removeprefix(str(path))


def test_documents_with_the_same_id_cannot_be_told_apart(tmp_path):
    path = tmp_path / "p.jsonl"
    documents = [document("a", "one"), document("a", "two")]
    with pytest.raises(DataError, match="1 of 2 annotated documents have the id of an earlier"):
        write_predictions(documents, [[], []], path)
    assert not path.exists()
    path.write_text(line())
    with pytest.raises(DataError, match="1 of 2 annotated documents have the id of an earlier"):
        read_predictions(path, documents)


def test_evaluate_refuses_to_write_what_it_could_not_read_before_it_starts(
    tmp_path, capsys, monkeypatch
):
    def never(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr("pii.evaluate.evaluate", never)
    gold, output = tmp_path / "gold.jsonl", tmp_path / "p.jsonl"
    gold.write_text('{"id": 1, "text": "x", "spans": []}\n' * 2, encoding="utf-8")

    arguments = [str(gold), "--model", "none", "--predictions", str(output)]
    assert cli.main(["pii", "evaluate", *arguments]) == 2
    assert "1 of 2 annotated documents have the id of an earlier" in capsys.readouterr().err
    assert not output.exists()


def test_predictions_that_are_no_text_or_not_there_are_said_to_be(tmp_path):
    path = tmp_path / "p.jsonl"
    with pytest.raises(DataError, match="No such file"):
        read_predictions(path, [])
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        read_predictions(path, [])
