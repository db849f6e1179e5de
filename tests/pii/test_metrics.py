import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from pii.labels import LABELS, TAGS
from pii.metrics import (
    Counts,
    Outcome,
    best_thresholds,
    count_matches,
    count_tags,
    leaked_spans,
    match_spans,
    operating_points,
    pair_errors,
    tag_entities,
    total,
)
from pii.spans import Span, overlap

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
        gold = random_spans(rng, kinds=["real", "real", "example", "licence"])
        predicted = [jitter(rng, span) for span in gold if rng.random() < 0.7]
        predicted += random_spans(rng, kinds=["real"])[:2]
        as_dicts = [
            [{"start": s.start, "end": s.end, "label": s.label, "kind": s.kind} for s in spans]
            for spans in (gold, predicted)
        ]
        expected = score.score_text({"id": "x", "text": text, "spans": as_dicts[0]}, as_dicts[1])

        counts = count_matches(gold, predicted)

        assert {k: [c.found, c.extra, c.missed] for k, c in counts.items()} == expected["counts"]
        assert len(leaked_spans(gold, predicted, text)) == expected["leaked"]
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


def test_balanced_has_few_alarms_whatever_its_f_score_and_thorough_may_have_more():
    grid = [index / 10 for index in range(1, 10)]
    # F1 is best at 0.3, where 90 of 1,000 clean documents have an alarm; 40 at 0.4, 6 at 0.6.
    alarms = [300, 200, 90, 40, 20, 6, 4, 2, 0]
    tables = {
        threshold: dict.fromkeys(LABELS, Counts(1000, 100, 100 + abs(3 - step) * 50, alarm))
        for step, (threshold, alarm) in enumerate(zip(grid, alarms, strict=True), 1)
    }

    chosen = operating_points(tables, 1000)

    assert best_thresholds(tables, beta=1.0)["NAME"] == 0.3
    assert chosen["balanced"]["NAME"] == 0.6
    assert chosen["thorough"]["NAME"] == 0.4


def test_where_every_threshold_alarms_the_strictest_is_taken():
    tables = {threshold: dict.fromkeys(LABELS, Counts(9, 1, 1, 50)) for threshold in (0.3, 0.9)}

    assert set(best_thresholds(tables, beta=1.0, most_alarms=1).values()) == {0.9}


def test_only_documents_without_any_span_alarm():
    found = [span(0, 4), span(10, 14)]

    assert count_matches([], found)["NAME"].alarms == 1
    assert count_matches([], [])["NAME"].alarms == 0
    assert count_matches([span(20, 24, kind="example")], found)["NAME"].alarms == 0


def span(start, end, label="NAME", kind="real"):
    return Span(start=start, end=end, label=label, kind=kind)


@st.composite
def some_spans(draw):
    bounds = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=8))
    labels = draw(st.lists(st.sampled_from(LABELS[:2]), min_size=8, max_size=8))
    kinds = draw(st.lists(st.sampled_from(["real", "real", "example"]), min_size=8, max_size=8))
    starts = [span(a, a + n, *more) for (a, n), *more in zip(bounds, labels, kinds, strict=False)]
    return starts


@given(gold=some_spans(), predicted=some_spans())
def test_what_has_the_very_limits_is_what_the_exact_share_matches(gold, predicted):
    matched = [
        (o.gold, o.predicted)
        for o in match_spans(gold, predicted, share=1.0)
        if o.gold is not None and o.predicted is not None
    ]
    assert all((g.start, g.end, g.label) == (p.start, p.end, p.label) for g, p in matched)

    def limits(spans):
        return [(s.start, s.end, s.label) for s in spans]

    wanted, free = limits(s for s in gold if s.kind == "real"), limits(predicted)
    same = sum(min(wanted.count(one), free.count(one)) for one in set(wanted))
    assert len(matched) == same


@given(gold=some_spans(), predicted=some_spans())
def test_every_missed_and_every_extra_span_is_in_one_error(gold, predicted):
    outcomes = match_spans(gold, predicted)
    errors = pair_errors(outcomes)

    missed = [id(o.gold) for o in outcomes if o.predicted is None]
    extra = [id(o.predicted) for o in outcomes if o.gold is None]
    assert sorted(id(e.gold) for e in errors if e.gold) == sorted(missed)
    assert sorted(id(e.predicted) for e in errors if e.predicted) == sorted(extra)
    # What is left alone overlaps nothing else that is left alone.
    alone = [e for e in errors if e.gold is None or e.predicted is None]
    assert not any(
        overlap(one.gold, other.predicted)
        for one in alone
        for other in alone
        if one.gold and other.predicted
    )


def test_a_missed_span_is_paired_with_the_extra_one_that_overlaps_it_most():
    gold = [span(0, 10), span(40, 50)]
    predicted = [span(8, 12, "KEY"), span(2, 7), span(60, 61)]

    assert pair_errors(match_spans(gold, predicted)) == [
        Outcome(gold[0], predicted[1]),
        Outcome(None, predicted[0]),
        Outcome(gold[1], None),
        Outcome(None, predicted[2]),
    ]


tag_ids = st.lists(st.integers(0, 4), max_size=25).map(lambda ids: np.array(ids, np.int8))


@given(tags=tag_ids)
def test_entities_of_tags_are_those_that_seqeval_reads(tags):
    assert tag_entities(tags) == set(get_entities([TAGS[tag] for tag in tags]))


@given(pair=tag_ids.flatmap(lambda tags: st.tuples(st.just(tags), st.permutations(list(tags)))))
def test_counts_of_tags_add_up_to_the_entities_of_each(pair):
    gold, predicted = pair[0], np.array(pair[1], np.int8)
    counts = total([count_tags(gold, predicted)])["micro"]
    assert counts.found + counts.missed == len(tag_entities(gold))
    assert counts.found + counts.extra == len(tag_entities(predicted))
    assert counts.found == len(tag_entities(gold) & tag_entities(predicted))
