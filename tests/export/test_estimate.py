"""What a dry run says of a scan, beside what the scan does."""

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import export.estimate
from export.estimate import Estimate, estimate, estimate_text
from export.scan import plan_scan
from export.shards import ColumnNames
from tests.export.scans import EMAIL, PATTERNS, TEXTS, run, table_of, write


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards of 5 and 30 rows, two in a row group."""
    folder = tmp_path_factory.mktemp("shards") / "in"
    write(folder / "a.parquet", table_of(TEXTS))
    write(folder / "b.parquet", table_of(TEXTS * 6))
    return folder


@settings(max_examples=15)
@given(limit=st.none() | st.integers(1, 40))
def test_the_rows_to_scan_are_those_that_the_scan_scans(shards, tmp_path_factory, limit):
    config = dataclasses.replace(PATTERNS, limit=limit)
    found = estimate(plan_scan([str(shards)], config), workers=1, price=None)
    account = run([shards], tmp_path_factory.mktemp("out") / "out", config)
    assert found.rows == account.tally.scanned
    assert found.shards == account.shards
    with_rows = [unit for unit in plan_scan([str(shards)], config).units() if unit.limit != 0]
    assert found.row_groups == len(with_rows)


@pytest.mark.parametrize("languages", [(), ("py",), ("none",)])
@pytest.mark.parametrize("limit", [None, 5, 8])
def test_only_the_text_of_the_rows_to_scan_is_priced(tmp_path, monkeypatch, limit, languages):
    monkeypatch.setattr(export.estimate, "_SAMPLES", 100)
    rows = table_of(TEXTS * 4)
    rows = rows.append_column("lang", pa.array(["py", "c"] * (len(rows) // 2)))
    write(tmp_path / "in.parquet", rows)
    config = dataclasses.replace(PATTERNS, limit=limit, languages=languages)
    found = estimate(plan_scan([str(tmp_path / "in.parquet")], config), workers=1, price=1.0)
    account = run([tmp_path / "in.parquet"], tmp_path / "out", config)
    assert found.text_bytes == account.tally.text_bytes
    assert (found.cost > 0) == (found.text_bytes > 0)


def test_a_text_that_the_footer_counts_once_is_counted_as_often_as_it_is_there(tmp_path):
    text = "the same text in every row\n" * 1000
    write(tmp_path / "in.parquet", table_of([text] * 50), rows=50)
    plan = plan_scan([str(tmp_path / "in.parquet")], PATTERNS)
    found = estimate(plan, workers=1, price=None).text_bytes
    assert found == pytest.approx(50 * len(text), rel=0.01)


def test_a_column_with_a_dot_in_its_name_is_counted(tmp_path):
    write(tmp_path / "in.parquet", pa.table({"a": TEXTS, "a.b": TEXTS}))
    config = dataclasses.replace(PATTERNS, columns=ColumnNames(text="a.b"))
    plan = plan_scan([str(tmp_path / "in.parquet")], config)
    groups = parquet.read_metadata(tmp_path / "in.parquet")
    assert plan.text_bytes == sum(
        groups.row_group(group).column(1).total_uncompressed_size
        for group in range(groups.num_row_groups)
    )


def test_a_sample_ends_where_the_rows_to_scan_end(shards):
    config = dataclasses.replace(PATTERNS, limit=1)
    found = estimate(plan_scan([str(shards)], config), workers=1, price=None)
    assert found.sample_bytes == len(TEXTS[0].encode())


def test_redacting_from_spans_is_measured_with_them(shards, tmp_path):
    run([shards], tmp_path / "spans", dataclasses.replace(PATTERNS, mode="annotate"))
    config = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "spans"))
    found = estimate(plan_scan([str(shards)], config), workers=1, price=None)
    assert found.sample_bytes > len(EMAIL)
    assert found.bytes_per_second > 0


def test_one_is_not_called_many():
    one = Estimate(
        shards=1,
        unreadable=0,
        row_groups=1,
        rows=1,
        text_bytes=2_000_000,
        sample_bytes=1_000_000,
        bytes_per_second=1e6,
        workers=1,
        device="cpu",
        seconds=7500.0,
        cost=None,
    )
    many = dataclasses.replace(one, shards=2, row_groups=3, rows=4, workers=5)
    assert estimate_text(one).splitlines() == [
        "to scan: 1 shard, 1 row group, 1 row, 2.0 MB of text",
        "measured: 1.000 MB/s with one process, on 1.0 MB of it",
        "estimate: 2 h 5 min with 1 process",
    ]
    assert estimate_text(many).splitlines()[::2] == [
        "to scan: 2 shards, 3 row groups, 4 rows, 2.0 MB of text",
        "estimate: 2 h 5 min with 5 processes",
    ]
