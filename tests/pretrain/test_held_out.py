import math

import pytest
import torch
from accelerate import Accelerator

from pretrain.batches import IGNORE_TARGET
from pretrain.config import load_config
from pretrain.held_out import evaluate, make_held_out
from pretrain.objective import Sums
from pretrain.shards import open_shards

NSP = ("nsp_accuracy", "nsp_chance")


class AlwaysNext(torch.nn.Module):
    """Says that every segment is the next one, and of masked tokens always the same."""

    def __init__(self, token):
        super().__init__()
        self.token = token

    def forward(self, batch):
        masked = batch.targets != IGNORE_TARGET
        return Sums(
            mlm_loss=masked.sum() * 2.0,
            nsp_loss=batch.nsp_targets.sum() * 0.0,
            mlm_correct=(batch.targets == self.token).sum(),
            nsp_correct=(batch.nsp_targets == 1).sum(),
        )


@pytest.fixture(scope="module")
def shards(shards_dir):
    return open_shards(shards_dir)


def make(shards):
    settings = ["model.max_positions=64", "run.evaluate_rows=40", "run.micro_rows=4"]
    config = load_config("debug", settings)
    manifest = shards.manifest
    encoder = config.model.encoder(vocab_size=manifest.vocab_size, pad_id=manifest.pad_id)
    return make_held_out(shards, config, encoder)


@pytest.fixture(scope="module")
def held_out(shards):
    return make(shards)


def scores(held_out):
    return evaluate(AlwaysNext(held_out.likeliest_token), held_out, Accelerator(cpu=True))


def documents(shards, language):
    held_out = shards.split("held_out")
    return len(held_out.select(shards.manifest.languages.index(language)))


def test_a_model_that_always_says_the_same_scores_unigram_and_chance(held_out):
    overall, by_language = scores(held_out)
    assert overall["mlm_loss"] == pytest.approx(2.0)
    assert overall["masked_accuracy"] == overall["unigram_accuracy"] > 0
    assert 0.5 <= overall["nsp_chance"] < 0.7
    for name in ("rows", "tokens", "masked", "pairs"):
        assert overall[name] == sum(values[name] for values in by_language.values()) > 0
    told = [v for v in by_language.values() if not math.isnan(v["nsp_accuracy"])]
    assert told
    for values in told:
        assert values["nsp_accuracy"] in (
            pytest.approx(values["nsp_chance"]),
            pytest.approx(1 - values["nsp_chance"]),
        )


def test_a_language_with_one_document_has_no_pairs_to_tell(shards, held_out):
    _, by_language = scores(held_out)
    single = {name for name in by_language if documents(shards, name) == 1}
    assert single == held_out.without_pairs
    assert single
    assert single != set(by_language)
    for name, values in by_language.items():
        assert (values["pairs"] == 0) == (name in single)
        assert all(math.isnan(values[key]) == (name in single) for key in NSP)
        assert values["masked"] > 0


def test_the_rows_and_masks_are_the_same_every_time(shards, held_out):
    again = make(shards)
    for (language, batch), (same_language, same_batch) in zip(
        held_out.batches, again.batches, strict=True
    ):
        assert language == same_language
        assert torch.equal(batch.input_ids, same_batch.input_ids)
        assert torch.equal(batch.targets, same_batch.targets)
