import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from pii.annotations import Document
from pii.dataset import align_targets
from pii.labels import LABELS, TAGS
from pii.predictions import write_predictions
from pii.resampling import Bootstrap, interval
from pii.scores import f1_of, group_scores, tally
from pii.spans import Span

SCORER = Path(__file__).parents[3] / "shared" / "gold" / "score.py"


def random_spans(rng, length, *, kinds):
    spans, start = [], 0
    while (start := start + rng.randint(0, 12)) < length - 15:
        end = start + rng.randint(1, 15)
        spans.append(
            Span(start=start, end=end, label=rng.choice(LABELS), kind=rng.choice(kinds), score=0.5)
        )
        start = end
    return spans


def moved(rng, span, length):
    start = max(0, span.start + rng.randint(-1, 1))
    end = min(length, max(start + 1, span.end + rng.randint(-1, 1)))
    return Span(start=start, end=end, label=span.label, score=0.25)


def random_case(seed, *, kinds=("real", "real", "example", "licence")):
    """Random documents and predictions, many of them right; some documents hold nothing."""
    rng = random.Random(seed)
    documents, predictions = [], []
    for number in range(80):
        text = "".join(rng.choices("ab é\n王", k=600 if number == 1 else rng.randint(20, 150)))
        gold = [] if number % 4 == 0 else random_spans(rng, len(text), kinds=kinds)
        wanted = [moved(rng, span, len(text)) for span in gold if rng.random() < 0.7]
        extra = random_spans(rng, len(text), kinds=["real"])[: rng.randint(0, 1)]
        predictions.append(wanted + extra)
        documents.append(
            Document(
                id=f"d{number}",
                language=rng.choice(["C", "Go", ""]),
                package="",
                path="",
                text=text,
                spans=tuple(gold),
            )
        )
    return documents, predictions


def characters(documents):
    return [np.array([(at, at + 1) for at in range(len(d.text))], np.int32) for d in documents]


def scores_of(documents, predictions, dimension="label"):
    bootstrap = Bootstrap(len(documents))
    groups = tally(documents, predictions, characters(documents))[dimension]
    return {name: group_scores(group, bootstrap) for name, group in groups.items()}


def gold_line(document):
    spans = [
        {"start": s.start, "end": s.end, "label": s.label, "kind": s.kind} for s in document.spans
    ]
    return json.dumps({"id": document.id, "text": document.text, "spans": spans})


@pytest.mark.skipif(not SCORER.exists(), reason="the gold set's score.py is not at hand")
@pytest.mark.parametrize("seed", [1, 2])
def test_all_scores_are_to_the_last_bit_those_of_the_gold_sets_own_scorer(seed, tmp_path):
    documents, predictions = random_case(seed)
    gold, predicted = tmp_path / "gold.jsonl", tmp_path / "predicted.jsonl"
    gold.write_text("\n".join(map(gold_line, documents)), encoding="utf-8")
    write_predictions(documents, predictions, predicted)
    command = [sys.executable, SCORER, gold, predicted, "--json"]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    ours = scores_of(documents, predictions)

    assert {
        **{
            label: {
                "precision": scores.overlap.precision,
                "recall": scores.overlap.recall,
                "f1": scores.overlap.f1,
                "support": scores.support,
                "f1_95": list(scores.f1_interval),
            }
            for label, scores in ours.items()
        },
        "leaked": ours["micro"].leaked,
        "excess_per_1000_chars": ours["micro"].excess,
        "files_clean_fp": ours["micro"].clean_flagged,
    } == theirs
    assert all(0.2 < theirs["micro"][name] < 0.95 for name in ("precision", "recall"))
    assert min(theirs["leaked"], theirs["excess_per_1000_chars"], theirs["files_clean_fp"]) > 0


def tag_names(document, spans):
    (offsets,) = characters([document])
    return [TAGS[tag] for tag in align_targets(offsets, sorted(spans, key=lambda s: s.start))]


def test_scores_by_token_are_those_of_seqeval():
    documents, predictions = random_case(3, kinds=["real"])
    gold = [tag_names(d, d.spans) for d in documents]
    found = [tag_names(d, spans) for d, spans in zip(documents, predictions, strict=True)]

    ours = scores_of(documents, predictions)

    options = {"average": None, "zero_division": 0}
    by_label = {
        label: (ours[label].token.precision, ours[label].token.recall, ours[label].token.f1)
        for label in sorted(LABELS)
    }
    theirs = [score(gold, found, **options) for score in (precision_score, recall_score, f1_score)]
    assert list(by_label.values()) == [pytest.approx(row) for row in zip(*theirs, strict=True)]
    micro = ours["micro"].token
    assert micro.f1 == pytest.approx(f1_score(gold, found))
    assert 0.05 < micro.f1 < 0.95


def test_tokens_of_spans_that_are_not_wanted_are_neither_right_nor_wrong():
    placeholder = Span(start=0, end=8, label="NAME", kind="example")
    ada = Span(start=21, end=24, label="NAME")
    document = Document(
        id="a",
        language="",
        package="",
        path="",
        text="John Doe wrote it to Ada",
        spans=(placeholder, ada),
    )
    words = [np.array([(0, 4), (5, 8), (9, 14), (15, 17), (18, 20), (21, 24)], np.int32)]

    def token_score(*spans):
        group = tally([document], [spans], words)["label"]["NAME"]
        return group_scores(group, Bootstrap(1)).token

    doe = Span(start=0, end=8, label="NAME")
    assert token_score(ada).f1 == 1
    assert token_score(doe, ada).f1 == 1
    assert token_score(doe).f1 == 0
    # What reaches beyond them is wrong.
    assert token_score(Span(start=0, end=14, label="NAME"), ada).precision == 0.5


def test_exact_scores_count_the_very_same_limits():
    documents, predictions = random_case(4)
    found = 0
    for document, predicted in zip(documents, predictions, strict=True):
        limits = Counter((s.start, s.end, s.label) for s in document.spans if s.kind == "real")
        found += (limits & Counter((s.start, s.end, s.label) for s in predicted)).total()
    micro = scores_of(documents, predictions)["micro"]
    assert micro.exact.recall == found / micro.support
    assert micro.exact.f1 < micro.overlap.f1


@pytest.mark.parametrize("dimension", ["language", "document length", "span length"])
def test_the_groups_of_a_dimension_add_up_to_all(dimension):
    documents, predictions = random_case(5)
    groups = tally(documents, predictions, characters(documents))
    micro = groups["label"]["micro"].counts.sum(axis=0)
    added = sum(group.counts.sum(axis=0) for group in groups[dimension].values())

    # Groups of spans have no tokens and no characters of their own.
    spans_only = dimension == "span length"
    columns = [0, 1, 2, 3, 4, 5, 9] if spans_only else range(len(micro))
    assert [added[at] for at in columns] == [micro[at] for at in columns]
    assert len(groups[dimension]) > 1


def test_a_group_of_documents_has_the_scores_of_these_documents_alone():
    documents, predictions = random_case(6)
    of_go = [at for at, document in enumerate(documents) if document.language == "Go"]
    alone = scores_of([documents[at] for at in of_go], [predictions[at] for at in of_go])["micro"]
    in_group = scores_of(documents, predictions, "language")["Go"]

    for field in ("overlap", "exact", "token", "support", "leaked", "excess", "clean_flagged"):
        assert getattr(in_group, field) == getattr(alone, field), field
    # In each resample as many of them are drawn as among all documents.
    micro = tally(documents, predictions, characters(documents))["label"]["micro"].counts.copy()
    micro[[at for at in range(len(documents)) if at not in of_go]] = 0
    sums = Bootstrap(len(documents)).sums(micro, np.arange(len(documents)))
    assert in_group.f1_interval == interval(f1_of(sums))


def test_lengths_fall_into_groups_with_their_upper_limit():
    text = "x" * 50
    spans = [Span(start=0, end=5, label="KEY"), Span(start=6, end=12, label="KEY")]
    document = Document(id="a", language="", package="", path="", text=text, spans=tuple(spans))
    groups = tally([document], [[]], characters([document]))

    assert list(groups["span length"]) == ["1 to 5", "6 to 10"]
    assert list(groups["document length"]) == ["1 to 500"]
    assert list(groups["language"]) == ["unknown"]


def test_of_each_kind_it_is_said_how_much_is_reported():
    text = "x" * 50
    spans = [
        Span(start=0, end=5, label="KEY", kind="example"),
        Span(start=10, end=15, label="KEY", kind="example"),
        Span(start=20, end=25, label="KEY", kind="licence"),
    ]
    document = Document(id="a", language="", package="", path="", text=text, spans=tuple(spans))
    found = [Span(start=10, end=15, label="KEY"), Span(start=20, end=25, label="NAME")]
    scores = scores_of([document], [found], "kind")

    assert {kind: (s.support, s.overlap.recall, s.leaked) for kind, s in scores.items()} == {
        "example": (2, 0.5, 0.5),
        "licence": (1, 0.0, 0.0),
    }


def test_a_rare_label_that_is_always_found_has_an_interval_of_one():
    name, key = Span(start=0, end=5, label="NAME"), Span(start=10, end=15, label="KEY")
    spans = [(name, key), *[(name,)] * 19]
    documents = [
        Document(id=f"d{n}", language="", package="", path="", text="x" * 20, spans=one)
        for n, one in enumerate(spans)
    ]
    scores = scores_of(documents, [list(one) for one in spans])["KEY"]
    assert (scores.overlap.f1, scores.f1_interval) == (1, (1, 1))
    # Nobody gave a KEY: each resample that has one lost it.
    lost = scores_of(documents, [[]] * 20)["KEY"]
    assert (lost.leaked, lost.leaked_interval, lost.f1_interval) == (1, (1, 1), (0, 0))
    assert scores_of(documents, [[]] * 20)["EMAIL"].f1_interval == (0, 0)
