import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.masking import Masker

MASK_ID = 3
SPECIAL_IDS = (0, 1, 2, 3, 4)


@given(
    ids=st.lists(st.integers(0, 199), min_size=1, max_size=300),
    share=st.floats(0.01, 0.99),
    policy=st.sampled_from(["80-10-10", "mask"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_share_of_ordinary_tokens_is_hidden_and_kept_as_targets(
    memory_documents, ids, share, policy, seed
):
    masker = Masker(memory_documents.vocabulary, share=share, policy=policy)
    original = np.array(ids, np.uint16)
    masked = original.copy()

    positions, targets = masker.mask(masked, np.random.default_rng(seed))

    ordinary = int((~np.isin(original, SPECIAL_IDS)).sum())
    assert len(positions) == (max(1, round(share * ordinary)) if ordinary else 0)
    assert len(positions) <= masker.most(len(ids))
    assert sorted(set(positions.tolist())) == positions.tolist()
    np.testing.assert_array_equal(targets, original[positions])
    assert not np.isin(targets, SPECIAL_IDS).any()
    untouched = np.setdiff1d(np.arange(len(ids)), positions)
    np.testing.assert_array_equal(masked[untouched], original[untouched])
    allowed = (MASK_ID,) if policy == "mask" else (MASK_ID, *range(5, 200))
    assert np.isin(masked[positions], allowed).all()


def test_of_hidden_tokens_eight_in_ten_are_masks_one_is_random_and_one_stays(memory_documents):
    vocabulary = dataclasses.replace(
        memory_documents.vocabulary, size=60_000, line_ends=np.zeros(60_000, bool)
    )
    masker = Masker(vocabulary, share=0.5, policy="80-10-10")
    rng = np.random.default_rng(0)
    ids = rng.integers(10, 60_000, 40_000).astype(np.uint16)
    masked = ids.copy()

    positions, targets = masker.mask(masked, rng)

    count = len(positions)
    kept = (masked[positions] == targets).sum()
    hidden = (masked[positions] == MASK_ID).sum()
    changed = masked[positions][(masked[positions] != targets) & (masked[positions] != MASK_ID)]
    assert abs(hidden - 0.8 * count) < 4 * np.sqrt(0.16 * count)
    assert abs(kept - 0.1 * count) < 4 * np.sqrt(0.09 * count)
    assert abs(len(changed) - 0.1 * count) < 4 * np.sqrt(0.09 * count)
    assert abs(changed.mean() - 30_000) < 4 * 17_320 / np.sqrt(len(changed))


def test_every_position_is_as_likely(memory_documents):
    masker = Masker(memory_documents.vocabulary, share=0.15, policy="80-10-10")
    rng = np.random.default_rng(0)
    counts = np.zeros(100)
    for _ in range(2000):
        counts[masker.mask(np.full(100, 50, np.uint16), rng)[0]] += 1

    assert counts.sum() == 2000 * 15
    assert np.abs(counts - 300).max() < 5 * np.sqrt(2000 * 0.15 * 0.85)


@pytest.mark.parametrize("policy", ["80-10-10", "mask"])
def test_a_row_of_special_tokens_stays_as_it_is(memory_documents, policy):
    ids = np.array([1, 4, 2, 4, 2, 0], np.uint16)

    positions, targets = Masker(memory_documents.vocabulary, share=0.15, policy=policy).mask(
        ids, np.random.default_rng(0)
    )

    assert ids.tolist() == [1, 4, 2, 4, 2, 0]
    assert len(positions) == len(targets) == 0
