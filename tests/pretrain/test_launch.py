"""Start of a run: rows per rank, signals, and what is said about how it was started."""

import os
import re
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.config import RunConfig, check_batch, largest_divisor
from pretrain.launch import StopRequest, start
from starencoder.errors import ConfigError


@given(st.integers(1, 8), st.integers(1, 64), st.integers(1, 12))
def test_what_is_advised_for_a_batch_that_does_not_divide_is_accepted(micro, accumulate, ranks):
    run = RunConfig(batch_rows=micro * accumulate, micro_rows=micro)
    try:
        check_batch(run, ranks)
    except ConfigError as error:
        message = str(error)
    else:
        assert run.batch_rows % ranks == 0
        assert run.batch_rows // ranks % micro == 0
        return
    advised = [int(number) for number in re.findall(r"\d+", message.partition("choose ")[2])]
    assert advised
    for number in advised:
        if "run.batch_rows is" in message:
            check_batch(RunConfig(batch_rows=number, micro_rows=micro), ranks)
            assert abs(number - run.batch_rows) <= ranks * micro
        else:
            assert number < micro
            check_batch(RunConfig(batch_rows=run.batch_rows, micro_rows=number), ranks)


@given(st.integers(1, 500), st.integers(1, 500))
def test_the_largest_divisor_divides_and_no_larger_one_does(number, at_most):
    found = largest_divisor(number, at_most)
    divisors = [d for d in range(1, at_most + 1) if number % d == 0]
    assert found == max(divisors)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_stop_signal_is_noted_and_handlers_are_put_back(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    stop = StopRequest()
    assert not stop
    with stop.on_signals():
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_name == name
    assert signal.getsignal(number) is before


TORCHRUN = {
    "RANK": "0",
    "TORCHELASTIC_MAX_RESTARTS": "3",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({}, True),
        ({"TORCHELASTIC_USE_AGENT_STORE": "False"}, False),
        ({"TORCHELASTIC_MAX_RESTARTS": "0"}, False),
        ({"RANK": "1"}, False),
        (dict.fromkeys(TORCHRUN), False),
    ],
)
def test_restarts_that_may_fail_are_warned_of_once(monkeypatch, caplog, tmp_path, changes, warned):
    for name, value in {**TORCHRUN, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    start(RunConfig(output=str(tmp_path), precision="fp32"))
    assert ("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in caplog.text) is warned


def test_a_tracker_that_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("pretrain.launch.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"run\.trackers: wandb is not installed"):
        start(RunConfig(output=str(tmp_path), trackers=("wandb",)))


def test_a_precision_that_the_device_lacks_is_one_line(monkeypatch, tmp_path):
    def refuse(**arguments):
        raise ValueError("bf16 mixed precision requires a supported device")

    monkeypatch.setattr("pretrain.launch.Accelerator", refuse)
    with pytest.raises(ConfigError, match=r"run\.precision: bf16 mixed precision requires"):
        start(RunConfig(output=str(tmp_path)))
