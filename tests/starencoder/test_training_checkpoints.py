import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from starencoder.errors import CheckpointError, OutputError
from starencoder.training_checkpoints import (
    CHECKSUMS_FILE,
    STATE_FILE,
    CheckpointWriter,
    load_checkpoint,
    load_latest,
)

FILES = ("weights.safetensors", "optimizer.safetensors", STATE_FILE, CHECKSUMS_FILE)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)


def groups_of(step, size=64):
    generator = torch.Generator().manual_seed(step)
    return {
        "weights": {"a": torch.randn(size, 3, generator=generator), "b": torch.tensor(step)},
        "optimizer": {"exp_avg.a": torch.randn(size, 3, generator=generator)},
    }


def write(folder, steps, keep=10):
    writer = CheckpointWriter(folder, keep)
    for step in steps:
        writer.save(step, groups_of(step), {"tokens": step * 1000})
    writer.close()
    return [folder / f"step-{step:08d}" for step in steps]


def check_is(checkpoint, step, size=64):
    assert (checkpoint.step, checkpoint.state) == (step, {"tokens": step * 1000})
    expected = groups_of(step, size)
    assert checkpoint.tensors.keys() == expected.keys()
    for group, members in expected.items():
        assert checkpoint.tensors[group].keys() == members.keys()
        for name, tensor in members.items():
            assert torch.equal(checkpoint.tensors[group][name], tensor)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@given(
    dtypes=st.lists(st.sampled_from(DTYPES), max_size=6),
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=6, max_size=6),
    state=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats())),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_saved_is_loaded_to_the_bit(tmp_path_factory, dtypes, shapes, state, seed):
    folder = tmp_path_factory.mktemp("checkpoints")
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"tensor \u00e9 {index}": torch.randint(
            *(0, 2 if dtype is torch.bool else 256),
            (*shape, dtype.itemsize),
            dtype=torch.uint8,
            generator=generator,
        )
        .view(dtype)
        .squeeze(-1)
        for index, (dtype, shape) in enumerate(zip(dtypes, shapes, strict=False))
    }

    writer = CheckpointWriter(folder, 1)
    writer.save(7, {"weights": tensors}, state)
    writer.close()
    loaded = load_latest(folder)

    assert repr(loaded.state) == repr(state)
    # safetensors' own reader is the second opinion about the file.
    for found in (
        loaded.tensors["weights"],
        load_file(folder / "step-00000007" / "weights.safetensors"),
    ):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
            same = [t.contiguous().view(-1).view(torch.uint8) for t in (found[name], tensor)]
            assert torch.equal(*same)


def test_tensors_may_change_as_soon_as_save_returns(tmp_path):
    writer = CheckpointWriter(tmp_path, 1)
    groups = groups_of(1, size=300_000)
    writer.save(1, groups, {"tokens": 1000})
    for members in groups.values():
        for tensor in members.values():
            tensor.zero_()
    writer.close()

    check_is(load_latest(tmp_path), 1, size=300_000)


def test_what_is_loaded_does_not_depend_on_the_files_any_more(tmp_path):
    (path,) = write(tmp_path, [1])
    checkpoint = load_latest(tmp_path)
    weights = path / "weights.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))

    check_is(checkpoint, 1)


def test_a_folder_without_checkpoints_has_no_latest(tmp_path):
    (tmp_path / "step-00000001.partial").mkdir()
    (tmp_path / "notes").mkdir()

    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None


def test_the_last_ones_are_kept(tmp_path):
    write(tmp_path, [1, 2, 3, 4, 5], keep=2)

    assert names_in(tmp_path) == ["step-00000004", "step-00000005"]


def test_damaged_ones_do_not_count_among_those_that_are_kept(tmp_path):
    paths = write(tmp_path, [1, 2, 3])
    (paths[2] / STATE_FILE).unlink()
    write(tmp_path, [4], keep=2)

    assert names_in(tmp_path) == ["step-00000002", "step-00000004"]


def test_a_step_that_is_saved_again_replaces_the_first(tmp_path):
    (path,) = write(tmp_path, [3])
    (path / "weights.safetensors").write_bytes(b"damaged")
    write(tmp_path, [3], keep=1)

    check_is(load_latest(tmp_path), 3)
    assert names_in(tmp_path) == ["step-00000003"]


def test_a_kill_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path):
    (path,) = write(tmp_path, [3])
    path.rename(path.with_name(path.name + ".old"))

    check_is(load_latest(tmp_path), 3)
    write(tmp_path, [3, 4], keep=5)
    assert names_in(tmp_path) == ["step-00000003", "step-00000004"]


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def append(path):
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut, flip, append, Path.unlink])
def test_the_one_before_a_damaged_one_is_used_with_a_warning(tmp_path, caplog, name, damage):
    path = write(tmp_path, [1, 2])[1]
    damage(path / name)

    with caplog.at_level(logging.WARNING):
        checkpoint = load_latest(tmp_path)

    check_is(checkpoint, 1)
    (record,) = caplog.records
    assert str(path) in record.getMessage()


def test_the_error_says_what_was_found_and_what_was_expected(tmp_path):
    (path,) = write(tmp_path, [1])
    weights = path / "weights.safetensors"
    size = weights.stat().st_size
    cut(weights)

    with pytest.raises(CheckpointError, match=f"{size // 2} bytes, expected {size}"):
        load_checkpoint(path)


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("checkpoints")
    (path,) = write(folder, [1])
    file = path / data.draw(st.sampled_from(FILES))
    content = bytearray(file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)

    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError:
        return
    check_is(checkpoint, 1)


def test_a_renamed_checkpoint_is_not_taken_for_another_step(tmp_path):
    (path,) = write(tmp_path, [1])
    renamed = path.rename(tmp_path / "step-00000009")

    with pytest.raises(CheckpointError, match=r"step 1, but the folder's name says 9"):
        load_checkpoint(renamed)


@pytest.mark.parametrize(
    "sums",
    [
        "[]",
        "{}",
        "nonsense",
        "[" * 100_000,
        '{"format": "starencoder-training-checkpoint", "version": 2, "files": {}}',
        '{"format": "starencoder-training-checkpoint", "version": 1, "files": {"state.json": 1}}',
        '{"format": "starencoder-training-checkpoint", "version": 1, "files": {}}',
    ],
)
def test_checksums_of_another_form_are_an_error(tmp_path, sums):
    (path,) = write(tmp_path, [1])
    (path / CHECKSUMS_FILE).write_text(sums)

    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_where_all_are_damaged_the_error_says_what_to_do(tmp_path):
    for path in write(tmp_path, [1, 2]):
        cut(path / "weights.safetensors")

    with pytest.raises(CheckpointError, match=r"2 checkpoints, none of them whole; put back"):
        load_latest(tmp_path)


def test_a_partial_folder_left_by_a_kill_is_never_loaded_and_is_removed(tmp_path, caplog):
    path = write(tmp_path, [1, 2])[1]
    path.rename(path.with_name("step-00000002.partial"))

    check_is(load_latest(tmp_path), 1)
    with caplog.at_level(logging.WARNING):
        CheckpointWriter(tmp_path, 2).close()
    assert names_in(tmp_path) == ["step-00000001"]
    assert "interrupted" in caplog.text


SAVE_FOR_EVER = """
import sys, itertools, torch
from pathlib import Path
from starencoder.training_checkpoints import CheckpointWriter
from tests.starencoder.test_training_checkpoints import groups_of
writer = CheckpointWriter(Path(sys.argv[1]), 2)
for step in itertools.count(int(sys.argv[2])):
    writer.save(step, groups_of(step, 100_000), {"tokens": step * 1000})
    for result in writer.poll():
        print(result.step, flush=True)
"""


def python(code, *arguments, **options):
    root = Path(__file__).parents[2]
    # torch with one thread: the test machine may have few cores.
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_kill_9_during_saves_leaves_the_last_finished_one_or_a_newer(tmp_path, rounds):
    step = 0
    for attempt in range(rounds):
        process = python(SAVE_FOR_EVER, tmp_path, step + 1)
        finished = int(process.stdout.readline())
        time.sleep(random.Random(attempt).uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        finished = int(rest[-1]) if rest and rest[-1].isdigit() else finished

        checkpoint = load_latest(tmp_path)
        assert checkpoint.step >= finished > step
        check_is(checkpoint, checkpoint.step, size=100_000)
        step = checkpoint.step


SAVE_WITH_A_LIMIT = """
import resource, sys
from pathlib import Path
from starencoder.training_checkpoints import CheckpointWriter
from starencoder.errors import OutputError
from tests.starencoder.test_training_checkpoints import groups_of, names_in
writer = CheckpointWriter(Path(sys.argv[1]), 2)
for step in (1, 2):
    writer.save(step, groups_of(step), {"tokens": step * 1000}, wait=True)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
try:
    writer.save(3, groups_of(3), {"tokens": 3000}, wait=True)
except OutputError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert names_in(Path(sys.argv[1])) == ["step-00000001", "step-00000002"]
writer.save(4, groups_of(4), {"tokens": 4000})
"""


def test_a_file_that_cannot_be_written_to_its_end_costs_only_that_checkpoint(tmp_path):
    # The process ends without `close`: its end waits for the thread.
    process = python(SAVE_WITH_A_LIMIT, tmp_path)
    output, _ = process.communicate()

    assert process.returncode == 0
    assert "step-00000003: not saved (File too large" in output
    assert names_in(tmp_path) == ["step-00000002", "step-00000004"]
    check_is(load_latest(tmp_path), 4)


@pytest.fixture
def small_disk(tmp_path):
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if not mount or not unmount or os.geteuid():
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run([unmount, str(disk)], check=True)


def test_a_full_disk_costs_only_that_checkpoint_and_a_later_save_succeeds(small_disk, caplog):
    folder = small_disk / "checkpoints"
    write(folder, [1, 2], keep=2)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096))
    writer = CheckpointWriter(folder, 2)

    writer.save(3, groups_of(3), {"tokens": 3000})
    with pytest.raises(OutputError, match=r"step-00000003: not saved \(No space left on device"):
        writer.close()
    (result,) = writer.poll()
    assert (result.step, str(result.error)) == (3, caplog.messages[-1])
    assert names_in(folder) == ["step-00000001", "step-00000002"]
    check_is(load_latest(folder), 2)

    filler.unlink()
    writer = CheckpointWriter(folder, 2)
    writer.save(4, groups_of(4), {"tokens": 4000}, wait=True)
    assert names_in(folder) == ["step-00000002", "step-00000004"]
    writer.close()


@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename"])
def test_a_failing_call_costs_only_that_checkpoint(tmp_path, monkeypatch, call):
    def fail(*_arguments, **_options):
        raise OSError(5, "Input/output error")

    write(tmp_path, [1])
    writer = CheckpointWriter(tmp_path, 3)
    with monkeypatch.context() as patched:
        patched.setattr(os if call == "fsync" else Path, call, fail)
        with pytest.raises(OutputError, match="Input/output error"):
            writer.save(2, groups_of(2), {"tokens": 2000}, wait=True)
    assert names_in(tmp_path) == ["step-00000001"]
    writer.save(3, groups_of(3), {"tokens": 3000})
    writer.close()

    assert [(r.step, r.error is None) for r in writer.poll()] == [(2, False), (3, True)]
    check_is(load_latest(tmp_path), 3)


def test_results_say_how_long_training_waited_and_what_was_written(tmp_path):
    writer = CheckpointWriter(tmp_path, 3)
    stall = writer.save(1, groups_of(1), {}, wait=True)
    (result,) = writer.poll()

    files = (tmp_path / "step-00000001").iterdir()
    written = sum(path.stat().st_size for path in files if path.name != CHECKSUMS_FILE)
    assert result.num_bytes == written
    assert result.stall_seconds == stall > 0
    assert result.write_seconds > 0
    assert writer.poll() == []
    writer.close()


def test_tensors_may_differ_from_those_saved_before(tmp_path):
    writer = CheckpointWriter(tmp_path, 3)
    for size in (8, 64, 3):
        writer.save(size, groups_of(size, size), {"tokens": size * 1000}, wait=True)
        check_is(load_checkpoint(tmp_path / f"step-{size:08d}"), size, size)
    writer.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match="cannot be written"):
        CheckpointWriter(tmp_path / "file" / "checkpoints", 1)


def test_state_is_json_that_others_can_read(tmp_path):
    (path,) = write(tmp_path, [5])

    assert json.loads((path / STATE_FILE).read_bytes()) == {"step": 5, "state": {"tokens": 5000}}
