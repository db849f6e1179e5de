"""The learning rate of each step, which parameters decay, and Adam's moments out and in."""

import itertools
import warnings

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from starencoder.config import EncoderConfig
from starencoder.errors import CheckpointError
from starencoder.model import PretrainingModel
from starencoder.optim import load_moments, make_optimizer, moments
from starencoder.schedule import OptimizerConfig, learning_rate


def rates(steps, **changes):
    config = OptimizerConfig(**changes)
    return [learning_rate(step, steps, config) for step in range(steps)]


# --------------------------------------------------------------------------------------------------
# Schedules


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (100, 0), (37, 36)])
def test_the_linear_schedule_is_that_of_transformers(steps, warmup):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimization = pytest.importorskip("transformers.optimization")
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=6e-4)
        schedule = optimization.get_linear_schedule_with_warmup(optimizer, warmup, steps)
        theirs = []
        for _ in range(steps + 1):
            theirs.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    # Theirs wastes the first step on a rate of 0; ours is one step ahead during the warm-up.
    expected = theirs[1 : warmup + 1] + theirs[warmup:steps]
    assert rates(steps, learning_rate=6e-4, warmup_steps=warmup) == pytest.approx(expected)


@given(
    st.sampled_from(["linear", "wsd"]),
    st.integers(1, 300),
    st.integers(0, 300),
    st.floats(0.01, 1),
)
def test_a_schedule_rises_to_its_peak_and_never_rises_again(schedule, steps, warmup, decay):
    stable = steps - max(1, round(steps * decay)) if schedule == "wsd" else steps
    assume(warmup <= stable)
    found = rates(
        steps, schedule=schedule, warmup_steps=warmup, decay_share=decay, learning_rate=1.0
    )
    assert all(0 < rate <= 1 for rate in found)
    assert max(found) == 1.0
    assert found[:warmup] == sorted(found[:warmup])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    # Nowhere a leap: no step changes the rate by more than the steepest stretch does.
    spans = [warmup or steps, (steps - warmup) or 1]
    if schedule == "wsd":
        spans[1] = max(1, round(steps * decay))
    slopes = (1 / spans[0], spans[1] ** (-0.5 if schedule == "wsd" else -1))
    leaps = [abs(after - before) for before, after in itertools.pairwise(found)]
    assert all(leap <= max(slopes) + 1e-9 for leap in leaps)


def test_wsd_warms_up_stays_and_falls_as_one_minus_the_root():
    found = rates(100, schedule="wsd", warmup_steps=10, decay_share=0.25, learning_rate=2.0)
    assert found[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert found[9:76] == [2.0] * 67
    assert found[84] == pytest.approx(2 * (1 - (9 / 25) ** 0.5))
    assert found[99] == pytest.approx(2 * (1 - (24 / 25) ** 0.5))


@pytest.mark.parametrize("schedule", ["linear", "wsd"])
def test_the_rate_would_be_zero_one_step_after_the_last(schedule):
    config = OptimizerConfig(schedule=schedule, warmup_steps=10)
    assert learning_rate(100, 100, config) == 0.0
    assert learning_rate(99, 100, config) > 0.0


# --------------------------------------------------------------------------------------------------
# The optimiser


def make_model(seed=0):
    torch.manual_seed(seed)
    config = EncoderConfig(
        vocab_size=50, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=16,
        max_positions=16, pad_id=0,
    )  # fmt: skip
    return PretrainingModel(config)


def test_biases_and_norms_do_not_decay_and_all_else_does():
    model = make_model()
    optimizer = make_optimizer(model, OptimizerConfig(weight_decay=0.25))
    decay = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        spared = name.endswith("bias") or "LayerNorm" in name
        assert decay[id(parameter)] == (0.0 if spared else 0.25), name
    assert any("LayerNorm.weight" in name for name, _ in model.named_parameters())


def test_the_optimiser_has_the_settings_of_the_run():
    config = OptimizerConfig(betas=(0.8, 0.95), eps=1e-5, learning_rate=0.125)
    for group in make_optimizer(make_model(), config).param_groups:
        assert (group["betas"], group["eps"], group["lr"]) == ((0.8, 0.95), 1e-5, 0.125)


def step(model, optimizer, seed):
    ids = torch.randint(1, 50, (2, 16), generator=torch.Generator().manual_seed(seed))
    output = model(ids)
    (output.mlm_logits.square().mean() + output.nsp_logits.square().mean()).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def test_moments_put_into_a_new_optimiser_go_on_to_the_same_bits():
    config = OptimizerConfig(learning_rate=0.01)
    model = make_model().eval()
    optimizer = make_optimizer(model, config)
    for seed in range(3):
        step(model, optimizer, seed)
    copy = make_model(seed=1).eval()
    copy.load_state_dict(model.state_dict())
    other = make_optimizer(copy, config)
    saved = {name: tensor.clone() for name, tensor in moments(model, optimizer).items()}

    load_moments(copy, other, saved, updates=3)

    back = moments(copy, other)
    assert back.keys() == saved.keys()
    assert all(torch.equal(back[name], saved[name]) for name in saved)
    for seed in (3, 4):
        step(model, optimizer, seed)
        step(copy, other, seed)
    for name, weight in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], weight), name


def test_moments_have_the_names_and_shapes_of_the_parameters():
    model = make_model()
    optimizer = make_optimizer(model, OptimizerConfig())
    assert moments(model, optimizer) == {}
    step(model, optimizer, 0)
    found = moments(model, optimizer)
    for name, parameter in model.named_parameters():
        for kind in ("exp_avg", "exp_avg_sq"):
            assert found[f"{kind}.{name}"].shape == parameter.shape
    assert len(found) == 2 * len(list(model.parameters()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors, name: tensors.pop(name), "found nothing, expected shape"),
        (
            lambda tensors, name: tensors.update({name: torch.zeros(3, 3)}),
            r"found shape \(3, 3\), expected shape",
        ),
    ],
)
def test_a_moment_that_is_missing_or_of_another_shape_is_named(damage, message):
    model = make_model()
    optimizer = make_optimizer(model, OptimizerConfig())
    step(model, optimizer, 0)
    tensors = moments(model, optimizer)
    name = "exp_avg_sq.bert.pooler.dense.weight"
    damage(tensors, name)
    with pytest.raises(CheckpointError, match=rf"optimizer\.safetensors: {name}: {message}"):
        load_moments(model, make_optimizer(model, OptimizerConfig()), tensors, updates=1)
