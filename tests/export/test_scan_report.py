import html.parser
import json
import re
from contextlib import closing

import pyarrow as pa
import pytest
from pyarrow import parquet

from export.scan import local_engine, plan_scan, scan
from export.scan_dir import ScanDirectory
from export.scan_report import write_scan_report
from export.scanner import ScanConfig
from export.tally import SCORE_BINS
from starencoder.errors import ConfigError, DataError, OutputError

HOSTILE = "</script><img src=x onerror=alert(1)> & \"'\u4e2d"
USER = "marta.lindqvist"
EMAIL = f"{USER}@corp-mail.net"
IP = ".".join(["52", "17", "203", "94"])
TEXT = f"one\ncontact = '{EMAIL}' # {IP}\nlast\n"


def make(tmp_path, mode="annotate", *, shard="a.parquet", path="src/a.py", language="Go", **over):
    source = tmp_path / "in"
    source.mkdir(exist_ok=True)
    table = pa.table(
        {"content": [TEXT, "limit = 7", None] * 4, "lang": [language] * 12, "path": [path] * 12}
    )
    parquet.write_table(table, source / shard, row_group_size=5)
    config = ScanConfig(mode=mode, model="none", **over)
    output = tmp_path / "out"
    scan(plan_scan([str(source)], config), output, local_engine(1))
    return output


class Page(html.parser.HTMLParser):
    """What a browser would see: elements, and text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.text += " "

    def handle_data(self, data):
        self.text += data

    @property
    def words(self):
        return " ".join(self.text.split())


def report(output, **values):
    return Page(write_scan_report(output, **values)[0])


def test_the_counts_are_those_of_the_scan(tmp_path):
    words = report(make(tmp_path)).words
    assert "shards 1 of 1 (100.0%)" in words
    assert "row groups 3 of 3 (100.0%)" in words
    assert "EMAIL 4 500.0" in words
    assert "IP_ADDRESS 4 500.0" in words
    assert "all 8 1,000.0" in words
    assert "Go 8 0 0 4 4 0 0 8" in words
    assert "Go 8 0.0 0.0 500.0 500.0 0.0 0.0 1,000.0" in words
    assert "not scanned: null 4" in words
    assert "form rows plain 8" in words
    assert "config.mode annotate" in words
    assert "model_hash none" in words
    assert "versions.pyarrow" in words
    assert "Problems None." in words


@pytest.mark.parametrize("mode", ["annotate", "redact"])
def test_without_show_values_no_value_is_on_the_page(tmp_path, mode):
    output = make(tmp_path, mode, path=f"home/{EMAIL}/a.py" if mode == "annotate" else "a.py")
    for sample in (0, 5):
        page = report(output, sample=sample)
        for value in (EMAIL, USER, IP):
            assert value not in page.source
    assert "contact = '" in page.words


def test_with_show_values_the_value_is_marked_in_its_line(tmp_path):
    page = report(make(tmp_path), sample=5, show_values=True)
    assert f"contact = '<mark>{EMAIL}</mark>' # {IP}".replace("'", "&#x27;") in page.source
    assert "treat this page as the documents themselves" in page.words


def test_in_a_redacted_output_the_tag_is_marked_in_its_line(tmp_path):
    page = report(make(tmp_path, "redact"), sample=5)
    assert "contact = &#x27;<mark>&lt;EMAIL&gt;</mark>&#x27; # &lt;IP_ADDRESS&gt;" in page.source
    assert "the values are no longer there" in page.words


def test_values_of_a_redacted_output_are_refused(tmp_path):
    output = make(tmp_path, "redact")
    with pytest.raises(ConfigError, match="the values are no longer there; leave --show-values"):
        write_scan_report(output, sample=1, show_values=True)
    assert not (output / "_scan/report.html").exists()


def test_names_of_the_data_are_text_and_nothing_else(tmp_path):
    output = make(tmp_path, shard=f"{HOSTILE.replace('/', '')}.parquet", path=HOSTILE,
                  language=HOSTILE)  # fmt: skip
    with closing(ScanDirectory(output)) as directory:
        directory.append("problem", shard=HOSTILE, problem=f"no column {HOSTILE}")
    for values in ({}, {"sample": 3}, {"sample": 3, "show_values": True}):
        page = report(output, **values)
        assert not page.tags & {"script", "img", "link", "iframe", "a", "form"}
        assert not any(name.startswith("on") or name in ("src", "href") for name in page.attributes)
        assert HOSTILE in page.text
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.source


def test_the_page_is_the_same_each_time(tmp_path):
    output = make(tmp_path)
    first, again = (write_scan_report(output, sample=2)[0].read_bytes() for _ in range(2))
    assert first == again


def test_scores_are_drawn_by_label(tmp_path):
    output = make(tmp_path)
    journal = output / "_scan/journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "shard":
            line["tally"]["scores"] = {"NAME": [0] * (SCORE_BINS - 2) + [30, 60]}
    assert "nothing was found by a model" in report(output).words
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))

    page = report(output)

    assert "NAME, 90 spans" in page.words
    bars = re.findall(r'height="([\d.]+)" fill[^>]*><title>([^<]*)<', page.source)
    assert [title for height, title in bars if float(height)] == [
        "0.90 to 0.95: 30",
        "0.95 to 1.00: 60",
    ]
    assert float(bars[-1][0]) == 2 * float(bars[-2][0])


def test_slow_shards_and_row_groups_come_first(tmp_path):
    output = tmp_path / "out"
    with closing(ScanDirectory(output)) as directory:
        directory.begin(
            {
                "config": {"mode": "redact"},
                "inputs": [
                    {"shard": f"{name}.parquet", "size": 1, "rows": 1, "row_groups": 2}
                    for name in "abc"
                ],
            }
        )
        directory.append("start")
        for name, group, seconds, size in (
            ("a", 0, 1.0, 1_000_000), ("a", 1, 1.0, 1_000_000), ("b", 0, 9.0, 1_000_000),
            ("b", 1, 1.0, 1_000_000), ("c", 0, 12.0, 12_000_000), ("c", 1, 12.0, 20_000_000),
        ):  # fmt: skip
            directory.append(
                "unit", shard=f"{name}.parquet", group=group, seconds=seconds, part_bytes=0,
                tally={"text_bytes": size},
            )  # fmt: skip
    words = report(output).words
    slow_shards, slow_groups = words.split("Slow ")[1:3]
    # The average is 1 MB/s.
    assert re.findall(r"\w\.parquet [\d.]+ [\d.]+ MB [\d.]+ \S+", slow_shards) == [
        "b.parquet 10.00 2.0 MB 0.200 +8.00"
    ]
    assert re.findall(r"\w\.parquet \d [\d.]+ [\d.]+ MB [\d.]+ \S+", slow_groups) == [
        "b.parquet 0 9.00 1.0 MB 0.111 +8.00"
    ]


def test_a_scan_that_was_killed_has_a_page_too(tmp_path):
    output = make(tmp_path)
    (output / "a.parquet").unlink()
    page = report(output, sample=3)
    assert "stopped before its end" in page.words
    assert "row groups 0 of 3 (0.0%)" in page.words


def test_shards_that_no_sample_could_be_drawn_from_are_told(tmp_path):
    output = make(tmp_path)
    shard = output / "a.parquet"
    shard.write_bytes(b"x" * shard.stat().st_size)
    path, unread = write_scan_report(output, sample=3)
    assert unread == {"a.parquet": "not a parquet file, or damaged"}
    assert "Not drawn from: shard problem a.parquet not a parquet file" in Page(path).words


@pytest.mark.parametrize("name", ["a.parquet", "_scan/journal.jsonl", "_scan/run.json"])
def test_the_page_never_takes_the_place_of_the_scans_own_files(tmp_path, name):
    output = make(tmp_path)
    before = (output / name).read_bytes()
    with pytest.raises(ConfigError, match="is the input"):
        write_scan_report(output, output / name)
    assert (output / name).read_bytes() == before


def test_a_page_that_cannot_be_written_and_a_directory_that_is_no_scan_are_one_line(tmp_path):
    with pytest.raises(OutputError):
        write_scan_report(make(tmp_path), tmp_path)
    with pytest.raises(DataError, match="no scan's output"):
        write_scan_report(tmp_path)
