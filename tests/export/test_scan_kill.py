"""Scans that are killed, for real, and run again."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.export.scans import TEXTS, content, run, table_of, write

ROOT = Path(__file__).parents[2]
KILLS = 20

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")

DYING = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as parquet
import cli, export.row_groups, export.scan_dir

def die():
    os.kill(os.getpid(), signal.SIGKILL)

left = int(sys.argv.pop(1))

def nth_time(function, at_death):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            at_death(*arguments, **options)
            die()
        return function(*arguments, **options)
    return call
"""
MOMENTS = {
    "a rename": """
Path.replace = nth_time(Path.replace, lambda *_: None)
""",
    "after a rename": """
Path.replace = nth_time(Path.replace, Path.replace)
""",
    "a row group's write": """
def half(writer, table, **options):
    writer.writer.write_table(table.slice(0, 1), row_group_size=1)
parquet.ParquetWriter.write_table = nth_time(parquet.ParquetWriter.write_table, half)
""",
    "a line of the journal": """
def half(self, kind, **values):
    with (self.path / "_scan" / "journal.jsonl").open("ab") as file:
        file.write(b'{"kind": "' + kind.encode())
append = export.scan_dir.ScanDirectory.append
export.scan_dir.ScanDirectory.append = nth_time(append, half)
""",
    "the manifest": """
def half(self, values):
    (self.path / "_scan" / "manifest.json.partial").write_bytes(b"{")
write = export.scan_dir.ScanDirectory.write_manifest
export.scan_dir.ScanDirectory.write_manifest = nth_time(write, half)
""",
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("nth", [1, 4])
def test_a_run_killed_in_the_middle_of_a_write_goes_on_and_gives_the_same(tmp_path, moment, nth):
    if moment == "the manifest" and nth > 1:
        pytest.skip("it is written once")
    write(tmp_path / "in" / "a.parquet", table_of(TEXTS * 2))
    write(tmp_path / "in" / "b.parquet", table_of(TEXTS))
    code = DYING + MOMENTS[moment] + "sys.exit(cli.main(sys.argv[1:]))"
    flags = ["scan", "in", "--output", "out", "--model", "none", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(nth), *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL

    run([tmp_path / "in"], tmp_path / "out")

    run([tmp_path / "in"], tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"a.parquet", "b.parquet", "lock", "run.json", "journal.jsonl", "manifest.json"}


def start(folder, output):
    flags = ["scan", "in", "--output", output, "--disable", "router", "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_run_killed_at_twenty_moments_gives_the_same_bytes(tmp_path):
    sources = [path.read_text() for path in sorted(ROOT.glob("*/*.py"))]
    rng = random.Random(5)
    for shard in range(70):
        texts = rng.sample(sources, 24)
        write(tmp_path / "in" / f"{shard}.parquet", table_of(texts), rows=3)
    whole = start(tmp_path, "whole")
    assert whole.wait() == 0
    journal = (tmp_path / "whole" / "_scan" / "journal.jsonl").read_text().splitlines()
    times = [float(line.split('"time": ')[1].split(",")[0].rstrip("}")) for line in journal]
    seconds = times[-1] - times[0]
    assert seconds > 60

    for kill in range(KILLS):
        process = start(tmp_path, "killed")
        with pytest.raises(subprocess.TimeoutExpired):  # it is not done yet
            process.wait(timeout=1.5 + rng.random() * seconds / KILLS * 1.5)
        if kill % 2:  # the driver alone; its workers notice
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path, "killed").wait() == 0

    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    manifests = [tmp_path / name / "_scan" / "manifest.json" for name in ("killed", "whole")]
    assert manifests[0].read_bytes() == manifests[1].read_bytes()
    assert not list((tmp_path / "killed").rglob("*.arrow*"))


@pytest.mark.slow
def test_a_hundred_thousand_tiny_shards(tmp_path):
    for number in range(100_000):
        path = tmp_path / "in" / f"{number // 1000:03}" / f"{number}.parquet"
        if number % 1000 == 0:  # a file system has a limit for the links of one file
            first = write(path, table_of(TEXTS), rows=len(TEXTS))
        else:
            os.link(first, path)

    account = run([tmp_path / "in"], tmp_path / "out", jobs=2)

    assert account.shards == 100_000
    assert account.tally.rows_out == 500_000
    assert not account.problems
    last = tmp_path / "out" / "099" / "99999.parquet"
    assert parquet.read_metadata(last).num_rows == len(TEXTS)
