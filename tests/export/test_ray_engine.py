"""Scanning on a Ray cluster: the same output as here, whatever dies."""

import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export.row_groups import Unit, UnitScanner
from export.scan import model_hash, package_versions, plan_scan, scan
from export.shards import ShardFile
from starencoder.errors import ConfigError, OutputError
from tests.export.scans import PATTERNS, TEXTS, content, run, table_of, write

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'starencoder[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402

from export import ray_engine as engine_module  # noqa: E402
from export.ray_engine import ray_engine  # noqa: E402

ROOT = Path(__file__).parents[2]

# Ray leaves its log files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# What is defined here is sent to the workers as it is: they cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster():
    """One node with two CPUs."""
    node = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def shards(tmp_path):
    """Two shards of 5 and 10 rows in 3 and 5 row groups."""
    write(tmp_path / "in" / "a b.parquet", table_of(TEXTS))
    write(tmp_path / "in" / "sub" / "ü.parquet", table_of(TEXTS * 2))
    return tmp_path / "in"


def scan_on(cluster, inputs, output, config=PATTERNS, **options):
    engine = ray_engine(output, address=cluster.address, **options)
    return run([inputs], output, config, engine=engine)


def failing(fail, config):
    """Scans as ever, but does something before to shard `a b`'s row group 1."""
    scanner = UnitScanner(config)

    def scan(unit):
        if unit.file.relative == "a b.parquet" and unit.group == 1:
            fail()
        return scanner(unit)

    return scan


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_twice(tries):
    with tries.open("a") as file:
        file.write("x")
    if tries.stat().st_size < 3:
        die()


def raise_it(error):
    raise error


def gone(pid):
    """Whether a process ends within some seconds."""
    for _ in range(300):
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def test_the_output_is_that_of_the_local_engine(cluster, shards, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)  # relative paths mean the same to a worker elsewhere
    scan_on(cluster, Path("in"), Path("ray"))
    run([shards], tmp_path / "local")
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    manifests = [
        (tmp_path / name / "_scan" / "manifest.json").read_bytes() for name in ("ray", "local")
    ]
    assert manifests[0] == manifests[1]
    assert {path.name for path in (tmp_path / "ray" / "_scan").iterdir()} == {
        path.name for path in (tmp_path / "local" / "_scan").iterdir()
    }
    assert capfd.readouterr().out == ""


def test_a_scan_that_is_finished_needs_no_cluster(shards, tmp_path, monkeypatch):
    run([shards], tmp_path / "out")
    monkeypatch.setattr(engine_module, "_init", lambda **_: die())
    account = run([shards], tmp_path / "out", engine=ray_engine(tmp_path / "out", address="local"))
    assert account.shards == 2


def test_the_spans_of_an_earlier_scan_are_used_there_too(cluster, shards, tmp_path):
    annotate = dataclasses.replace(PATTERNS, mode="annotate")
    scan_on(cluster, shards, tmp_path / "spans", annotate)
    from_spans = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "spans"))
    scan_on(cluster, shards, tmp_path / "ray", from_spans)
    run([shards], tmp_path / "local")
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_a_unit_whose_workers_die_is_tried_again(cluster, shards, tmp_path):
    said = []
    start = functools.partial(failing, functools.partial(die_twice, tmp_path / "tries"))
    account = scan_on(cluster, shards, tmp_path / "ray", start=start, say=said.append)
    run([shards], tmp_path / "local")
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert account.problems == {}
    assert [message[:28] for message in said] == ["a b.parquet: row group 1: th"] * 2
    assert "try 2 of 3" in said[1]


def test_a_unit_whose_workers_always_die_is_named_and_costs_its_shard_alone(
    cluster, shards, tmp_path
):
    account = scan_on(cluster, shards, tmp_path / "ray", start=functools.partial(failing, die))
    assert account.shards == 1
    (problem,) = account.problems.values()
    assert problem.startswith(
        "row group 1: the worker that read it was lost: it was killed or crashed"
    )
    assert "try 3 of 3" in problem
    account = scan_on(cluster, shards, tmp_path / "ray")
    assert account.problems == {}
    run([shards], tmp_path / "local")
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_an_internal_error_costs_the_one_shard_and_quotes_nothing(cluster, shards, tmp_path):
    start = functools.partial(failing, functools.partial(raise_it, RuntimeError("hunter42")))
    account = scan_on(cluster, shards, tmp_path / "ray", start=start)
    (problem,) = account.problems.values()
    assert "internal error, please report it: RuntimeError (try 3 of 3, node" in problem
    assert "hunter42" not in problem


def test_an_error_of_ours_ends_the_run_names_the_node_and_leaves_no_worker(
    cluster, shards, tmp_path
):
    def fail(folder):
        Path(folder, str(os.getpid())).touch()
        raise OutputError("part: no space")

    (tmp_path / "pids").mkdir()
    start = functools.partial(failing, functools.partial(fail, str(tmp_path / "pids")))
    with pytest.raises(OutputError, match=r"^node [0-9.]+: part: no space$"):
        scan_on(cluster, shards, tmp_path / "ray", start=start)
    (pid,) = (tmp_path / "pids").iterdir()
    assert gone(pid.name)
    assert not (tmp_path / "ray" / "_scan" / "token").exists()


def test_an_error_at_a_worker_s_start_ends_the_run(cluster, shards, tmp_path):
    refuse = functools.partial(raise_it, ConfigError("no such model"))
    with pytest.raises(ConfigError, match=r"^node [0-9.]+: no such model$"):
        scan_on(cluster, shards, tmp_path / "ray", start=lambda config: refuse())
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        scan_on(cluster, shards, tmp_path / "ray2", start=lambda config: 1 / 0)


def test_workers_that_all_die_as_they_start_end_the_run(cluster, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "_MOST_BAD_STARTS", 2)
    with pytest.raises(ConfigError, match="2 workers in a row were lost before they could start"):
        scan_on(cluster, shards, tmp_path / "ray", start=lambda config: die())


def test_the_command_waits_for_room_and_says_so_and_a_node_that_joins_gets_work(
    cluster, shards, tmp_path, monkeypatch
):
    monkeypatch.setattr(engine_module, "_SECONDS_BETWEEN_MESSAGES", 0.5)
    said, nodes = [], []
    node = {"num_cpus": 3, "num_gpus": 1, "object_store_memory": 80_000_000}

    def say(message):
        said.append(message)
        if not nodes:
            nodes.append(cluster.add_node(**node))

    def start(config):
        (tmp_path / "gpus").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        return UnitScanner(config)

    account = scan_on(cluster, shards, tmp_path / "ray", cpus=3, gpus=1, start=start, say=say)
    cluster.remove_node(nodes[0])
    assert account.shards == 2
    assert (tmp_path / "gpus").read_text() == "0"
    assert said[0] == (
        "waiting for room on the Ray cluster: 8 row groups; a worker takes 3 CPU and 1 GPU, the "
        "cluster has 2 CPU in all"
    )


# --------------------------------------------------------------------------------------------------
# nodes that must not take part


@pytest.fixture
def job(shards, tmp_path):
    token = tmp_path / "out" / "_scan" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("abc")
    (file, *_), config = (
        [shard.file for shard in plan_scan([str(shards)], PATTERNS).shards.values()],
        PATTERNS,
    )
    return engine_module._Job(
        config=config,
        start=UnitScanner,
        token_file=token,
        token="abc",
        versions=package_versions(),
        model=model_hash(config),
        sample=file,
    )


def test_a_node_that_is_as_it_should_be_is_taken(job):
    engine_module._check_node(job)


def test_a_node_that_does_not_see_the_output_directory_is_refused(job):
    job.token_file.write_text("abd")
    with pytest.raises(ConfigError, match=r"out: not the directory .*another directory is there"):
        engine_module._check_node(job)
    job.token_file.unlink()
    with pytest.raises(ConfigError, match=r"\(No such file or directory\); every node must see"):
        engine_module._check_node(job)


def test_a_node_that_does_not_see_the_inputs_is_refused(job):
    Path(job.sample.address).unlink()
    with pytest.raises(ConfigError, match=r"a b.parquet: cannot be read \(No such file"):
        engine_module._check_node(job)


def test_a_node_with_other_versions_or_another_model_is_refused(job, tmp_path):
    other = dataclasses.replace(job, versions={**job.versions, "pyarrow": "17.0"})
    with pytest.raises(ConfigError, match=r"^has pyarrow [0-9.]+ \(here: 17.0\); install the same"):
        engine_module._check_node(other)
    model = dataclasses.replace(job.config, model=str(tmp_path))
    with pytest.raises(ConfigError, match="not the same model as here"):
        engine_module._check_node(dataclasses.replace(job, config=model))


def test_a_node_without_this_package_is_refused():
    missing = "ModuleNotFoundError: No module named 'export'"
    error = ray.exceptions.RayActorError("1", f"a\nb\n{missing}\n", actor_init_failed=True)
    state = engine_module._Run(None, [unit(0)], {}, None, print)
    with pytest.raises(ConfigError, match=rf"cannot load starencoder \({missing}\); install"):
        state._take_actor(engine_module._Actor(None, 0), error)


# --------------------------------------------------------------------------------------------------
# which unit goes where


def unit(group):
    file = ShardFile(address="a", relative="a", size=1, changed="")
    return Unit(file=file, group=group, part=f"{group}")


def test_a_unit_that_failed_waits_for_another_node_as_long_as_there_is_one():
    state = engine_module._Run(None, [unit(0), unit(1), unit(2)], {}, None, print)
    here, there = (engine_module._Actor(None, 0, engine_module._Node(name, name)) for name in "ab")
    failed, other = state._next_for(here), state._next_for(there)
    state._working = {1: (there, other)}
    failed.failures.append(here.node)
    state._again.append(failed)
    assert state._next_for(here).unit == unit(2)
    assert state._next_for(here) is None
    assert state._next_for(there) is failed
    state._again.append(failed)
    state._working.clear()  # the other actor is lost
    assert state._next_for(here) is failed


# --------------------------------------------------------------------------------------------------
# the command

SLOW = """
import functools, os, sys, time
from pathlib import Path
import cli, export.ray_engine

def slow(config):
    Path("PIDS", str(os.getpid())).touch()
    return lambda unit: time.sleep(600)

export.ray_engine.ray_engine = functools.partial(export.ray_engine.ray_engine, start=slow)
sys.exit(cli.main(sys.argv[1:]))
"""


def command(*flags, code="import cli, sys; sys.exit(cli.main(sys.argv[1:]))", **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, flags)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 4), (signal.SIGKILL, -9)]
)
def test_a_signal_ends_the_command_and_its_workers(cluster, shards, tmp_path, number, code):
    (tmp_path / "pids").mkdir()
    flags = ["scan", "in", "--output", "out", "--model", "none", "--engine", "ray"]
    process = command(
        *flags,
        *("--ray-address", cluster.address),
        code=SLOW.replace("PIDS", str(tmp_path / "pids")),
        cwd=tmp_path,
    )
    while not list((tmp_path / "pids").iterdir()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, ""), err
    assert "Traceback" not in err
    assert all(gone(pid.name) for pid in (tmp_path / "pids").iterdir())


def test_stdout_holds_the_result_alone_though_a_worker_dies(cluster, shards, tmp_path):
    code = f"""
import functools, os, sys
from pathlib import Path
import cli, export.ray_engine
from export.row_groups import UnitScanner

def dying(config):
    scanner = UnitScanner(config)
    def scan(unit):
        tries = Path({str(tmp_path)!r}, "tries")
        if not tries.exists():
            tries.touch()
            os._exit(3)
        return scanner(unit)
    return scan

export.ray_engine.ray_engine = functools.partial(export.ray_engine.ray_engine, start=dying)
sys.exit(cli.main(sys.argv[1:]))
"""
    flags = ["scan", "in", "--output", "out", "--model", "none", "--engine", "ray"]
    process = command(*flags, "--ray-address", cluster.address, code=code, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "out",
        "15 rows scanned, 9 modified; 27 spans",
        "account",
    ]
    assert "the worker that read it was lost" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ray-address", "auto"], "--ray-address goes with --engine ray"),
        (["--worker-cpus", "1"], "--worker-cpus goes with --engine ray"),
        (["--worker-gpus", "1"], "--worker-gpus goes with --engine ray"),
        (["--engine", "rya"], "unknown engine 'rya' (did you mean ray?)"),
        (["--engine", "ray", "--worker-cpus", "1.5"], "--worker-cpus is 0 to 1 or a whole number"),
        (["--engine", "ray", "--dry-run"], "--dry-run with --engine ray needs --workers"),
        (
            ["--engine", "ray", "--ray-address", "ray://a:1"],
            "client mode, ray://, is not supported",
        ),
        (["--engine", "ray", "--ray-address", "x:y:z"], "--ray-address x:y:z: expected"),
        (["--engine", "ray", "--ray-address", "127.0.0.1:1"], "no Ray cluster answers there"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(shards, tmp_path, capsys, flags, message):
    import cli

    code = cli.main(["scan", str(shards), "--output", str(tmp_path / "out"), *flags])
    err = capsys.readouterr().err
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


# --------------------------------------------------------------------------------------------------
# a node that is lost


@pytest.mark.slow
def test_a_scan_survives_the_loss_of_a_node_and_gives_the_same(cluster, tmp_path):
    for name in "abcd":
        write(tmp_path / "in" / f"{name}.parquet", table_of(TEXTS * 4))
    nodes = tmp_path / "nodes"
    nodes.mkdir()

    def start(config):
        scanner = UnitScanner(config)

        def scan(unit):
            Path(nodes, ray.get_runtime_context().get_node_id()).touch()
            time.sleep(1)
            return scanner(unit)

        return scan

    lost = cluster.add_node(num_cpus=2, object_store_memory=80_000_000)
    said, done = [], 0

    def on_progress(tally):
        nonlocal done
        done += tally.rows_in
        if done >= 10 and Path(nodes, lost.node_id).exists() and lost in cluster.worker_nodes:
            cluster.remove_node(lost, allow_graceful=False)

    plan = plan_scan([str(tmp_path / "in")], PATTERNS)
    options = {"address": cluster.address, "start": start, "say": said.append}
    engine = ray_engine(tmp_path / "ray", **options)
    account = scan(plan, tmp_path / "ray", engine, on_progress=on_progress)

    assert lost not in cluster.worker_nodes
    assert said
    assert account.problems == {}
    assert account.tally.rows_out == 80
    run([tmp_path / "in"], tmp_path / "local")
    assert content(tmp_path / "ray") == content(tmp_path / "local")
