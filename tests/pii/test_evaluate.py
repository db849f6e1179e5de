import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pii.dataset import Document, read_documents
from pii.detect import Detector, load_detector
from pii.evaluate import calibrate, predict, score_table, write_predictions
from pii.labels import LABELS
from pii.metrics import count_matches, total
from pii.spans import Span
from starencoder.errors import OutputError

GOLD = Path(__file__).parents[3] / "shared" / "gold"
FLOORS = {
    "EMAIL": 0.93,
    "IP_ADDRESS": 0.80,
    "KEY": 0.40,
    "NAME": 0.45,
    "PASSWORD": 0.25,
    "USERNAME": 0.15,
}

needs_scorer = pytest.mark.skipif(
    not (GOLD / "score.py").exists(), reason="the gold set's score.py is not at hand"
)
needs_gold = pytest.mark.skipif(
    not (GOLD / "dev.jsonl").exists(), reason="the gold set's dev.jsonl is not at hand"
)


def random_spans(rng, length, *, kinds):
    spans, start = [], 0
    while (start := start + rng.randint(0, 12)) < length - 15:
        end = start + rng.randint(1, 15)
        label, kind = rng.choice(LABELS), rng.choice(kinds)
        spans.append(Span(start=start, end=end, label=label, kind=kind, score=0.5))
        start = end
    return spans


def moved(rng, span, length):
    start = max(0, span.start + rng.randint(-1, 1))
    end = min(length, max(start + 1, span.end + rng.randint(-1, 1)))
    return Span(start=start, end=end, label=span.label, score=0.25)


@pytest.fixture
def scored():
    """Random documents and predictions, many of them right."""
    rng = random.Random(11)
    documents, predictions = [], []
    for number in range(120):
        text = "".join(rng.choices("ab é\n王", k=rng.randint(20, 150)))
        gold = random_spans(rng, len(text), kinds=["real", "real", "example"])
        wanted = [moved(rng, span, len(text)) for span in gold if rng.random() < 0.7]
        predictions.append(wanted + random_spans(rng, len(text), kinds=["real"])[:1])
        documents.append(
            Document(
                id=f"d{number}", language="", package="", path="", text=text, spans=tuple(gold)
            )
        )
    return documents, predictions


@needs_scorer
def test_the_table_is_that_of_the_gold_sets_own_scorer(scored, tmp_path):
    documents, predictions = scored
    gold, predicted = tmp_path / "gold.jsonl", tmp_path / "predicted.jsonl"
    lines = [
        json.dumps(
            {
                "id": document.id,
                "text": document.text,
                "spans": [
                    {"start": s.start, "end": s.end, "label": s.label, "kind": s.kind}
                    for s in document.spans
                ],
            }
        )
        for document in documents
    ]
    gold.write_text("\n".join(lines), encoding="utf-8")
    write_predictions(documents, predictions, predicted)
    command = [sys.executable, GOLD / "score.py", gold, predicted, "--bootstrap", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # It says more in its last line, and leaves room for intervals, which are switched off.
    *theirs, last = done.stdout.splitlines()

    *ours, leaked = score_table(documents, predictions).splitlines()

    assert [line.split() for line in ours[1:]] == [line.split() for line in theirs[1:]]
    assert leaked.split() == last.split()[:2]
    micro = dict(zip(("precision", "recall"), ours[-1].split()[1:3], strict=True))
    assert all(0.2 < float(value) < 0.95 for value in micro.values())


def test_predictions_are_written_without_their_values(scored, tmp_path):
    documents, predictions = scored
    path = tmp_path / "predicted.jsonl"
    write_predictions(documents, predictions, path)

    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record["id"] for record in records] == [document.id for document in documents]
    for record, spans in zip(records, predictions, strict=True):
        assert record["spans"] == [
            {"start": s.start, "end": s.end, "label": s.label, "score": s.score} for s in spans
        ]
    with pytest.raises(OutputError, match=r"p: cannot be written"):
        write_predictions(documents, predictions, path / "p")


def test_a_record_that_fails_leaves_the_predictions_that_were_there(scored, tmp_path):
    documents, predictions = scored
    path = tmp_path / "predicted.jsonl"
    path.write_text("before", encoding="utf-8")

    with pytest.raises(ValueError, match="zip"):
        write_predictions(documents, predictions[:-1], path)
    assert path.read_text(encoding="utf-8") == "before"


def test_a_full_disk_leaves_the_config_that_was_there(tmp_path, monkeypatch):
    config = tmp_path / "config.json"
    config.write_text('{"pii": {}}', encoding="utf-8")
    # In the way of the temporary file; any other error while it is written ends alike.
    (tmp_path / "config.json.partial").mkdir()
    monkeypatch.setattr("pii.evaluate.load_detector", lambda _: None)

    with pytest.raises(OutputError, match=r"config\.json: cannot be written"):
        calibrate(tmp_path, [])
    assert config.read_text(encoding="utf-8") == '{"pii": {}}'


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
    documents = read_documents(GOLD / "dev.jsonl")
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
    from pii.detect import EMBEDDED_MODEL
    from pii.predict import load_torch_predict
    from pii.tagger import load_tagger

    documents = read_documents(GOLD / "dev.jsonl")
    quantised = f_scores(documents, predict(load_detector(), documents))
    tagger = load_tagger(EMBEDDED_MODEL, load_torch_predict(EMBEDDED_MODEL))
    thresholds = tagger.operating_points["balanced"]
    exact = f_scores(documents, predict(Detector(tagger, thresholds=thresholds), documents))

    differences = {label: abs(quantised[label] - exact[label]) for label in LABELS}
    assert {label: d for label, d in differences.items() if d > 0.01} == {}
