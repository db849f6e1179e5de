import importlib.util
import random
from pathlib import Path

import pytest

from pii.labels import LABELS
from pii.metrics import Counts, best_thresholds, count_matches, leaked_spans, total
from pii.spans import Span

ORACLE = Path(__file__).parents[3] / "shared" / "gold" / "score.py"


def random_spans(rng, *, kinds):
    spans, start = [], 0
    while (start := start + rng.randint(0, 12)) < 100:
        end = min(110, start + rng.randint(1, 15))
        label = rng.choice(LABELS[:3])
        spans.append(Span(start=start, end=end, label=label, kind=rng.choice(kinds)))
        start = end
    return spans


def jitter(rng, span):
    start = max(0, span.start + rng.randint(-2, 2))
    return Span(start=start, end=max(start + 1, span.end + rng.randint(-2, 2)), label=span.label)


@pytest.mark.skipif(not ORACLE.exists(), reason="the gold set's score.py is not at hand")
def test_counts_and_leaks_are_those_of_the_gold_sets_own_scorer():
    spec = importlib.util.spec_from_file_location("score", ORACLE)
    assert spec is not None
    assert spec.loader is not None
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    rng = random.Random(5)
    text = "".join(rng.choices("ab \n", k=120))
    seen = Counts()
    for _ in range(300):
        gold = random_spans(rng, kinds=["real", "real", "example"])
        predicted = [jitter(rng, span) for span in gold if rng.random() < 0.7]
        predicted += random_spans(rng, kinds=["real"])[:2]
        as_dicts = [
            [{"start": s.start, "end": s.end, "label": s.label, "kind": s.kind} for s in spans]
            for spans in (gold, predicted)
        ]
        expected = score.score_text({"id": "x", "text": text, "spans": as_dicts[0]}, as_dicts[1])

        counts = count_matches(gold, predicted)

        assert {k: [c.found, c.extra, c.missed] for k, c in counts.items()} == expected["counts"]
        assert leaked_spans(gold, predicted, text) == expected["leaked"]
        seen += total([counts])["micro"]
    assert min(seen.found, seen.extra, seen.missed) > 100


def test_the_f_score_with_a_larger_beta_prefers_recall():
    precise, complete = Counts(5, 0, 5), Counts(10, 10, 0)

    assert precise.f_score() == pytest.approx(complete.f_score())
    assert precise.f_score(2) < complete.f_score(2)


def test_the_threshold_is_the_middle_of_the_plateau_around_the_best_score():
    good, bad = Counts(9, 1, 1), Counts(5, 5, 5)
    scores = {0.3: bad, 0.4: good, 0.5: good, 0.6: good, 0.7: bad}
    tables = {threshold: dict.fromkeys(LABELS, counts) for threshold, counts in scores.items()}

    assert set(best_thresholds(tables, beta=1.0).values()) == {0.5}


def test_a_tagger_that_adds_nothing_gets_the_strictest_threshold():
    tables = {threshold: dict.fromkeys(LABELS, Counts(9, 1, 1)) for threshold in (0.3, 0.6, 0.9)}

    assert set(best_thresholds(tables, beta=1.0).values()) == {0.9}
