from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain import rows as rows_module
from pretrain.rows import MIN_SEGMENT, Rows
from starencoder.errors import DataError

LENGTHS = st.lists(st.integers(1, 300), max_size=30).map(lambda lengths: [20, *lengths])
SEQ_LENGTHS = st.integers(19, 128)
SEEDS = st.integers(0, 2**63 - 1)


class NeverReplace:
    """Random numbers for which every second segment is the next one."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def random(self, shape):
        chances = self.rng.random(shape)
        chances[:, 1] = 0.9
        return chances


def make(documents, *, seq_length, seed=1):
    return Rows(documents, documents.vocabulary, seq_length=seq_length, seed=seed)


def all_rows(rows, *, epoch=0):
    first = epoch * rows.rows_per_epoch
    numbers = range(first, first + rows.rows_per_epoch)
    return [rows.row(number, rows.generator(number)) for number in numbers]


@given(lengths=LENGTHS, seq_length=SEQ_LENGTHS, seed=SEEDS, epoch=st.integers(0, 3))
def test_an_epoch_shows_every_token_once_but_for_ends_too_short_for_a_pair(
    memory_documents, lengths, seq_length, seed, epoch
):
    documents = memory_documents(lengths)
    seen = [np.zeros(length, int) for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "RUN", 3)
        patch.setattr(rows_module, "BLOCK", 9)
        rows = make(documents, seq_length=seq_length, seed=seed)
        for number in range(rows.rows_per_epoch):
            row = rows.row(epoch * rows.rows_per_epoch + number, NeverReplace(seed))
            for pair in row.pairs:
                assert pair.is_next
                assert pair.first.stop == pair.second.start
                for segment in (pair.first, pair.second):
                    seen[segment.document][segment.start : segment.stop] += 1
    for counts in seen:
        assert counts.max() <= 1
        missed = "".join(map(str, counts)).split("1")
        # Where a row ends in a short document, both of its parts may be too short.
        assert max(map(len, missed)) <= 2 * (2 * MIN_SEGMENT - 1)
        if len(counts) > 4 * seq_length:
            assert counts[seq_length:-seq_length].all()


@given(lengths=LENGTHS, seq_length=SEQ_LENGTHS, seed=SEEDS)
def test_a_row_holds_its_pairs_and_then_padding(memory_documents, lengths, seq_length, seed):
    documents = memory_documents(lengths)
    cls_id, sep_id, pad_id = 1, 2, 0
    for row in all_rows(make(documents, seq_length=seq_length, seed=seed)):
        ids, segments, positions, pair_ids = [], [], [], []
        for number, pair in enumerate(row.pairs):
            assert pair.column == len(ids)
            assert pair.first.num_tokens >= MIN_SEGMENT
            assert pair.second.num_tokens >= MIN_SEGMENT
            first = documents.tokens(*pair.first).tolist()
            second = documents.tokens(*pair.second).tolist()
            assert len(first) == pair.first.num_tokens
            assert len(second) == pair.second.num_tokens
            ids += [cls_id, *first, sep_id, *second, sep_id]
            segments += [0] * (len(first) + 2) + [1] * (len(second) + 1)
            positions += range(len(first) + len(second) + 3)
            pair_ids += [number] * (len(first) + len(second) + 3)
        assert row.num_tokens == len(ids)
        padding = seq_length - len(ids)
        assert row.input_ids.tolist() == ids + [pad_id] * padding
        assert row.segment_ids.tolist() == segments + [0] * padding
        assert row.position_ids.tolist() == positions + [0] * padding
        assert row.pair_ids.tolist() == pair_ids + [-1] * padding


def test_half_of_the_pairs_are_next_and_the_others_of_another_document(memory_documents):
    documents = memory_documents.like_source_files(600)
    # Entries repeat where a language is sampled twice.
    documents.texts[300:400] = documents.texts[:100]
    documents.lengths[300:400] = documents.lengths[:100]
    pairs = [pair for row in all_rows(make(documents, seq_length=128)) for pair in row.pairs]

    next_ones = sum(pair.is_next for pair in pairs)

    assert len(pairs) > 3000
    assert abs(next_ones - len(pairs) / 2) < 4 * np.sqrt(len(pairs) / 4)
    for pair in pairs:
        first, second = (documents.texts[part.document] for part in (pair.first, pair.second))
        assert (first is second) == pair.is_next


def test_where_one_document_is_nearly_all_the_others_still_stand_in_for_next_segments(
    memory_documents,
):
    documents = memory_documents([100_000, 40, 40])
    pairs = [pair for row in all_rows(make(documents, seq_length=64)) for pair in row.pairs]

    assert 0.4 < np.mean([pair.is_next for pair in pairs]) < 0.6


def test_a_single_document_and_its_repetition_have_next_segments_only(memory_documents):
    documents = memory_documents([500])
    documents.texts *= 2
    documents.lengths = documents.lengths.repeat(2)
    rows = all_rows(make(documents, seq_length=64))

    assert all(pair.is_next for row in rows for pair in row.pairs)


def test_segments_begin_at_lines_where_one_is_near(memory_documents):
    documents = memory_documents([200] * 50)
    for number, text in enumerate(documents.texts):
        text[:] = 100 + number
        text[24::25] = 10
    pairs = [pair for row in all_rows(make(documents, seq_length=206)) for pair in row.pairs]

    assert len(pairs) == 50
    assert {pair.second.start % 25 for pair in pairs} == {0}
    assert {pair.is_next for pair in pairs} == {True, False}


def test_without_lines_the_cut_is_anywhere_in_the_middle_half(memory_documents):
    documents = memory_documents([400] * 200)
    for text in documents.texts:
        text[:] = 100
    pairs = [pair for row in all_rows(make(documents, seq_length=406)) for pair in row.pairs]
    cuts = [pair.first.stop for pair in pairs]

    assert 100 <= min(cuts) < 110
    assert 290 < max(cuts) <= 300


def test_epochs_have_other_rows_and_other_cuts(memory_documents):
    documents = memory_documents([300] * 40)
    rows = make(documents, seq_length=306)
    first, second = all_rows(rows), all_rows(rows, epoch=1)
    order = [[row.pairs[0].first.document for row in epoch] for epoch in (first, second)]
    cuts = [{row.pairs[0].first for row in epoch} for epoch in (first, second)]

    assert Counter(order[0]) == Counter(order[1])
    assert order[0] != order[1]
    assert len(cuts[0] & cuts[1]) < 20


def test_seeds_give_other_orders(memory_documents):
    documents = memory_documents([300] * 40)
    orders = {
        tuple(
            row.pairs[0].first.document for row in all_rows(make(documents, seq_length=306, seed=s))
        )
        for s in range(3)
    }

    assert len(orders) == 3


def test_a_row_does_not_depend_on_those_built_before_it(memory_documents, monkeypatch):
    monkeypatch.setattr(rows_module, "RUN", 2)
    monkeypatch.setattr(rows_module, "BLOCK", 10)
    documents = memory_documents([137] * 100)
    in_order = all_rows(make(documents, seq_length=64), epoch=1)
    rows = make(documents, seq_length=64)

    for place in reversed(range(rows.rows_per_epoch)):
        number = rows.rows_per_epoch + place
        row = rows.row(number, rows.generator(number))
        assert row.pairs == in_order[place].pairs
        np.testing.assert_array_equal(row.input_ids, in_order[place].input_ids)


@pytest.mark.parametrize("seq_length", [128, 1024])
def test_of_rows_of_source_files_less_than_a_hundredth_is_padding(memory_documents, seq_length):
    documents = memory_documents.like_source_files(2000)
    rows = make(documents, seq_length=seq_length)
    numbers = range(min(1000, rows.rows_per_epoch - 1))
    tokens = [rows.row(number, rows.generator(number)).num_tokens for number in numbers]

    assert np.mean(tokens) > 0.99 * seq_length


def test_a_data_set_shorter_than_a_row_is_one_row(memory_documents):
    rows = make(memory_documents([30]), seq_length=1024)

    assert rows.rows_per_epoch == 1
    assert [row.num_tokens for row in all_rows(rows)] == [33]


@pytest.mark.parametrize("lengths", [[], [15, 3]])
def test_documents_without_a_pair_are_refused(memory_documents, lengths):
    with pytest.raises(DataError, match="need one of 16 or more"):
        make(memory_documents(lengths), seq_length=64)


@pytest.mark.parametrize("seq_length", [128, 512, 1024])
def test_how_and_where_a_segment_ends_does_not_tell_if_it_is_the_next(memory_documents, seq_length):
    documents = memory_documents.like_source_files(3000)
    line_ends = documents.vocabulary.line_ends
    for text in documents.texts:
        text[-1] = 10  # as files do, each ends with a line's end
    rows = make(documents, seq_length=seq_length)
    pairs = [pair for row in all_rows(rows)[:2000] for pair in row.pairs]
    is_next = np.array([pair.is_next for pair in pairs])
    seconds = [pair.second for pair in pairs]
    signs = {
        "ends its document": [s.stop == documents.lengths[s.document] for s in seconds],
        "ends a line": [line_ends[documents.texts[s.document][s.stop - 1]] for s in seconds],
        "begins a line": [
            s.start == 0 or line_ends[documents.texts[s.document][s.start - 1]] for s in seconds
        ],
    }
    for name, sign in signs.items():
        right = (np.array(sign) == is_next).mean()
        assert abs(right - 0.5) < 0.04, name
    assert abs(is_next.mean() - 0.5) < 0.04
