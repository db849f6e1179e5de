import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pii.annotations import Document, read_annotated
from pii.detect import EMBEDDED_MODEL, Detector, load_detector
from pii.evaluate import calibrate, confusion, evaluate, predict
from pii.labels import LABELS, OPERATING_POINTS
from pii.metrics import count_matches, total
from pii.predictions import write_predictions
from pii.spans import Span
from starencoder.errors import DataError, OutputError

GOLD = Path(__file__).parents[3] / "shared" / "gold"
FLOORS = {
    "EMAIL": 0.93,
    "IP_ADDRESS": 0.80,
    "KEY": 0.40,
    "NAME": 0.45,
    "PASSWORD": 0.25,
    "USERNAME": 0.15,
}

needs_gold = pytest.mark.skipif(
    not (GOLD / "dev.jsonl").exists(), reason="the gold set's dev.jsonl is not at hand"
)


TEXT = "# Written by Jonathan Miller <jmiller@corp.io>\nhost = 198.41.0.4\n"


def found(text, value, label, score=1.0, kind="real"):
    start = text.index(value)
    return Span(start=start, end=start + len(value), label=label, score=score, kind=kind)


def document(name="d", text=TEXT, spans=()):
    return Document(id=name, language="Python", package="", path="", text=text, spans=tuple(spans))


@pytest.fixture
def documents():
    wanted = [found(TEXT, "Jonathan Miller", "NAME"), found(TEXT, "jmiller@corp.io", "EMAIL")]
    return [document("one", spans=wanted), document("two", text="pass\n")]


def written(path, documents, spans):
    write_predictions(documents, spans, path)
    return path


def test_patterns_alone_are_scored_beside_whatever_else(documents, tmp_path):
    other = written(tmp_path / "p.jsonl", documents, [documents[0].spans, []])

    assert [one.name for one in evaluate(documents, ["none"]).scored] == ["none"]
    evaluation = evaluate(documents, [], files=[other])
    assert [one.name for one in evaluation.scored] == [str(other), "none"]
    perfect, patterns = evaluation.scored
    assert perfect.labels["micro"].overlap.f1 == 1
    assert patterns.labels["EMAIL"].overlap.f1 == 1
    assert patterns.labels["NAME"].overlap.recall == 0
    assert patterns.labels["IP_ADDRESS"].found_or_extra == 1
    assert evaluation.comparisons == []


def test_the_first_is_compared_with_each_file(documents, tmp_path):
    documents = [document(f"{n}", spans=documents[0].spans) for n in range(12)]
    right = written(tmp_path / "right", documents, [one.spans for one in documents])
    wrong = written(tmp_path / "wrong", documents, [[] for _ in documents])

    evaluation = evaluate(documents, ["none"], files=[right, wrong])
    named = [(one.first, one.second) for one in evaluation.comparisons]
    assert named == [("none", str(right)), ("none", str(wrong))]
    less, more = (one.labels["NAME"] for one in evaluation.comparisons)
    assert (less.value, more.value) == (-1, 0)
    assert less.p < 0.01 < more.p == 1
    assert evaluation.comparisons[1].labels["EMAIL"].value == 1

    (between,) = evaluate(documents, [], files=[right, wrong]).comparisons
    assert (between.first, between.second) == (str(right), str(wrong))


def test_each_threshold_of_the_curve_is_what_a_detector_with_that_threshold_finds(documents):
    evaluation = evaluate(documents, ["tiny"], curves=True)
    assert [one.name for one in evaluation.scored] == ["tiny", "none"]
    tiny = evaluation.scored[0].predictions
    for threshold in (0.3, 0.9):
        predictions = predict(load_detector(min_score=threshold), documents)
        expected = total(map(count_matches, (one.spans for one in documents), predictions))
        assert expected["NAME"].found == 1
        assert tiny.sweep[threshold] == expected
    assert tiny.spans == predict(load_detector(), documents)
    # The patterns' spans have no probability, and the tagger's are all that is left.
    assert not tiny.reliability["EMAIL"].bins
    assert sum(b.predictions for b in tiny.reliability["NAME"].bins) == 1
    assert evaluation.tokens == "tokenizer of tiny"
    assert evaluate(documents, ["none"]).tokens == "words and symbols"


def test_confusion_counts_each_wanted_and_each_counted_span_once():
    text = "x" * 60
    wanted = [found(text, "x" * 10, "NAME"), Span(start=20, end=30, label="KEY")]
    wanted.append(Span(start=50, end=60, label="EMAIL"))
    spans = [found(text, "x" * 9, "NAME"), Span(start=22, end=25, label="PASSWORD")]
    spans.append(Span(start=40, end=41, label="KEY"))

    assert confusion([document(text=text, spans=wanted)], [spans]) == {
        ("NAME", "NAME"): 1,
        ("KEY", "PASSWORD"): 1,
        ("EMAIL", "none"): 1,
        ("none", "KEY"): 1,
    }


def test_a_full_disk_leaves_the_config_that_was_there(tmp_path, documents):
    model = model_in(tmp_path)
    before = (model / "config.json").read_bytes()
    # In the way of the temporary file; any other error while it is written ends alike.
    (model / "config.json.partial").mkdir()

    with pytest.raises(OutputError, match=r"config\.json: cannot be written"):
        calibrate(model, documents)
    assert (model / "config.json").read_bytes() == before


def model_in(folder):
    """A copy of the embedded model whose thresholds are all 0.41."""
    model = folder / "model"
    shutil.copytree(EMBEDDED_MODEL, model)
    config = json.loads((model / "config.json").read_text())
    points = dict.fromkeys(OPERATING_POINTS, dict.fromkeys(LABELS, 0.41))
    config["pii"]["operating_points"] = points
    (model / "config.json").write_text(json.dumps(config))
    return model


def thresholds_of(model):
    return json.loads((model / "config.json").read_text())["pii"]["operating_points"]


@pytest.mark.parametrize("kind", [None, "example"])
def test_documents_without_a_wanted_span_choose_no_thresholds(tmp_path, documents, kind):
    model = model_in(tmp_path)
    before = (model / "config.json").read_bytes()
    spans = [dataclasses.replace(span, kind=kind) for span in documents[0].spans if kind]
    for gold in ([], [document(spans=spans)]):
        with pytest.raises(DataError, match=f"{len(gold)} documents without any wanted span"):
            calibrate(model, gold)
    assert (model / "config.json").read_bytes() == before


def test_labels_that_nothing_is_known_of_keep_their_thresholds(tmp_path, documents, monkeypatch):
    model = model_in(tmp_path)
    # A key that is found from 0.6 on is the only thing that a threshold makes a difference for.
    text = "Jonathan Miller k3y"
    found_as = [found(text, "k3y", "KEY", 0.7), found(text, "Miller", "KEY", 0.5)]
    monkeypatch.setattr(Detector, "tagged_spans", lambda self, text: [])
    monkeypatch.setattr(
        Detector,
        "combine",
        lambda self, text, spans, thresholds: [
            span for span in found_as if span.score >= thresholds["KEY"]
        ],
    )
    gold = [document(text=text, spans=[found(text, "k3y", "KEY"), found(text, "Jon", "NAME")])]
    calibration = calibrate(model, gold)

    assert calibration.without_spans == ["USERNAME", "EMAIL", "IP_ADDRESS", "PASSWORD"]
    assert calibration.unmeasured == ["NAME"]
    assert thresholds_of(model) == calibration.points
    for thresholds in calibration.points.values():
        assert 0.5 < thresholds.pop("KEY") <= 0.7
        assert set(thresholds.values()) == {0.41}


def test_examples_are_not_predicted_and_attributions_are():
    kinds = ("real", "example", "licence")

    class Scripted(Detector):
        def detect(self, text):
            return [
                Span(start=at, end=at + 1, label="NAME", kind=kind) for at, kind in enumerate(kinds)
            ]

    document = Document(id="a", language="", package="", path="", text="abc", spans=())
    (spans,) = predict(Scripted(None, thresholds={}), [document])
    assert [span.kind for span in spans] == ["real", "licence"]


# --------------------------------------------------------------------------------------------------
# the embedded model on the gold set


def f_scores(documents, predictions):
    sums = total(
        count_matches(document.spans, spans)
        for document, spans in zip(documents, predictions, strict=True)
    )
    return {label: counts.f_score() for label, counts in sums.items()}


@needs_gold
def test_the_embedded_model_is_as_good_on_the_gold_set_as_it_must_be():
    documents = read_annotated(str(GOLD / "dev.jsonl")).documents
    scores = f_scores(documents, predict(load_detector(), documents))

    assert {label: scores[label] for label in LABELS if scores[label] < FLOORS[label]} == {}


@pytest.fixture
def one_torch_thread():
    # Several that wait for each other take ten times as long on a busy machine.
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@needs_gold
@pytest.mark.slow
def test_int8_finds_what_float32_finds_within_one_point_for_each_label(one_torch_thread):
    from pii.detect import EMBEDDED_MODEL, ROUTER
    from pii.predict import load_torch_predict
    from pii.tagger import load_tagger

    documents = read_annotated(str(GOLD / "dev.jsonl")).documents
    quantised = f_scores(documents, predict(load_detector(disabled=frozenset({ROUTER})), documents))
    tagger = load_tagger(EMBEDDED_MODEL, load_torch_predict(EMBEDDED_MODEL))
    thresholds = tagger.operating_points["balanced"]
    exact = f_scores(documents, predict(Detector(tagger, thresholds=thresholds), documents))

    differences = {label: abs(quantised[label] - exact[label]) for label in LABELS}
    assert {label: d for label, d in differences.items() if d > 0.01} == {}
