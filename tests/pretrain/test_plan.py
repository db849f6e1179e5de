import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from pretrain.config import load_config
from pretrain.plan import (
    GPUS,
    flops_per_token,
    num_parameters,
    peak_flops,
    plan,
    plan_text,
)
from starencoder.config import PRESETS, EncoderConfig
from starencoder.errors import ConfigError
from starencoder.model import PretrainingModel

STARENCODER = PRESETS["starencoder-125m"]


def planned(*overrides, gpu="h100", gpus=8, mfu=0.4, price=None, preset="starencoder-125m"):
    config = load_config(preset, overrides)
    return plan(config, gpu=gpu, gpus=gpus, mfu=mfu, price=price)


@st.composite
def encoders(draw):
    heads = draw(st.integers(1, 3))
    return EncoderConfig(
        vocab_size=draw(st.integers(1, 50)),
        hidden_size=heads * draw(st.integers(1, 8)),
        num_layers=draw(st.integers(1, 3)),
        num_heads=heads,
        intermediate_size=draw(st.integers(1, 30)),
        max_positions=draw(st.integers(1, 20)),
        type_vocab_size=draw(st.integers(1, 3)),
        pad_id=0,
    )


@given(config=encoders())
def test_parameters_are_those_of_the_model(config):
    model = PretrainingModel(config)

    assert num_parameters(config) == sum(weight.numel() for weight in model.parameters())


def test_starencoder_has_124_829_190_parameters():
    assert num_parameters(STARENCODER) == 124_829_190


@pytest.mark.parametrize(
    ("context", "mask_share", "mflop"),
    # The pages on performance that the project started from; 49,152 tokens there.
    [(1024, 0.15, 657.4), (1024, 1.0, 852.9), (1024, 0.3, 691.9)],
)
def test_flops_per_token_are_those_known_for_starencoder(context, mask_share, mflop):
    config = dataclasses.replace(STARENCODER, vocab_size=49152, pad_id=0)
    flops = flops_per_token(config, context, mask_share)

    assert flops.total / 1e6 == pytest.approx(mflop, abs=0.2)
    assert (flops.body / 1e6, flops.attention / 1e6) == pytest.approx((509.6, 113.2), abs=0.1)


@given(config=encoders(), seq=st.integers(1, 20))
def test_flops_agree_with_torchs_counter(config, seq):
    # On the CPU scaled_dot_product_attention counts only as the matrix products it is made of.
    seq = min(seq, config.max_positions)
    model = PretrainingModel(config)
    ids = torch.zeros(1, seq, dtype=torch.int64)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model.mlm_logits(model.bert(ids).hidden)
    pooler = 2 * config.hidden_size**2

    ours = seq * flops_per_token(config, seq, mask_share=1.0).total / 3
    assert ours == pytest.approx(counter.get_total_flops() - pooler)


def test_starencoder_on_8_h100_at_40_percent_takes_a_day():
    found = planned(price=2.5)

    assert found.tokens == 100_000 * 4096 * 1024
    assert found.tokens / 1e9 == pytest.approx(419.4, abs=0.05)
    assert found.hours == pytest.approx(24.2, abs=0.05)
    assert found.cost == pytest.approx(484, abs=1)
    assert found.micro_batches == 8
    assert found.disk_bytes == 4 * 124_829_190 * 12


def test_hours_times_speed_are_the_tokens():
    found = planned(gpu="a100", gpus=16, mfu=0.25)

    assert found.hours * 3600 * found.tokens_per_second == pytest.approx(found.tokens)
    assert found.total_flops == pytest.approx(found.hours * 3600 * 16 * 0.25 * 312e12)


def test_memory_grows_with_the_rows_of_a_micro_batch_up_to_the_most_that_fit():
    most = planned().most_micro_rows
    config = load_config("starencoder-125m")

    def used(rows):
        run = dataclasses.replace(config.run, micro_rows=rows, batch_rows=8 * rows)
        sized = dataclasses.replace(config, run=run)
        found = plan(sized, gpu="h100", gpus=8, mfu=0.4, price=None)
        return sum(found.memory.values())

    assert used(64) < used(most) <= GPUS["h100"].memory < used(most + 1)


def test_the_text_says_what_to_lower_where_it_does_not_fit():
    assert "does not fit: lower run.micro_rows from 64 to 32" in plan_text(planned(gpu="a10"))
    assert "not even one row fits" in plan_text(
        planned("model.num_layers=2000", "run.micro_rows=1", gpu="a10")
    )
    assert "does not fit" not in plan_text(planned())


def test_the_text_has_the_numbers():
    text = plan_text(planned(price=2.5))

    for part in (
        "124,829,190", "419.4 G in 100,000 steps", "657.4 M", "1 d 0 h, 193.6 GPU-hours",
        "cost                      484", "8 x h100 at 40% MFU of 989 TFLOP/s",
    ):  # fmt: skip
        assert part in text
    assert "cost" not in plan_text(planned())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu": "h10"}, "unknown GPU 'h10' .did you mean h100"),
        ({"gpus": 0}, "gpus must be 1 or more"),
        (
            {"gpus": 7},
            "run.batch_rows is 4096, which 7 processes do not divide; choose 4480 or 4032",
        ),
        ({"mfu": 40}, r"mfu must be in \(0, 1\]"),
        ({"mfu": float("nan")}, r"mfu must be in \(0, 1\]"),
        ({"price": -1}, "price must be 0 or more"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        planned(**arguments)


def test_rows_longer_than_the_model_are_refused():
    with pytest.raises(ConfigError, match=r"data.seq_length \(2048\) must be at most"):
        planned("data.seq_length=2048")


@pytest.mark.parametrize("preset", ["tiny", "debug"])
def test_every_preset_can_be_planned(preset):
    assert planned(preset=preset, gpus=1).hours > 0


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A10G", None),
    ],
)
def test_a_gpus_peak_is_that_of_its_whole_name(name, gpu):
    assert peak_flops(name) == (GPUS[gpu].bf16_flops if gpu else None)
