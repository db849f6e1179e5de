import itertools

import numpy as np
import pytest

from pii import resampling
from pii.resampling import Bootstrap, interval, randomisation_test


def share_found(sums):
    return sums[..., 0] / np.maximum(1, sums[..., 0] + sums[..., 1])


def counts(*pairs):
    return np.array(pairs, np.int64)


def test_a_resample_has_as_many_documents_and_is_the_same_for_every_score():
    bootstrap = Bootstrap(5)
    everywhere = np.arange(5)
    ones, rising = np.ones((5, 1), np.int64), np.arange(5)[:, None]

    assert (bootstrap.sums(ones, everywhere) == 5).all()
    together = bootstrap.sums(np.hstack([ones, rising]), everywhere)
    assert (together[:, 1:] == bootstrap.sums(rising, everywhere)).all()
    # The documents of a group are drawn as they are among all.
    part = bootstrap.sums(ones[:2], everywhere[:2]) + bootstrap.sums(ones[2:], everywhere[2:])
    assert (part == 5).all()
    assert (bootstrap.sums(rising, everywhere) == Bootstrap(5).sums(rising, everywhere)).all()


def test_the_interval_holds_what_is_seen_and_narrows_with_more_documents():
    one = counts((3, 1), (0, 2), (5, 0), (1, 1))
    widths = []
    for copies in (1, 25):
        many = np.tile(one, (copies, 1))
        values = share_found(Bootstrap(len(many)).sums(many, np.arange(len(many))))
        low, high = interval(values)
        assert low < share_found(many.sum(axis=0)) < high
        widths.append(high - low)
    # Five times as narrow, as the root of 25 has it.
    assert widths[0] / widths[1] == pytest.approx(5, rel=0.35)


def test_no_documents_have_no_intervals_but_no_error():
    sums = Bootstrap(0).sums(np.zeros((0, 2), np.int64), np.arange(0))
    assert interval(share_found(sums)) == (0, 0)


def test_p_is_that_of_all_exchanges_counted_out():
    first = counts((4, 0), (3, 1), (2, 2), (4, 1), (0, 3), (2, 0), (5, 1))
    second = counts((3, 1), (3, 1), (0, 4), (3, 1), (1, 2), (1, 1), (2, 2))
    observed = abs(share_found(first.sum(axis=0)) - share_found(second.sum(axis=0)))
    as_large = 0
    exchanges = list(itertools.product([False, True], repeat=len(first)))
    for exchanged in exchanges:
        swap = np.array(exchanged)[:, None]
        one, other = np.where(swap, second, first), np.where(swap, first, second)
        difference = share_found(one.sum(axis=0)) - share_found(other.sum(axis=0))
        as_large += abs(difference) >= observed - 1e-12

    p = randomisation_test(first, second, share_found)

    assert p == pytest.approx(as_large / len(exchanges), abs=0.015)
    assert 0.02 < p < 0.9
    assert p == randomisation_test(first, second, share_found)
    assert p == pytest.approx(randomisation_test(second, first, share_found), abs=0.015)


def test_what_does_not_differ_differs_by_chance():
    same = counts((4, 0), (3, 1))
    assert randomisation_test(same, same, share_found) == 1


def test_blocks_of_exchanges_change_nothing_but_memory(monkeypatch):
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 5, (2, 30, 2))
    whole = randomisation_test(first, second, share_found)
    monkeypatch.setattr(resampling, "_BLOCK", 1000)
    assert randomisation_test(first, second, share_found) == pytest.approx(whole, abs=0.02)


def test_a_clear_difference_is_told_from_chance():
    first, second = np.tile(counts((1, 0)), (20, 1)), np.tile(counts((0, 1)), (20, 1))
    assert randomisation_test(first, second, share_found) == pytest.approx(1e-4)
