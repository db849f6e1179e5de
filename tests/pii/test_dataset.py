import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pii.dataset import TokenisedDocument, align_targets, iter_batches
from pii.labels import IGNORE_TARGET, LABELS, TAGS
from pii.spans import Span


@st.composite
def tokens_and_spans(draw):
    widths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=30))
    bounds = np.cumsum([0, *widths])
    offsets = np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.int32)
    cuts = sorted(draw(st.sets(st.integers(0, int(bounds[-1])), max_size=8)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    spans = [Span(start=a, end=b, label=draw(st.sampled_from(LABELS))) for a, b in pairs]
    return offsets, spans


@given(tokens_and_spans())
def test_a_token_is_tagged_just_when_it_shares_a_character_with_a_span(case):
    offsets, spans = case
    targets = align_targets(offsets, spans)

    for (start, end), target in zip(offsets, targets, strict=True):
        touching = [s for s in spans if max(start, s.start) < min(end, s.end)]
        if start < end:
            assert (TAGS[target] == "O") == (not touching)
        if touching:
            assert TAGS[target][2:] in {s.label for s in touching}


def test_the_first_token_of_a_span_begins_it():
    offsets = np.array([[0, 2], [2, 4], [5, 8]], np.int32)

    targets = align_targets(offsets, [Span(start=1, end=8, label="NAME")])

    assert [TAGS[t] for t in targets] == ["B-NAME", "I-NAME", "I-NAME"]


class FakeTokenizer:
    pad_id, cls_id, sep_id = 0, 1, 2


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
    batch_size=st.integers(1, 7),
)
def test_an_epoch_holds_every_token_once_with_its_target(lengths, seed, batch_size):
    documents, first = [], 10
    for length in lengths:
        ids = np.arange(first, first + length, dtype=np.int32)
        documents.append(TokenisedDocument(ids, (ids % 13).astype(np.int8)))
        first += length

    batches = list(
        iter_batches(
            documents,
            FakeTokenizer(),
            max_tokens=9,
            batch_size=batch_size,
            rng=np.random.default_rng(seed),
        )
    )

    seen = []
    for batch in batches:
        assert len(batch.input_ids) <= batch_size
        for ids, mask, targets in zip(
            batch.input_ids, batch.attention_mask, batch.targets, strict=True
        ):
            length = int(mask.sum())
            assert ids[0] == 1
            assert ids[length - 1] == 2
            assert set(ids[length:]) <= {0}
            real = targets != IGNORE_TARGET
            assert list(np.flatnonzero(real)) == list(range(1, length - 1))
            assert (targets[real] == ids[real] % 13).all()
            seen += ids[real].tolist()
    assert sorted(seen) == list(range(10, first))
