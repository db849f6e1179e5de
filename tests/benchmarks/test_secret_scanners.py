import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.secret_scanners import (
    Finding,
    line_bounds,
    locate,
    main,
    merged,
    read_findings,
    without_armour,
)
from pii.annotations import Document
from pii.spans import Span

BEGIN, END = (f"-----{word} PRIVATE KEY-----" for word in ("BEGIN", "END"))
BODY = "".join(random.Random(1).choices("abcdefghijklmnop0123456789", k=60))


def document(text, name="d"):
    return Document(id=name, language="", package="", path="src/app.py", text=text, spans=())


def entry(rule, *values, number=0):
    """A finding as the report has it; values are (line, start, value)."""
    lines = [
        {
            "path": f"documents/{number}/app.py",
            "line_num": line,
            "value_start": start,
            "value_end": start + len(value),
            "value": value,
        }
        for line, start, value in values
    ]
    return {"rule": rule, "line_data_list": lines}


def values_of(findings, text):
    return [(f.span.label, text[f.span.start : f.span.end]) for f in findings]


@given(
    lines=st.lists(st.text("ab é王😀\t\x0c\u2028", max_size=8), min_size=1, max_size=6),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=6, max_size=6),
    data=st.data(),
)
def test_a_value_is_found_where_its_line_and_offsets_say(lines, ends, data):
    # A line that is empty would join a \r before it with a \n after it.
    lines = [line or "-" for line in lines]
    text = "".join(line + end for line, end in zip(lines, ends, strict=False))
    number = data.draw(st.integers(0, len(lines) - 1))
    start = data.draw(st.integers(0, len(lines[number]) - 1))
    value = lines[number][start : data.draw(st.integers(start + 1, len(lines[number])))]

    before = sum(len(line + end) for line, end in zip(lines[:number], ends, strict=False))
    place = locate(text, {"line_num": number + 1, "value_start": start, "value": value})
    assert place == (before + start, before + start + len(value))


@given(text=st.text("a\r\n", max_size=12))
def test_lines_end_where_they_are_said_to_end(text):
    expected = re.split(r"\r\n|\r|\n", text)
    bounds = [line_bounds(text, number) for number in range(1, len(expected) + 1)]
    assert [text[start:end] for start, end in bounds] == expected
    assert line_bounds(text, len(expected) + 1) == line_bounds(text, 0) == (0, 0)


@pytest.mark.parametrize(("line", "start"), [(2, 0), (2, -2), (1, 3), (9, 5)])
def test_a_value_that_does_not_stand_at_its_offsets_is_looked_for(line, start):
    text = "first\nkey = opal\nopal"
    assert locate(text, {"line_num": line, "value_start": start, "value": "opal"}) == (12, 16)


def test_a_value_that_stands_nowhere_is_said_and_left_out(capsys):
    text = "key = b3BhbA=="
    assert read_findings([entry("Key", (1, 6, "opal"))], 0, document(text)) == []
    said = capsys.readouterr().out
    assert "d: Key" in said
    assert "opal" not in said


def test_password_rules_are_passwords_and_all_others_keys():
    text = "a = opal\nb = jade\nhttp://me:ruby@host"
    report = [
        entry("Password", (1, 4, "opal")),
        entry("UUID", (2, 4, "jade")),
        entry("URL Credentials", (3, 10, "ruby")),
        entry("Password", (2, 4, "jade"), number=10),
    ]
    found = values_of(read_findings(report, 0, document(text)), text)
    assert found == [("PASSWORD", "opal"), ("KEY", "jade"), ("PASSWORD", "ruby")]


def test_the_lines_of_a_private_key_are_one_span_without_its_armour():
    lines = [f'KEY = """{BEGIN}', BODY[:40], BODY[40:], f'{END}"""']
    text = "\n".join(lines)
    values = [(1, 9, BEGIN), (2, 0, BODY[:40]), (3, 0, BODY[40:]), (4, 0, END)]
    report = [entry("PEM Private Key", *values)]
    found = values_of(read_findings(report, 0, document(text)), text)
    assert found == [("KEY", f"{BODY[:40]}\n{BODY[40:]}")]


@pytest.mark.parametrize("joint", ["\n", "\r\n", r"\n", "\n    ", ""])
@pytest.mark.parametrize(("begin", "end"), [(BEGIN, END), (BEGIN, ""), ("", END), ("", "")])
def test_armour_is_cut_off_wherever_there_is_some(begin, end, joint):
    text = f"x = {begin}{joint}{BODY}{joint}{end}; y"
    start, stop = without_armour(text, 4, len(text) - 3)
    assert text[start:stop] == BODY


def test_several_values_of_other_rules_are_several_spans():
    text = "id = opal\nsecret = jade"
    report = [entry("AWS Multi", (1, 5, "opal"), (2, 9, "jade"))]
    found = values_of(read_findings(report, 0, document(text)), text)
    assert found == [("KEY", "opal"), ("KEY", "jade")]


def test_one_value_of_several_rules_is_one_finding_and_a_rule_can_be_left_out():
    first, other = Span(start=3, end=9, label="KEY"), Span(start=12, end=15, label="KEY")
    findings = [Finding("UUID", first), Finding("Secret", first), Finding("UUID", other)]
    assert merged(findings) == [first, other]
    assert merged(findings, without="UUID") == [first]


def test_a_missing_executable_says_how_to_install_it(tmp_path, monkeypatch):
    missing = str(tmp_path / "credsweeper")
    monkeypatch.setattr("sys.argv", ["secret_scanners", "gold.jsonl", "--credsweeper", missing])
    with pytest.raises(SystemExit, match="pip install credsweeper"):
        main()


def test_both_tools_are_scored_on_the_same_documents(tmp_path, monkeypatch, capsys):
    text = f"password = '{BODY[:12]}'\nother = 1\n"
    span = {"start": 12, "end": 24, "label": "PASSWORD", "kind": "real"}
    gold = tmp_path / "gold.jsonl"
    record = {"id": "d", "language": "Python", "package": "p", "path": "a/app.py", "text": text}
    gold.write_text(json.dumps({**record, "spans": [span]}) + "\n")
    report = [entry("Password", (1, 12, BODY[:12]))]
    # In its place a script that reports what is in a file beside it.
    tool = tmp_path / "credsweeper"
    tool.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "CredSweeper 0"; exit; fi\n'
        f'test -f documents/0/app.py && cp "{tmp_path}/prepared.json" report.json\n'
    )
    tool.chmod(0o755)
    (tmp_path / "prepared.json").write_text(json.dumps(report))
    arguments = ["secret_scanners", str(gold), "--credsweeper", str(tool), "--model", "none"]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if " PASSWORD " in line]
    scores = {tuple(row[: row.index("PASSWORD")]): row[row.index("PASSWORD") + 1 :] for row in rows}
    assert scores["CredSweeper", "0"][:3] == ["1.000", "1.000", "1.000"]
    assert "Password 1" in said
    assert BODY[:12] not in said
