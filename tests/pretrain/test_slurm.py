"""The example Slurm script, with stand-ins for Slurm's commands and two local processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "pretrain.slurm"
STAND_INS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done\nsetsid "$@" &\necho $! >step\nwait $!\n',
    "scancel": 'echo "scancel $*" >>calls\nkill -TERM -- "-$(cat step)"\n',
    "scontrol": 'if [[ $1 == show ]]; then echo localhost; else echo "scontrol $*" >>calls; fi\n',
    # The programs of this environment, wherever they are installed.
    "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"\n',
    "starencoder": f'exec "{sys.executable}" -m cli "$@"\n',
}
SETTINGS = {
    "data.workers": 1,
    "model.max_positions": 64,
    "run.steps": 30,
    "run.micro_rows": 8,
    "run.log_every": 1,
    "run.checkpoint_every": 1000,
    "run.evaluate_every": 1000,
}


@pytest.fixture
def job(tmp_path, shards_dir):
    """Submit the script: a function of the output directory and how often it was requeued."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text(f"PATH={tmp_path}:$PATH\n")

    def submit(output, requeued=0):
        settings = {**SETTINGS, "data.directory": shards_dir, "run.output": output}
        pairs = [part for pair in settings.items() for part in ("--set", "=".join(map(str, pair)))]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "VENV": str(tmp_path / "venv"),
            "RANKS_PER_NODE": "2",
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "here",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_RESTART_COUNT": str(requeued),
        }
        return subprocess.Popen(["bash", SCRIPT, "debug", *pairs], cwd=tmp_path, env=environment)

    return submit


def wait_for_metrics(output, job):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and job.poll() is None:
        if (output / "metrics.jsonl").exists() and (output / "metrics.jsonl").read_text():
            return
        time.sleep(0.02)
    pytest.fail("the run has not begun")


@pytest.mark.parametrize(
    ("number", "code", "calls"),
    [
        (signal.SIGUSR1, 0, ["scancel --signal=TERM", "scontrol requeue"]),
        (signal.SIGTERM, 1, ["scancel --signal=TERM"]),
    ],
)
def test_a_job_that_is_stopped_saves_and_ends_with_the_same_bits(
    job, tmp_path, number, code, calls
):
    assert job(tmp_path / "whole").wait(timeout=240) == 0
    output = tmp_path / "stopped"
    first = job(output)
    wait_for_metrics(output, first)
    first.send_signal(number)
    assert first.wait(timeout=120) == code
    made = (tmp_path / "calls").read_text().splitlines()
    assert made == [f"{call} {os.getpid()}" for call in calls]
    assert list((output / "checkpoints").iterdir())
    assert not (output / "DONE").exists()

    assert job(output, requeued=1).wait(timeout=240) == 0

    ends = [load_file(run / "model" / "model.safetensors") for run in (tmp_path / "whole", output)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_without_a_config_the_script_says_how_it_is_used(job, tmp_path):
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch")
