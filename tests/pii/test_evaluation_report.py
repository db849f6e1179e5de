import json

import pytest

from pii.annotations import Document
from pii.evaluate import evaluate
from pii.evaluation_report import as_json, score_text, write_report
from pii.predictions import write_predictions
from pii.spans import Span
from starencoder.errors import OutputError

NAME = "Marta Lindqvist"
TEXT = f"# Written by {NAME} <marta@quist.io>\n"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def evaluation(tmp_path):
    """Patterns alone, and a file that finds too much."""
    start = TEXT.index(NAME)
    name = Span(start=start, end=start + len(NAME), label="NAME")
    documents = [
        Document(
            id=f"d{n}", language=HOSTILE, package="", path="", text=TEXT + HOSTILE, spans=(name,)
        )
        for n in range(4)
    ]
    extra = Span(start=0, end=2, label="KEY", score=0.4)
    path = tmp_path / "found.jsonl"
    write_predictions(documents, [[name, extra] for _ in documents], path)
    return evaluate(documents, ["none"], files=[path], curves=True)


def test_the_table_has_a_row_for_each_label_of_each_detector_and_comparison(evaluation):
    lines = score_text(evaluation).splitlines()

    assert [line.split()[0] for line in lines if line.startswith(("NAME", "micro"))] == [
        "NAME", "micro", "NAME", "micro", "NAME", "micro",
    ]  # fmt: skip
    none, found, difference = (line for line in lines if line.startswith("NAME"))
    nothing, all_, sure = "0.000 to 0.000", "1.000 to 1.000", "-1.000 to -1.000"
    columns = ["NAME", "-", "0.000", "0.000", *nothing.split(), "4", "0.000", "0.000", "1.000"]
    assert none.split() == columns
    columns = ["NAME", *["1.000"] * 3, *all_.split(), "4", "1.000", "1.000", "0.000"]
    assert found.split() == columns
    assert sure in difference
    unknown = next(line for line in lines if line.startswith("PASSWORD"))
    assert unknown.split() == ["PASSWORD", "-", "-", "-", "-", "0", "-", "-", "-"]
    assert max(map(len, lines)) <= 120


def test_the_json_holds_no_value_and_only_what_means_something(evaluation):
    text = as_json(evaluation)
    assert NAME not in text
    found = json.loads(text)

    assert found["systems"][0]["name"] == "none"
    scores = found["systems"][1]["scores"]
    assert scores["label"]["NAME"]["overlap"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert scores["label"]["KEY"]["found_or_extra"] == 4
    assert scores["language"][HOSTILE]["support"] == 4
    assert "excess" in scores["label"]["NAME"]
    assert not {"excess", "token", "clean_flagged"} & set(scores["span length"]["11 to 20"])
    assert scores["kind"]["real"]["reported"] == 1.0
    curve = found["systems"][1]["curve"]
    assert [point["labels"]["micro"]["precision"] for point in curve][:1] == [0.5]
    assert [point["labels"]["micro"]["precision"] for point in curve][-1:] == [1.0]
    assert found["comparisons"][0]["labels"]["NAME"]["value"] == -1.0


def test_the_page_is_whole_escaped_and_shows_the_errors_of_the_first(evaluation, tmp_path):
    path = tmp_path / "out" / "page.html"
    write_report(evaluation, path)
    page = path.read_text(encoding="utf-8")

    assert "<script" not in page
    for title in (
        *("Scores by label", "Precision and recall by threshold", "Confusion of labels by none"),
        *("By language", "By document length", "By span length", "By kind", "Errors of none"),
    ):
        assert f"<h2>{title}</h2>" in page
    assert f'<mark class="gold">{NAME}</mark>' in page
    assert "missed (4)" in page
    assert "p: two-sided, approximate randomisation over documents (Yeh 2000)" in page
    assert page.count("<svg") == 7  # a curve for each label and all; no tagger to calibrate


def test_a_page_that_cannot_be_written_is_one_error(evaluation, tmp_path, monkeypatch):
    monkeypatch.setattr("pii.evaluation_report.unit_chart", lambda *_: "")
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OutputError, match=r"page: cannot be written"):
        write_report(evaluation, path / "page")


def test_curves_and_calibration_are_drawn_of_what_has_scores(evaluation, tmp_path, monkeypatch):
    drawn = {}

    def draw(title, curves, x, y):
        assert title not in drawn
        drawn[title] = curves
        return ""

    monkeypatch.setattr("pii.evaluation_report.unit_chart", draw)
    path = tmp_path / "page.html"
    write_report(evaluate(evaluation.documents, ["tiny"], curves=True), path)

    calibrated = [title for title in drawn if title.startswith("calibration")]
    assert "calibration 0 NAME" in calibrated
    assert "calibration 0 PASSWORD" not in calibrated
    # Patterns have one point, whatever the threshold; of names they have none.
    assert drawn["curve EMAIL"]["2"] == drawn["curve EMAIL"]["2, as scored above"]
    assert list(drawn["curve NAME"]) == ["1", "1, as scored above"]
    page = path.read_text(encoding="utf-8")
    assert "<h2>Calibration of tiny</h2>" in page
    assert "Calibration of none" not in page
