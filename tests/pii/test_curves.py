import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.annotations import Document
from pii.curves import THRESHOLDS, reliability, sweep
from pii.spans import Span

TEXT = "x" * 100


def document(*spans):
    return Document(id="a", language="", package="", path="", text=TEXT, spans=spans)


def span(start, score=1.0, label="NAME", kind="real"):
    return Span(start=start, end=start + 5, label=label, score=score, kind=kind)


def test_the_calibration_error_is_the_mean_distance_weighed_by_predictions():
    gold = [span(0), span(10), span(20)]
    # Scores 0.95 and 0.91: both right. 0.35, 0.31 and 0.30: one right. 0.62: wrong.
    found = [
        *(span(0, 0.95), span(10, 0.91)),
        *(span(20, 0.35), span(30, 0.31), span(40, 0.30)),
        span(50, 0.62),
    ]
    result = reliability([document(*gold)], [found])["NAME"]

    assert [(b.predictions, round(b.right, 3)) for b in result.bins] == [
        (3, 0.333),
        (1, 0.0),
        (2, 1.0),
    ]
    assert [b.score for b in result.bins] == pytest.approx([0.32, 0.62, 0.93])
    expected = (3 * abs(0.32 - 1 / 3) + 1 * 0.62 + 2 * 0.07) / 6
    assert result.error == pytest.approx(expected)


@given(scores=st.lists(st.floats(0, 1), max_size=15), right=st.integers(0, 15))
def test_every_prediction_is_in_one_bin_and_bins_rise(scores, right):
    spans = [span(6 * at, score) for at, score in enumerate(scores)]
    result = reliability([document(*spans[:right])], [spans])["micro"]

    assert sum(b.predictions for b in result.bins) == len(spans)
    assert sum(b.predictions * b.right for b in result.bins) == pytest.approx(len(spans[:right]))
    assert sum(b.predictions * b.score for b in result.bins) == pytest.approx(sum(scores))
    assert list(result.bins) == sorted(result.bins, key=lambda b: b.score)
    assert 0 <= result.error <= 1


def test_the_last_bin_holds_certainty_too():
    result = reliability([document()], [[span(0, 0.9), span(10, 1.0)]])["micro"]
    assert [b.predictions for b in result.bins] == [2]


def test_predictions_inside_what_is_not_wanted_have_no_part_in_calibration():
    result = reliability([document(span(0, kind="example"))], [[span(0, 0.4), span(20, 0.4)]])
    assert [b.predictions for b in result["NAME"].bins] == [1]


def test_of_another_label_a_prediction_is_wrong_for_the_label_it_names():
    result = reliability([document(span(0))], [[span(0, 0.8, label="USERNAME")]])
    assert [b.right for b in result["USERNAME"].bins] == [0]
    assert result["NAME"].bins == []


def test_a_sweep_counts_what_is_found_from_each_score():
    scored = [span(0, 0.35), span(10, 0.6)]
    counts = sweep([document(span(0), span(20))], lambda t: [[s for s in scored if s.score >= t]])

    assert tuple(counts) == THRESHOLDS
    seen = {t: (c["NAME"].found, c["NAME"].extra, c["NAME"].missed) for t, c in counts.items()}
    assert seen[0.3] == (1, 1, 1)
    assert seen[0.36] == (0, 1, 2)
    assert seen[0.62] == (0, 0, 2)
    assert all(c["micro"] == c["NAME"] for c in counts.values())
