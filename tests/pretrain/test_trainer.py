"""Whole runs: equal weights whatever interrupts them, and what is refused."""

import collections
import itertools
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from pretrain.config import load_config
from pretrain.objective import Objective
from pretrain.run_dir import is_running
from pretrain.shards import TokenShards
from pretrain.trainer import BadStepError, _open_data, pretrain
from starencoder.checkpoint import load_pretraining
from starencoder.errors import CheckpointError, ConfigError, DataError, OutputError

CLI = (sys.executable, "-m", "cli")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def settings(shards_dir, output, **changes):
    """--set arguments of a run of 10 steps with dropout, of 8 short rows each."""
    values = {
        "data.directory": shards_dir,
        "data.workers": 0,
        "model.hidden_size": 32,
        "model.intermediate_size": 64,
        "model.max_positions": 64,
        "model.attention_dropout": 0.1,
        "optimizer.warmup_steps": 2,
        "optimizer.clip_norm": 1.0,
        "run.output": output,
        "run.steps": 10,
        "run.batch_rows": 8,
        "run.micro_rows": 4,
        "run.checkpoint_every": 5,
        "run.evaluate_every": 5,
        "run.evaluate_rows": 4,
        "run.log_every": 1,
        **changes,
    }
    return [f"{name}={value}" for name, value in values.items()]


def train(shards_dir, output, *, resume=False, **changes):
    # Accelerate refuses another precision than the one of the run before in the same process.
    AcceleratorState._reset_state()
    return pretrain(load_config("debug", settings(shards_dir, output, **changes)), resume=resume)


def command(shards_dir, output, *flags, processes=1, **changes):
    pairs = [part for pair in settings(shards_dir, output, **changes) for part in ("--set", pair)]
    arguments = ["pretrain", "run", "debug", *pairs, *flags]
    if processes == 1:
        return [*CLI, *arguments]
    return [*TORCHRUN, f"--nproc-per-node={processes}", "-m", "cli", *arguments]


def start(arguments):
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def run(arguments):
    process = start(arguments)
    out, _ = process.communicate(timeout=240)
    if process.returncode == 1 and re.search(r"EADDRINUSE|Gloo connectFullMesh failed", out):
        # The port that torchrun had found free was taken before a rank could open it.
        process = start(arguments)
        out, _ = process.communicate(timeout=240)
    return process.returncode, out


def weights(output):
    return load_file(Path(output) / "model" / "model.safetensors")


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def metrics(output, kind):
    lines = (Path(output) / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def losses(output):
    return [line["loss"] for line in metrics(output, "train")]


@pytest.fixture(scope="module")
def whole(shards_dir, tmp_path_factory):
    """A run of 10 steps that nothing interrupted, in a process of its own."""
    output = tmp_path_factory.mktemp("whole") / "run"
    code, out = run(command(shards_dir, output))
    assert code == 0, out
    return output


# --------------------------------------------------------------------------------------------------
# Interruptions


class Killed(BaseException):
    """Stands for a process that dies at once."""


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_killed_after_its_first_checkpoint_ends_with_the_same_bits(
    shards_dir, tmp_path, whole
):
    output = tmp_path / "run"
    process = start(command(shards_dir, output))
    wait_for((output / "checkpoints" / "step-00000005").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (output / "DONE").exists()

    code, out = run(command(shards_dir, output, "--resume"))

    assert code == 0, out
    assert "resumed after step 5" in out
    assert_same_bits(weights(output), weights(whole))
    assert losses(output) == losses(whole)
    assert (output / "DONE").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_the_resumed_run_ends_with_the_same_bits(
    shards_dir, tmp_path, whole, number
):
    output = tmp_path / "run"
    process = start(command(shards_dir, output, **{"run.checkpoint_every": 1000}))
    wait_for(lambda: (output / "metrics.jsonl").exists() and losses(output), process)
    process.send_signal(number)
    out, _ = process.communicate()

    assert process.returncode == 4, out
    assert f"{number.name}: saved after step" in out
    done = len(losses(output))
    assert 0 < done < 10
    assert (output / "checkpoints" / f"step-{done:08d}").is_dir()
    code, out = run(command(shards_dir, output, "--resume"))
    assert code == 0, out
    assert_same_bits(weights(output), weights(whole))


def test_when_one_of_two_ranks_is_killed_torchrun_restarts_to_the_same_bits(shards_dir, tmp_path):
    changes = {"run.steps": 30, "run.checkpoint_every": 5, "run.evaluate_every": 100}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, out = run(command(shards_dir, whole, processes=2, **changes))
    assert code == 0, out

    arguments = command(shards_dir, killed, "--resume", processes=2, **changes)
    arguments.insert(arguments.index("-m", 3), "--max-restarts=2")
    process = start(arguments)
    wait_for((killed / "checkpoints" / "step-00000005").exists, process)
    os.kill(second_rank_of(process.pid), signal.SIGKILL)
    out, _ = process.communicate(timeout=240)

    assert process.returncode == 0, out
    assert "resumed after step" in out
    assert_same_bits(weights(killed), weights(whole))
    assert losses(killed) == losses(whole)


def second_rank_of(pid):
    """A rank's process: a child of torchrun with RANK=1 in its environment."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == pid and b"RANK=1" in environment:
            return int(path.name)
    raise AssertionError("no second rank")


def test_a_damaged_newest_checkpoint_costs_steps_but_changes_nothing(
    shards_dir, tmp_path, whole, caplog
):
    output = tmp_path / "run"
    train(shards_dir, output, **{"run.checkpoint_every": 4})
    (output / "DONE").unlink()
    newest = output / "checkpoints" / "step-00000010" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])

    with caplog.at_level(logging.INFO):
        train(shards_dir, output, resume=True)

    assert "resumed after step 8" in caplog.text
    assert "weights.safetensors" in caplog.text
    assert_same_bits(weights(output), weights(whole))


def test_with_all_checkpoints_damaged_nothing_is_trained(shards_dir, tmp_path):
    output = tmp_path / "run"
    train(shards_dir, output)
    (output / "DONE").unlink()
    for path in output.glob("checkpoints/*/state.json"):
        path.write_text("{}")
    with pytest.raises(CheckpointError, match="none of them whole"):
        train(shards_dir, output, resume=True)


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_run(
    shards_dir, tmp_path, monkeypatch, caplog
):
    import starencoder.training_checkpoints as checkpoints

    written = checkpoints._write_file

    def full(path, parts):
        if "step-00000005" in str(path):
            raise OSError(28, "No space left on device")
        return written(path, parts)

    monkeypatch.setattr(checkpoints, "_write_file", full)
    output = tmp_path / "run"
    train(shards_dir, output)

    assert "No space left on device" in caplog.text
    saves = {line["step"]: line["error"] for line in metrics(output, "checkpoint")}
    assert "No space left" in saves[5]
    assert saves[10] is None
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step-00000010"]


def test_too_little_room_for_all_checkpoints_is_said_at_the_start(
    shards_dir, tmp_path, monkeypatch, caplog
):
    def free(number):
        usage = collections.namedtuple("usage", "total used free")(0, 0, number)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    changes = {"run.steps": 3, "run.keep_checkpoints": 2}
    free(10_000_000)
    with caplog.at_level("WARNING"):
        train(shards_dir, tmp_path / "enough", **changes)
    assert "only" not in caplog.text
    free(100_000)
    with caplog.at_level("WARNING"):
        train(shards_dir, tmp_path / "little", **changes)
    assert re.search(r"up to \d\.\d MB and only 100\.0 kB are free", caplog.text)


def test_a_full_disk_at_the_end_leaves_the_run_undone(shards_dir, tmp_path, monkeypatch):
    import starencoder.training_checkpoints as checkpoints

    def full(path, parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_write_file", full)
    with pytest.raises(OutputError, match="No space left"):
        train(shards_dir, tmp_path / "run")
    assert not (tmp_path / "run" / "DONE").exists()


# --------------------------------------------------------------------------------------------------
# Processes and micro-batches


def test_two_ranks_lose_as_much_as_one_that_accumulates(shards_dir, tmp_path):
    changes = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0}
    train(shards_dir, tmp_path / "one", **changes)
    code, out = run(command(shards_dir, tmp_path / "two", processes=2, **changes))
    assert code == 0, out

    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)


def test_micro_batches_do_not_change_the_losses(shards_dir, tmp_path):
    changes = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0}
    for rows in (1, 8):
        train(shards_dir, tmp_path / str(rows), **changes, **{"run.micro_rows": rows})
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "8"), rel=1e-6)


def test_a_run_goes_on_with_another_number_of_processes_on_the_same_data(shards_dir, tmp_path):
    changes = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0}
    train(shards_dir, tmp_path / "one", **changes)
    output = tmp_path / "moved"
    code, out = run(command(shards_dir, output, processes=2, **changes))
    assert code == 0, out
    (output / "DONE").unlink()
    (output / "checkpoints" / "step-00000010" / "checksums.json").unlink()

    train(shards_dir, output, resume=True, **changes)

    assert losses(output) == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    assert len(losses(output)) == 10


# --------------------------------------------------------------------------------------------------
# The result


def test_the_model_learns_and_is_a_hugging_face_directory(shards_dir, tmp_path):
    output = tmp_path / "run"
    changes = {"run.steps": 120, "optimizer.learning_rate": 3e-3, "run.log_every": 10}
    changes |= {"run.evaluate_every": 20, "run.checkpoint_every": 1000}
    changes |= {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0}
    model_dir = train(shards_dir, output, **changes)

    assert losses(output)[-1] < losses(output)[0] - 0.5
    first, *_, last = (line["all"] for line in metrics(output, "held_out"))
    assert last["mlm_loss"] < first["mlm_loss"]
    assert last["pairs"] == first["pairs"]
    assert "Python" in metrics(output, "held_out")[-1]["languages"]

    ours = load_pretraining(model_dir)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForPreTraining.from_pretrained(model_dir).eval()
    ids = torch.arange(30).reshape(2, 15)
    torch.testing.assert_close(
        ours(ids).mlm_logits, theirs(ids).prediction_logits, rtol=1e-5, atol=1e-5
    )
    assert transformers.AutoTokenizer.from_pretrained(model_dir).mask_token == "<mask>"


def test_the_weights_may_be_saved_in_half_precision(shards_dir, tmp_path):
    train(shards_dir, tmp_path / "run", **{"run.saved_precision": "fp16"})
    assert {tensor.dtype for tensor in weights(tmp_path / "run").values()} == {torch.float16}


def test_bf16_starts_with_nearly_the_loss_of_fp32_and_trains_fp32_weights(
    shards_dir, tmp_path, whole
):
    output = tmp_path / "run"
    train(shards_dir, output, **{"run.precision": "bf16", "run.steps": 2})
    assert losses(output)[0] == pytest.approx(losses(whole)[0], rel=2e-3)
    assert losses(output)[0] != losses(whole)[0]
    saved = load_file(output / "checkpoints" / "step-00000002" / "weights.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def test_a_run_can_start_from_a_checkpoints_weights(shards_dir, tmp_path, whole):
    output = tmp_path / "run"
    train(shards_dir, output, **{"model.init_from": whole / "model", "run.steps": 2})
    assert losses(output)[0] < losses(whole)[0]
    with pytest.raises(ConfigError, match=r"hidden_size 32, the run 48"):
        train(
            shards_dir,
            tmp_path / "other",
            **{"model.init_from": whole / "model", "model.hidden_size": 48},
        )


def test_the_metrics_have_a_line_for_every_step_and_evaluation(whole):
    assert [line["step"] for line in metrics(whole, "train")] == list(range(1, 11))
    assert [line["step"] for line in metrics(whole, "held_out")] == [5, 10]
    assert [line["step"] for line in metrics(whole, "checkpoint")] == [5, 10]
    for line in metrics(whole, "train"):
        assert line["loss"] == pytest.approx(line["mlm_loss"] + line["nsp_loss"])
        assert 0 <= line["data_wait"] <= 1
        assert line["mfu"] is None
    tokens = [line["tokens"] for line in metrics(whole, "train")]
    assert all(later > earlier for earlier, later in itertools.pairwise(tokens))
    assert tokens[-1] <= 10 * 8 * 64


def test_a_tracker_gets_the_losses_and_the_held_out_scores(shards_dir, tmp_path):
    pytest.importorskip("tensorboard")
    output = tmp_path / "run"
    train(shards_dir, output, **{"run.trackers": '["tensorboard"]', "run.steps": 4})
    (events,) = (output / "starencoder").glob("events.out.tfevents*")
    content = events.read_bytes()
    assert b"mlm_loss" in content
    assert b"held_out/masked_accuracy" in content


# --------------------------------------------------------------------------------------------------
# What is refused, and bad steps


def test_a_directory_with_a_run_in_it_needs_resume(shards_dir, tmp_path):
    train(shards_dir, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holds a run already.*--resume"):
        train(shards_dir, tmp_path / "run")
    assert train(shards_dir, tmp_path / "run", resume=True) == tmp_path / "run" / "model"
    assert not is_running(tmp_path / "run")


def test_a_second_run_on_a_directory_is_refused_and_the_first_goes_on(shards_dir, tmp_path):
    output = tmp_path / "run"
    first = start(command(shards_dir, output, **{"run.steps": 100_000}))
    wait_for(lambda: (output / "metrics.jsonl").exists() and losses(output), first)
    code, out = run(command(shards_dir, output, "--resume"))
    done = len(losses(output))
    wait_for(lambda: len(losses(output)) > done, first)
    first.terminate()
    first_out, _ = first.communicate()

    assert code == 4
    assert f"{output}: another run is writing there (process {first.pid}" in out
    assert "Traceback" not in out
    assert len(losses(output)) > done
    assert first.returncode == 4, first_out


def test_a_resumed_run_must_have_the_same_settings_and_data(shards_dir, tmp_path, whole):
    other = tmp_path / "data"
    shutil.copytree(shards_dir, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["languages"][0] = "another"
    (other / "manifest.json").write_text(json.dumps(manifest))
    (whole / "DONE").rename(whole / "hidden")
    try:
        with pytest.raises(
            ConfigError, match=r"is not the data set that the run in .* was started"
        ):
            train(other, whole, resume=True)
        with pytest.raises(ConfigError, match=r"optimizer.learning_rate was 0.001, is 0.002"):
            train(shards_dir, whole, resume=True, **{"optimizer.learning_rate": 2e-3})
        with pytest.raises(ConfigError, match=r"run.steps is 3, but .* has done 10"):
            train(shards_dir, whole, resume=True, **{"run.steps": 3})
    finally:
        (whole / "hidden").rename(whole / "DONE")


def test_a_run_that_is_done_is_not_taken_for_another_one(shards_dir, whole):
    assert train(shards_dir, whole, resume=True) == whole / "model"
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate was 0.001, is 0.002"):
        train(shards_dir, whole, resume=True, **{"optimizer.learning_rate": 2e-3})
    with pytest.raises(ConfigError, match=r"run.steps is 20, but .* ended with step 10; start"):
        train(shards_dir, whole, resume=True, **{"run.steps": 20})


@pytest.mark.parametrize("name", ["model", "config.json"])
def test_a_run_that_is_done_but_has_lost_what_it_made_says_how_to_make_it_again(
    shards_dir, tmp_path, whole, name
):
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    expected = weights(output)
    (output / name).rename(tmp_path / "lost")
    with pytest.raises(ConfigError, match=rf"{name} is missing; remove .*DONE and go on"):
        train(shards_dir, output, resume=True)
    (output / "DONE").unlink()
    train(shards_dir, output, resume=True)
    assert_same_bits(weights(output), expected)
    train(shards_dir, output, resume=True)


BY_RANK = """
import os, sys
import cli
sys.exit(cli.main([*sys.argv[2:], "--set", f"data.directory={sys.argv[1]}{os.environ['RANK']}"]))
"""


def test_ranks_that_have_other_data_are_refused(shards_dir, tmp_path):
    script = tmp_path / "by_rank.py"
    script.write_text(BY_RANK)
    for rank in "01":
        shutil.copytree(shards_dir, tmp_path / f"data{rank}")
    manifest = json.loads((tmp_path / "data1" / "manifest.json").read_text())
    manifest["languages"][0] = "another"
    (tmp_path / "data1" / "manifest.json").write_text(json.dumps(manifest))
    _, *arguments = command(shards_dir, tmp_path / "run")[2:]
    code, out = run([*TORCHRUN, "--nproc-per-node=2", script, tmp_path / "data", *arguments])

    assert code != 0
    assert "data.directory: " in out
    assert "is another data set on rank 1 than on rank 0" in out
    assert not (tmp_path / "run" / "model").exists()


def test_each_rank_checks_the_shards_of_its_own_machine(shards_dir, monkeypatch):
    parts = []
    monkeypatch.setattr(TokenShards, "verify", lambda _, **given: parts.append(given))
    accelerator = SimpleNamespace(
        local_process_index=3, wait_for_everyone=lambda: None, is_main_process=False
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    _open_data(load_config("debug", [f"data.directory={shards_dir}"]), accelerator)
    assert parts == [{"part": 3, "parts": 8}]


def test_weights_that_belong_to_other_tokens_or_positions_are_refused(shards_dir, whole, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(whole / "model", start)
    changes = {"model.init_from": start, "model.max_positions": 32}
    with pytest.raises(ConfigError, match="max_positions 64, the run 32"):
        train(shards_dir, tmp_path / "short", **changes)
    with (start / "tokenizer.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ConfigError, match="has another tokenizer than"):
        train(shards_dir, tmp_path / "other", **{"model.init_from": start})


def test_rows_too_short_for_a_pair_are_refused(shards_dir, tmp_path):
    with pytest.raises(ConfigError, match="seq_length is 16; rows need 19"):
        train(shards_dir, tmp_path / "run", **{"data.seq_length": 16})


def test_another_tokenizer_than_the_shards_is_refused(shards_dir, tokenizer_dir, tmp_path):
    other = tmp_path / "tokenizer"
    other.mkdir()
    text = (tokenizer_dir / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text + "\n")
    with pytest.raises(ConfigError, match="is not the tokenizer that"):
        train(shards_dir, tmp_path / "run", **{"data.tokenizer": other})
    train(shards_dir, tmp_path / "run", **{"data.tokenizer": tokenizer_dir, "run.steps": 2})


def test_damaged_tokens_are_found_before_the_first_step(shards_dir, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(shards_dir, copy)
    path = copy / "train-00000.tokens"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000\.tokens"):
        train(copy, tmp_path / "run")


def test_rows_longer_than_the_model_reads_are_refused(shards_dir, tmp_path):
    with pytest.raises(
        ConfigError, match=r"seq_length \(128\) must be at most the model's positions \(64"
    ):
        train(shards_dir, tmp_path / "run", **{"data.seq_length": 128})


def broken(monkeypatch, step, value):
    """Let the loss of one step be `value` times what it is."""
    forward, calls = Objective.forward, []

    def breaking(self, batch):
        sums = forward(self, batch)
        if self.training:
            calls.append(1)
            if (len(calls) - 1) // 2 == step:  # two micro-batches a step
                return sums._replace(mlm_loss=sums.mlm_loss * value)
        return sums

    monkeypatch.setattr(Objective, "forward", breaking)


@pytest.mark.parametrize(
    ("value", "steps", "reason"),
    [(math.nan, 3, "not finite"), (math.inf, 3, "not finite"), (50.0, 25, "times the median")],
)
def test_a_bad_step_stops_the_run_and_names_its_documents(
    shards_dir, tmp_path, monkeypatch, value, steps, reason
):
    broken(monkeypatch, steps, value)
    output = tmp_path / "run"
    with pytest.raises(BadStepError, match=rf"step {steps + 1}: .*{reason}.*metrics\.jsonl"):
        train(shards_dir, output, **{"run.steps": 40})
    (line,) = metrics(output, "bad_step")
    assert line["step"] == steps + 1
    assert line["action"] == "stop"
    assert all("train-00000 document" in name for name in line["documents"])


def test_a_skipped_step_leaves_the_weights_as_they_were(shards_dir, tmp_path, monkeypatch, caplog):
    changes = {"run.bad_step": "skip", "run.steps": 4, "run.checkpoint_every": 1}
    changes |= {"run.keep_checkpoints": 9}
    broken(monkeypatch, 2, math.nan)
    output = tmp_path / "run"
    train(shards_dir, output, **changes)

    saved = [
        load_file(output / "checkpoints" / f"step-{step:08d}" / "weights.safetensors")
        for step in (2, 3, 4)
    ]
    assert_same_bits(saved[1], saved[0])
    assert any(not torch.equal(saved[2][name], saved[1][name]) for name in saved[1])
    assert all(tensor.isfinite().all() for tensor in saved[2].values())
    assert "skipped" in caplog.text


def test_bad_steps_that_do_not_end_are_not_skipped_for_ever(shards_dir, tmp_path, monkeypatch):
    forward = Objective.forward
    monkeypatch.setattr(
        Objective,
        "forward",
        lambda self, batch: forward(self, batch)._replace(mlm_loss=torch.tensor(math.nan)),
    )
    changes = {"run.bad_step": "skip", "run.steps": 40, "model.hidden_dropout": 0.0}
    with pytest.raises(BadStepError, match=r"^11 bad steps in a row; step 11"):
        train(shards_dir, tmp_path / "run", **changes)
    assert [line["action"] for line in metrics(tmp_path / "run", "bad_step")] == [
        *["skip"] * 10,
        "stop",
    ]


def test_out_of_memory_says_what_to_lower(shards_dir, tmp_path, monkeypatch):
    def forward(self, batch):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "forward", forward)
    with pytest.raises(ConfigError, match=r"run\.micro_rows = 4; set it to 2"):
        train(shards_dir, tmp_path / "a")
    with pytest.raises(ConfigError, match=r"run\.micro_rows = 1; lower data\.seq_length"):
        train(shards_dir, tmp_path / "b", **{"run.micro_rows": 1})


def test_varlen_attention_needs_a_gpu(shards_dir, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="varlen, which needs a CUDA GPU"):
        train(shards_dir, tmp_path / "run", **{"run.attention": "varlen"})
