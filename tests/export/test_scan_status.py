import json
import os
import subprocess
import sys
import textwrap
from contextlib import closing

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from export.scan import local_engine, plan_scan, scan
from export.scan_dir import ScanDirectory, find_done, part_path, read_journal
from export.scan_status import read_state, status_text
from export.scanner import ScanConfig
from export.tally import Tally
from starencoder.errors import DataError, OutputError

HOSTILE = "a\x1b[2J\ud800\n.parquet"


def tally(rows=10, text_bytes=1000, **labels):
    counts = {"rows": rows, **labels}
    return {
        "rows_in": rows, "rows_out": rows, "scanned": rows, "modified": 1 if labels else 0,
        "text_bytes": text_bytes, "not_scanned": {}, "forms": {"plain": rows},
        "languages": {"Go": counts}, "scores": {},
    }  # fmt: skip


class Scan:
    """A scan's directory, written by hand: two row groups of ten rows a shard."""

    def __init__(self, path, *shards):
        self.path, self.shards, self.clock = path, shards, 1_000.0
        self.folder = path / "_scan"
        self.folder.mkdir(parents=True)
        inputs = [{"shard": name, "size": 100, "rows": 20, "row_groups": 2} for name in shards]
        (self.folder / "run.json").write_text(json.dumps({"format": 1, "inputs": inputs}))

    def line(self, kind, *, after=0.0, **values):
        self.clock += after
        with (self.folder / "journal.jsonl").open("a") as file:
            file.write(json.dumps({"kind": kind, "time": self.clock, **values}) + "\n")

    def unit(self, shard, group, *, after=1.0, seconds=2.0, counts=None):
        part = part_path(self.path, shard, group)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"12345")
        self.line(
            "unit", after=after, shard=shard, group=group, seconds=seconds, part_bytes=5,
            tally=counts or tally(),
        )  # fmt: skip

    def shard(self, shard, counts=None):
        output = self.path / shard
        output.write_bytes(b"123456")
        values = {"sha256": "0", "output_bytes": 6, "tally": counts or tally(20, 2000)}
        self.line("shard", shard=shard, **values)

    def manifest(self, finished):
        (self.folder / "manifest.json").write_text(json.dumps({"inputs": [{}] * finished}))


def lines_of(path):
    return {
        line[:20].strip(): " ".join(line[20:].split()) for line in status_text(path).splitlines()
    }


def contents(path):
    return {item: item.read_bytes() for item in path.rglob("*") if item.is_file()}


def test_a_scan_that_was_killed_in_the_middle_is_told_as_far_as_it_came(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet", "b.parquet")
    scan.line("start")
    scan.unit("a.parquet", 0, counts=tally(EMAIL=3))
    scan.unit("a.parquet", 1, counts=tally(EMAIL=1, KEY=2))
    scan.shard("a.parquet", tally(20, 2000, EMAIL=4, KEY=2))
    scan.unit("b.parquet", 0, counts=tally(KEY=1))

    shown = lines_of(scan.path)

    assert status_text(scan.path).startswith(f"{scan.path}  stopped before its end; give the same")
    assert shown["shards"] == "1 of 2 (50.0%)"
    assert shown["row groups"] == "3 of 4 (75.0%)"
    assert shown["in no output yet"] == "10 of these rows, of shards not finished"
    assert shown["rows"] == "30 of 40 (75.0%)"
    assert shown["text"] == "3.0 kB"
    assert shown["rate"] == (
        "0.001 MB/s, 0.001 MB/s for each process, 2.0 processes at work on average"
    )
    assert "time left" not in shown
    text = " ".join(status_text(scan.path).split())
    assert "EMAIL 4 133.3" in text
    assert "KEY 3 100.0" in text
    assert "all 7 233.3" in text
    assert "Go 30 7" in text


@given(cut=st.integers(1, 60))
def test_half_a_line_at_the_journals_end_is_no_line_and_stays(tmp_path_factory, cut):
    scan = Scan(tmp_path_factory.mktemp("cut") / "out", "a.parquet")
    scan.line("start")
    scan.unit("a.parquet", 0)
    before = status_text(scan.path)
    journal = scan.folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:cut])
    files = contents(scan.path)

    assert status_text(scan.path) == before
    assert contents(scan.path) == files


def test_a_scan_that_goes_on_is_running_and_its_time_left_goes_by_the_shards_sizes(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet", "b.parquet", "c.parquet", "d.parquet")
    scan.line("start")
    scan.unit("a.parquet", 0, after=5)
    scan.unit("a.parquet", 1, after=5)
    scan.shard("a.parquet")
    scan.unit("b.parquet", 0, after=10)
    scan.line("problem", shard="d.parquet", problem="row group 0: damaged")
    with closing(ScanDirectory(scan.path)):
        shown = lines_of(scan.path)
        state = read_state(scan.path)

    assert state.state.startswith(f"running (process {os.getpid()} on ")
    # 150 bytes in 20 seconds; half of b and all of c are left, d is given up.
    assert state.seconds_left == pytest.approx(20)
    assert shown["time left"] == "about 20 s"
    assert shown["last row group"].endswith("ago")
    assert read_state(scan.path).holder is None


def test_the_speed_is_that_of_the_last_run_that_did_something(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet")
    scan.line("start")
    scan.unit("a.parquet", 0, after=1, seconds=1.0, counts=tally(text_bytes=9_000_000))
    scan.line("start", after=3600)
    scan.unit("a.parquet", 1, after=2, seconds=2.0, counts=tally(text_bytes=4_000_000))
    scan.line("start", after=3600)

    assert lines_of(scan.path)["rate"].startswith("2.000 MB/s, 2.000 MB/s for each process, 1.0")


def test_what_lost_its_file_is_not_done(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet", "b.parquet")
    scan.line("start")
    scan.shard("a.parquet")
    scan.unit("b.parquet", 0)
    assert lines_of(scan.path)["row groups"] == "3 of 4 (75.0%)"

    (scan.path / "a.parquet").unlink()
    part_path(scan.path, "b.parquet", 0).write_bytes(b"")

    assert lines_of(scan.path)["row groups"] == "0 of 4 (0.0%)"


def test_a_shard_that_was_made_again_counts_once(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet")
    for _ in range(2):
        scan.line("start")
        scan.unit("a.parquet", 0)
        scan.unit("a.parquet", 1)
        scan.shard("a.parquet", tally(20, 2000, EMAIL=4))
    scan.manifest(1)

    shown = lines_of(scan.path)

    assert shown["rows"] == "20 of 20 (100.0%)"
    assert read_state(scan.path).state == "done"
    assert {group: len(own) for group, own in read_state(scan.path).times.items()} == {
        "a.parquet": 2
    }


def test_problems_are_named_by_shard_and_those_of_an_earlier_run_are_forgotten(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet", "b.parquet")
    scan.line("start")
    scan.line("problem", shard="a.parquet", problem="row group 1: is damaged\nwith a traceback")
    scan.line("problem", shard="no.parquet", problem="not a parquet file, or damaged")
    scan.shard("b.parquet")
    scan.manifest(1)

    text = status_text(scan.path)
    assert "done, apart from 2 with problems" in text
    assert text.endswith(
        "problems\n"
        "  a.parquet: row group 1: is damaged\n"
        "  no.parquet: not a parquet file, or damaged\n"
    )
    assert lines_of(scan.path)["shards"] == "1 of 3 (33.3%)"

    scan.line("start")
    scan.shard("a.parquet")
    scan.manifest(2)
    assert "\nproblems" not in status_text(scan.path)


def test_shards_that_cannot_be_read_are_told_while_the_scan_goes_on(tmp_path):
    (tmp_path / "in").mkdir()
    parquet.write_table(pa.table({"content": ["limit = 7"]}), tmp_path / "in/a.parquet")
    (tmp_path / "in/b.parquet").write_bytes(b"nothing")
    plan = plan_scan([str(tmp_path / "in")], ScanConfig(model="none"))
    seen = []

    scan(
        plan,
        tmp_path / "out",
        local_engine(1),
        on_progress=lambda tally: seen.append(read_state(tmp_path / "out")),
    )

    assert [(state.problems.keys(), state.shards) for state in seen] == [({"b.parquet"}, 2)] * 2
    assert all(state.state.startswith("running") for state in seen)


def test_a_scan_is_not_done_before_its_account_is_written(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet")
    scan.line("start")
    scan.shard("a.parquet")
    assert read_state(scan.path).state.startswith("stopped")
    scan.manifest(1)
    assert read_state(scan.path).state == "done"


def test_names_cannot_steer_a_terminal(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet")
    scan.line("start")
    counts = {**tally(), "languages": {HOSTILE: {"rows": 10, "EMAIL": 1}}}
    scan.unit("a.parquet", 0, counts=counts)
    scan.line("problem", shard=HOSTILE, problem=f"column {HOSTILE}")

    text = status_text(scan.path)

    assert all(line.isprintable() for line in text.splitlines())
    text.encode()


def test_a_directory_where_nothing_has_begun_yet_is_told(tmp_path):
    with closing(ScanDirectory(tmp_path / "out")):
        assert "running" in status_text(tmp_path / "out")
    assert status_text(tmp_path / "out").split()[-2:] == ["not", "started"]


def test_what_is_no_scan_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no scan's output"):
        status_text(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{"),
        ("run.json", '{"inputs": [{"shard": "a"}]}'),
        ("run.json", '{"inputs": 3}'),
        ("journal.jsonl", "{\n"),
        ("journal.jsonl", "[]\n"),
        ("journal.jsonl", '{"kind": "unit"}\n'),
        ("journal.jsonl", '{"kind": "unit", "time": 1, "tally": {"rowz": 1}}\n'),
        ("manifest.json", "nothing"),
    ],
)
def test_damaged_files_are_one_line_that_names_them(tmp_path, name, content):
    scan = Scan(tmp_path / "out", "a.parquet")
    (scan.folder / name).write_text(content)
    with pytest.raises(DataError) as error:
        status_text(scan.path)
    assert str(scan.path) in str(error.value)
    assert "\n" not in str(error.value)


def test_looking_does_not_keep_a_scan_from_starting(tmp_path):
    scan = Scan(tmp_path / "out", "a.parquet")
    (scan.folder / "lock").touch()
    look = textwrap.dedent("""
        import fcntl, sys, time
        file = open(sys.argv[1], "rb")
        fcntl.flock(file, fcntl.LOCK_SH)
        print("has it", flush=True)
        time.sleep(0.3)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", look, scan.folder / "lock"], stdout=subprocess.PIPE, text=True
    ) as looker:
        assert looker.stdout.readline() == "has it\n"
        with closing(ScanDirectory(scan.path)), pytest.raises(OutputError, match="another scan"):
            ScanDirectory(scan.path)


@given(
    done=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=12),
    finished=st.sets(st.integers(0, 2)),
)
def test_every_row_is_counted_once_whatever_the_order(tmp_path_factory, done, finished):
    names = ("a.parquet", "b.parquet", "c.parquet")
    scan = Scan(tmp_path_factory.mktemp("any") / "out", *names)
    scan.line("start")
    for number, group in done:
        scan.unit(names[number], group)
    for number in finished:
        scan.shard(names[number])

    tally_read = read_state(scan.path).tally
    open_units = {unit for unit in done if unit[0] not in finished}

    assert tally_read.rows_in == 20 * len(finished) + 10 * len(open_units)
    with closing(ScanDirectory(scan.path)) as directory:
        again = directory.done(dict.fromkeys(names))
    assert again == find_done(scan.path, names, read_journal(scan.path))
    assert isinstance(tally_read, Tally)
