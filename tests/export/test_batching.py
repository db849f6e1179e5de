import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.batching import BatchQueue, Shape, batch_shapes, pad_batch

LENGTHS = st.lists(st.integers(1, 600), max_size=200)
BUDGETS = st.integers(1, 5000)


def drain(queue):
    while len(queue):
        yield queue.take()


@given(LENGTHS, BUDGETS)
def test_every_chunk_leaves_once_in_a_batch_that_it_fits_and_that_keeps_the_budget(lengths, budget):
    queue = BatchQueue(batch_shapes(600, token_budget=budget))
    for key, length in enumerate(lengths):
        queue.add(key, length)
    left = []
    for shape, keys in drain(queue):
        assert shape.rows == 1 or shape.rows * shape.seq <= budget
        assert 1 <= len(keys) <= shape.rows
        assert all(lengths[key] <= shape.seq for key in keys)
        left += keys
    assert sorted(left) == list(range(len(lengths)))


@given(LENGTHS, LENGTHS)
def test_the_shape_a_chunk_is_computed_in_does_not_depend_on_the_others(lengths, others):
    def shapes_of(own, beside):
        queue = BatchQueue(batch_shapes(600, token_budget=2000))
        for key, length in enumerate([*beside, *own]):
            queue.add(key, length)
        found = {key: shape for shape, keys in drain(queue) for key in keys}
        return [found[len(beside) + key] for key in range(len(own))]

    assert shapes_of(lengths, []) == shapes_of(lengths, others)


@given(st.integers(1, 2000))
def test_shapes_reach_the_longest_chunk_and_pad_little(longest):
    shapes = batch_shapes(longest)
    assert shapes[-1].seq == longest
    assert sorted({shape.seq for shape in shapes}) == [shape.seq for shape in shapes]
    for length in range(32, longest + 1):
        seq = next(shape.seq for shape in shapes if length <= shape.seq)
        assert seq - length < (64 if length <= 512 else 128)


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=5))
def test_padding_keeps_every_chunk_and_masks_the_rest(chunks):
    ids, mask = pad_batch([np.array(chunk, np.int32) for chunk in chunks], Shape(6, 9), 7)
    assert (ids.shape, mask.shape) == ((6, 9), (6, 9))
    assert (ids.dtype, mask.dtype) == (np.int32, np.int32)
    for row, chunk in enumerate(chunks):
        assert ids[row, : len(chunk)].tolist() == chunk
        assert mask[row].tolist() == [1] * len(chunk) + [0] * (9 - len(chunk))
    # Attention over no token at all would divide by zero.
    assert (mask[len(chunks) :].sum(axis=1) == 1).all()
    assert (ids[len(chunks) :] == 7).all()


def test_a_batch_that_can_be_filled_goes_before_an_older_one_that_cannot():
    queue = BatchQueue([Shape(2, 10), Shape(2, 20)])
    for key, length in [("long", 20), ("a", 1), ("b", 2), ("c", 3)]:
        queue.add(key, length)
    assert [keys for _, keys in drain(queue)] == [["a", "b"], ["long"], ["c"]]


@given(LENGTHS, st.sets(st.integers(0, 50)))
def test_batches_that_find_no_memory_come_back_in_halves_and_nothing_is_lost(lengths, failing):
    queue = BatchQueue(batch_shapes(600, token_budget=4000))
    for key, length in enumerate(lengths):
        queue.add(key, length)
    left, turn = [], 0
    while len(queue):
        shape, keys = queue.take()
        turn += 1
        if turn in failing and (smaller := queue.halve(shape, keys)):
            assert smaller == Shape(shape.rows // 2, shape.seq)
        else:
            left += keys
    assert sorted(left) == list(range(len(lengths)))


def test_a_batch_of_one_row_cannot_be_halved():
    queue = BatchQueue([Shape(1, 10)])
    queue.add("a", 5)
    shape, keys = queue.take()
    assert queue.halve(shape, keys) is None


def test_what_is_put_back_keeps_its_order():
    queue = BatchQueue([Shape(4, 10)])
    for key in "abcdef":
        queue.add(key, 5)
    assert queue.halve(*queue.take()) == Shape(2, 10)
    assert [keys for _, keys in drain(queue)] == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_nothing_can_be_taken_where_nothing_waits():
    with pytest.raises(IndexError):
        BatchQueue(batch_shapes(100)).take()
