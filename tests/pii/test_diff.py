import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pii.diff import unified_diff
from pii.redact import redact, tag_operator
from pii.spans import Span

LINES = st.text(st.sampled_from("ab\n\r\té\f\u2028"), max_size=60)


@st.composite
def texts_with_spans(draw):
    text = draw(st.one_of(LINES, st.integers(0, 60).map(lambda n: "x\n" * n)))
    bounds = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = zip(bounds[::2], bounds[1::2], strict=False)
    return text, [Span(start=start, end=end, label="KEY") for start, end in pairs]


def apply(command, folder, diff):
    return subprocess.run(
        command, cwd=folder, input=diff.encode(), capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diff")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


COMMANDS = [
    ["git", "apply", "--whitespace=nowarn", "-"],
    *([["patch", "-p1", "-s", "--binary", "--posix"]] if shutil.which("patch") else []),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@given(drawn=texts_with_spans(), mark=st.sampled_from(["", "\ufeff"]))
@example(drawn=("a", [Span(start=0, end=1, label="KEY")]), mark="")
@example(drawn=("a\nb", [Span(start=0, end=2, label="KEY")]), mark="\ufeff")
@example(drawn=("a\nb\n", [Span(start=3, end=4, label="KEY")]), mark="")
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_applying_the_diff_to_the_original_gives_the_redacted_text(folder, command, drawn, mark):
    text, spans = drawn
    path = folder / "file"
    path.write_bytes((mark + text).encode())
    redaction = redact(text, spans, tag_operator)
    diff = unified_diff(b"file", text, redaction, mark=mark)
    assert bool(diff) == bool(redaction.replacements)
    if diff:
        result = apply(command, folder, diff)
        assert result.returncode == 0, result.stderr
    assert path.read_bytes() == (mark + redaction.text).encode()


@pytest.mark.parametrize(
    "name",
    ["plain", "with space", 'quote"s', "back\\slash", "tab\there", "new\nline", "é", b"\xff\xfe"],
)
def test_any_file_name_survives_the_diff(folder, name):
    name = os.fsencode(name)
    path = os.path.join(os.fsencode(folder), name)  # noqa: PTH118 - bytes
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"ab\n")
    redaction = redact("ab\n", [Span(start=0, end=1, label="KEY")], tag_operator)
    for command in COMMANDS[: 1 if b"\n" in name else 2]:  # `patch` takes no line ends in names
        diff = unified_diff(name, "ab\n", redaction)
        check = [*command, "--check" if command[0] == "git" else "--dry-run"]
        result = apply(check, folder, diff)
        assert result.returncode == 0, result.stderr
        assert b"can't find" not in result.stdout


def test_neighbouring_changes_share_a_hunk_and_keep_three_lines_around():
    text = "".join(f"{n}\n" for n in range(1, 40))
    spans = [
        Span(start=text.index(f"\n{n}\n") + 1, end=text.index(f"\n{n}\n") + 3, label="KEY")
        for n in (11, 12, 16, 30)
    ]
    diff = unified_diff(b"f", text, redact(text, spans, tag_operator))
    assert diff.splitlines()[3:] == [
        "@@ -8,12 +8,12 @@",
        *(" 8", " 9", " 10", "-11", "-12", "+<KEY>", "+<KEY>", " 13", " 14", " 15"),
        *("-16", "+<KEY>", " 17", " 18", " 19"),
        "@@ -27,7 +27,7 @@",
        *(" 27", " 28", " 29", "-30", "+<KEY>", " 31", " 32", " 33"),
    ]
