"""Scanning shards: what comes out, whatever happens on the way."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import export.rows
import export.scan
import export.scan_dir
import export.scanner
import export.shards
import export.texts
import pii.windows
from export.row_groups import UnitScanner
from export.scan import local_engine, plan_scan
from export.scan_dir import write_shard
from export.scanner import ChunkCache, ScanConfig
from export.shards import ColumnNames, Unreadable, find_shards, iter_batches, open_row_groups
from pii.detect import EMBEDDED_MODEL
from pii.redactor import Redactor
from pii.session import load_session
from pii.workers import Crash
from starencoder.errors import ConfigError, DataError, OutputError
from tests.export.scans import (
    EMAIL,
    PATTERNS,
    TEXTS,
    content,
    run,
    spans_of,
    table_of,
    texts_of,
    write,
)

ANNOTATE = dataclasses.replace(PATTERNS, mode="annotate")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc, RLIMIT_FSIZE")


@pytest.fixture
def shards(tmp_path):
    """Two shards of 5 and 30 rows in 3 and 15 row groups."""
    folder = tmp_path / "in"
    write(folder / "a.parquet", table_of(TEXTS))
    write(folder / "sub" / "b.parquet", table_of(TEXTS * 6))
    return folder


# --------------------------------------------------------------------------------------------------
# what comes out


any_text = st.none() | st.text(max_size=30) | st.sampled_from(TEXTS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(texts=st.lists(any_text, max_size=12), rows=st.integers(1, 5))
def test_all_rows_and_columns_come_out_in_order_and_only_what_was_found_is_replaced(
    tmp_path_factory, texts, rows
):
    folder = tmp_path_factory.mktemp("scan")
    table = table_of(texts, n=list(range(len(texts)))).cast(
        pa.schema([("hexsha", pa.string()), ("n", pa.int64()), ("content", pa.string())])
    )
    write(folder / "in" / "a.parquet", table, rows)

    account = run([folder / "in"], folder / "out")

    found = parquet.read_table(folder / "out" / "a.parquet")
    redactor = Redactor("none")
    wanted = [None if text is None else redactor.redact(text) for text in texts]
    assert found.column_names == [*table.column_names, "pii_spans", "pii_modified"]
    assert found.drop_columns(["content", "pii_spans", "pii_modified"]).equals(
        table.drop_columns(["content"])
    )
    assert found["content"].to_pylist() == [w and w.text for w in wanted]
    assert found["pii_modified"].to_pylist() == [
        bool(text) and w.text != text for text, w in zip(texts, wanted, strict=True)
    ]
    for spans, text in zip(found["pii_spans"].to_pylist(), texts, strict=True):
        assert spans == (
            None
            if text is None
            else [
                {**dataclasses.asdict(span), "score": pytest.approx(span.score)}
                for span in redactor.detect(text)
            ]
        )
    assert account.tally.rows_in == account.tally.rows_out == len(texts)
    assert account.tally.scanned == len(texts) - texts.count(None)
    assert account.tally.not_scanned == ({"null": texts.count(None)} if None in texts else {})
    source = parquet.ParquetFile(folder / "in" / "a.parquet").metadata
    output = parquet.ParquetFile(folder / "out" / "a.parquet").metadata
    assert [output.row_group(i).num_rows for i in range(output.num_row_groups)] == [
        source.row_group(i).num_rows for i in range(source.num_row_groups) if texts
    ]


def test_annotating_leaves_the_texts_and_finds_the_same_as_the_embedded_model_alone(tmp_path):
    texts = [*TEXTS, "# Author: Marta Lindqvist <" + EMAIL + ">\npassword = 'gr8-Kestrel-42'\n"]
    write(tmp_path / "in.parquet", table_of(texts))
    config = ScanConfig(mode="annotate", operating_point="balanced")

    account = run([tmp_path / "in.parquet"], tmp_path / "out", config)

    assert texts_of(tmp_path / "out" / "in.parquet") == texts
    redactor = Redactor(operating_point="balanced")
    for spans, text in zip(spans_of(tmp_path / "out" / "in.parquet"), texts, strict=True):
        assert [(s["start"], s["end"], s["label"], s["kind"], s["source"]) for s in spans] == [
            (s.start, s.end, s.label, s.kind, s.source) for s in redactor.detect(text)
        ]
    assert account.tally.modified == 0
    assert sum(map(sum, account.tally.scores.values())) == sum(
        span["source"] == "model"
        for spans in spans_of(tmp_path / "out" / "in.parquet")
        for span in spans
    )


def test_columns_of_every_type_come_out_as_they_went_in(tmp_path):
    table = pa.table(
        {
            "content": pa.array(TEXTS[:3], pa.large_string()),
            "licenses": [["MIT"], [], None],
            "stars": pa.array([1, None, 3], pa.int16()),
            "at": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
            "nested": [{"a": 1, "b": [{"c": "x"}]}, None, {"a": None, "b": []}],
            "lang": pa.array(["C", "C", "Go"]).dictionary_encode(),
            "score": [0.5, float("nan"), None],
            "raw": [b"\xff\x00", None, b""],
        },
        metadata={"huggingface": '{"info": {"features": {}}}', "mine": "kept"},
    )
    write(tmp_path / "in.parquet", table)

    run([tmp_path / "in.parquet"], tmp_path / "out", ANNOTATE)

    found = parquet.read_table(tmp_path / "out" / "in.parquet")
    kept = found.drop_columns(["pii_spans", "pii_modified"])
    assert kept.schema.equals(table.schema, check_metadata=False)
    assert kept.to_pydict().keys() == table.to_pydict().keys()
    assert repr(kept.to_pylist()) == repr(table.to_pylist())
    assert found.schema.metadata == {b"mine": b"kept"}


@pytest.mark.parametrize(
    "kind", [pa.dictionary(pa.int8(), pa.string()), pa.string_view(), pa.large_string()]
)
def test_strings_of_any_arrow_type_are_scanned_and_keep_it(tmp_path, kind):
    texts = [*TEXTS, None]
    languages = pa.array(["C", "Go", None, "C", "C", "Go"]).cast(kind)
    table = pa.table({"lang": languages, "content": pa.array(texts).cast(kind)})
    write(tmp_path / "in.parquet", table, rows=6)
    config = dataclasses.replace(PATTERNS, languages=("C",))

    run([tmp_path / "in.parquet"], tmp_path / "out", config)

    out = parquet.read_table(tmp_path / "out" / "in.parquet")
    assert out.schema.field("content").type == kind
    redactor = Redactor("none")
    assert out["content"].to_pylist() == [
        redactor.redact(text).text if language == "C" else text
        for text, language in zip(texts, languages.to_pylist(), strict=True)
    ]


def test_dictionaries_that_differ_within_a_row_group_come_out_whatever_the_batches(
    tmp_path, monkeypatch
):
    lines = [f"row {i} mail {EMAIL}\n" for i in range(3000)]
    nested = pa.ListArray.from_arrays(range(3001), pa.array(lines).dictionary_encode())
    table = pa.table({"content": lines, "path": lines, "nested": nested})
    kind = pa.dictionary(pa.int32(), pa.string())
    table = table.set_column(0, "content", table["content"].cast(kind))
    table = table.set_column(1, "path", table["path"].cast(kind)).replace_schema_metadata(
        {"a": "b"}
    )
    write(tmp_path / "in.parquet", table, rows=3000, use_dictionary=False)

    run([tmp_path / "in.parquet"], tmp_path / "out")

    out = parquet.read_table(tmp_path / "out" / "in.parquet")
    assert out.schema.names[:3] == table.schema.names
    assert out.schema.types[:3] == table.schema.types
    assert out.schema.metadata == table.schema.metadata
    assert out["content"].to_pylist() == [line.replace(EMAIL, "<EMAIL>") for line in lines]
    assert out["path"].to_pylist() == lines
    assert out["nested"].to_pylist() == nested.to_pylist()
    monkeypatch.setattr(export.shards, "_MOST_ROWS", 70)
    run([tmp_path / "in.parquet"], tmp_path / "small")
    assert content(tmp_path / "small") == content(tmp_path / "out")


def test_columns_of_the_same_name_come_out_as_they_went_in(tmp_path):
    columns = [pa.array(TEXTS), pa.array(range(5)), pa.array("abcde")]
    table = pa.Table.from_arrays(columns, names=["content", "x", "x"])
    write(tmp_path / "in.parquet", table)

    run([tmp_path / "in.parquet"], tmp_path / "out")

    out = parquet.ParquetFile(tmp_path / "out" / "in.parquet").read()
    assert out.column_names[:3] == ["content", "x", "x"]
    assert out.column(1).to_pylist() == list(range(5))
    assert out.column(2).to_pylist() == list("abcde")


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("growing", [False, True])
def test_texts_that_a_row_group_holds_once_for_many_rows_are_not_held_for_all(
    tmp_path, monkeypatch, kind, growing
):
    texts = ["short"] * 600 * growing + ["x" * 100_000] * 1000
    shard = write(tmp_path / "in.parquet", pa.table({"content": pa.array(texts, kind)}), 2000)
    assert shard.stat().st_size < 50_000
    (file,) = find_shards([str(shard)])
    with open_row_groups(file) as opened:
        batches = list(iter_batches(opened, 0))
    assert sum(batch.num_rows for batch in batches) == len(texts)
    assert max(batch.nbytes for batch in batches) < 80_000_000
    # As they are read:
    monkeypatch.setattr(export.shards, "_MOST_BYTES", 0)
    with open_row_groups(file) as opened:
        sizes = [batch.nbytes for batch in iter_batches(opened, 0)]
    assert max(sizes) < (13_000_000 if growing else 8_500_000)


@pytest.mark.parametrize("size", [100, 10_000])
def test_the_bounds_of_batches_do_not_depend_on_how_their_rows_were_read(tmp_path, size):
    texts = [os.urandom(size * 100 if row % 700 == 500 else size).hex() for row in range(1500)]
    shard = write(tmp_path / "in.parquet", table_of(texts), 1500, compression="none")
    (file,) = find_shards([str(shard)])
    with open_row_groups(file) as opened:
        rows = [batch.num_rows for batch in iter_batches(opened, 0)]
        per_row = opened.metadata.row_group(0).total_byte_size // 1500
    most = min(1024, (1 << 22) // per_row)
    assert rows == [most] * (1500 // most) + ([1500 % most] if 1500 % most else [])


def test_a_column_of_nulls_alone_is_no_problem(tmp_path):
    write(tmp_path / "in.parquet", pa.table({"content": pa.nulls(3)}))
    account = run([tmp_path / "in.parquet"], tmp_path / "out")
    assert account.tally.not_scanned == {"null": 3}


def test_selecting_languages_needs_a_column_that_says_them(tmp_path):
    write(tmp_path / "in.parquet", table_of(TEXTS, lang=[1, 2, 3, 4, 5]))
    config = dataclasses.replace(PATTERNS, languages=("C",))
    with pytest.raises(ConfigError, match="no column with strings called lang, "):
        run([tmp_path / "in.parquet"], tmp_path / "out", config)


def test_the_columns_of_an_earlier_scan_are_not_replaced_unasked(tmp_path):
    write(tmp_path / "in.parquet", table_of(TEXTS, pii_spans=["mine"] * 5))
    with pytest.raises(ConfigError, match="has a column pii_spans already"):
        run([tmp_path / "in.parquet"], tmp_path / "out")


def test_datasets_reads_what_a_scan_of_its_own_shards_wrote(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"content": TEXTS, "id": list(range(len(TEXTS)))})
    made.to_parquet(str(tmp_path / "in.parquet"))

    run([tmp_path / "in.parquet"], tmp_path / "out")

    read = datasets.Dataset.from_parquet(
        str(tmp_path / "out" / "in.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert read["content"][:] == [Redactor("none").redact(text).text for text in TEXTS]


def test_a_text_that_is_not_utf_8_stays_as_it_is_and_is_counted(tmp_path):
    binary = pa.array([TEXTS[0].encode(), b"\xff\xfe mail " + EMAIL.encode(), None])
    write(tmp_path / "in.parquet", pa.table({"content": binary.view(pa.string())}), rows=3)

    account = run([tmp_path / "in.parquet"], tmp_path / "out")

    out = parquet.read_table(tmp_path / "out" / "in.parquet")
    texts = out["content"].combine_chunks().view(pa.binary()).to_pylist()
    assert texts[1:] == binary.to_pylist()[1:]
    assert EMAIL.encode() not in texts[0]
    assert out["pii_spans"].to_pylist()[1] is None
    assert account.tally.not_scanned == {"not UTF-8": 1, "null": 1}


def test_a_very_long_text_is_redacted_in_pieces_as_it_would_be_at_once(tmp_path, monkeypatch):
    texts = [f"{i} é😀 {EMAIL}\n" * 50 for i in range(4)] + [None, "short"]
    write(tmp_path / "in.parquet", table_of(texts), rows=6)
    run([tmp_path / "in.parquet"], tmp_path / "at-once")
    for module, name, value in [
        (export.rows, "LONG_BYTES", 500),
        (export.texts, "_BLOCK", 64),
        (pii.windows, "LONGEST_WINDOW", 600),
        (pii.windows, "_CONTEXT", 100),
    ]:
        monkeypatch.setattr(module, name, value)

    account = run([tmp_path / "in.parquet"], tmp_path / "in-pieces")

    assert account.tally.forms == {"long": 4, "plain": 1}
    assert content(tmp_path / "in-pieces") == content(tmp_path / "at-once")


@pytest.mark.parametrize("drop", [False, True])
def test_rows_of_other_languages_are_not_scanned_or_left_out_and_counted(tmp_path, drop):
    table = table_of(TEXTS, lang=["C", "Go", None, "Go", "C"])
    write(tmp_path / "in.parquet", table)
    config = dataclasses.replace(PATTERNS, languages=("C",), drop_unselected=drop)

    account = run([tmp_path / "in.parquet"], tmp_path / "out", config)

    out = parquet.read_table(tmp_path / "out" / "in.parquet")
    numbers = [int(number, 16) for number in out["hexsha"].to_pylist()]
    assert numbers == ([0, 4] if drop else [0, 1, 2, 3, 4])
    assert [n for n, s in zip(numbers, out["pii_spans"].to_pylist(), strict=True) if s] == [0, 4]
    assert all(EMAIL in t for t in out["content"].to_pylist() if t.startswith("# näme"))
    assert account.tally.not_scanned == {"language not selected": 3}
    assert account.tally.languages == {"C": {"rows": 2, "EMAIL": 1, "IP_ADDRESS": 7}}


def test_a_limit_scans_the_first_rows_over_all_shards(shards, tmp_path):
    account = run([shards], tmp_path / "out", dataclasses.replace(PATTERNS, limit=8))

    assert [s is None for s in spans_of(tmp_path / "out" / "a.parquet")] == [False] * 5
    assert [s is None for s in spans_of(tmp_path / "out" / "sub" / "b.parquet")] == [
        row >= 3 for row in range(30)
    ]
    assert account.tally.not_scanned == {"beyond --limit": 27}
    run([shards], tmp_path / "short", dataclasses.replace(PATTERNS, limit=5))
    assert list(content(tmp_path / "short")) == ["a.parquet"]


@pytest.mark.parametrize("rows", [1, 4, 20])
def test_a_limit_counts_rows_of_all_languages_however_they_are_grouped(tmp_path, rows):
    table = table_of(TEXTS * 4).append_column("lang", pa.array((["c"] * 4 + ["py"]) * 4))
    write(tmp_path / "in" / "0.parquet", table.slice(0, 0))
    write(tmp_path / "in" / "1.parquet", table, rows=rows)
    config = dataclasses.replace(PATTERNS, limit=10, languages=("py",))
    account = run([tmp_path / "in"], tmp_path / "out", config)
    assert account.shards == 2
    assert account.tally.scanned == 2
    assert account.tally.not_scanned == {"language not selected": 16, "beyond --limit": 2}


def test_redacting_from_spans_gives_what_redacting_at_once_gives_but_for_the_scores(
    shards, tmp_path
):
    run([shards], tmp_path / "spans", ANNOTATE)
    run([shards], tmp_path / "direct")
    later = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "spans"))

    run([shards], tmp_path / "later", later)

    assert content(tmp_path / "later") == content(tmp_path / "direct")
    run([tmp_path / "spans"], tmp_path / "of-itself", later)
    assert content(tmp_path / "of-itself") == content(tmp_path / "direct")


def test_spans_of_other_texts_are_refused(shards, tmp_path):
    run([shards], tmp_path / "spans", ANNOTATE)
    changed = [text.replace("root", "toor") for text in TEXTS]
    write(shards / "a.parquet", table_of(changed))
    write(shards / "more.parquet", table_of(TEXTS))
    later = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "spans"))

    account = run([shards], tmp_path / "later", later)

    assert set(content(tmp_path / "later")) == {"sub/b.parquet"}
    assert "other texts than" in account.problems["a.parquet"]
    assert "no shard with spans of the same rows" in account.problems["more.parquet"]
    with pytest.raises(ConfigError, match="no shard with spans of the same rows"):
        run([shards / "more.parquet"], tmp_path / "x", later)


@pytest.mark.parametrize("part", ["", "sub", "sub/b.parquet"])
def test_spans_of_another_column_are_refused(tmp_path, part):
    mails = [f"write {EMAIL} a mail"] * 2
    write(tmp_path / "in" / "sub" / "b.parquet", table_of(TEXTS[:2], message=mails))
    run([tmp_path / "in"], tmp_path / "spans", ANNOTATE)
    later = dataclasses.replace(
        PATTERNS,
        from_spans=str(tmp_path / "spans" / part),
        columns=ColumnNames(text="message"),
    )
    with pytest.raises(ConfigError, match=r"the column content, not of message; give --text-col"):
        run([tmp_path / "in" / part], tmp_path / "out", later)
    assert not (tmp_path / "out").exists()


def test_spans_of_a_scan_that_redacted_are_refused_wherever_one_stands(
    shards, tmp_path, monkeypatch
):
    redacted = tmp_path / "redacted"
    run([shards], redacted)
    run([shards], tmp_path / "spans", ANNOTATE)
    monkeypatch.chdir(redacted)
    for address in (str(redacted), redacted.as_uri()):
        later = dataclasses.replace(PATTERNS, from_spans=address)
        with pytest.raises(ConfigError, match="holds redacted texts"):
            run([redacted], tmp_path / "out", later)
    later = dataclasses.replace(PATTERNS, from_spans=(tmp_path / "spans").as_uri())
    assert run([shards], tmp_path / "out", later).shards == 2


def test_a_folder_without_spans_is_refused(shards, tmp_path):
    later = dataclasses.replace(PATTERNS, from_spans=str(shards))
    with pytest.raises(ConfigError, match="no shard with spans"):
        run([shards], tmp_path / "out", later)


def test_shards_that_were_annotated_apart_and_put_together_can_be_used(shards, tmp_path):
    for name in ("a.parquet", "sub"):
        run([shards / name], tmp_path / name, ANNOTATE)
    (tmp_path / "all" / "sub").mkdir(parents=True)
    (tmp_path / "a.parquet" / "a.parquet").rename(tmp_path / "all" / "a.parquet")
    (tmp_path / "sub" / "b.parquet").rename(tmp_path / "all" / "sub" / "b.parquet")
    later = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "all"))

    run([shards], tmp_path / "later", later)

    run([shards], tmp_path / "direct")
    assert content(tmp_path / "later") == content(tmp_path / "direct")


def span(start, end, label="EMAIL", **others):
    return {"start": start, "end": end, "label": label, **others}


@pytest.mark.parametrize(
    "spans",
    [
        [span(5, 99)],
        [span(-3, 2)],
        [span(4, 4)],
        [span(0, 5), span(3, 8)],
        [span(6, 8), span(0, 2)],
        [span(0, 5, "MAIL")],
        [span(0, 5, colour="red")],
        [{"start": 0, "label": "EMAIL"}],
        [span("a", "b")],
        ["EMAIL"],
    ],
)
@pytest.mark.parametrize("long", [1, 1000])
def test_spans_that_do_not_fit_the_texts_are_a_problem_of_their_shard(
    tmp_path, monkeypatch, spans, long
):
    monkeypatch.setattr(export.rows, "LONG_BYTES", long)
    for name, own in [("a.parquet", [span(0, 5)]), ("b.parquet", spans)]:
        texts = table_of(["0123456789"])
        write(tmp_path / "in" / name, texts)
        write(tmp_path / "spans" / name, texts.append_column("pii_spans", [[own]]))
    later = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "spans"))

    account = run([tmp_path / "in"], tmp_path / "out", later)

    assert texts_of(tmp_path / "out" / "a.parquet") == ["<EMAIL>56789"]
    assert list(account.problems) == ["b.parquet"]
    assert "has spans that do not fit its texts" in account.problems["b.parquet"]


def test_equal_chunks_are_computed_once_in_a_row_group():
    calls = []

    def predict(chunks):
        calls.append(len(chunks))
        return [list(chunk) for chunk in chunks]

    cache = ChunkCache(predict)
    assert cache([[1], [2, 3], [1]]) == [[1], [2, 3], [1]]
    assert cache([[2, 3], [4]]) == [[2, 3], [4]]
    assert calls == [2, 1]
    cache.clear()
    cache([[1]])
    assert calls == [2, 1, 1]


def test_what_is_remembered_of_a_row_group_is_forgotten_before_the_next(tmp_path):
    write(tmp_path / "in.parquet", table_of(["# Author: Marta Lindqvist\n"] * 4), rows=2)
    model = load_session(EMBEDDED_MODEL)
    read = []

    def predict(chunks):
        read.append(len(chunks))
        return model(chunks)

    config = ScanConfig(disabled=("router",))
    scanner = UnitScanner(config, predict)
    run(
        [tmp_path / "in.parquet"],
        tmp_path / "out",
        config,
        engine=lambda config, units: ((unit, scanner(unit)) for unit in units),
    )
    assert read == [1, 1]


def test_only_so_many_chunks_are_remembered(monkeypatch):
    monkeypatch.setattr(export.scanner, "_MOST_CACHED", 2)
    calls = []
    cache = ChunkCache(lambda chunks: calls.append(chunks) or [list(c) for c in chunks])
    assert cache([[1], [2], [3], [3]]) == [[1], [2], [3], [3]]
    assert cache([[1], [2], [3]]) == [[1], [2], [3]]
    assert calls == [[[1], [2], [3]], [[3]]]


def test_issues_are_scanned_by_their_events_and_authors_get_pseudonyms(tmp_path):
    events = [
        {"author": "marta-l42", "n": 1, "text": f"mail {EMAIL}", "title": None},
        {"author": "kestrel9", "n": 2, "text": "@marta-l42 thanks", "title": "Re: x"},
        None,
    ]
    table = pa.table({"repo": ["a", "b", "c"], "events": [events, None, []]})
    write(tmp_path / "in.parquet", table)
    config = dataclasses.replace(PATTERNS, columns=ColumnNames(text="events"))

    account = run([tmp_path / "in.parquet"], tmp_path / "out", config)

    out = parquet.read_table(tmp_path / "out" / "in.parquet")
    assert out.schema.field("events").type == table.schema.field("events").type
    assert out["events"].to_pylist() == [
        [
            {"author": "username_0", "n": 1, "text": "mail <EMAIL>", "title": None},
            {"author": "username_1", "n": 2, "text": "@username_0 thanks", "title": "Re: x"},
            None,
        ],
        None,
        [],
    ]
    assert out["pii_modified"].to_pylist() == [True, False, False]
    assert account.tally.forms == {"issue": 2}
    assert account.tally.not_scanned == {"null": 1}


FAR = 300_000_000_000_000
"""In milliseconds since 1970: a year that is too large for Python."""


@pytest.mark.parametrize(
    ("strings", "list_of", "others", "values"),
    [
        (pa.string(), pa.list_, {"at": pa.timestamp("ms")}, [FAR]),
        (pa.string(), pa.list_, {"x": pa.int64()}, [7]),
        (pa.large_string(), pa.list_, {}, []),
        (pa.large_string(), pa.large_list, {}, []),
        (pa.dictionary(pa.int32(), pa.string()), pa.list_, {}, []),
    ],
)
def test_events_are_scanned_whatever_else_they_hold(tmp_path, strings, list_of, others, values):
    texts = ["marta-l42", None, "kestrel9"], [f"mail {EMAIL}", None, "@marta-l42 thanks"]
    # A name that is there twice is no matter for the others.
    fields = [pa.field(name, kind) for name, kind in others.items()] * 2
    arrays = [
        pa.array([value] * 3, field.type) for value, field in zip(values * 2, fields, strict=True)
    ]
    events = pa.StructArray.from_arrays(
        [*arrays, *(pa.array(text, pa.string()).cast(strings) for text in texts)],
        fields=[*fields, pa.field("author", strings), pa.field("text", strings)],
        mask=pa.array([False, True, False]),
    )
    column = list_of(events.type)
    rows = pa.array([0, 3, 3], pa.int64() if list_of is pa.large_list else pa.int32())
    made = (pa.LargeListArray if list_of is pa.large_list else pa.ListArray).from_arrays
    write(tmp_path / "in.parquet", pa.table({"events": made(rows, events, type=column)}))
    config = dataclasses.replace(PATTERNS, columns=ColumnNames(text="events"))

    account = run([tmp_path / "in.parquet"], tmp_path / "out", config)

    assert not account.problems
    source = parquet.ParquetFile(tmp_path / "in.parquet").read()["events"].chunk(0)
    found = parquet.ParquetFile(tmp_path / "out" / "in.parquet").read()["events"].chunk(0)
    assert found.type == source.type
    assert found.offsets.to_pylist() == [0, 3, 3]
    assert found.values.is_null().to_pylist() == [False, True, False]
    for index in range(len(fields)):
        assert found.values.field(index).equals(source.values.field(index))
    assert found.values.field(len(fields)).to_pylist() == ["username_0", None, "username_1"]
    assert found.values.field(len(fields) + 1).to_pylist() == [
        "mail <EMAIL>",
        None,
        "@username_0 thanks",
    ]


def test_events_with_two_fields_for_the_same_text_are_refused(tmp_path):
    text = pa.array([EMAIL])
    events = pa.StructArray.from_arrays([text, text], names=["text", "text"])
    table = pa.table({"events": pa.ListArray.from_arrays([0, 1], events)})
    write(tmp_path / "in.parquet", table)
    config = dataclasses.replace(PATTERNS, columns=ColumnNames(text="events"))
    with pytest.raises(ConfigError, match="expected strings"):
        run([tmp_path / "in.parquet"], tmp_path / "out", config)


def test_notebooks_threads_and_commits_are_read_by_their_form(tmp_path):
    notebook = {
        "cells": [
            {"cell_type": "code", "source": [f"a = '{EMAIL}'\n"], "outputs": [], "metadata": {}}
        ],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    texts = [
        json.dumps(notebook),
        f"<issue_start>Title\nkestrel9: hello<issue_comment>owl-77: @kestrel9 {EMAIL}",
        f"<commit_before>a\n<commit_msg>mail {EMAIL}\n<commit_after>b\n",
    ]
    write(tmp_path / "in.parquet", table_of(texts))
    run([tmp_path / "in.parquet"], tmp_path / "spans", ANNOTATE)
    account = run([tmp_path / "in.parquet"], tmp_path / "out")

    redacted = texts_of(tmp_path / "out" / "in.parquet")
    assert json.loads(redacted[0])["cells"][0]["source"] == ["a = '<EMAIL>'\n"]
    assert redacted[1:] == [
        "<issue_start>Title\nusername_0: hello<issue_comment>username_1: @username_0 <EMAIL>",
        "<commit_before>a\n<commit_msg>mail <EMAIL>\n<commit_after>b\n",
    ]
    assert account.tally.forms == {"notebook": 1, "issue": 1, "commit": 1}
    later = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "spans"))
    run([tmp_path / "in.parquet"], tmp_path / "later", later)
    assert content(tmp_path / "later") == content(tmp_path / "out")


# --------------------------------------------------------------------------------------------------
# the same bytes, however it was run


def test_the_output_depends_neither_on_the_workers_nor_on_the_batches(
    shards, tmp_path, monkeypatch
):
    config = ScanConfig()
    run([shards], tmp_path / "one", config)
    run([shards], tmp_path / "two", config, jobs=2)
    monkeypatch.setattr(export.shards, "_MOST_ROWS", 1)
    run([shards], tmp_path / "small", config)

    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert content(tmp_path / "small") == content(tmp_path / "one")
    manifests = {
        (tmp_path / name / "_scan" / "manifest.json").read_bytes() for name in ("one", "two")
    }
    assert len(manifests) == 1


def test_the_output_does_not_depend_on_the_order_in_which_row_groups_are_done(shards, tmp_path):
    def backwards(config, units):
        yield from local_engine(1)(config, units[::-1])

    run([shards], tmp_path / "one")
    run([shards], tmp_path / "two", engine=backwards)

    assert content(tmp_path / "two") == content(tmp_path / "one")


class Killed(BaseException):
    """Stands in for the end of the process: nothing is cleaned up that checks for it."""


def test_a_run_that_ends_at_any_moment_goes_on_and_gives_the_same(shards, tmp_path, monkeypatch):
    """Every rename and every line of the journal is a moment; before each, and after each."""
    run([shards], tmp_path / "whole")
    wanted = content(tmp_path / "whole")
    manifest = (tmp_path / "whole" / "_scan" / "manifest.json").read_bytes()
    replace, append = Path.replace, export.scan_dir.ScanDirectory.append
    left = 0

    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            result = function(*arguments, **options)
            left -= 1
            if left == 0:
                raise Killed
            return result

        return call

    monkeypatch.setattr(Path, "replace", counted(replace))
    monkeypatch.setattr(export.scan_dir.ScanDirectory, "append", counted(append))
    moments = 0
    for moment in itertools.count(1, 5):
        output = tmp_path / f"killed-{moment}"
        left = moment
        try:
            run([shards], output)
            break
        except Killed:
            moments += 1
        left = moment // 2  # and once more on the way
        try:
            run([shards], output)
        except Killed:
            left = 0
            run([shards], output)
        left = 0
        assert content(output) == wanted
        assert (output / "_scan" / "manifest.json").read_bytes() == manifest
        assert not list(output.rglob("*.arrow"))
    assert moments > 10


def test_what_is_done_is_not_done_again(shards, tmp_path):
    done = []

    def interrupted(config, units):
        for unit, result in local_engine(1)(config, units):
            if len(done) == 7:
                raise KeyboardInterrupt
            done.append((unit.file.relative, unit.group))
            yield unit, result

    with pytest.raises(KeyboardInterrupt):
        run([shards], tmp_path / "out", engine=interrupted)

    def rest(config, units):
        assert not {(unit.file.relative, unit.group) for unit in units} & set(done)
        assert len(units) == 18 - 7
        yield from local_engine(1)(config, units)

    account = run([shards], tmp_path / "out", engine=rest)
    assert account.tally.rows_in == 35

    def nothing(config, units):
        raise AssertionError("all is done")

    run([shards], tmp_path / "out", engine=nothing)


@pytest.mark.parametrize("damage", ["gone", "shorter"])
def test_a_part_or_an_output_that_is_gone_or_cut_is_made_again(shards, tmp_path, damage):
    def half(config, units):
        yield from itertools.islice(local_engine(1)(config, units), 6)

    run([shards], tmp_path / "whole")
    out = tmp_path / "out"
    account = run([shards], out, engine=half)
    assert set(account.problems) == {"sub/b.parquet"}  # the engine said nothing of the rest
    part = next(out.rglob("*.arrow"))
    for path in (part, out / "a.parquet"):
        if damage == "gone":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)

    run([shards], out)

    assert content(out) == content(tmp_path / "whole")


def test_an_engine_may_change_the_current_directory_as_it_begins(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run([Path("in")], Path("whole"))

    def a_alone(config, units):
        yield from itertools.islice(local_engine(1)(config, units), 3)

    def full_disk(parts, output, text_column):
        raise OutputError(f"{output}: no room")

    with monkeypatch.context() as patched:
        patched.setattr(export.scan, "write_shard", full_disk)
        with pytest.raises(OutputError, match="no room"):
            run([Path("in")], Path("out"), engine=a_alone)

    def elsewhere(config, units):
        assert {unit.file.relative for unit in units} == {"sub/b.parquet"}
        with contextlib.chdir(os.sep):
            time.sleep(0.2)
        yield from local_engine(1)(config, units)

    account = run([Path("in")], Path("out"), engine=elsewhere)

    assert account.problems == {}
    assert content(Path("out")) == content(Path("whole"))


def test_half_a_line_at_the_end_of_the_journal_is_cut_off(shards, tmp_path):
    run([shards], tmp_path / "whole")
    out = tmp_path / "out"
    run([shards], out)
    journal = out / "_scan" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    shard = next(i for i, line in enumerate(lines) if b'"kind": "shard"' in line)
    for cut in (1, len(lines[shard]) // 2, len(lines[shard]) - 1):
        journal.write_bytes(b"".join(lines[:shard]) + lines[shard][:cut])
        run([shards], out)
        assert content(out) == content(tmp_path / "whole")
        assert all(json.loads(line) for line in journal.read_bytes().splitlines())


# --------------------------------------------------------------------------------------------------
# what is refused


def test_another_setting_model_or_version_is_not_mixed_with_what_is_there(
    shards, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    run([shards], out)
    with pytest.raises(ConfigError, match=r"another config\.labels, config_hash"):
        run([shards], out, dataclasses.replace(PATTERNS, labels=("EMAIL",)))
    with pytest.raises(ConfigError, match="model_hash"):
        run([shards], out, ScanConfig())
    monkeypatch.setattr(export.scan, "_version", lambda name: "0")
    with pytest.raises(ConfigError, match=r"versions\.pyarrow"):
        run([shards], out)


def test_spans_of_another_scan_are_not_mixed_with_those_that_were_used(shards, tmp_path):
    addresses = dataclasses.replace(ANNOTATE, labels=("EMAIL",))
    run([shards], tmp_path / "all", ANNOTATE)
    run([shards], tmp_path / "some", addresses)

    def half(config, units):
        yield from itertools.islice(local_engine(1)(config, units), 6)

    later = dataclasses.replace(PATTERNS, from_spans=str(tmp_path / "all"))
    run([shards], tmp_path / "out", later, engine=half)
    other = dataclasses.replace(later, from_spans=str(tmp_path / "some"))
    with pytest.raises(ConfigError, match="spans_hash"):
        run([shards], tmp_path / "out", other)
    (tmp_path / "all").rename(tmp_path / "moved")
    moved = dataclasses.replace(later, from_spans=str(tmp_path / "moved"))
    run([shards], tmp_path / "out", moved)
    run([shards], tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_inputs_that_changed_since_the_scan_began_are_named(shards, tmp_path):
    out = tmp_path / "out"
    run([shards], out)
    write(shards / "c.parquet", table_of(TEXTS))
    with pytest.raises(ConfigError, match=r"c\.parquet is new"):
        run([shards], out)
    (shards / "c.parquet").unlink()
    write(shards / "a.parquet", table_of(TEXTS[::-1]))
    with pytest.raises(ConfigError, match=r"a\.parquet has changed"):
        run([shards], out)
    (shards / "a.parquet").unlink()
    with pytest.raises(ConfigError, match=r"a\.parquet is gone"):
        run([shards], out)


def test_a_shard_that_could_not_be_read_at_first_is_scanned_when_it_can_be(shards, tmp_path):
    (shards / "0.parquet").symlink_to(tmp_path / "late.parquet")

    def half(config, units):
        yield from itertools.islice(local_engine(1)(config, units), 6)

    assert "0.parquet" in run([shards], tmp_path / "out", engine=half).problems
    write(tmp_path / "late.parquet", table_of(TEXTS[::-1]))
    assert not run([shards], tmp_path / "out").problems
    run([shards], tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    manifests = [tmp_path / name / "_scan" / "manifest.json" for name in ("out", "whole")]
    assert manifests[0].read_bytes() == manifests[1].read_bytes()

    (tmp_path / "late.parquet").unlink()
    with pytest.raises(ConfigError, match=r"0\.parquet can no longer be read"):
        run([shards], tmp_path / "out")
    write(tmp_path / "late.parquet", table_of(TEXTS))
    with pytest.raises(ConfigError, match=r"0\.parquet has changed"):
        run([shards], tmp_path / "out")


def test_under_a_limit_a_shard_that_could_not_be_read_at_first_would_change_the_rest(
    shards, tmp_path
):
    (shards / "0.parquet").symlink_to(tmp_path / "late.parquet")
    config = dataclasses.replace(PATTERNS, limit=8)
    run([shards], tmp_path / "out", config)
    write(tmp_path / "late.parquet", table_of(TEXTS))
    with pytest.raises(ConfigError, match=r"0\.parquet is new"):
        run([shards], tmp_path / "out", config)


def test_a_shard_that_was_only_touched_is_the_same(shards, tmp_path):
    run([shards], tmp_path / "out")
    os.utime(shards / "a.parquet", (1, 1))
    assert not run([shards], tmp_path / "out").problems


def test_a_directory_with_other_files_is_refused(shards, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        run([shards], tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_two_runs_on_one_output_are_refused(shards, tmp_path):
    def second(config, units):
        with pytest.raises(OutputError, match=f"another scan writes there .process {os.getpid()}"):
            run([shards], tmp_path / "out")
        yield from local_engine(1)(config, units)

    run([shards], tmp_path / "out", engine=second)
    run([shards], tmp_path / "out")


def test_an_output_inside_an_input_and_an_input_inside_an_output_are_refused(shards, tmp_path):
    for output in (shards / "out", shards, tmp_path):
        with pytest.raises(ConfigError, match=r"lies in|is the input|not empty"):
            run([shards], output)
    with pytest.raises(ConfigError, match="lies in"):
        run([shards.as_uri()], shards / "out")


def test_two_inputs_with_one_place_in_the_output_are_refused(shards, tmp_path):
    write(tmp_path / "other" / "a.parquet", table_of(TEXTS))
    with pytest.raises(ConfigError, match="its output would be that of"):
        run([shards, tmp_path / "other"], tmp_path / "out")


def test_an_input_whose_place_is_another_ones_directory_is_refused(tmp_path):
    write(tmp_path / "one" / "x.parquet", table_of(TEXTS))
    write(tmp_path / "two" / "x.parquet" / "y.parquet", table_of(TEXTS))
    for inputs in (["one", "two"], ["two", "one"]):
        with pytest.raises(ConfigError, match="would lie below that of"):
            run([tmp_path / name for name in inputs], tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_linked_directories_are_read_and_none_twice(shards, tmp_path):
    write(tmp_path / "elsewhere" / "c.parquet", table_of(TEXTS))
    (tmp_path / "elsewhere" / "back").symlink_to(shards)
    (shards / "again").symlink_to("sub")
    (shards / "far").symlink_to(tmp_path / "elsewhere")
    (shards / "farther").symlink_to(tmp_path / "elsewhere")
    (shards / "sub" / "loop").symlink_to("..")
    (shards / ".hidden").symlink_to(tmp_path)
    (shards / "nowhere").symlink_to("nowhere")
    plan = plan_scan([str(shards)], PATTERNS)
    assert list(plan.shards) == ["a.parquet", "far/c.parquet", "sub/b.parquet"]
    assert not plan.unreadable


def test_an_input_without_shards_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for missing in ("empty", "nowhere"):
        with pytest.raises(ConfigError, match="no shards there"):
            run([tmp_path / missing], tmp_path / "out")


# --------------------------------------------------------------------------------------------------
# bad input: named, and the rest is scanned


def break_footer(path):
    os.truncate(path, path.stat().st_size - 20)


def break_page(path):
    metadata = parquet.ParquetFile(path).metadata
    data = bytearray(path.read_bytes())
    for group in range(1, metadata.num_row_groups):
        column = metadata.row_group(group).column(1)
        start = column.dictionary_page_offset or column.data_page_offset
        at = start + column.total_compressed_size - 4
        data[at] ^= 0xFF
    path.write_bytes(data)


def without_column(path):
    write(path, pa.table({"text": TEXTS}))


def with_numbers(path):
    write(path, pa.table({"content": [1, 2]}))


def with_structs(path):
    write(path, pa.table({"content": [{"a": "x"}]}))


def empty_file(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (break_footer, "not a parquet file, or damaged"),
        (empty_file, "not a parquet file, or damaged"),
        (break_page, "row group 1: is damaged"),
        (without_column, "no column content; it has text"),
        (with_numbers, "column content holds int64; expected strings"),
        (with_structs, "column content holds struct<a: string>; expected strings"),
    ],
)
def test_a_shard_that_cannot_be_scanned_is_named_and_the_others_are(
    shards, tmp_path, harm, problem
):
    write(shards / "a.parquet", table_of(TEXTS), write_page_checksum=True)
    harm(shards / "a.parquet")

    account = run([shards], tmp_path / "out")

    assert list(content(tmp_path / "out")) == ["sub/b.parquet"]
    assert problem in account.problems["a.parquet"]
    assert account.tally.rows_in == 30
    assert json.loads(account.manifest.read_bytes())["problems"] == account.problems
    with pytest.raises(ConfigError) if problem[:3] != "row" else pytest.MonkeyPatch.context():
        run([shards / "a.parquet"], tmp_path / "alone")


def test_rows_and_row_groups_that_are_not_there_do_no_harm(tmp_path):
    write(tmp_path / "in" / "rows.parquet", table_of([]).cast(table_of(TEXTS).schema))
    schema = table_of(TEXTS).schema
    parquet.ParquetWriter(tmp_path / "in" / "groups.parquet", schema).close()

    account = run([tmp_path / "in"], tmp_path / "out")

    assert account.shards == 2
    assert account.tally.rows_in == 0
    for path in sorted((tmp_path / "out").glob("*.parquet")):
        table = parquet.read_table(path)
        assert table.num_rows == 0
        assert table.column_names[-2:] == ["pii_spans", "pii_modified"]


def test_the_manifest_says_what_was_read_and_what_became_of_it(shards, tmp_path):
    account = run([shards], tmp_path / "out")
    written = [
        {name: entry[name] for name in ("size", "sha256", "rows", "output_rows", "output_bytes")}
        for entry in json.loads(account.manifest.read_bytes())["inputs"]
    ]
    assert written == [
        {
            "size": (shards / shard).stat().st_size,
            "sha256": hashlib.sha256((shards / shard).read_bytes()).hexdigest(),
            "rows": rows,
            "output_rows": rows,
            "output_bytes": (tmp_path / "out" / shard).stat().st_size,
        }
        for shard, rows in (("a.parquet", 5), ("sub/b.parquet", 30))
    ]


def test_a_run_that_would_lose_rows_does_not_end_well(shards, tmp_path, monkeypatch):
    def lossy(parts, *arguments):
        return write_shard(parts[:-1], *arguments)

    monkeypatch.setattr(export.scan, "write_shard", lossy)
    with pytest.raises(DataError, match="has 4 rows, 0 were left out, the shard has 5"):
        run([shards], tmp_path / "out")
    assert not (tmp_path / "out" / "_scan" / "manifest.json").exists()


def test_the_footer_repeats_no_text_and_no_value(shards, tmp_path):
    run([shards / "a.parquet"], tmp_path / "out")
    metadata = parquet.read_metadata(tmp_path / "out" / "a.parquet")
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    with_statistics = {column.path_in_schema for column in columns if column.statistics is not None}
    assert "pii_modified" in with_statistics
    assert not {name for name in with_statistics if name.startswith(("content", "pii_spans"))}


@pytest.mark.parametrize("name", ["with space.parquet", "ünï-\U0001f600.parquet", "-dash.parquet"])
def test_odd_names_are_kept(tmp_path, name):
    write(tmp_path / "in dir" / name, table_of(TEXTS))
    account = run([tmp_path / "in dir"], tmp_path / "out")
    assert list(content(tmp_path / "out")) == [name]
    assert json.loads(account.manifest.read_bytes())["inputs"][0]["shard"] == name


@linux_only
def test_a_name_that_is_not_text_is_kept(tmp_path):
    shard = write(tmp_path / "in" / "a.parquet", table_of(TEXTS))
    name = os.fsdecode(b"\xff.parquet")
    shard.rename(shard.with_name(name))
    account = run([tmp_path / "in"], tmp_path / "out")
    assert account.shards == 1
    assert (tmp_path / "out" / name).is_file()


@linux_only
def test_what_is_no_file_is_named_and_the_others_are_scanned(shards, tmp_path):
    os.mkfifo(shards / "pipe.parquet")
    (shards / "link.parquet").symlink_to("nowhere.parquet")
    account = run([shards], tmp_path / "out")
    assert account.shards == 2
    assert account.problems == {
        "link.parquet": "cannot be read (No such file or directory)",
        "pipe.parquet": "cannot be read (not a regular file)",
    }


def test_hidden_files_and_earlier_outputs_own_files_are_no_shards(shards, tmp_path):
    write(shards / "_scan" / "x.parquet", table_of(TEXTS))
    write(shards / ".hidden.parquet", table_of(TEXTS))
    assert list(plan_scan([str(shards)], PATTERNS).shards) == ["a.parquet", "sub/b.parquet"]


def test_a_shard_that_changes_during_the_run_is_named_and_not_written(shards, tmp_path):
    def meddling(config, units):
        for number, outcome in enumerate(local_engine(1)(config, units)):
            if number == 1:
                write(shards / "a.parquet", table_of(TEXTS[::-1]))
            yield outcome

    account = run([shards], tmp_path / "out", engine=meddling)

    assert "changed while it was scanned" in account.problems["a.parquet"]
    assert list(content(tmp_path / "out")) == ["sub/b.parquet"]


def test_a_shard_that_changes_while_it_is_read_is_not_taken_for_read(shards):
    shard = plan_scan([str(shards)], PATTERNS).shards["a.parquet"]
    reading = contextlib.ExitStack()
    opened = reading.enter_context(open_row_groups(shard.file))
    assert next(iter_batches(opened, 0)).num_rows == 2
    write(shards / "a.parquet", table_of(TEXTS[::-1]))
    with pytest.raises(Unreadable, match="changed while it was scanned"):
        reading.close()


def test_an_error_of_who_reads_is_not_blamed_on_the_shard(shards):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/own/a.parquet", (shards / "a.parquet").read_bytes())
    for place in (str(shards / "a.parquet"), "memory://own/a.parquet"):
        (file,) = find_shards([place])
        for error in (pa.ArrowInvalid("ours"), OSError("ours"), KeyError("ours")):
            with pytest.raises(type(error), match="ours"), open_row_groups(file):
                raise error


def test_an_error_of_a_stores_client_is_one_of_the_shard(shards, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/own/b.parquet", (shards / "a.parquet").read_bytes())
    (file,) = find_shards(["memory://own/b.parquet"])

    class ClientError(Exception):
        pass

    def lost(*arguments):
        raise ClientError

    with open_row_groups(file) as opened:
        monkeypatch.setattr(type(fsspec.open(file.address).open()), "read", lost)
        with pytest.raises(Unreadable, match="cannot be read"):
            next(iter_batches(opened, 0))


def test_a_row_group_whose_process_died_is_named_and_done_by_the_next_run(shards, tmp_path):
    def deadly(config, units):
        for unit, result in local_engine(1)(config, units):
            dies = unit.file.relative == "a.parquet" and unit.group == 1
            yield unit, Crash.of_exit(-9) if dies else result

    account = run([shards], tmp_path / "out", engine=deadly)
    assert "row group 1: " in account.problems["a.parquet"]
    assert "SIGKILL, perhaps out of memory" in account.problems["a.parquet"]

    assert not run([shards], tmp_path / "out").problems
    run([shards], tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@linux_only
def test_a_worker_that_is_killed_costs_nothing(tmp_path):
    texts = ["# Author: Marta Lindqvist\n" * 200] * 40
    write(tmp_path / "in.parquet", table_of(texts), rows=10)
    killed = []

    def killing(config, units):
        engine = local_engine(2)(config, units)
        for outcome in engine:
            if not killed:
                children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
                for child in children:
                    if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                        os.kill(int(child), signal.SIGKILL)
                        killed.append(child)
            yield outcome

    config = ScanConfig(disabled=("router",))
    account = run([tmp_path / "in.parquet"], tmp_path / "out", config, engine=killing)

    assert killed
    assert not account.problems
    run([tmp_path / "in.parquet"], tmp_path / "whole", config)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@linux_only
@pytest.mark.parametrize("room", [200, 2_000, 10_000, 20_000])
def test_a_disk_that_fills_ends_the_run_which_can_go_on(tmp_path, room):
    texts = [os.urandom(4000).hex() for _ in range(6)]
    write(tmp_path / "in.parquet", table_of(texts))
    code = (
        "import resource, sys, cli\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    flags = ["scan", "in.parquet", "--output", "out", "--model", "none", "--workers", "1"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4, done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not content(tmp_path / "out")

    run([tmp_path / "in.parquet"], tmp_path / "out")
    run([tmp_path / "in.parquet"], tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_shards_are_read_from_any_file_system_that_fsspec_knows(shards, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in shards.rglob("*.parquet"):
        memory.pipe(f"/data/{path.relative_to(shards)}", path.read_bytes())

    run(["memory://data"], tmp_path / "out")
    run(["memory://data/a.parquet"], tmp_path / "one")

    run([shards], tmp_path / "local")
    assert content(tmp_path / "out") == content(tmp_path / "local")
    assert list(content(tmp_path / "one")) == ["a.parquet"]
    with pytest.raises(ConfigError, match="not an address that fsspec knows"):
        run(["nosuch://data"], tmp_path / "x")
    with pytest.raises(ConfigError, match="no shards there"):
        run(["memory://nothing"], tmp_path / "x")
