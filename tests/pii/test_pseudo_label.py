import dataclasses
import json
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pii import pseudo_label as module
from pii.annotations import read_annotated
from pii.labels import LABELS
from pii.pseudo_label import (
    BELOW,
    BY_PATTERN,
    CLEAN,
    DUPLICATE,
    IN_DUPLICATE,
    IN_LEFT_OUT,
    IN_LONG_LINE,
    IN_SHORT,
    LABELLED,
    LONG_LINE,
    NOT_DRAWN,
    PATTERN,
    PROPAGATED,
    RELABELLED,
    REPEATED,
    SHORT,
    TAGGED,
    UNSURE,
    UNTRIGGERED,
    WITH_DOUBTFUL,
    WITH_UNSURE,
    WRITTEN,
    WRITTEN_EXAMPLE,
    cut_windows,
    entropy,
    iter_unlabelled,
    load_config,
    pseudo_label,
)
from pii.spans import Span
from starencoder.errors import ConfigError, DataError

EMAIL = "jane.roe@" + "acme-corp.io"
PASSWORD = "tr1cky" + "pass"


@pytest.fixture
def config(tmp_path):
    """Every file is one window, and clean windows are kept."""
    path = tmp_path / "config.toml"
    path.write_text(
        "window_lines = [90, 90]\nshortest_window = 1\nclean_share = 1.0\n"
        "[labels.NAME]\nlow = 0.4\nhigh = 0.8\n[labels.PASSWORD]\nlow = 0.4\nhigh = 0.8\n"
    )
    return load_config(path)


@pytest.fixture
def label(tmp_path, monkeypatch, config):
    """Label texts with a teacher that finds words with scores; the written rows and the report."""

    def label_texts(*texts, found=(), config=config):
        def teach(text):
            spans = []
            for value, name, score in found:
                if value in text:
                    at = text.index(value)
                    spans.append(Span(start=at, end=at + len(value), label=name, score=score))
            return sorted(spans, key=lambda span: span.start)

        monkeypatch.setattr(module, "load_teachers", lambda models: (teach, "one"))
        source = tmp_path / "in.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        output = tmp_path / "out.jsonl"
        report = pseudo_label([source], ["tiny"], output, config=config)
        return [json.loads(line) for line in output.read_text().splitlines()], report

    return label_texts


def found_in(row):
    return [(row["text"][s["start"] : s["end"]], s["label"]) for s in row["spans"]]


def counts(report):
    return {
        (step, name): n
        for step, by_label in report.steps.items()
        for name, n in by_label.items()
        if n
    }


# --------------------------------------------------------------------------------------------------
# what is believed


def test_sure_spans_and_patterns_are_written_with_score_and_source(label):
    text = f"# Marta Lind, {EMAIL}\n"
    (row,), report = label(text, found=[("Marta Lind", "NAME", 0.91)])

    assert found_in(row) == [("Marta Lind", "NAME"), (EMAIL, "EMAIL")]
    assert [(s["score"], s["source"]) for s in row["spans"]] == [
        (0.91, "model"),
        (1.0, "pattern:email"),
    ]
    assert counts(report) == {
        (TAGGED, "NAME"): 1,
        (PATTERN, "EMAIL"): 1,
        (WRITTEN, "NAME"): 1,
        (WRITTEN, "EMAIL"): 1,
    }


@pytest.mark.parametrize(
    ("score", "windows", "step"),
    [(0.39, {CLEAN: 1}, BELOW), (0.4, {WITH_UNSURE: 1}, UNSURE), (0.8, {LABELLED: 1}, WRITTEN)],
)
def test_the_score_says_whether_a_span_is_none_unsure_or_sure(label, score, windows, step):
    _, report = label("ask Marta Lind", found=[("Marta Lind", "NAME", score)])
    assert report.windows == windows
    assert counts(report) == {(TAGGED, "NAME"): 1, (step, "NAME"): 1}


def test_where_a_pattern_overlaps_its_span_counts_whatever_the_tagger_says(label):
    rows, report = label(f"to {EMAIL}", found=[("jane.roe", "USERNAME", 0.5)])
    assert found_in(rows[0]) == [(EMAIL, "EMAIL")]
    assert counts(report)[BY_PATTERN, "USERNAME"] == 1


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (f'password = "{PASSWORD}"', WRITTEN),
        (f'password\n"{PASSWORD}"', UNTRIGGERED),
        (f'password {"-" * 100} "{PASSWORD}"', UNTRIGGERED),
    ],
)
def test_a_secret_needs_a_trigger_before_it_on_its_line(label, text, step):
    _, report = label(text, found=[(PASSWORD, "PASSWORD", 0.9)])
    assert counts(report)[step, "PASSWORD"] == 1
    assert (WITH_UNSURE in report.windows) == (step == UNTRIGGERED)


def test_a_key_of_much_entropy_needs_no_trigger(label):
    value = "q8Zr" + "T5xWm2Kp9Ld7Vn4"
    _, report = label(f"x = {value}\ny = aaa1aaa2", found=[(value, "KEY", 0.9)])
    assert counts(report)[WRITTEN, "KEY"] == 1
    _, report = label("y = aaa1aaa2", found=[("aaa1aaa2", "KEY", 0.9)])
    assert counts(report)[UNTRIGGERED, "KEY"] == 1


def test_the_nearest_trigger_says_whether_it_is_a_key_or_a_password(label):
    (row,), report = label(f"api token passwd={PASSWORD}", found=[(PASSWORD, "KEY", 0.9)])
    assert found_in(row) == [(PASSWORD, "PASSWORD")]
    assert counts(report)[RELABELLED, "KEY"] == 1


def test_a_sure_value_is_found_again_also_where_the_tagger_is_unsure(label):
    text = "by Marta Lind\nMarta Lind\nxx Marta Lind"
    first = Span(start=3, end=13, label="NAME", score=0.9)
    unsure = Span(start=14, end=24, label="NAME", score=0.5)
    judge = module._Judge(load_config(), lambda text: [first, unsure])

    sure, left = judge.judge(text)

    assert [span.start for span in sure] == [3, 14, 28]
    assert left == []
    assert judge.steps[REPEATED]["NAME"] == 1
    assert judge.steps[PROPAGATED]["NAME"] == 2


def test_kinds_are_set_and_examples_counted(label):
    (row,), report = label("host = 127.0.0.1")
    assert [span["kind"] for span in row["spans"]] == ["example"]
    assert counts(report)[WRITTEN_EXAMPLE, "IP_ADDRESS"] == 1


@given(st.text(min_size=1, max_size=50))
def test_entropy_is_0_for_one_character_and_at_most_that_of_all_different_ones(value):
    assert 0 <= entropy(value) <= np.log2(len(value)) + 1e-9
    assert (entropy(value) == 0) == (len(set(value)) == 1)
    assert entropy("ab") == 1.0


# --------------------------------------------------------------------------------------------------
# windows


@given(st.data())
def test_windows_are_the_text_cut_at_line_ends_through_no_span(data):
    text = data.draw(st.lists(st.sampled_from(["x", "yy\n", "\r\n", "zzzz "]), max_size=60))
    text = "".join(text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = [Span(start=a, end=b, label="KEY") for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    config = dataclasses.replace(load_config(), window_lines=(1, 4), window_chars=12)

    windows = list(cut_windows(text, spans, config, random.Random(1)))

    assert "".join(text[start:end] for start, end, _ in windows) == text
    lines = text.splitlines(keepends=True)
    for start, end, line in windows:
        assert start == len("".join(lines[: line - 1]))
        assert end in {len("".join(lines[:k])) for k in range(len(lines) + 1)}
        assert not any(span.start < end < span.end for span in spans)
        if not spans:
            count = text[start:end].count("\n") + 1
            assert count <= 5
            assert end - start <= 12 or len(text[start:end].splitlines()) == 1


def test_windows_of_no_use_are_left_out_by_reason(label, config):
    config = dataclasses.replace(config, shortest_window=10, clean_share=0.0, window_chars=50)
    same = f"to: {EMAIL}"
    texts = ["short", same, same, "x" * 51 + f" {EMAIL}", "nothing is here"]

    rows, report = label(*texts, config=config)

    assert len(rows) == 1
    assert report.windows == {SHORT: 1, LABELLED: 1, DUPLICATE: 1, LONG_LINE: 1, NOT_DRAWN: 1}


def test_the_spans_of_windows_that_are_left_out_are_counted_by_label_and_reason(label, config):
    config = dataclasses.replace(config, shortest_window=24, window_chars=60)
    same = f"please write to: {EMAIL}"
    texts = [same, same, EMAIL, "x" * 51 + f" {EMAIL}", f"ask Marta Lind or write to {EMAIL}"]

    _, report = label(*texts, config=config, found=[("Marta Lind", "NAME", 0.5)])

    found = counts(report)
    assert found[PATTERN, "EMAIL"] == 5
    assert found[WRITTEN, "EMAIL"] == 1
    assert found[IN_LEFT_OUT, "EMAIL"] == 4
    for step in (WITH_DOUBTFUL, IN_SHORT, IN_LONG_LINE, IN_DUPLICATE):
        assert found[step, "EMAIL"] == 1
        assert step in report.text()
    assert (IN_LEFT_OUT, "NAME") not in found


def test_what_is_written_is_read_by_train_and_the_spans_are_of_the_window(label, config, tmp_path):
    config = dataclasses.replace(config, window_lines=(1, 1))
    rows, _ = label(f"one\nto: {EMAIL}\nlast\n", config=config)

    documents = read_annotated(str(tmp_path / "out.jsonl")).documents

    assert [document.text for document in documents] == ["one\n", f"to: {EMAIL}\n", "last\n"]
    (span,) = documents[1].spans
    assert documents[1].text[span.start : span.end] == EMAIL
    assert [row["id"].rpartition(":")[2] for row in rows] == ["1", "2", "3"]


def test_the_same_files_and_seed_give_the_same_windows(label):
    texts = [f"line {n}\n" * 200 for n in range(5)]
    config = load_config()
    assert label(*texts, config=config)[0] == label(*texts, config=config)[0]
    other = dataclasses.replace(config, seed=2)
    assert label(*texts, config=config)[0] != label(*texts, config=other)[0]


def test_the_report_has_a_line_for_each_step_and_a_column_for_each_label(label):
    _, report = label(f"to {EMAIL}")
    text = report.text()
    assert all(name in text for name in (*LABELS, *(step.strip() for step in module.STEPS)))
    assert EMAIL not in text


# --------------------------------------------------------------------------------------------------
# what is read


def test_packages_rows_and_files_are_read(tmp_path):
    package = tmp_path / "some-1.0"
    package.mkdir()
    (package / "a.py").write_text("x = 1\n" * 60)
    (package / "tiny.py").write_text("x")
    parquet.write_table(
        pa.table({"content": ["p", None], "lang": ["Go", "C"]}), tmp_path / "rows.parquet"
    )
    (tmp_path / "rows.jsonl").write_text('{"body": "j", "package": "k", "path": "a/b.c"}\n')
    (tmp_path / "one.rb").write_text("r")
    left_out = Counter()

    def read(name, column=""):
        documents = iter_unlabelled(
            [tmp_path / name], column=column, left_out=left_out, unreadable={}
        )
        return [(d.package, d.path, d.language, d.text) for d in documents]

    assert read("some-1.0") == [("some-1.0", "a.py", "Python", "x = 1\n" * 60)]
    assert read("rows.parquet") == [("rows.parquet", "row 1", "Go", "p")]
    assert read("rows.jsonl", "body") == [("k", "a/b.c", "", "j")]
    assert read("one.rb") == [("", "one.rb", "Ruby", "r")]
    assert left_out == {"null": 1, "very large or very small": 1}
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no column text; it has 'body'"):
        read("rows.jsonl")
    with pytest.raises(ConfigError, match="no such file"):
        read("missing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[labels.NAME]\nlow = 0.9\nhigh = 0.8\n", "low and high must be"),
        ("[labels.NAMES]\nlow = 0.1\nhigh = 0.8\n", "unknown label 'NAMES'"),
        ("clean_share = 2.0\n", "clean_share must be from 0 to 1"),
        ("window_lines = [5]\n", r"window_lines must be \[fewest, most\]"),
        ("window = 5\n", "window is not a setting"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, text, message):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_file_of_settings_changes_what_it_names_alone(config):
    default = load_config()
    assert config.labels["NAME"].high == 0.8
    assert config.labels["KEY"] == default.labels["KEY"]
    assert config.labels["PASSWORD"].triggers == default.labels["PASSWORD"].triggers
