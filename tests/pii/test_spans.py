from hypothesis import given
from hypothesis import strategies as st

from pii.labels import LABELS
from pii.spans import Span, overlap, resolve_overlaps


@st.composite
def spans(draw):
    start = draw(st.integers(0, 50))
    return Span(
        start=start,
        end=start + draw(st.integers(1, 20)),
        label=draw(st.sampled_from(LABELS)),
        score=draw(st.floats(0, 1)),
        source=draw(st.sampled_from(["model", "pattern:email"])),
    )


@given(st.lists(spans(), max_size=20))
def test_no_two_resolved_spans_overlap_and_every_span_touches_a_kept_one(found):
    kept = resolve_overlaps(found)

    assert all(overlap(a, b) == 0 for a in kept for b in kept if a is not b)
    assert kept == sorted(kept, key=lambda span: span.start)
    assert all(span in found for span in kept)
    assert all(any(overlap(span, k) for k in kept) for span in found)


@given(st.lists(spans(), max_size=12), st.randoms())
def test_the_order_of_the_input_does_not_matter(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)

    assert [(s.start, s.end) for s in resolve_overlaps(shuffled)] == [
        (s.start, s.end) for s in resolve_overlaps(found)
    ]


def test_a_pattern_wins_over_the_model_and_a_longer_span_over_a_shorter_one():
    model = Span(start=0, end=30, label="NAME", score=0.9)
    short = Span(start=5, end=9, label="EMAIL", source="pattern:email")
    long = Span(start=5, end=12, label="EMAIL", source="pattern:email")

    assert resolve_overlaps([model, short, long]) == [long]
