import dataclasses
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from pretrain.batches import IGNORE_TARGET, BatchMaker, iter_steps, rows_of_step
from pretrain.config import DataConfig

PER_ROW = (
    "input_ids", "segment_ids", "position_ids", "pair_ids", "masked_positions", "targets",
)  # fmt: skip
PER_PAIR = ("cls_columns", "nsp_targets")


@pytest.fixture(scope="module")
def maker(memory_documents):
    return make(memory_documents)


def make(memory_documents, **settings):
    documents = memory_documents([60, 300, 20, 45, 128, 700, 33] * 20)
    settings = {"seq_length": 64, "seed": 3, **settings}
    return BatchMaker(documents, memory_documents.vocabulary, DataConfig(), **settings)


def content(batches):
    """What the rows of batches hold, wherever the batches are cut."""
    tensors = {
        name: torch.cat([getattr(batch.to("cpu"), name) for batch in batches]).tolist()
        for name in PER_ROW + PER_PAIR
    }
    first_rows = torch.tensor([0, *(len(batch.input_ids) for batch in batches)]).cumsum(0).tolist()
    tensors["cls_rows"] = [
        first + row
        for first, batch in zip(first_rows, batches, strict=False)
        for row in batch.cls_rows.tolist()
    ]
    return tensors


def taken(maker, *, steps=(0, 4), **settings):
    settings = {"batch_rows": 16, "micro_rows": 4, **settings}
    batches = iter_steps(maker, first_step=steps[0], last_step=steps[1], **settings)
    return [content(step) for step in batches]


def test_a_batch_holds_rows_with_their_tokens_back_in_place(maker):
    batch = maker.batch(range(30)).to("cpu")
    rows = [maker.rows.row(number, maker.rows.generator(number)) for number in range(30)]

    unmasked = batch.input_ids.clone()
    used = batch.targets != IGNORE_TARGET
    row_of, place = used.nonzero(as_tuple=True)
    columns = batch.masked_positions[row_of, place]
    unmasked[row_of, columns] = batch.targets[row_of, place]

    assert unmasked.tolist() == [row.input_ids.tolist() for row in rows]
    assert batch.input_ids.tolist() != unmasked.tolist()
    for name in ("segment_ids", "position_ids", "pair_ids"):
        assert getattr(batch, name).tolist() == [getattr(row, name).tolist() for row in rows]
    assert batch.num_tokens == sum(row.num_tokens for row in rows) == (batch.pair_ids >= 0).sum()
    pairs = [(index, pair) for index, row in enumerate(rows) for pair in row.pairs]
    assert batch.cls_rows.tolist() == [index for index, _ in pairs]
    assert batch.cls_columns.tolist() == [pair.column for _, pair in pairs]
    assert batch.nsp_targets.tolist() == [int(pair.is_next) for _, pair in pairs]
    assert not batch.masked_positions[~used].any()


def test_every_row_has_the_exact_number_of_masked_tokens(maker):
    batch = maker.batch(range(100)).to("cpu")
    pairs_of_row = torch.bincount(batch.cls_rows, minlength=100)
    ordinary = (batch.pair_ids >= 0).sum(1) - 3 * pairs_of_row

    expected = [max(1, round(0.15 * count)) for count in ordinary.tolist()]

    assert batch.targets.shape == batch.masked_positions.shape == (100, 10)
    assert (batch.targets != IGNORE_TARGET).sum(1).tolist() == expected


def test_on_a_device_all_tensors_are_int64(maker):
    batch = maker.batch(range(2)).to("cpu")

    assert {getattr(batch, name).dtype for name in (*PER_ROW, *PER_PAIR, "cls_rows")} == {
        torch.int64
    }


def test_ids_above_a_signed_16_bit_number_survive(memory_documents):
    documents = memory_documents([100])
    documents.texts[0][:] = 65_535
    vocabulary = dataclasses.replace(
        memory_documents.vocabulary, size=65_536, line_ends=np.zeros(65_536, bool)
    )
    maker = BatchMaker(documents, vocabulary, DataConfig(), seq_length=64, seed=1)
    batch = maker.batch(range(1)).to("cpu")

    assert batch.input_ids.max() == 65_535
    assert set(batch.targets.flatten().tolist()) <= {65_535, IGNORE_TARGET}


def test_the_target_of_a_pair_is_1_where_the_second_segment_is_the_next_one(maker):
    rows = [maker.rows.row(number, maker.rows.generator(number)) for number in range(50)]
    is_next = [int(pair.is_next) for row in rows for pair in row.pairs]

    assert 0 < sum(is_next) < len(is_next)
    assert maker.batch(range(50)).nsp_targets.tolist() == is_next


def test_equal_arguments_give_equal_batches_and_another_epoch_other_masks(memory_documents):
    maker = make(memory_documents)
    epoch = maker.rows.rows_per_epoch

    assert content([maker.batch(range(9))]) == content([make(memory_documents).batch(range(9))])
    first, second = maker.batch(range(9)), maker.batch(range(epoch, epoch + 9))
    assert content([first]) != content([second])
    assert not torch.equal(first.masked_positions, second.masked_positions)


@pytest.mark.parametrize("micro_rows", [1, 3, 16])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_step_has_the_same_rows_however_it_is_divided(maker, world_size, micro_rows):
    whole = taken(maker, micro_rows=16)
    parts = [
        list(
            iter_steps(
                maker, first_step=0, last_step=4, batch_rows=16, micro_rows=micro_rows,
                rank=rank, world_size=world_size,
            )
        )
        for rank in range(world_size)
    ]  # fmt: skip
    joined = [
        content([batch for part in parts for batch in part[step]]) for step in range(len(whole))
    ]

    assert joined == whole
    assert max(len(batch.input_ids) for batch in parts[0][0]) <= micro_rows


def test_steps_follow_each_other_over_the_end_of_an_epoch(maker):
    epoch = maker.rows.rows_per_epoch
    step = epoch // 16
    assert epoch % 16
    numbers = rows_of_step(step, batch_rows=16)

    assert epoch in numbers
    assert taken(maker, steps=(step, step + 1)) == [content([maker.batch(numbers)])]


def test_beginning_at_a_step_is_skipping_those_before(maker):
    assert taken(maker, steps=(3, 6)) == taken(maker, steps=(0, 6))[3:]


def test_workers_make_the_same_batches(maker):
    expected = taken(maker, steps=(0, 7))

    assert taken(maker, steps=(0, 7), workers=1) == expected
    assert taken(maker, steps=(0, 7), workers=2) == expected
    assert_no_workers()


def test_the_documents_of_a_step_can_be_named(maker):
    numbers = rows_of_step(2, batch_rows=16, rank=1, world_size=2)
    batch = maker.batch(numbers).to("cpu")
    segments = maker.segments(numbers)

    assert list(numbers) == list(range(40, 48))
    tokens = sum(segment.num_tokens for segment in segments)
    assert tokens + 3 * len(batch.cls_rows) == batch.num_tokens


def test_closing_the_iterator_ends_its_workers(maker):
    steps = start(maker)
    assert len(multiprocessing.active_children()) == 2

    steps.close()

    assert_no_workers()


def test_workers_that_were_never_asked_end_with_their_iterator(maker):
    steps = iter_steps(maker, first_step=0, last_step=100, batch_rows=16, micro_rows=16, workers=1)
    steps.close()
    del steps

    assert_no_workers()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_leave_signals_to_the_main_process(maker, number):
    steps = start(maker)
    children = multiprocessing.active_children()
    for child in children:
        os.kill(child.pid, number)

    assert len([next(steps) for _ in range(20)]) == 20
    assert {child.pid for child in multiprocessing.active_children()} == {c.pid for c in children}
    steps.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_an_error_not_a_wait(maker):
    steps = start(maker)
    for child in multiprocessing.active_children():
        child.kill()

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(steps)
    assert_no_workers()


def start(maker):
    steps = iter_steps(maker, first_step=0, last_step=1000, batch_rows=16, micro_rows=16, workers=2)
    next(steps)
    return steps


def assert_no_workers():
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not multiprocessing.active_children()
