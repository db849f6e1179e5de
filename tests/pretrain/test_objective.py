"""The loss over packed rows: against transformers, against unpacked rows, and in isolation."""

import itertools
import os
import warnings

import pytest
import torch

from pretrain.batches import IGNORE_TARGET, Batch, BatchMaker
from pretrain.config import DataConfig
from pretrain.objective import Objective, packed_runs, same_pair
from starencoder.checkpoint import save_pretraining
from starencoder.config import EncoderConfig
from starencoder.model import PretrainingModel

os.environ["HF_HUB_OFFLINE"] = "1"

VOCAB, PAD = 200, 0
LIMIT = 1e-5


def config(**changes):
    values = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "num_layers": 2,
        "num_heads": 3,
        "intermediate_size": 40,
        "max_positions": 64,
        "pad_id": PAD,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return EncoderConfig(**{**values, **changes})


def randomised(seed=0):
    model = PretrainingModel(config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return model


@pytest.fixture
def batch(memory_documents):
    """Rows of several pairs each."""
    documents = memory_documents([20, 31, 17, 44, 90, 23, 60])
    maker = BatchMaker(documents, documents.vocabulary, DataConfig(), seq_length=64, seed=3)
    made = maker.batch(range(4)).to("cpu")
    assert int(made.pair_ids.max()) > 0
    assert (made.pair_ids == -1).any()  # some padding, too
    return made


def loss_of(sums, batch):
    masked = (batch.targets != IGNORE_TARGET).sum()
    return sums.mlm_loss / masked + sums.nsp_loss / len(batch.nsp_targets)


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    # Some gradients, such as those of the keys' biases, are 0 but for rounding.
    scale = max(float(tensor.abs().max()) for tensor in expected.values())
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=LIMIT, atol=LIMIT * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def unpacked(batch):
    """The pairs, each in a row of its own: (ids, segments, {column: target}, target)."""
    pairs = []
    order = zip(batch.cls_rows.tolist(), batch.cls_columns.tolist(), strict=True)
    for number, (row, column) in enumerate(order):
        columns = (batch.pair_ids[row] == batch.pair_ids[row, column]).nonzero().flatten()
        places = {
            int(position) - column: int(target)
            for position, target in zip(
                batch.masked_positions[row].tolist(), batch.targets[row].tolist(), strict=True
            )
            if target != IGNORE_TARGET and int(position) in columns.tolist()
        }
        pairs.append(
            (
                batch.input_ids[row, columns],
                batch.segment_ids[row, columns],
                places,
                batch.nsp_targets[number],
            )
        )
    return pairs


def padded(pairs):
    """One pair a row, padded to the longest, with an MLM target at every position."""
    longest = max(len(ids) for ids, *_ in pairs)
    ids = torch.full((len(pairs), longest), PAD)
    segments = torch.zeros_like(ids)
    mask = torch.zeros_like(ids)
    targets = torch.full_like(ids, IGNORE_TARGET)
    for row, (own_ids, own_segments, places, _) in enumerate(pairs):
        ids[row, : len(own_ids)] = own_ids
        segments[row, : len(own_ids)] = own_segments
        mask[row, : len(own_ids)] = 1
        for column, target in places.items():
            targets[row, column] = target
    return ids, segments, mask, targets, torch.stack([pair[3] for pair in pairs])


def test_loss_and_gradients_are_those_of_transformers_on_unpacked_rows(batch, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
    model = randomised()
    save_pretraining(model, tmp_path)
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path).train()
    ids, segments, mask, targets, is_next = padded(unpacked(batch))
    expected = theirs(
        input_ids=ids,
        attention_mask=mask,
        token_type_ids=segments,
        labels=targets,
        next_sentence_label=is_next,
    ).loss
    expected.backward()

    loss = loss_of(Objective(model)(batch), batch)
    loss.backward()

    torch.testing.assert_close(loss, expected, rtol=LIMIT, atol=0)
    named = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert_close(gradients(model), named)


def test_packed_rows_give_the_loss_and_gradients_of_each_pair_alone(batch):
    model = randomised()
    masked = int((batch.targets != IGNORE_TARGET).sum())
    total = torch.zeros(())
    for ids, segments, places, is_next in unpacked(batch):
        output = model(ids[None], None, segments[None])
        columns = torch.tensor(list(places), dtype=torch.long)
        wanted = torch.tensor(list(places.values()), dtype=torch.long)
        total = (
            total
            + torch.nn.functional.cross_entropy(
                output.mlm_logits[0, columns], wanted, reduction="sum"
            )
            / masked
        )
        total = total + torch.nn.functional.cross_entropy(output.nsp_logits[0], is_next) / len(
            batch.nsp_targets
        )
    total.backward()
    expected = gradients(model)
    model.zero_grad()

    loss = loss_of(Objective(model)(batch), batch)
    loss.backward()

    torch.testing.assert_close(loss, total, rtol=LIMIT, atol=0)
    assert_close(gradients(model), expected)


def test_a_packed_pair_has_no_influence_on_any_other(batch):
    model = randomised().eval()
    encode = model.bert.encode_packed
    row = int((batch.pair_ids.max(1).values > 0).nonzero()[0])
    chosen = batch.pair_ids[row] == 1
    changed = batch.input_ids.clone()
    changed[row, chosen] = (changed[row, chosen] + 1) % VOCAB

    before = encode(batch.input_ids, batch.segment_ids, batch.position_ids, same_pair(batch))
    after = encode(changed, batch.segment_ids, batch.position_ids, same_pair(batch))

    others = torch.ones_like(batch.pair_ids, dtype=torch.bool)
    others[row] = ~chosen
    assert torch.equal(before[others], after[others])
    assert not torch.isclose(before[row, chosen], after[row, chosen]).all(1).any()


def test_unused_target_places_and_padding_do_not_count(batch):
    model = randomised().eval()
    used = batch.targets != IGNORE_TARGET
    assert not used.all()
    moved = batch.masked_positions.clone()
    moved[~used] = 5
    other = batch.input_ids.where(batch.pair_ids >= 0, torch.tensor(3))
    fields = {name: getattr(batch, name) for name in Batch.__dataclass_fields__}
    fields |= {"masked_positions": moved, "input_ids": other}

    found, expected = Objective(model)(Batch(**fields)), Objective(model)(batch)

    for name in expected._fields:
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_runs_cover_the_batch_and_part_it_where_pairs_do(batch):
    bounds = packed_runs(batch).bounds.tolist()

    assert (bounds[0], bounds[-1]) == (0, batch.pair_ids.numel())
    flat = batch.pair_ids.flatten()
    rows, seq = batch.pair_ids.shape
    for start, stop in itertools.pairwise(bounds):
        assert start // seq == (stop - 1) // seq
        assert len(set(flat[start:stop].tolist())) == 1
    mask = same_pair(batch)
    for row in range(rows):
        for start, stop in itertools.pairwise(bounds):
            if start // seq == row:
                place = slice(start - row * seq, stop - row * seq)
                assert mask[row, 0, place, place].all()
                assert int(mask[row, 0, place].sum()) == (stop - start) ** 2


def test_hits_are_counted_at_used_places_only(batch):
    model = randomised().eval()
    sums = Objective(model)(batch)
    ids, segments, mask, targets, is_next = padded(unpacked(batch))
    output = model(ids, mask, segments)
    hits = (output.mlm_logits.argmax(-1) == targets).sum()
    assert int(sums.mlm_correct) == int(hits)
    assert int(sums.nsp_correct) == int((output.nsp_logits.argmax(-1) == is_next).sum())
