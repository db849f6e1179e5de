from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from export import findings, shards
from export.findings import BLOCK, PLACE_COLUMNS, sample_findings
from export.scanner import ScanConfig
from export.shards import SPANS_TYPE, ColumnNames
from pii.labels import LABELS
from pii.redact import OPERATORS, redact
from pii.spans import Span
from tests.export.scans import EMAIL, run

NAMES = ("ottilie", "brunhild", "wendelin")
ADDRESSES = ("52.17." + "203.94", "2a01:" + "4f8::7", "10.0.0.7", "172.16.31.101")
"""The last two are private, and begin as what may stand in place of another."""


def span(start, end, label="USERNAME", **values):
    return {
        "start": start, "end": end, "label": label, "kind": "real", "score": 0.5,
        "source": "model", **values,
    }  # fmt: skip


def write(folder, name, texts, spans, *, group=3, **columns):
    table = pa.table(
        {"content": texts, **columns, "pii_spans": pa.array(spans, SPANS_TYPE)},
    )
    folder.mkdir(exist_ok=True)
    parquet.write_table(table, folder / name, row_group_size=group)


def draw(path, names, per_label=100, **values):
    values = {"text_column": "content", "redacted": False, "show_values": True, **values}
    return sample_findings(path, names, per_label=per_label, **values)


spans_of_rows = st.lists(
    st.none() | st.lists(st.sampled_from(LABELS), max_size=4), min_size=1, max_size=20
)


@given(rows=spans_of_rows, group=st.integers(1, 5), rows_at_once=st.integers(1, 4))
def test_a_sample_larger_than_what_is_there_is_each_finding_once(
    tmp_path_factory, rows, group, rows_at_once
):
    path = tmp_path_factory.mktemp("all")
    texts = ["".join(f" {label[0]}{at}" for at, label in enumerate(row or [])) for row in rows]
    spans = [
        None if row is None else [span(at * 3 + 1, at * 3 + 3, x) for at, x in enumerate(row)]
        for row in rows
    ]
    write(path, "a.parquet", texts, spans, group=group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_MOST_ROWS", rows_at_once)
        sample = draw(path, ["a.parquet"])

    found = Counter(
        (label, one.row, one.shown) for label, own in sample.findings.items() for one in own
    )
    assert found == Counter(
        (label, number, f"{label[0]}{at}")
        for number, row in enumerate(rows)
        for at, label in enumerate(row or [])
    )
    assert sample.unread == {}


def test_each_finding_is_as_likely_as_any_other(tmp_path):
    for name, count in (("a.parquet", 4), ("b.parquet", 12)):
        texts = [f"value{number}" for number in range(count)]
        write(tmp_path, name, texts, [[span(0, len(text))] for text in texts])
    times = 400

    drawn = Counter(
        (one.shard, one.row)
        for seed in range(times)
        for one in draw(tmp_path, ["a.parquet", "b.parquet"], 4, seed=seed).findings["USERNAME"]
    )

    # 4 of 16 each time: 100 expected; five standard deviations of a binomial.
    assert len(drawn) == 16
    assert drawn.total() == 4 * times
    deviation = np.sqrt(times * 0.25 * 0.75)
    assert all(abs(count - times / 4) < 5 * deviation for count in drawn.values())


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=3), seed=st.integers(0, 9))
def test_a_larger_sample_holds_the_smaller_one(tmp_path_factory, sizes, seed):
    path = tmp_path_factory.mktemp("nested")
    names = [f"{number}.parquet" for number in range(len(sizes))]
    for name, count in zip(names, sizes, strict=True):
        write(path, name, ["value"] * count, [[span(0, 5)]] * count, group=5)

    def places(per_label):
        found = draw(path, names, per_label, seed=seed).findings["USERNAME"]
        return {(one.shard, one.row) for one in found}

    samples = [places(per_label) for per_label in range(1, 8)]

    assert [len(sample) for sample in samples] == [min(n, sum(sizes)) for n in range(1, 8)]
    assert all(smaller <= larger for smaller, larger in pairwise(samples))


def test_the_same_seed_draws_the_same(tmp_path):
    texts = [f"value{number}" for number in range(50)]
    write(tmp_path, "a.parquet", texts, [[span(0, len(text))] for text in texts])
    first, again, other = (draw(tmp_path, ["a.parquet"], 5, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@given(
    words=st.lists(st.sampled_from(["a ", "é\t", *NAMES, "\n", "\r\n", "🦊"]), max_size=60),
    chosen=st.data(),
)
def test_a_masked_finding_holds_no_value_of_its_row(tmp_path_factory, words, chosen):
    text, spans = "", []
    for word in words:
        if word in NAMES and chosen.draw(st.booleans()):
            spans.append(span(len(text), len(text) + len(word)))
        text += word
    path = tmp_path_factory.mktemp("mask")
    write(path, "a.parquet", [text], [spans], path=[f"{text[:80]}.py"])

    for one in draw(path, ["a.parquet"], show_values=False).findings["USERNAME"]:
        shown = f"{one.before}{one.shown}{one.after}{one.place['path']}"
        values = {text[own["start"] : own["end"]] for own in spans}
        assert not any(value in shown for value in values)
        assert one.shown == BLOCK
        assert "\n" not in one.before + one.after
    for one in draw(path, ["a.parquet"]).findings["USERNAME"]:
        value = text[one.span.start : one.span.end]
        assert (one.shown, one.place["path"]) == (value, f"{text[:80]}.py")
        lines = text.replace("\r\n", "\n").split("\n")
        assert one.before.removeprefix("…") + value in lines[one.line - 1]


def test_of_a_long_value_beside_a_masked_one_no_part_is_shown(tmp_path):
    key = "".join(f"{number:05}" for number in range(200))
    text = f"{key} ottilie {key[::-1]}"
    spans = [span(0, 1000, "KEY"), span(1001, 1008), span(1009, 2009, "KEY")]
    write(tmp_path, "a.parquet", [text], [spans])
    (one,) = draw(tmp_path, ["a.parquet"], show_values=False).findings["USERNAME"]
    assert (one.before, one.shown, one.after) == (f"…{BLOCK} ", BLOCK, f" {BLOCK}…")


@given(
    words=st.lists(
        st.sampled_from(["a ", "\n", *NAMES, *(f"{address} " for address in ADDRESSES)]),
        min_size=1,
        max_size=20,
    ),
    operator=st.sampled_from(["tag", "starcoder"]),
)
def test_what_replaced_a_value_is_shown_where_it_stands(tmp_path_factory, words, operator):
    text, spans = "", []
    for number, word in enumerate(words):
        value = word.strip()
        if value in (*NAMES, *ADDRESSES):
            label = ("EMAIL", "USERNAME")[number % 2] if value in NAMES else "IP_ADDRESS"
            spans.append(span(len(text), len(text) + len(value), label))
        text += word
    redaction = redact(text, [Span(**own) for own in spans], OPERATORS[operator])
    path = tmp_path_factory.mktemp("redacted")
    write(path, "a.parquet", [redaction.text], [spans])

    sample = draw(path, ["a.parquet"], redacted=True, show_values=False)

    replaced = {own.span.start: own for own in redaction.replacements}
    assert sum(map(len, sample.findings.values())) == len(spans)
    for label, drawn in sample.findings.items():
        for one in drawn:
            if one.span.start in replaced:
                own = replaced[one.span.start]
                assert one.shown == redaction.text[own.start : own.end]
                assert redaction.text[: own.start].endswith(one.before.removeprefix("…"))
                assert one.line == redaction.text.count("\n", 0, own.start) + 1
            else:  # BigCode leaves user names and private addresses as they are
                assert (operator, label, one.shown, one.line) == ("starcoder", label, "", None)


def test_pseudonyms_are_found_and_all_that_follows_them(tmp_path):
    thread = (
        f"<issue_start>Title\nkestrel9: ask {EMAIL}"
        f"<issue_comment>owl-77: @kestrel9 or {EMAIL}, says @owl-77"
    )
    scan_folder(tmp_path, pa.table({"content": [thread]}), "content")
    sample = draw(tmp_path / "out", ["a.parquet"], redacted=True, show_values=False)
    assert [one.shown for one in sample.findings["USERNAME"]] == [
        "username_0",
        "username_1",
        "username_0",
        "username_1",
    ]
    assert [(one.before[-4:], one.shown) for one in sample.findings["EMAIL"]] == [
        ("ask ", "<EMAIL>"),
        (" or ", "<EMAIL>"),
    ]


@pytest.mark.parametrize("mode", ["redact", "annotate"])
def test_of_events_the_texts_are_shown_without_the_values(tmp_path, mode):
    events = [
        {"author": "kestrel9", "text": f"ask {EMAIL}", "title": "Hello"},
        None,
        {"author": "owl-77", "text": f"@kestrel9 or {EMAIL}, is it?", "title": None},
    ]
    scan_folder(tmp_path, pa.table({"events": [events]}), "events", mode)
    sample = draw(
        tmp_path / "out",
        ["a.parquet"],
        text_column="events",
        redacted=mode == "redact",
        show_values=False,
    )
    shown = [(one.before, one.shown, one.after) for one in sample.findings["EMAIL"]]
    if mode == "redact":
        assert shown == [("ask ", "<EMAIL>", ""), ("@username_0 or ", "<EMAIL>", ", is it?")]
    else:
        assert shown == [("ask ", BLOCK, ""), (f"@{BLOCK} or ", BLOCK, ", is it?")]


def scan_folder(folder, table, text_column, mode="redact"):
    """Scan a shard `a` into `out`."""
    parquet.write_table(table, folder / "a.parquet")
    config = ScanConfig(model="none", mode=mode, columns=ColumnNames(text=text_column))
    run([folder / "a.parquet"], folder / "out", config)


def test_a_long_line_and_a_long_value_are_cut(tmp_path):
    value = "k" * 5000
    text = f"{'b' * 300}{value}{'a' * 300}"
    write(tmp_path, "a.parquet", [text], [[span(300, 5300, "KEY")]])
    (one,) = draw(tmp_path, ["a.parquet"]).findings["KEY"]
    assert one.before == "…" + "b" * 100
    assert one.after == "a" * 100 + "…"
    assert len(one.shown) < 250
    assert "…" in one.shown


def test_only_what_is_shown_is_read_of_the_texts(tmp_path, monkeypatch):
    texts = [f"value{number}" for number in range(30)]
    spans = [[span(0, len(text))] if number == 17 else [] for number, text in enumerate(texts)]
    write(tmp_path, "a.parquet", texts, spans, path=["p.py"] * 30, other=["o"] * 30)
    read = []
    real = findings.iter_batches

    def watched(shard, group, columns):
        read.append((group, tuple(columns)))
        return real(shard, group, columns)

    monkeypatch.setattr(findings, "iter_batches", watched)
    draw(tmp_path, ["a.parquet"])

    spans_only = [(group, ("pii_spans",)) for group in range(10)]
    assert read == [*spans_only, (5, ("content", "path", "pii_spans"))]


def test_shards_that_cannot_be_read_are_named_and_the_others_are_drawn_from(tmp_path):
    write(tmp_path, "a.parquet", ["value"], [[span(0, 5)]])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    parquet.write_table(pa.table({"content": ["value"]}), tmp_path / "c.parquet")

    sample = draw(tmp_path, ["a.parquet", "b.parquet", "c.parquet", "d.parquet"])

    assert [one.shard for one in sample.findings["USERNAME"]] == ["a.parquet"]
    assert sample.unread == {
        "b.parquet": "not a parquet file, or damaged",
        "c.parquet": "no column pii_spans",
        "d.parquet": "is gone",
    }


def test_columns_that_say_where_a_text_is_from_are_shown(tmp_path):
    columns = {name: [f"of {name}", None] for name in (*PLACE_COLUMNS, "license")}
    columns["path"] = [1, 2]  # no text
    write(tmp_path, "a.parquet", ["value"] * 2, [[span(0, 5)]] * 2, **columns)
    first, second = draw(tmp_path, ["a.parquet"]).findings["USERNAME"]
    assert first.place == {name: f"of {name}" for name in PLACE_COLUMNS if name != "path"}
    assert second.place == {}
