import errno
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.run_dir import (
    LOCK_FILE,
    METRICS_FILE,
    MetricsLine,
    RunDirectory,
    is_done,
    is_running,
    read_config,
    read_metrics,
)
from starencoder.errors import DataError, OutputError

HOLD = """
import os, sys, time
from pathlib import Path
from pretrain.run_dir import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
if sys.argv[2] == "fork" and os.fork() == 0:
    print(os.getpid(), flush=True)
print(flush=True)
time.sleep(60)
"""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    yield directory
    directory.close()


def hold(path, *, fork=False):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), "fork" if fork else ""],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    lines = [process.stdout.readline().strip() for _ in range(3 if fork else 1)]
    return process, [int(line) for line in lines if line]


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_with_the_directory_and_who_has_it(tmp_path):
    process, _ = hold(tmp_path)
    try:
        with pytest.raises(OutputError) as caught:
            RunDirectory(tmp_path)
    finally:
        end(process)

    assert str(caught.value).startswith(f"{tmp_path}: another run is writing there (process")
    assert f"process {process.pid} on " in str(caught.value)
    assert "choose another run.output" in str(caught.value)


def test_the_lock_of_a_process_that_was_killed_is_free_though_its_children_live(tmp_path):
    process, (child,) = hold(tmp_path, fork=True)
    try:
        assert is_running(tmp_path)
        end(process)
        os.kill(child, 0)

        assert not is_running(tmp_path)
        RunDirectory(tmp_path).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_closed_directory_can_be_had_again(tmp_path):
    assert not is_running(tmp_path)
    run = RunDirectory(tmp_path)
    assert is_running(tmp_path)
    assert (tmp_path / LOCK_FILE).read_text().startswith(f"{os.getpid()} on ")
    run.close()

    assert not is_running(tmp_path)
    RunDirectory(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match="cannot be written"):
        RunDirectory(tmp_path / "file" / "run")


@given(
    kinds=st.lists(st.text()),
    values=st.dictionaries(st.text().filter(lambda k: k not in ("kind", "step")), json_values),
    steps=st.lists(st.integers(0, 9)),
    last=st.integers(-1, 9),
)
def test_metrics_are_read_as_written_and_trimmed_to_a_step(
    tmp_path_factory, kinds, values, steps, last
):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    written = [MetricsLine(kind, step, values) for kind, step in zip(kinds, steps, strict=False)]
    for line in written:
        run.append(line.kind, line.step, line.values)
    assert read_metrics(run.path) == written

    kept = [line for line in written if line.step <= last]
    run.trim(last)
    assert read_metrics(run.path) == kept
    run.close()


def test_there_is_nothing_to_trim_before_the_first_line(run):
    run.trim(0)
    assert read_metrics(run.path) == []


@pytest.mark.parametrize("half", ["{", '{"kind": "train", "step": 2, "loss": 1.5}', "é"])
def test_half_a_line_left_by_a_crash_is_dropped_on_reading_and_by_the_next_run(tmp_path, half):
    metrics = tmp_path / METRICS_FILE
    metrics.write_text('{"kind": "train", "step": 1}\n' + half)
    whole = MetricsLine("train", 1, {})

    assert read_metrics(tmp_path) == [whole]
    run = RunDirectory(tmp_path)
    run.append("train", 2, {})
    run.close()
    assert read_metrics(tmp_path) == [whole, MetricsLine("train", 2, {})]


def test_a_file_of_half_a_line_becomes_empty(tmp_path):
    (tmp_path / METRICS_FILE).write_text('{"kind"')

    RunDirectory(tmp_path).close()
    assert (tmp_path / METRICS_FILE).read_bytes() == b""


def test_lines_that_are_not_metrics_are_left_out_with_a_warning(tmp_path, caplog):
    good = '{"kind": "train", "step": 1}'
    bad = ["", "[]", "nonsense", '{"kind": 1, "step": 1}', '{"kind": "train"}', "[" * 100_000]
    (tmp_path / METRICS_FILE).write_text("\n".join([good, *bad, good, ""]))

    with caplog.at_level(logging.WARNING):
        lines = read_metrics(tmp_path)

    assert lines == [MetricsLine("train", 1, {})] * 2
    assert len(caplog.messages) == len(bad)
    assert f"{METRICS_FILE} line 2: not a line of metrics" in caplog.text


def test_numbers_that_are_not_finite_are_written_as_null(run):
    run.append("bad_step", 3, {"loss": float("nan"), "all": [{"x": float("inf")}, 1.5]})

    def refuse(name):
        raise AssertionError(name)

    text = (run.path / METRICS_FILE).read_text()
    assert json.loads(text, parse_constant=refuse) == {
        "kind": "bad_step", "step": 3, "loss": None, "all": [{"x": None}, 1.5],
    }  # fmt: skip


def test_a_line_that_cannot_be_written_is_left_out_with_a_warning(run, monkeypatch, caplog):
    run.append("train", 1, {})
    real_open = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def truncate(self, size):
            self.file.truncate(size)

        def write(self, content):
            self.file.write(content[:5])
            return 5

    def refuse(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for failing in (lambda path, *a, **o: Full(real_open(path, *a, **o)), refuse):
        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
            patched.setattr(Path, "open", failing)
            run.append("train", 2, {})
    run.append("train", 3, {})

    assert [line.step for line in read_metrics(run.path)] == [1, 3]
    assert "no room for a whole line" in caplog.messages[0]
    assert "No space left on device" in caplog.messages[1]
    assert "metrics of step 2 are left out" in caplog.messages[1]


def test_a_run_is_done_only_once_it_was_said(run):
    assert not is_done(run.path)
    run.mark_done(100)
    assert is_done(run.path)


def test_settings_are_read_as_written(run):
    assert read_config(run.path) == {}
    run.write_config({"run": {"steps": 3, "trackers": ["ü"]}})
    assert read_config(run.path) == {"run": {"steps": 3, "trackers": ["ü"]}}


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_damaged_settings_are_an_error(tmp_path, content):
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(DataError, match="resume the run"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "read"), [("config.json", read_config), (METRICS_FILE, read_metrics)]
)
def test_what_cannot_be_read_is_an_error(tmp_path, name, read):
    (tmp_path / name).mkdir()

    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)
