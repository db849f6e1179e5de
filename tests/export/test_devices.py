import contextlib
import functools
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import cli
from export import gpu_engine
from export.batching import BatchPlan, batch_shapes, batched_predict
from export.devices import serve_model
from export.gpu_engine import parse_device
from export.scan import local_engine, plan_scan, scan
from export.scanner import ScanConfig
from pii.detect import EMBEDDED_MODEL
from pii.session import load_session
from pii.workers import Crash, run_unordered, start_process
from starencoder.config import load_tagger_config
from starencoder.errors import ConfigError, DeviceError
from tests.export.runners import (
    RowByRow,
    RowByRowUntil,
    Small,
    echo,
    failing_start,
    open_lost,
    open_row_by_row,
    start_echo,
    start_failing,
    start_once,
    start_patiently,
)

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX processes")

PLAN = BatchPlan(shapes=batch_shapes(40, token_budget=200), pad_id=0, num_tags=3)
CHUNKS = [[n + 1] * (n % 40 + 1) for n in range(100)]


def expected(chunks):
    return [np.array([[i, 2 * i, len(chunk)] for i in chunk], np.float32) for chunk in chunks]


@contextlib.contextmanager
def served(*starts, plan=PLAN, said=None):
    names = {f"gpu:{index}": start for index, start in enumerate(starts)}
    with serve_model(names, plan, say=(said if said is not None else []).append) as model:
        yield model


def assert_right(model, chunks=CHUNKS):
    for found, wanted in zip(model(chunks), expected(chunks), strict=True):
        np.testing.assert_array_equal(found, wanted)


def child_pids():
    return [p.pid for p in multiprocessing.active_children()]


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# One process


def test_batched_chunks_get_their_own_rows():
    assert_right(batched_predict(echo, PLAN))
    assert batched_predict(echo, PLAN)([]) == []


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_batch_that_finds_no_memory_is_tried_again_in_halves(rows):
    assert_right(batched_predict(Small(rows), PLAN))


def test_a_chunk_that_finds_no_memory_alone_is_an_error():
    with pytest.raises(DeviceError, match="no memory left for one chunk of 32 tokens"):
        batched_predict(Small(0), PLAN)([[1]])


@pytest.mark.parametrize("length", [0, 41])
def test_chunks_of_an_impossible_length_are_refused(length):
    with pytest.raises(ValueError, match=rf"{length} tokens; expected 1\.\.40"):
        batched_predict(echo, PLAN)([[1] * length])


def test_what_are_no_probabilities_is_an_error_rather_than_nothing_found():
    def broken(input_ids, attention_mask):
        return np.where(input_ids[..., None] == 5, np.nan, echo(input_ids, attention_mask))

    with pytest.raises(DeviceError, match="not finite"):
        batched_predict(broken, PLAN)([[1, 2], [4, 5]])
    with pytest.raises(DeviceError, match="shape"):
        batched_predict(lambda ids, mask: echo(ids, mask)[:, :, :2], PLAN)([[1]])


# Servers


def test_chunks_through_a_server_get_their_own_rows():
    said = []
    with served(start_echo, said=said) as model:
        assert_right(model)
        assert_right(model, CHUNKS[::-1])
        assert model([]) == []
        pids = child_pids()
    assert [line.partition(" ")[0] for line in said] == ["gpu:0:"]
    wait_until(lambda: not any(map(is_alive, pids)))


def ask(model):
    return lambda seed: [
        rows.tolist() for rows in model([CHUNKS[(seed * 7 + n) % 100] for n in range(20)])
    ]


@pytest.mark.parametrize("servers", [1, 3])
def test_workers_that_ask_at_once_get_their_own_rows_each(servers):
    with served(*[start_echo] * servers) as model:
        start = functools.partial(ask, model)
        results = dict(run_unordered(start, range(40), jobs=3))
    for seed in range(40):
        wanted = expected([CHUNKS[(seed * 7 + n) % 100] for n in range(20)])
        assert results[seed] == [rows.tolist() for rows in wanted]


def ask_or_die(model):
    def handle(task):
        if task == 3:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
            while True:
                model(CHUNKS)
        return len(model(CHUNKS))

    return handle


def test_a_worker_that_is_killed_while_it_asks_costs_the_others_nothing():
    said = []
    with served(start_echo, said=said) as model:
        results = dict(run_unordered(functools.partial(ask_or_die, model), range(8), jobs=2))
        assert_right(model)
    assert results.pop(3) == Crash.of_exit(-signal.SIGKILL)
    assert set(results.values()) == {100}
    assert len(said) == 1


def test_who_hears_nothing_while_it_waits_does_not_keep_others_waiting():
    with served(start_echo) as model:
        connection = model._connect(model._addresses[0])
        lengths = np.full(50_000, 40, np.int32)
        message = np.concatenate([[50_000], lengths, np.ones(2_000_000)]).astype(np.int32)
        connection.send_bytes(message.data)  # and never reads the answer of 12 MB
        assert_right(pickle.loads(pickle.dumps(model)))


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_server_that_fails_is_started_again_and_nobody_notices(tmp_path, how):
    said = []
    with served(start_failing(tmp_path, how, times=1), said=said) as model:
        assert_right(model)
        assert_right(model)
    assert len(said) == 3
    why = "it failed (RuntimeError: CUDA failure 999" if how == "raise" else "killed by SIGKILL"
    assert why in said[1]
    assert "starting it again" in said[1]


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_server_that_fails_twice_stops_who_asks(tmp_path, how):
    with (
        served(start_failing(tmp_path, how, times=2)) as model,
        pytest.raises(DeviceError, match=r"gpu:0: .*, the second time; .*run the same command"),
    ):
        model(CHUNKS)
    assert DeviceError.exit_code == 4


def test_all_workers_hear_of_a_server_that_is_gone_for_good(tmp_path):
    with served(start_failing(tmp_path, "kill", times=2)) as model:
        with pytest.raises(DeviceError, match="second time"):
            list(run_unordered(functools.partial(ask, model), range(4), jobs=2))
        with pytest.raises(DeviceError, match="second time"):
            model(CHUNKS)


def test_a_server_that_hangs_is_ended(tmp_path, monkeypatch):
    said = []
    start = functools.partial(start_patiently, str(tmp_path))
    (tmp_path / "fail-0").touch()
    with served(start, said=said) as model:
        assert_right(model)
    assert "did not get on for" in said[1]


def test_a_server_that_cannot_start_again_stops_who_asks(tmp_path):
    (tmp_path / "fail-0").touch()
    with (
        served(functools.partial(start_once, str(tmp_path))) as model,
        pytest.raises(DeviceError, match=r"does not start again .*no such GPU"),
    ):
        model(CHUNKS)


@pytest.mark.parametrize("error", [ConfigError("a: b"), DeviceError("c: d")])
def test_an_error_of_ours_at_the_first_start_passes_as_it_is(error):
    with (
        pytest.raises(type(error), match=str(error)),
        served(start_echo, functools.partial(failing_start, error)),
    ):
        raise AssertionError
    assert not child_pids()


def test_any_other_failure_at_the_first_start_is_named():
    with (
        pytest.raises(DeviceError, match="KeyError"),
        served(functools.partial(failing_start, KeyError("x"))),
    ):
        raise AssertionError
    with (
        pytest.raises(DeviceError, match="gpu:0: its server ended with code 7"),
        served(functools.partial(os._exit, 7)),
    ):
        raise AssertionError


def hold_servers(report):
    with served(start_echo, start_echo) as model:
        model([[1]])
        waiting = start_process(ask_for_ever, (model,))
        assert waiting.pid in child_pids()
        report.send((child_pids(), model._addresses[0].parent))
        time.sleep(600)


def ask_for_ever(model):
    with contextlib.suppress(DeviceError):
        while True:
            model(CHUNKS)


def test_servers_and_workers_end_when_the_driver_is_killed():
    ours, theirs = multiprocessing.Pipe()
    driver = multiprocessing.get_context("spawn").Process(target=hold_servers, args=(theirs,))
    driver.start()
    theirs.close()
    pids, folder = ours.recv()
    assert len(pids) == 3
    driver.kill()
    driver.join()
    wait_until(lambda: not any(map(is_alive, pids)))
    assert not folder.exists()


def test_the_other_users_of_the_machine_cannot_reach_a_server():
    with served(start_echo) as model:
        assert Path(model._addresses[0]).parent.stat().st_mode & 0o077 == 0


# The embedded model


class Rounded:
    """The embedded model in this process, with what a server's float16 leaves of it."""

    def __call__(self, chunks):
        predict = load_session(EMBEDDED_MODEL)
        return [rows.astype(np.float16).astype(np.float32) for rows in predict(chunks)]


def embedded_plan():
    config = load_tagger_config(EMBEDDED_MODEL)
    shapes = batch_shapes(config.encoder.max_positions, token_budget=1000)
    return BatchPlan(shapes=shapes, pad_id=config.encoder.pad_id, num_tags=13)


def make_shard(path, rows, seed):
    generator = np.random.default_rng(seed)
    people = ["Ada Example", "Berta Muster", "Carl Sample"]
    texts = [
        "".join(
            f"# {person} <{person.split()[0].lower()}{n}@mail-{seed}.net>\n"
            f"password = 'k{n}Xq{seed}Zr'\n"
            for n, person in enumerate(generator.choice(people, generator.integers(1, 12)))
        )
        for _ in range(rows)
    ]
    table = pa.table({"content": texts, "lang": ["Python"] * rows})
    parquet.write_table(table, path, row_group_size=4)


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        make_shard(folder / f"{index}.parquet", 10, index)
    return folder


CONFIG = ScanConfig(disabled=("router",))


def scan_output(shards, output, engine):
    account = scan(plan_scan([str(shards)], CONFIG), output, engine)
    assert not account.problems
    return {path.name: path.read_bytes() for path in sorted(output.glob("*.parquet"))}


@pytest.mark.parametrize(("jobs", "servers"), [(1, 1), (3, 2)])
def test_a_scan_through_servers_writes_what_a_scan_without_them_writes(
    shards, tmp_path, jobs, servers
):
    direct = scan_output(shards, tmp_path / "direct", local_engine(1, Rounded()))
    with served(*[RowByRow] * servers, plan=embedded_plan()) as model:
        through = scan_output(shards, tmp_path / "through", local_engine(jobs, model))
    assert through == direct
    spans = parquet.read_table(tmp_path / "through" / "0.parquet")["pii_spans"].to_pylist()
    assert any(span["source"] == "model" for row in spans for span in row)


def test_a_scan_whose_gpu_is_lost_keeps_what_is_finished_and_goes_on_later(shards, tmp_path):
    direct = scan_output(shards, tmp_path / "direct", local_engine(1, Rounded()))
    output, plan = tmp_path / "out", embedded_plan()
    (tmp_path / "broken").touch()
    start = functools.partial(RowByRowUntil, str(tmp_path), 4)
    with (
        served(start, plan=plan) as model,
        pytest.raises(DeviceError, match="second time"),
    ):
        scan_output(shards, output, local_engine(2, model))
    journal = (output / "_scan" / "journal.jsonl").read_text()
    finished = journal.count('"kind": "unit"')
    assert 0 < finished < 9
    (tmp_path / "broken").unlink()
    with served(start, plan=plan) as model:
        assert scan_output(shards, output, local_engine(2, model)) == direct
    journal = (output / "_scan" / "journal.jsonl").read_text()
    assert journal.count('"kind": "unit"') == 9  # none twice


# The command line


@pytest.mark.parametrize(
    ("text", "numbers"), [("cpu", ()), ("cuda", (0,)), ("cuda:3", (3,)), ("cuda:0,2", (0, 2))]
)
def test_devices_are_named_by_number(text, numbers):
    assert parse_device(text) == numbers


@pytest.mark.parametrize(
    "text", ["gpu", "cuda:", "cuda:a", "cuda:0,", "cuda:-1", "cpu:0", "", "serve-cpu"]
)
def test_anything_else_is_no_device(text):
    with pytest.raises(ConfigError, match="must be cpu, cuda or cuda:0,1"):
        parse_device(text)


def test_a_gpu_cannot_be_named_twice():
    with pytest.raises(ConfigError, match="names a GPU twice"):
        parse_device("cuda:1,01")


def test_scan_refuses_a_gpu_that_it_cannot_use_before_it_writes_anything(shards, tmp_path, capsys):
    output = tmp_path / "out"
    base = ["scan", str(shards), "--output", str(output), "--device", "cuda"]
    assert cli.main(base) == 2
    assert "pip install 'starencoder[gpu]'" in capsys.readouterr().err
    assert cli.main([*base, "--dry-run"]) == 2
    assert cli.main([*base, "--model", "none"]) == 2
    assert "--device cuda" in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()


@pytest.fixture
def gpus(monkeypatch):
    """GPUs that are none, as far as the command can tell."""
    monkeypatch.setattr(gpu_engine, "check_gpu", lambda model: embedded_plan())
    monkeypatch.setattr(gpu_engine, "open_cuda", open_row_by_row)


def test_scan_on_gpus_says_so_in_its_account_and_is_not_mixed_with_a_cpu(
    shards, tmp_path, capsys, gpus
):
    output = tmp_path / "out"
    base = ["scan", str(shards), "--output", str(output), "--workers", "2", "--disable", "router"]
    assert cli.main([*base, "--device", "cuda:0,1"]) == 0
    told = capsys.readouterr()
    assert "30 rows scanned" in told.out
    named = sorted(line.split()[1] for line in told.err.splitlines())
    assert named == ["cuda:0:", "cuda:1:"]
    for name in ("run.json", "manifest.json"):
        assert json.loads((output / "_scan" / name).read_text())["config"]["device"] == "cuda"
    direct = scan_output(shards, tmp_path / "direct", local_engine(1, Rounded()))
    assert {path.name: path.read_bytes() for path in output.glob("*.parquet")} == direct

    assert cli.main([*base, "--device", "cuda"]) == 0  # their number does not matter
    assert cli.main(base) == 2
    assert "device" in capsys.readouterr().err


def test_a_dry_run_measures_on_the_gpu(shards, tmp_path, capsys, gpus):
    output = tmp_path / "out"
    base = ["scan", str(shards), "--output", str(output), "--workers", "2", "--dry-run"]
    assert cli.main([*base, "--device", "cuda"]) == 0
    out = capsys.readouterr().out
    assert "with one process" in out
    assert "if the GPUs are busy" in out
    assert not output.exists()


def test_a_scan_whose_gpu_is_lost_ends_with_code_4(shards, tmp_path, capsys, gpus, monkeypatch):
    monkeypatch.setattr(gpu_engine, "open_cuda", open_lost)
    monkeypatch.setenv("LOST_GPU", str(tmp_path))
    for index in range(2):
        (tmp_path / f"fail-{index}").touch()
    base = ["scan", str(shards), "--output", str(tmp_path / "out"), "--disable", "router"]
    assert cli.main([*base, "--workers", "2", "--device", "cuda"]) == 4
    err = capsys.readouterr().err.splitlines()
    assert "cuda:0: its server was killed by SIGKILL; starting it again" in err[1]
    assert "the second time; what is finished is kept: run the same command again" in err[-1]


def test_devices_load_neither_torch_nor_transformers():
    code = (
        "import export.gpu_engine, sys; sys.exit(bool({'torch', 'transformers'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
