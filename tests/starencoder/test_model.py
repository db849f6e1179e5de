import pytest
import torch

from starencoder.config import PRESETS, EncoderConfig
from starencoder.model import (
    Encoder,
    PretrainingModel,
    TokenClassifier,
    flushed_denormals,
)

CONFIG = EncoderConfig(
    vocab_size=40,
    hidden_size=12,
    num_layers=2,
    num_heads=3,
    intermediate_size=20,
    max_positions=16,
    pad_id=36,
)


def randomised(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


@pytest.fixture
def ids():
    return torch.randint(0, 40, (5, 16), generator=torch.Generator().manual_seed(1))


def test_starencoder_has_as_many_parameters_as_its_published_parts_add_up_to():
    with torch.device("meta"):
        model = PretrainingModel(PRESETS["starencoder-125m"])
    # 124,186,368 for encoder and pooler, 592,128 and 49,156 for MLM, 1,538 for NSP.
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_829_190


def test_a_sequence_gets_the_same_vectors_alone_and_padded_in_a_batch(ids):
    encoder = randomised(Encoder(CONFIG))
    lengths = torch.tensor([1, 2, 7, 15, 16])
    mask = torch.arange(16) < lengths[:, None]
    together = encoder(ids, mask)
    other_padding = encoder(ids.where(mask, (ids + 1) % 40), mask)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(ids[row : row + 1, :length])
        torch.testing.assert_close(together.hidden[row, :length], alone.hidden[0])
        torch.testing.assert_close(together.pooled[row], alone.pooled[0])
        torch.testing.assert_close(
            together.hidden[row, :length], other_padding.hidden[row, :length]
        )


def test_without_segment_ids_everything_is_segment_a(ids):
    model = randomised(PretrainingModel(CONFIG))
    without = model(ids)
    zeros = model(ids, segment_ids=torch.zeros_like(ids))
    ones = model(ids, segment_ids=torch.ones_like(ids))
    torch.testing.assert_close(without.mlm_logits, zeros.mlm_logits, rtol=0, atol=0)
    assert not torch.allclose(without.nsp_logits, ones.nsp_logits)


def test_logits_of_chosen_tokens_are_those_of_the_whole_batch(ids):
    model = randomised(PretrainingModel(CONFIG))
    chosen = ids < 10
    hidden = model.bert(ids).hidden
    torch.testing.assert_close(model.mlm_logits(hidden[chosen]), model(ids).mlm_logits[chosen])


def test_every_parameter_takes_part_in_training(ids):
    model = randomised(PretrainingModel(CONFIG)).train()
    output = model(ids, segment_ids=ids % 2)
    (output.mlm_logits.square().mean() + output.nsp_logits.square().mean()).backward()
    tagger = randomised(TokenClassifier(CONFIG, num_labels=3)).train()
    tagger(ids, segment_ids=ids % 2).square().mean().backward()
    for name, parameter in [*model.named_parameters(), *tagger.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("self.key.bias"), name


def test_dropout_acts_in_training_only(ids):
    model = randomised(TokenClassifier(CONFIG, num_labels=3))
    torch.testing.assert_close(model(ids), model(ids), rtol=0, atol=0)
    model.train()
    assert not torch.allclose(model(ids), model(ids))


def test_initial_weights_have_the_configured_spread():
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=500,
        hidden_size=64,
        num_layers=1,
        num_heads=2,
        intermediate_size=128,
        max_positions=64,
        pad_id=0,
        initializer_range=0.05,
    )
    for name, parameter in PretrainingModel(config).named_parameters():
        if parameter.ndim == 2 and parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.1), name
        elif "LayerNorm.weight" in name:
            assert (parameter == 1).all(), name
        elif parameter.ndim == 1:
            assert (parameter == 0).all(), name


def test_small_numbers_are_flushed_inside_only():
    tiny = torch.tensor([1e-39])
    with flushed_denormals():
        assert float(tiny * 0.5) == 0
    assert float(tiny * 0.5) > 0
