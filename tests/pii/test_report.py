import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.report import (
    FIELDS,
    Finding,
    csv_header,
    csv_lines,
    findings_of,
    fingerprint,
    jsonl_lines,
    table_lines,
)
from pii.spans import Span


def place(text, position):
    """Line and column by walking over every character."""
    line = column = 1
    for index in range(position):
        ends_line = text[index] == "\n" or (text[index] == "\r" and text[index + 1 :][:1] != "\n")
        line, column = (line + 1, 1) if ends_line else (line, column + 1)
    return line, column


@given(st.text(st.sampled_from("a\r\n\u2028\x0b\x85😀"), min_size=1), st.data())
def test_lines_end_at_lf_crlf_or_cr_only_and_columns_count_code_points(text, data):
    starts = sorted(data.draw(st.sets(st.integers(0, len(text) - 1), max_size=5)))
    spans = [Span(start=start, end=start + 1, label="KEY") for start in starts]
    found = findings_of("f", text, spans, with_fingerprints=False, with_values=True)
    assert [(f.line, f.column) for f in found] == [place(text, start) for start in starts]
    assert [f.value for f in found] == [text[start] for start in starts]


def finding(**changes):
    span = Span(start=4, end=9, label="EMAIL", score=0.5, source="pattern:email")
    return Finding(**{"path": "a.py", "span": span, "line": 2, "column": 3, **changes})


def test_json_lines_have_the_stated_fields_in_order_and_no_value_unless_asked_for():
    row = json.loads(jsonl_lines([finding(fingerprint="0" * 16)]))
    assert tuple(row) == FIELDS
    assert row == {
        **{"path": "a.py", "start": 4, "end": 9, "line": 2, "column": 3, "label": "EMAIL"},
        **{"kind": "real", "score": 0.5, "source": "pattern:email", "fingerprint": "0" * 16},
    }
    assert tuple(json.loads(jsonl_lines([finding(value="v")]))) == (*FIELDS, "value")


@given(st.text(), st.text())
def test_json_lines_hold_any_path_and_value_on_one_line(path, value):
    line = jsonl_lines([finding(path=path, value=value)])
    assert line.count("\n") == 1
    assert line.isascii()
    row = json.loads(line)
    assert (row["path"], row["value"]) == (path, value)


@given(st.text(st.characters(exclude_characters="\0")), st.text(st.sampled_from("=+-@,\"\n\r\t'a")))
def test_csv_holds_any_path_and_value_and_no_cell_is_a_formula(path, value):
    written = csv_header(with_values=True) + csv_lines([finding(path=path, value=value)])
    (row,) = csv.DictReader(io.StringIO(written, newline=""))
    assert tuple(row) == (*FIELDS, "value")
    for name, cell in (("path", path), ("value", value)):
        assert row[name].removeprefix("'") == cell.removeprefix("'")
        assert not row[name].startswith(tuple("=+-@\t\r"))


@given(st.text(), st.text())
def test_the_table_prints_nothing_that_could_steer_a_terminal(path, value):
    lines = table_lines([finding(path=path, value=value), finding(line=1000)])
    assert all(line.isprintable() for line in lines.split("\n"))
    assert lines.count("\n") == 4


def test_the_table_is_aligned_and_shows_no_value():
    found = [
        finding(),
        finding(line=123456, column=1234, span=Span(start=0, end=1, label="IP_ADDRESS", score=1)),
        finding(span=Span(start=0, end=1, label="NAME", kind="licence", score=0.87)),
    ]
    assert table_lines(found) == (
        "a.py\n"
        "          2:3  EMAIL       0.50  pattern:email\n"
        "  123456:1234  IP_ADDRESS  1.00  model\n"
        "          2:3  NAME        0.87  model          licence\n"
        "\n"
    )
    assert table_lines([]) == ""


def test_fingerprints_tell_labels_values_and_salts_apart_and_are_stable():
    # Worked out apart: HMAC-SHA256 keyed with the salt over label, NUL, value; 8 bytes.
    assert fingerprint("EMAIL", "jo@corp.net") == "96efa15f5c9265d2"
    prints = [
        fingerprint("EMAIL", "a"),
        fingerprint("NAME", "a"),
        fingerprint("EMAIL", "b"),
        fingerprint("EMAIL", "a", b"other salt"),
        fingerprint("PASSWORD", "a"),
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(bytes.fromhex(digits)) == 8 for digits in prints)
    assert fingerprint("NAME", "\ud800")


def test_a_password_is_stretched_before_it_is_hashed(monkeypatch):
    calls = []
    import hashlib

    scrypt = hashlib.scrypt
    monkeypatch.setattr(
        hashlib,
        "scrypt",
        lambda *args, **options: calls.append(options) or scrypt(*args, **options),
    )
    fingerprint("PASSWORD", "only here")
    fingerprint("KEY", "only here")
    assert [call["n"] for call in calls] == [1 << 12]


@pytest.mark.parametrize("writer", [jsonl_lines, csv_lines, table_lines])
def test_nothing_found_is_nothing_written(writer):
    assert writer([]) == ""
