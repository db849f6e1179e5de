"""The contract of the command line, through the real entry point, and every kind of bad input.

What needs a process of its own (exit codes, signals, closed streams, imports) runs the installed
`starencoder`; the rest calls `cli.main`.
"""

import base64
import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cli
from pii.detect import EMBEDDED_MODEL
from pii.redactor import Redactor

PROGRAM = str(Path(sys.executable).with_name("starencoder"))
NONE = ("--model", "none")
TEACHER = ("--teacher", "none")
EMAIL = "marta.lindqvist@corp-mail.net"
IP = "52.17.203.94"
TEXT = f"contact = '{EMAIL}'\nhost = '{IP}'\n"
REDACTED = TEXT.replace(EMAIL, "<EMAIL>").replace(IP, "<IP_ADDRESS>")
CLEAN = "limit = 7\n"
FIELDS = "path start end line column label kind score source fingerprint".split()

posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, links and devices")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc and /dev/full")


class Done(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def messages(self):
        """What was said; each message is one line of ours, never a traceback."""
        lines = self.err.splitlines()
        assert [line for line in lines if not line.startswith("starencoder: ")] == []
        return [line.removeprefix("starencoder: ") for line in lines]

    @property
    def rows(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def labels(self):
        return [row["label"] for row in self.rows]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def run(monkeypatch, capsysbinary):
    """Call `main` in this process."""

    def run_here(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return Done(code, out, err.decode())

    return run_here


def start(*arguments, **options):
    """Run the installed command."""
    options = {"stdin": subprocess.DEVNULL, "timeout": 300, "check": False, **options}
    if "input" in options:
        del options["stdin"]
    if "stdout" not in options:
        options["stdout"] = subprocess.PIPE
    done = subprocess.run(
        [PROGRAM, *(str(argument) for argument in arguments)], stderr=subprocess.PIPE, **options
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def write(name, content=TEXT):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tree(folder="."):
    """Every file and link below a folder: its content or target, by name."""
    paths = sorted(Path(folder).rglob("*"))
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in paths
        if path.is_symlink() or path.is_file()
    }


def fail_to_open(monkeypatch, number, *, writing):
    """Let opening fail, for writing or for reading, below folders named `forbidden`."""
    real_open = os.open

    def forbidding_open(path, flags, *rest, **options):
        if "forbidden" in Path(os.fsdecode(path)).parts and bool(flags & os.O_CREAT) == writing:
            raise OSError(number, os.strerror(number), path)
        return real_open(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", forbidding_open)


# --------------------------------------------------------------------------------------------------
# Starting


def test_the_version_is_the_installed_one():
    assert start("--version") == (0, f"starencoder {version('starencoder')}\n".encode(), "")


@pytest.mark.parametrize("name", ["", *(command.name for command in cli.COMMANDS)])
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([*name.split(), "--help"])
    assert exit_.value.code == 0
    assert f"usage: starencoder {name}".rstrip() in capsys.readouterr().out


def imported(*arguments):
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = start(*arguments, env=environment)
    modules = set(re.findall(r"^import time:.*\| +(\S+)$", done.err, re.MULTILINE))
    assert "cli" in modules
    return done, {module.partition(".")[0] for module in modules}


TRAINING = {"torch", "transformers", "datasets", "accelerate", "seqeval", "onnx", "safetensors"}
INFERENCE = {"numpy", "onnxruntime", "tokenizers", "pyarrow"}


def test_help_loads_nothing_that_is_heavy():
    done, modules = imported("--help")
    assert done.code == 0
    assert modules.isdisjoint({*TRAINING, *INFERENCE, "tqdm", "pathspec", "multiprocessing"})


def test_patterns_alone_load_nothing_of_the_extras():
    write("a.py")
    done, modules = imported("detect", *NONE, "a.py")
    assert done.code == 1
    assert modules.isdisjoint({*TRAINING, *INFERENCE})


def test_the_embedded_model_runs_without_what_training_needs():
    write("a.py")
    done, modules = imported("redact", "a.py")
    assert done.code == 0
    assert modules.isdisjoint(TRAINING)
    assert "onnxruntime" in modules


# --------------------------------------------------------------------------------------------------
# detect


def test_exit_codes_tell_findings_from_none():
    write("found.py")
    write("clean.py", CLEAN)
    assert start("detect", *NONE, "clean.py").code == 0
    assert start("detect", *NONE, "found.py").code == 1
    assert start("detect", *NONE, "found.py", "--exit-zero").code == 0


def test_the_table_says_what_lies_where_and_the_counts_go_to_stderr(run):
    write("sub/a.py")
    done = run("detect", *NONE, "sub")
    assert done.out.decode().splitlines() == [
        str(Path("sub/a.py")),
        "      1:12  EMAIL       1.00  pattern:email",
        "       2:9  IP_ADDRESS  1.00  pattern:ipv4",
        "",
    ]
    assert done.messages == ["2 findings in 1 of 1 file: 1 EMAIL, 1 IP_ADDRESS"]


def test_json_lines_and_csv_hold_the_same_findings_with_the_stated_fields(run):
    write("a.py")
    write("b.py", "\r\n" + TEXT)
    rows = run("detect", *NONE, "--format", "jsonl", "a.py", "b.py").rows
    assert [list(row) for row in rows] == [FIELDS] * 4
    assert [(row["path"], row["line"], row["column"], row["label"]) for row in rows] == [
        ("a.py", 1, 12, "EMAIL"),
        ("a.py", 2, 9, "IP_ADDRESS"),
        ("b.py", 2, 12, "EMAIL"),
        ("b.py", 3, 9, "IP_ADDRESS"),
    ]
    assert TEXT[rows[0]["start"] : rows[0]["end"]] == EMAIL
    assert rows[0]["fingerprint"] == rows[2]["fingerprint"] != rows[1]["fingerprint"]
    out = run("detect", *NONE, "--format", "csv", "a.py", "b.py").out.decode()
    records = list(csv.DictReader(io.StringIO(out)))
    assert records == [{name: str(cell) for name, cell in row.items()} for row in rows]


@pytest.mark.parametrize("file_format", ["table", "jsonl", "csv"])
def test_values_are_shown_only_on_request(run, file_format):
    write("a.py")
    arguments = ("detect", *NONE, "--format", file_format, "a.py")
    assert EMAIL.encode() not in run(*arguments).out
    done = run(*arguments, "--show-values")
    assert EMAIL.encode() in done.out
    assert EMAIL not in done.err


def test_stdin_is_reported_as_a_dash(run):
    done = run("detect", *NONE, "--format", "jsonl", "-", stdin=TEXT.encode())
    assert done.code == 1
    assert {row["path"] for row in done.rows} == {"-"}


def test_the_default_model_finds_what_no_pattern_does(run):
    write("a.py", f"# Author: Marta Lindqvist <{EMAIL}>\n")
    assert run("detect", *NONE, "--format", "jsonl", "a.py").labels == ["EMAIL"]
    rows = run("detect", "--format", "jsonl", "a.py").rows
    assert [(row["label"], row["source"]) for row in rows] == [
        ("NAME", "model"),
        ("EMAIL", "pattern:email"),
    ]


def test_only_the_labels_asked_for_are_reported(run):
    write("a.py")
    arguments = ("detect", *NONE, "--format", "jsonl", "a.py")
    assert run(*arguments, "--labels", "IP_ADDRESS").labels == ["IP_ADDRESS"]
    assert run(*arguments, "--labels", "NAME, EMAIL").labels == ["EMAIL"]
    assert run(*arguments, "--labels", "NAME").code == 0


def test_examples_are_counted_and_reported_on_request(run):
    write("a.py", "host = '127.0.0.1'\n")
    done = run("detect", *NONE, "--format", "jsonl", "a.py")
    assert (done.code, done.out) == (0, b"")
    assert "placeholders and examples left out: 1 (--include-examples)" in done.messages
    rows = run("detect", *NONE, "--format", "jsonl", "--include-examples", "a.py").rows
    assert [row["kind"] for row in rows] == ["example"]


def test_every_rule_that_is_listed_can_be_switched_off(run):
    listed = run("detect", "--list-rules")
    assert listed.code == 0
    names = [line.split()[0] for line in listed.out.decode().splitlines() if line]
    names = [name for name in names if name not in ("PATTERN", "FILTER")]
    assert {"email", "private-ip"} <= set(names)
    write("a.py")
    arguments = ("detect", *NONE, "--format", "jsonl", "a.py")
    assert run(*arguments, "--disable", "email").labels == ["IP_ADDRESS"]
    assert run(*arguments, "--disable", ",".join(names)).code == 0


def test_what_is_left_out_is_counted_and_named_on_request(run):
    for name in ("a.py", ".hidden/b.py", "node_modules/c.py", "d.log"):
        write(f"t/{name}")
    write("t/.gitignore", "*.log\n")
    write("t/e.bin", b"\0\1\2")
    done = run("detect", *NONE, "--format", "jsonl", "t")
    assert {row["path"] for row in done.rows} == {str(Path("t/a.py"))}
    assert "left out: 1 binary, 1 hidden folder, 1 ignored by .gitignore, 1 vendored folder" in (
        done.messages
    )
    named = run("detect", *NONE, "-v", "t").messages
    assert f"{Path('t/d.log')}: left out (ignored by .gitignore)" in named
    everything = ("--hidden", "--vendored", "--no-ignore")
    rows = run("detect", *NONE, "--format", "jsonl", *everything, "t").rows
    assert len({row["path"] for row in rows}) == 4


def test_a_bar_on_a_terminal_changes_no_result(run, monkeypatch):
    write("t/a.py")
    write("t/b.py")
    plain = run("detect", *NONE, "t")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("detect", *NONE, "t").out == plain.out


# --------------------------------------------------------------------------------------------------
# redact


def test_one_file_goes_to_stdout_and_stays_as_it_is(run):
    write("a.py")
    assert run("redact", *NONE, "a.py")[:2] == (0, REDACTED.encode())
    assert tree() == {"a.py": TEXT.encode()}


def test_stdin_goes_to_stdout():
    done = start("redact", *NONE, "-", input=TEXT.encode())
    assert (done.code, done.out) == (0, REDACTED.encode())
    assert done.messages == ["2 values redacted in 1 of 1 file: 1 EMAIL, 1 IP_ADDRESS"]


@posix_only
def test_an_output_folder_gets_every_text_file_changed_or_not_and_links_as_links(run):
    write("in/a.py").chmod(0o750)
    write("in/sub/b.py", CLEAN)
    write("in/c.bin", b"\0\1")
    Path("in/link").symlink_to("a.py")
    before = tree("in")
    done = run("redact", *NONE, "in", "--output", "out/deep")
    assert (done.code, done.out) == (0, b"")
    expected = {"a.py": REDACTED.encode(), "link": Path("a.py"), "sub/b.py": CLEAN.encode()}
    assert tree("out/deep") == expected
    assert stat.S_IMODE(Path("out/deep/a.py").stat().st_mode) == 0o750
    assert "in/c.bin: left out (binary)" in done.messages
    assert tree("in") == before
    done = run("redact", *NONE, "in", "--output", "out/deep", "--copy-binary")
    assert "in/c.bin: left out (binary, copied as it is)" in done.messages
    assert tree("out/deep") == {**expected, "c.bin": b"\0\1"}


@posix_only
def test_in_place_replaces_the_files_and_keeps_their_modes(run):
    write("t/a.py").chmod(0o640)
    write("t/b.py", CLEAN).chmod(0o755)
    unchanged = Path("t/b.py").stat()
    done = run("redact", *NONE, "t", "--in-place")
    assert (done.code, done.out) == (0, b"")
    assert tree("t") == {"a.py": REDACTED.encode(), "b.py": CLEAN.encode()}
    assert stat.S_IMODE(Path("t/a.py").stat().st_mode) == 0o640
    assert Path("t/b.py").stat().st_ino == unchanged.st_ino


def test_a_file_that_changes_while_it_is_read_is_not_overwritten(run, monkeypatch):
    write("a.py")
    write("b.py")
    detect = Redactor.detect
    edits = iter([f"{TEXT}mine = 1\n"])

    def detect_while_edited(*arguments):
        for edit in edits:
            write("a.py", edit)
        return detect(*arguments)

    monkeypatch.setattr(Redactor, "detect", detect_while_edited)
    done = run("redact", *NONE, "a.py", "b.py", "--in-place")
    assert done.code == 3
    assert "a.py: changed while it was read; not overwritten" in done.messages
    assert tree() == {"a.py": f"{TEXT}mine = 1\n".encode(), "b.py": REDACTED.encode()}


def test_a_diff_shows_the_change_and_makes_none(run):
    write("a.py")
    done = run("redact", *NONE, "a.py", "--diff")
    assert done.code == 0
    lines = done.out.decode().splitlines()
    assert f"-contact = '{EMAIL}'" in lines
    assert "+contact = '<EMAIL>'" in lines
    assert tree() == {"a.py": TEXT.encode()}


def test_the_operator_chooses_what_stands_in_place(run):
    write("a.py", f"host = '{IP}'\n")
    assert run("redact", *NONE, "a.py").out == b"host = '<IP_ADDRESS>'\n"
    starcoder = run("redact", *NONE, "a.py", "--operator", "starcoder").out.decode()
    assert re.fullmatch(r"host = '(172\.16|192\.168)\.\d+\.\d+'\n", starcoder)


def test_redacting_what_is_redacted_changes_nothing(run):
    once = run("redact", "-", stdin=TEXT.encode())
    twice = run("redact", "-", stdin=once.out)
    assert b"<EMAIL>" in once.out
    assert (twice.code, twice.out) == (0, once.out)


# --------------------------------------------------------------------------------------------------
# Several processes


def test_several_processes_give_what_one_gives():
    for number in range(12):
        write(f"t/{number}.py", f"{TEXT}# by Marta Lindqvist\nn = {number}\n")
    write("t/x.bin", b"\0")
    arguments = ("detect", "-v", "--format", "jsonl", "t")
    one, many = (start(*arguments, "--jobs", jobs) for jobs in (1, 3))
    assert one == many
    assert one.code == 1
    assert len(one.rows) >= 36
    for jobs in (1, 3):
        assert start("redact", *NONE, "t", "--jobs", jobs, "--output", f"out{jobs}").code == 0
    assert tree("out1") == tree("out3")
    assert len(tree("out1")) == 12


# --------------------------------------------------------------------------------------------------
# Settings


def test_flags_win_over_a_commands_settings_over_shared_ones_over_defaults(run):
    write("a.py")
    arguments = ("detect", "a.py", "--format", "jsonl")
    write("pyproject.toml", '[tool.starencoder]\nmodel = "none"\nlabels = ["IP_ADDRESS"]\n')
    done = run(*arguments)
    assert done.labels == ["IP_ADDRESS"]
    assert "settings from pyproject.toml" in done.messages
    write("starencoder.toml", 'model = "none"\nlabels = ["NAME"]\n[detect]\nlabels = ["EMAIL"]\n')
    done = run(*arguments)
    assert done.labels == ["EMAIL"]
    assert "settings from starencoder.toml" in done.messages
    assert run("redact", "a.py").out == TEXT.encode()
    assert run(*arguments, "--labels", "EMAIL,IP_ADDRESS").labels == ["EMAIL", "IP_ADDRESS"]


def test_a_setting_can_be_undone_by_a_flag(run):
    write("a.py")
    write("starencoder.toml", 'model = "none"\n[detect]\nexit-zero = true\n')
    assert run("detect", "a.py").code == 0
    assert run("detect", "a.py", "--no-exit-zero").code == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'", "starencoder.toml: modle is not a setting (did you mean model?)"),
        ("labels = ['MAIL']", "unknown label 'MAIL' (did you mean EMAIL?); known: NAME"),
        ("jobs = 0\nmodel = 'none'", "--jobs must be 1 or more, got 0"),
    ],
)
def test_a_wrong_setting_is_one_line(run, text, message):
    write("a.py")
    write("starencoder.toml", text)
    done = run("detect", "a.py")
    assert (done.code, done.out) == (2, b"")
    assert done.messages[-1].startswith(message)


def test_a_hostile_pyproject_in_the_scanned_tree_is_never_read(run):
    write("t/a.py")
    expected = run("detect", *NONE, "--format", "jsonl", "t").out
    for content in ("[tool.starencoder]\nlabels = []\nexit-zero = true\n", "[[[", b"\xff\0"):
        for name in ("t/pyproject.toml", "t/starencoder.toml"):
            write(name, content)
        done = run("detect", *NONE, "--format", "jsonl", "t")
        assert (done.code, done.out) == (1, expected)


def test_modules_in_the_scanned_tree_are_never_run():
    names = ("json", "numpy", "onnxruntime", "multiprocessing", "cli", "pii", "sitecustomize")
    for name in names:
        write(f"{name}.py", f"open('ran-{name}', 'w')\nraise SystemExit('ran')\n")
    write("a.py")
    done = start("detect", "--jobs", 2, ".")
    assert done.code == 1
    assert "in 1 of 8 files" in done.err
    assert list(Path().glob("ran-*")) == []


# --------------------------------------------------------------------------------------------------
# Bad usage: exit code 2, one line, nothing done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("dtect a.py", "argument COMMAND: invalid choice: 'dtect'"),
        ("detect", "nothing to detect: give files or folders, or - for stdin"),
        ("detect a.py --fromat csv", "unknown argument --fromat (did you mean --format?)"),
        ("detect a.py --form csv", "unknown argument --form (did you mean --format?)"),
        ("detect a.py --format sarf", "unknown format 'sarf'"),
        ("detect a.py --labels EMIAL", "unknown label 'EMIAL' (did you mean EMAIL?); known: NAME"),
        ("detect a.py --labels ,", "no label given; known: NAME"),
        ("detect a.py --model tyny", "unknown model 'tyny' (did you mean tiny?); expected tiny"),
        ("detect a.py --model nowhere/at/all", "unknown model 'nowhere/at/all'; expected tiny"),
        ("detect a.py --model a.py", "unknown model 'a.py'; expected tiny, none or a directory"),
        ("detect a.py --disable emial", "unknown rule 'emial' (did you mean email?)"),
        ("detect a.py --operating-point x", "unknown operating point 'x'; known: balanced"),
        ("detect a.py --min-score 2", "the smallest score must be in 0..1, got 2.0"),
        ("detect a.py --min-score nan", "the smallest score must be in 0..1, got nan"),
        ("detect a.py --jobs 0", "--jobs must be 1 or more, got 0"),
        ("detect a.py nowhere.py", "nowhere.py: No such file or directory"),
        ("detect - a.py", "- stands alone: stdin cannot be read together with files"),
        ("detect - .", "- stands alone: stdin cannot be read together with files"),
        ("redact a.py .", "more than one file: say where the result goes, --output DIR"),
        ("redact .", "more than one file: say where the result goes, --output DIR"),
        ("redact a.py --operator tga", "unknown operator 'tga' (did you mean tag?)"),
        ("redact a.py --diff --in-place", "argument --in-place: not allowed with"),
        ("redact a.py --copy-binary", "--copy-binary goes with --output"),
        ("redact - --in-place", "-: stdin is redacted to stdout; --in-place needs files"),
        ("redact - --output out", "-: stdin is redacted to stdout; --output needs files"),
        ("redact . --output sub/out", "sub/out: lies inside the input .; choose a directory"),
        ("redact sub --output .", "sub: lies inside the output .; choose another"),
        ("redact a.py --output .", "a.py: would be overwritten by its own copy in .; use"),
        ("redact sub --output a.py", "a.py: is not a directory"),
    ],
)
def test_bad_usage_is_one_line_and_nothing_is_done(run, arguments, message):
    write("a.py")
    write("sub/b.py")
    before = tree()
    arguments = arguments.split()
    model = () if "--model" in arguments or len(arguments) < 2 else NONE
    done = run(*arguments, *model, stdin=TEXT.encode())
    assert (done.code, done.out) == (2, b"")
    assert len(done.messages) == 1
    assert done.messages[0].replace(os.sep, "/").startswith(message)
    assert tree() == before
    assert not Path("sub/out").exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "onnx/model_int8.onnx"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_model_directory_with_a_missing_file_is_one_line_that_names_it(run, missing, jobs):
    shutil.copytree(EMBEDDED_MODEL, "model")
    (Path("model") / missing).unlink()
    write("a.py")
    write("b.py")
    done = run("detect", "a.py", "b.py", "--model", "model", "--jobs", jobs)
    assert (done.code, done.out) == (2, b"")
    assert len(done.messages) == 1
    assert missing in done.messages[0]
    assert re.search("missing|No such file|: no onnx/", done.messages[0])


def test_a_model_directory_with_only_a_pickle_names_the_command_that_converts_it(run):
    for name in ("config.json", "tokenizer.json"):
        write(f"model/{name}", (EMBEDDED_MODEL / name).read_bytes())
    write("model/pytorch_model.bin", b"never opened")
    write("a.py")
    done = run("detect", "a.py", "--model", "model")
    assert (done.code, done.out) == (2, b"")
    assert len(done.messages) == 1
    assert "starencoder export convert model OUT" in done.messages[0]


def with_packages(folder):
    """The environment of a process that finds these packages before the installed ones."""
    paths = [str(Path(folder).resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_both_onnx_runtimes_installed_is_one_line():
    metadata = "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.20.0\n"
    write("packages/onnxruntime_gpu-1.20.0.dist-info/METADATA", metadata)
    write("a.py")
    environment = with_packages("packages")
    done = start("detect", "a.py", env=environment)
    assert (done.code, done.out) == (2, b"")
    assert len(done.messages) == 1
    assert "onnxruntime and onnxruntime-gpu are both installed" in done.messages[0]
    assert start("detect", *NONE, "a.py", env=environment).code == 1


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_extra_is_one_line_that_names_it(run, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    write("a.py")
    done = run("detect", "a.py")
    assert (done.code, done.out) == (2, b"")
    assert len(done.messages) == 1
    assert "starencoder[cpu]" in done.messages[0]


def test_a_missing_training_extra_is_one_line_that_names_it():
    write("packages/torch.py", "raise ModuleNotFoundError(name='torch')\n")
    done = start("export", "onnx", EMBEDDED_MODEL, env=with_packages("packages"))
    message = "torch is not installed: pip install 'starencoder[train]'"
    assert (done.code, done.out, done.messages) == (2, b"", [message])


# --------------------------------------------------------------------------------------------------
# Graphs


def test_export_writes_the_graphs_that_detect_then_uses(run):
    model = Path(shutil.copytree(EMBEDDED_MODEL, "model"))
    shutil.rmtree(model / "onnx")
    write("a.py", TEXT)
    assert run("detect", "a.py", "--model", "model").code == 2
    done = run("export", "onnx", "model", "--precision", "fp32", "fp16", "packed", "fp16")
    names = ["model.onnx", "model_fp16.onnx", "model_packed.onnx"]
    assert done.code == 0
    assert [line.split(": ")[0] for line in done.out.decode().splitlines()] == [
        str(model / "onnx" / name) for name in names
    ]
    assert b"packed.onnx: 13.2 MB" in done.out
    assert done.out.count(b"not run on a GPU here") == 1
    assert sorted(path.name for path in (model / "onnx").iterdir()) == names
    with_float = run("detect", "a.py", "--model", "model", "--format", "jsonl")
    assert (with_float.code, with_float.labels) == (1, ["EMAIL", "IP_ADDRESS"])

    done = run("export", "quantize", "model")
    assert done.code == 0
    made = (model / "onnx" / "model_int8.onnx").read_bytes()
    assert made == (EMBEDDED_MODEL / "onnx" / "model_int8.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("onnx", "model", "--precision", "fp8"), "unknown precision 'fp8'"),
        (("onnx", "missing"), "missing: no such model directory"),
        (("quantize", "missing"), "missing: no such model directory"),
        (("quantize", "model", "--activations", "both"), "invalid choice: 'both'"),
        (("bench", "missing"), "unknown model 'missing'"),
    ],
)
def test_export_refuses_in_one_line_what_it_cannot_do(run, arguments, said):
    done = run("export", *arguments)
    assert (done.code, done.out) == (2, b"")
    assert len(done.messages) == 1
    assert said in done.messages[0]


# --------------------------------------------------------------------------------------------------
# Input that cannot be read: named, exit code 3, the rest is done


@pytest.mark.parametrize("command", ["detect", "redact"])
def test_an_unreadable_file_is_named_and_the_rest_is_done(run, monkeypatch, command):
    write("t/a.py")
    write("t/forbidden/b.py")
    fail_to_open(monkeypatch, errno.EACCES, writing=False)
    output = () if command == "detect" else ("--output", "out")
    done = run(command, *NONE, "--jobs", 1, "t", *output)
    assert done.code == 3
    assert f"{Path('t/forbidden/b.py')}: Permission denied" in done.messages
    assert "could not be read or written: 1 file, named above" in done.messages
    if command == "detect":
        assert b"EMAIL" in done.out
    else:
        assert tree("out") == {"a.py": REDACTED.encode()}


@linux_only
def test_a_file_that_fails_while_it_is_read_is_named():
    write("a.py")
    done = start("detect", *NONE, "--exit-zero", "/proc/self/mem", "a.py")
    assert done.code == 3
    assert b"EMAIL" in done.out
    assert "/proc/self/mem: Input/output error" in done.messages


@linux_only
def test_a_stdin_that_fails_while_it_is_read_is_named():
    with Path("/proc/self/mem").open("rb") as broken:
        done = start("detect", *NONE, "-", stdin=broken)
    assert (done.code, done.out) == (3, b"")
    assert "-: Input/output error" in done.messages


@pytest.mark.parametrize("command", ["detect", "redact"])
def test_a_directory_as_stdin_is_named(run, monkeypatch, command):
    class Directory(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    text = io.TextIOWrapper(io.BufferedReader(Directory()))
    # `run` sets another stdin, of which only the wrapper is used here.
    monkeypatch.setattr(io, "TextIOWrapper", lambda buffer: text)
    done = run(command, *NONE, "-")
    assert (done.code, done.out) == (3, b"")
    assert "-: Is a directory" in done.messages


@posix_only
def test_a_directory_as_stdin_never_passes_for_a_clean_text():
    # Python itself refuses to start.
    descriptor = os.open(".", os.O_RDONLY)
    try:
        done = start("redact", *NONE, "-", stdin=descriptor)
    finally:
        os.close(descriptor)
    assert done.code != 0
    assert done.out == b""
    assert "is a directory" in done.err


@posix_only
def test_closed_streams_are_one_line_each_and_a_closed_stderr_is_no_loss():
    write("a.py")
    shell = ["sh", "-c"]

    def with_closed(redirection, *arguments):
        line = f'exec "$0" "$@" {redirection}'
        done = subprocess.run(
            [*shell, line, PROGRAM, *arguments], capture_output=True, check=False, timeout=60
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    done = with_closed("<&-", "detect", *NONE, "-")
    assert (done.code, done.messages) == (2, ["-: stdin is closed"])
    for arguments in (("redact", *NONE, "a.py"), ("--version",)):
        done = with_closed(">&-", *arguments)
        assert (done.code, done.messages) == (4, ["stdout is closed"])
    assert with_closed("2>&-", "redact", *NONE, "a.py") == (0, REDACTED.encode(), "")
    assert with_closed("2>&-", "detect", *NONE, "nowhere") == (2, b"", "")


@linux_only
def test_a_full_stderr_changes_no_exit_code():
    write("a.py")
    for path, code in (("a.py", 1), ("nowhere", 2)):
        with Path("/dev/full").open("wb") as full:
            command = [PROGRAM, "detect", *NONE, path]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False)
        assert done.returncode == code


# --------------------------------------------------------------------------------------------------
# Bytes of all kinds


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.replace("\n", "\r\n").encode(), ""),
        (TEXT.rstrip("\n").encode(), ""),
        (b"\xef\xbb\xbf" + TEXT.encode(), "utf-8 with byte order mark"),
        (("# \u00e9t\u00e9 \u65e5\u672c \u2013\n" + TEXT).encode() + b"# \xff \xc3\n", "invalid"),
        (("# caf\u00e9 \u00fcber\n" + TEXT).encode("latin-1"), "cp1252"),
        ((TEXT + "# \x81\x8d caf\u00e9\n").encode("latin-1"), "latin-1"),
        ("\ufeff# caf\u00e9\n".encode("utf-16-le") + TEXT.encode("utf-16-le"), "utf-16-le"),
        ("\ufeff# caf\u00e9\n".encode("utf-16-be") + TEXT.encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        ((TEXT + "y" * 8000).encode() + b"\0\0 late", ""),
    ],
)
def test_bytes_outside_the_values_stay_as_they_are_in_any_encoding(run, data, encoding):
    wide = encoding if encoding.startswith("utf-16") else "ascii"

    def in_its_encoding(text):
        return text.encode(wide)

    expected = data.replace(in_its_encoding(EMAIL), in_its_encoding("<EMAIL>"))
    expected = expected.replace(in_its_encoding(IP), in_its_encoding("<IP_ADDRESS>"))
    assert expected != data
    done = run("redact", *NONE, "-", stdin=data)
    assert (done.code, done.out) == (0, expected)
    assert encoding in done.err
    write("a.py", data)
    assert run("redact", *NONE, "a.py", "--in-place").code == 0
    assert tree() == {"a.py": expected}


@pytest.mark.parametrize("data", [b"\0\1\2\3" * 50, TEXT.encode() + b"\0"])
def test_binary_files_are_left_as_they_are_and_never_pass_for_redacted(run, data):
    write("a.bin", data)
    done = run("detect", *NONE, "a.bin")
    assert (done.code, done.out) == (0, b"")
    assert "left out: 1 binary" in done.messages
    assert run("redact", *NONE, "a.bin", "--in-place").code == 0
    for arguments, name in ((("a.bin",), "a.bin"), (("-",), "-")):
        done = run("redact", *NONE, *arguments, stdin=data)
        assert (done.code, done.out) == (3, b"")
        assert f"{name}: binary" in done.messages
    assert tree() == {"a.bin": data}


def test_a_diff_that_cannot_be_shown_is_said(run):
    write("a.txt", ("\ufeff" + TEXT).encode("utf-16-le"))
    done = run("redact", *NONE, "a.txt", "--diff")
    assert (done.code, done.out) == (3, b"")
    assert "a.txt: utf-16-le has no line diff; use --output or --in-place" in done.messages


def test_an_empty_file_is_a_file(run):
    write("in/a.py", b"")
    assert run("detect", *NONE, "in").messages == ["no findings in 1 file"]
    assert run("redact", "-", stdin=b"")[:2] == (0, b"")
    assert run("redact", "in", "--output", "out").code == 0
    assert tree("out") == {"a.py": b""}


@posix_only
def test_a_loop_of_links_ends(run):
    write("t/a.py")
    Path("t/up").symlink_to("..")
    Path("t/self").symlink_to("self")
    done = run("detect", *NONE, "--format", "jsonl", "t")
    assert done.code == 1
    assert {row["path"] for row in done.rows} == {"t/a.py"}
    assert "left out: 2 symbolic link" in done.messages
    done = run("detect", *NONE, "t/self")
    assert (done.code, done.messages) == (2, ["t/self: Too many levels of symbolic links"])


@posix_only
def test_odd_names_are_shown_on_one_line_and_copied_as_they_are(run):
    names = [os.fsdecode(b"a\xff.py"), "b\nc.py", "-d.py", "e \x1b[31m.py"]
    for name in names:
        write(f"t/{name}")
    done = run("redact", *NONE, "t", "--output", "out")
    assert done.code == 0
    assert set(tree("out")) == set(names)
    table = run("detect", *NONE, "t").out
    assert b"\x1b" not in table
    assert b"b\\nc.py" in table


def test_one_long_line_is_searched_to_its_end(run):
    text = "x" * 270_000 + f" {EMAIL}"
    done = run("redact", "--labels", "EMAIL", "-", stdin=text.encode())
    assert (done.code, done.out) == (0, text.replace(EMAIL, "<EMAIL>").encode())


@pytest.mark.slow
@posix_only
def test_one_line_of_50_mb_is_redacted_in_less_than_a_gigabyte():
    import resource

    text = "const a = [1, 2, f(x)]; " * 2_100_000 + EMAIL + " tail"
    write("a.js", text)
    done = start("redact", *NONE, "a.js")
    assert (done.code, done.out) == (0, text.replace(EMAIL, "<EMAIL>").encode())
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_000_000


def test_ten_thousand_small_files_are_all_read():
    for number in range(10_000):
        folder = Path("t", str(number % 10))
        if number < 10:
            folder.mkdir(parents=True)
        (folder / f"{number}.py").write_text(TEXT, encoding="utf-8")
    done = start("detect", *NONE, "--format", "jsonl", "--labels", "EMAIL", "t")
    assert done.code == 1
    assert len({row["path"] for row in done.rows}) == 10_000
    assert "10000 findings in 10000 of 10000 files: 10000 EMAIL" in done.messages


@pytest.mark.slow
def test_ten_thousand_small_files_are_all_copied():
    for number in range(10_000):
        write(f"t/{number % 10}/{number}.py")
    done = start("redact", *NONE, "t", "--output", "out")
    assert done.code == 0
    counts = "20000 values redacted in 10000 of 10000 files: 10000 EMAIL, 10000 IP_ADDRESS"
    assert done.messages == [counts]
    assert set(tree("out").values()) == {REDACTED.encode()}
    assert len(tree("out")) == 10_000


# --------------------------------------------------------------------------------------------------
# Output that cannot be written: exit code 4, the originals whole, nothing left behind


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_output_is_one_line(run, monkeypatch, number):
    write("in/a.py")
    write("in/forbidden/b.py")
    before = tree("in")
    fail_to_open(monkeypatch, number, writing=True)
    done = run("redact", *NONE, "--jobs", 1, "in", "--output", "out")
    name = Path("out/forbidden/b.py")
    assert (done.code, done.messages) == (4, [f"{name}: {os.strerror(number)}; not written"])
    assert tree("in") == before
    assert tree("out") == {"a.py": REDACTED.encode()}


@linux_only
@pytest.mark.parametrize("output", ["/proc/out", "a.py/out"])
def test_an_output_folder_that_cannot_be_made_is_one_line(output):
    write("a.py")
    write("in/b.py")
    done = start("redact", *NONE, "in", "--output", output)
    assert done.code == 4
    assert len(done.messages) == 1
    assert re.fullmatch(rf"{output}: .*; not written", done.messages[0])


@posix_only
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("where", ["--in-place", "--output"])
def test_a_disk_that_fills_up_leaves_the_originals_whole_and_nothing_half_written(where, jobs):
    import resource

    write("in/a.py")
    write("in/b.py", TEXT * 2000)
    before = tree("in")
    done = start(
        *("redact", *NONE, "--jobs", jobs, "in", where, *(["out"] if where == "--output" else [])),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    name = "out/b.py" if where == "--output" else "in/b.py"
    assert (done.code, done.messages) == (4, [f"{name}: File too large; not written"])
    written = tree("out" if where == "--output" else "in")
    assert set(written) <= {"a.py", "b.py"}
    assert written.get("a.py", before["a.py"]) in (before["a.py"], REDACTED.encode())
    assert tree("in")["b.py"] == before["b.py"]
    assert ("b.py" in written) == (where == "--in-place")


@posix_only
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_file_that_cannot_grow_is_no_success(unbuffered):
    import resource

    write("a.py", TEXT * 2000)
    with Path("out").open("wb") as out:
        done = subprocess.run(
            [PROGRAM, "redact", *NONE, "a.py"],
            stdout=out,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
            check=False,
        )
    assert done.returncode == 4
    assert b"stdout: File too large" in done.stderr


@linux_only
@pytest.mark.parametrize(
    "arguments",
    [
        ("detect", *NONE, "a.py"),
        ("redact", *NONE, "a.py"),
        ("redact", *NONE, "--diff", "a.py"),
        ("detect", "--list-rules"),
        ("--version",),
    ],
)
def test_a_full_stdout_is_said_and_is_no_success(arguments):
    write("a.py")
    for unbuffered in ("", "1"):
        with Path("/dev/full").open("wb") as full:
            environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
            done = start(*arguments, stdout=full, env=environment)
        # What is buffered fails at the very end, when the counts have been told.
        assert (done.code, done.messages[-1]) == (4, "stdout: No space left on device")


@posix_only
def test_a_reader_that_has_enough_is_no_traceback():
    command = [PROGRAM, "redact", *NONE, "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        process.stdout.close()
        _, err = process.communicate(TEXT.encode(), timeout=60)
    assert process.returncode == 4
    assert b"Traceback" not in err


def test_of_several_exit_codes_the_graver_one_holds(run, monkeypatch):
    write("t/a.py")
    write("t/forbidden/b.py")
    fail_to_open(monkeypatch, errno.EACCES, writing=False)
    assert run("detect", *NONE, "--jobs", 1, "t").code == 3
    assert run("detect", *NONE, "--jobs", 1, "--exit-zero", "t").code == 3
    write("t/z/c.py")
    write("out/z", "a file in the way")
    assert run("redact", *NONE, "--jobs", 1, "t", "--output", "out").code == 4


# --------------------------------------------------------------------------------------------------
# Ctrl-C and SIGTERM


@pytest.mark.parametrize("where", ["--in-place", "--output"])
def test_an_interrupt_while_a_file_is_written_leaves_nothing_half_written(run, monkeypatch, where):
    write("in/a.py")

    def interrupted(temporary, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    output = ("out",) if where == "--output" else ()
    done = run("redact", *NONE, "--jobs", 1, "in", where, *output)
    assert (done.code, done.messages) == (130, ["interrupted"])
    assert tree() == {str(Path("in/a.py")): TEXT.encode()}


@posix_only
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 4, "stopped by SIGTERM")],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_signal_in_the_middle_stops_a_run_between_whole_files(jobs, number, code, message):
    # Its messages fill a pipe that nobody reads: it cannot come to its end before the signal.
    text, redacted = TEXT * 100, REDACTED * 100
    for index in range(40):
        write(f"t/{index:02}/a.py", text)
        for other in range(12):
            write(f"t/{index:02}/{other}{'-' * 200}.bin", b"\0")
    command = [PROGRAM, "redact", *NONE, "-v", "--jobs", str(jobs), "--in-place", "t"]
    first, last = Path("t/00/a.py"), Path("t/39/a.py")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while first.read_text(encoding="utf-8") != redacted and time.monotonic() < deadline:
            time.sleep(0.01)
        # Ctrl-C goes to the whole group, SIGTERM to the one process.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=60)
    done = Done(process.returncode, out, err.decode())
    assert (done.code, done.out) == (code, b"")
    assert done.messages[-1] == message
    contents = {name: data for name, data in tree("t").items() if not name.endswith(".bin")}
    assert set(contents) == {f"{index:02}/a.py" for index in range(40)}
    assert set(contents.values()) == {text.encode(), redacted.encode()}
    assert last.read_text(encoding="utf-8") == text


# --------------------------------------------------------------------------------------------------
# No message holds a found value


# No letter twice: "bbbbbbbb" is a placeholder, and the filters say so.
letters = st.permutations("bcdfghjklmnpqrstvwxz").map(lambda drawn: "".join(drawn[:10]))


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(user=letters, password=letters, octets=st.tuples(*[st.integers(10, 250)] * 3))
def test_no_message_holds_a_found_value(run, monkeypatch, user, password, octets):
    email = f"{user}@corp-mail.net"
    address = ".".join(map(str, (52, *octets)))
    secret = f"Q7{password}9X"
    text = f"a = '{email}'\nb = '{address}'\nc = 'postgres://ops:{secret}@db.corp-mail.net/x'\n"
    values = {email, address, secret}
    shutil.rmtree("t", ignore_errors=True)
    shutil.rmtree("out", ignore_errors=True)
    write("t/a.py", text)
    write("t/b.py", b"\xff" + text.encode())
    write("t/wide.txt", ("\ufeff" + text).encode("utf-16-le"))
    write("t/c.bin", text.encode() + b"\0")
    shown = run("detect", *NONE, "--format", "jsonl", "--show-values", "t")
    assert values <= {row["value"] for row in shown.rows}

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        runs = [(4, run("redact", *NONE, "--jobs", 1, "t", "--in-place"))]
    for code, arguments in (
        (1, ("detect", "-v", "t")),
        (1, ("detect", *NONE, "-v", "--format", "jsonl", "t")),
        (1, ("detect", *NONE, "-v", "--format", "csv", "t")),
        (2, ("detect", *NONE, "t", "--labels", "X")),
        (0, ("redact", *NONE, "t/a.py")),
        (3, ("redact", *NONE, "t/c.bin")),
        (0, ("redact", *NONE, "t", "--output", "out")),
        (2, ("redact", *NONE, "t", "--output", "t/out")),
    ):
        runs.append((code, run(*arguments)))
    diff = run("redact", *NONE, "t", "--diff")
    assert diff.code == 3
    runs += [(1, shown._replace(out=b"")), (3, diff._replace(out=b""))]
    for code, done in runs:
        assert done.code == code
        assert done.messages
        assert [value for value in values if value in done.err] == []
        assert [value for value in values if value.encode() in done.out] == []


def test_a_message_and_its_line_end_are_one_write(monkeypatch, capsys):
    class Stderr(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

    written = []
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Stderr())
        assert cli.main(["detect", "missing.py", *NONE, "--format", "jsonl"]) != 0
    assert written
    assert all(text.endswith("\n") for text in written)


# --------------------------------------------------------------------------------------------------
# pii evaluate


def gold_file():
    start = TEXT.index(EMAIL)
    span = {"start": start, "end": start + len(EMAIL), "label": "EMAIL", "kind": "real"}
    return write("gold.jsonl", json.dumps({"id": "a", "text": TEXT, "spans": [span]}) + "\n")


def test_an_evaluation_prints_a_table_and_writes_the_predictions_and_the_page(run):
    gold = gold_file()
    done = run("pii", "evaluate", gold, *NONE, "--predictions", "p.jsonl", "--report", "page.html")

    assert (done.code, done.messages) == (0, [])
    rows = [line.split() for line in done.out.decode().splitlines()]
    (email,) = (row for row in rows if row[:1] == ["EMAIL"])
    assert email[1:4] == ["1.000", "1.000", "1.000"]
    (written,) = map(json.loads, Path("p.jsonl").read_text().splitlines())
    assert [span["label"] for span in written["spans"]] == ["EMAIL", "IP_ADDRESS"]
    page = Path("page.html").read_text()
    assert f'<mark class="found">{IP}</mark>' in page
    assert EMAIL not in done.out.decode()


def test_rules_are_switched_off_for_an_evaluation_too(run):
    gold = gold_file()
    done = run("pii", "evaluate", gold, *NONE, "--disable", "email", "--predictions", "p.jsonl")
    (written,) = map(json.loads, Path("p.jsonl").read_text().splitlines())
    assert [span["label"] for span in written["spans"]] == ["IP_ADDRESS"]
    done = run("pii", "evaluate", gold, *NONE, "--disable", "emial")
    assert (done.code, done.messages) == (2, ["unknown rule 'emial' (did you mean email?)"])


def test_unlabelled_files_become_annotated_ones_and_each_step_is_counted(run):
    write("package/contact.py", TEXT * 20)
    write("config.toml", "window_lines = [10, 10]\nclean_share = 0.0\n")

    done = run(
        *("pii", "pseudo-label", "package", "--teacher", "none"),
        *("--output", "out.jsonl", "--config", "config.toml"),
    )

    assert done.code == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["contact.py"]  # the other windows are the same
    assert Counter(span["label"] for span in rows[0]["spans"]) == {"EMAIL": 5, "IP_ADDRESS": 5}
    table = {line[:40].strip(): line[40:].split() for line in done.out.decode().splitlines()}
    assert table["from patterns"][-1] == "40"
    assert table["written"][-1] == "10"
    assert EMAIL not in done.out.decode() + done.err


def test_an_archive_among_unlabelled_files_is_named_and_the_rest_is_labelled(run):
    write("package/contact.py", TEXT * 20)
    Path("x.tar.gz").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")

    done = run("pii", "pseudo-label", "x.tar.gz", "package", *TEACHER, "--output", "out.jsonl")

    assert done.code == 3
    assert done.messages == ["x.tar.gz: cannot be read (not UTF-8)"]
    assert Path("out.jsonl").read_text()
    assert [line.split() for line in done.out.decode().splitlines()[-2:]] == [
        ["not", "read"],
        ["not", "UTF-8", "1"],
    ]


def test_two_prediction_files_are_compared_without_a_model(run):
    gold = gold_file()
    run("pii", "evaluate", gold, *NONE, "--predictions", "p.jsonl")
    write("q.jsonl", '{"id": "a", "spans": []}\n')
    done = run("pii", "evaluate", gold, "--compare", "p.jsonl", "--compare", "q.jsonl", "--json")

    (found,) = [json.loads(done.out)]
    assert [system["name"] for system in found["systems"]] == ["p.jsonl", "q.jsonl", "none"]
    (comparison,) = found["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("p.jsonl", "q.jsonl")
    assert comparison["labels"]["EMAIL"]["value"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compare", "absent"), "absent: No such file or directory; expected predictions"),
        (("--model", "tyny"), "unknown model 'tyny' (did you mean tiny?)"),
        (
            ("--compare", "a", "--compare", "b", "--predictions", "c"),
            "--predictions writes a model's spans; give --model too",
        ),
    ],
)
def test_an_evaluation_of_what_is_not_there_is_one_line(run, arguments, message):
    gold = write(
        "gold.jsonl",
        '{"id": "a", "text": "x", "spans": [{"start": 0, "end": 1, '
        '"label": "EMAIL"}]}\n{"id": "b", "text": "", "spans": []}\n',
    )
    done = run("pii", "evaluate", gold, *arguments)
    assert (done.code, done.out) == (2, b"")
    (said,) = done.messages
    assert said.startswith(message)


@posix_only
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "gold.jsonl", *NONE, "--report", "gold.jsonl"), "gold.jsonl: is the input"),
        (("evaluate", "gold.jsonl", *NONE, "--predictions", "link"), "link: is the input"),
        (
            ("evaluate", "gold.jsonl", *NONE, "--predictions", "a", "--report", "./a"),
            "a: is the output",
        ),
        (
            ("evaluate", "gold.jsonl", *NONE, "--predictions", "p", "--compare", "p"),
            "p: is the input",
        ),
        (("pseudo-label", "in.jsonl", *TEACHER, "--output", "in.jsonl"), "in.jsonl: is the input"),
        (("pseudo-label", "package", *TEACHER, "--output", "package/a.py"), "package/a.py: lies"),
        (("synthesize", "package", "--output", "a", "--report", "a"), "a: is the output"),
        (("synthesize", "package", "--output", "package/a.py"), "package/a.py: lies in the input"),
        (
            ("rebuild-gold", "--annotations", "in.jsonl", "--output", "in.jsonl"),
            "in.jsonl: is the input",
        ),
    ],
)
def test_an_output_that_is_an_input_is_refused(run, arguments, message):
    gold_file()
    write("in.jsonl", json.dumps({"text": TEXT}) + "\n")
    write("package/a.py", TEXT)
    write("p", '{"id": "a", "spans": []}\n')
    Path("link").symlink_to("gold.jsonl")
    before = tree()

    done = run("pii", *arguments)

    assert (done.code, done.out) == (2, b"")
    (said,) = done.messages
    assert said.startswith(message)
    assert tree() == before


@linux_only
@pytest.mark.parametrize("flag", ["--predictions", "--report"])
def test_outputs_that_cannot_be_written_are_named_before_anything_is_read(run, flag):
    done = run("pii", "evaluate", "absent.jsonl", *NONE, flag, "/proc/x")
    assert (done.code, done.out) == (4, b"")
    (said,) = done.messages
    assert said.startswith("/proc/x: cannot be written")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "empty.jsonl", *NONE), "empty.jsonl: no documents (nothing in it)"),
        (("inspect", "empty.jsonl"), "empty.jsonl: no documents"),
        (("inspect", "gold.jsonl", "--against", "empty.jsonl"), "empty.jsonl: no documents"),
        (("calibrate", EMBEDDED_MODEL, "empty.jsonl"), "empty.jsonl: no documents"),
        (("pseudo-label", "empty.jsonl", *TEACHER, "--output", "out"), "empty.jsonl: no text"),
        (("synthesize", "package", "--output", "out", "--count", "0"), "--count must be 1 or more"),
        (("synthesize", "package", "--output", "out", "--count", "-3"), "--count must be 1"),
        (("synthesize", "package", "--output", "out", "--chars", "0"), "--chars must be 1 or more"),
        (
            ("rebuild-gold", "--annotations", "empty.jsonl", "--output", "out"),
            "empty.jsonl: no windows",
        ),
    ],
)
def test_nothing_to_work_on_is_no_success(run, arguments, message):
    gold_file()
    write("empty.jsonl", "")
    write("package/a.py", TEXT)
    write("out", "before")

    done = run("pii", *arguments)

    assert (done.code, done.out) == (2, b"")
    (said,) = done.messages
    assert said.startswith(message)
    assert Path("out").read_text() == "before"


# --------------------------------------------------------------------------------------------------
# --consistent: two passes over the tree

SECRET = "tr1cky" + "pass77"
URL = f"db://app:{SECRET}@db.corp-mail.net/x\n"


def scattered():
    """A password that one file of a tree gives away, and the forms it has in others."""
    basic = base64.b64encode(f"app:{SECRET}".encode()).decode()
    write("t/a.sql", f"log in with {SECRET} and {SECRET}x\n")
    write("t/b.yaml", f"data: {basic}\n")
    write("t/m.ini", URL)
    write("t/z.md", f"?q=%27{SECRET}%27 or '\\n{SECRET}'\n")
    return Path("t")


@pytest.mark.parametrize("jobs", [1, 2])
def test_redact_consistent_leaves_a_value_of_one_file_in_none(run, jobs):
    folder = scattered()
    run("redact", folder, "--output", "apart", *NONE)
    assert SECRET in str(tree("apart")["a.sql"])

    done = run("redact", folder, "--output", "out", "--consistent", "--jobs", jobs, *NONE)

    assert done.code == 0
    assert tree("out") == {
        "a.sql": f"log in with <PASSWORD> and {SECRET}x\n".encode(),
        "b.yaml": b"data: <PASSWORD>\n",
        "m.ini": URL.replace(SECRET, "<PASSWORD>").encode(),
        "z.md": b"?q=%27<PASSWORD>%27 or '\\n<PASSWORD>'\n",
    }
    assert SECRET not in done.err
    assert "5 values redacted in 4 of 4 files" in done.err


def test_detect_consistent_reports_places_with_the_source_of_the_value_and_without_it(run):
    done = run("detect", scattered(), "--consistent", "--format", "jsonl", *NONE)
    assert done.code == 1
    assert {row["source"] for row in done.rows} == {"pattern:url-credentials"}
    assert [Path(row["path"]).name for row in done.rows] == "a.sql b.yaml m.ini z.md z.md".split()
    assert SECRET not in done.out.decode() + done.err


def test_consistent_is_a_setting_too(run):
    write("starencoder.toml", "consistent = true\n")
    assert len(run("detect", scattered(), "--format", "jsonl", *NONE).rows) == 5
    rows = run("detect", "t", "--no-consistent", "--format", "jsonl", *NONE).rows
    assert len(rows) < 5


def test_redact_consistent_takes_stdin(run):
    done = run("redact", "-", "--consistent", *NONE, stdin=f"{URL}%20{SECRET}\n".encode())
    assert done.out == f"{URL}%20{SECRET}\n".replace(SECRET, "<PASSWORD>").encode()


def test_a_file_that_changes_between_the_passes_is_left_alone_and_named(run, monkeypatch):
    folder = scattered()
    from pii import tree as passes

    def change_then_start(*arguments):
        write("t/a.sql", "short\n")
        return start_second(*arguments)

    start_second = passes._start_second
    monkeypatch.setattr(passes, "_start_second", change_then_start)

    done = run("redact", folder, "--in-place", "--consistent", "--jobs", 1, *NONE)

    assert done.code == 3
    assert f"{Path('t/a.sql')}: changed between the two passes; run it again" in done.messages
    assert Path("t/a.sql").read_bytes() == b"short\n"
    assert Path("t/m.ini").read_text() == URL.replace(SECRET, "<PASSWORD>")


def test_files_that_cannot_be_read_are_left_out_of_both_passes_alike(run, monkeypatch):
    folder = scattered()
    write("t/binary.bin", b"\0\1\2")
    write("t/forbidden/x.txt")
    fail_to_open(monkeypatch, errno.EACCES, writing=False)

    done = run("detect", folder, "--consistent", "--jobs", 1, *NONE)

    assert done.code == 3
    assert f"{Path('t/forbidden/x.txt')}: {os.strerror(errno.EACCES)}" in done.messages
    assert "left out: 1 binary" in done.messages


def test_values_beyond_the_memory_for_them_are_counted(run, monkeypatch):
    from pii import tree as passes

    monkeypatch.setattr(passes, "_MOST_VALUES", len(SECRET))
    write("t/n.ini", URL)  # the same value once more
    done = run("detect", scattered(), write("u.txt", f"to: {EMAIL}\n"), "--consistent", *NONE)
    assert "1 of the values, too many to be looked for in other files" in done.messages


def test_a_crash_in_the_first_pass_costs_that_file_alone(run, monkeypatch):
    detect = Redactor.detect

    def failing(self, text):
        if text.startswith("log in"):
            raise ZeroDivisionError
        return detect(self, text)

    monkeypatch.setattr(Redactor, "detect", failing)
    done = run("detect", scattered(), "--consistent", "--jobs", 1, "--format", "jsonl", *NONE)
    assert done.code == 3
    assert "internal error" in done.err
    assert [Path(row["path"]).name for row in done.rows] == "b.yaml m.ini z.md z.md".split()


# --------------------------------------------------------------------------------------------------
# scan


def shard(name, texts=(TEXT, CLEAN, None), **columns):
    import pyarrow as pa
    from pyarrow import parquet

    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"content": pa.array(texts, pa.string()), **columns})
    parquet.write_table(table, path, row_group_size=2)
    return path


def texts_of(path):
    from pyarrow import parquet

    return parquet.read_table(path)["content"].to_pylist()


def test_a_scan_redacts_shards_and_tells_what_it_did(run):
    shard("in/a.parquet")
    done = run("scan", "in", "--output", "out", *NONE, "--workers", 1)
    assert done.code == 0
    assert done.out.decode().splitlines() == [
        "out: 1 of 1 shard, 3 rows",
        "2 rows scanned, 1 modified; 2 spans: 1 EMAIL, 1 IP_ADDRESS",
        "not scanned: 1 null",
        f"account: {Path('out/_scan/manifest.json')}",
    ]
    assert texts_of("out/a.parquet") == [REDACTED, CLEAN, None]


def test_a_scan_with_a_shard_that_cannot_be_read_exits_with_3_and_names_it(run):
    shard("in/a.parquet")
    write("in/b.parquet", "no parquet")
    done = run("scan", "in", "--output", "out", *NONE, "--workers", 1)
    assert done.code == 3
    assert done.messages == ["b.parquet: not a parquet file, or damaged"]
    assert done.out.startswith(b"out: 1 of 2 shards, 3 rows")


def test_a_dry_run_writes_nothing_and_says_how_long_it_takes(run):
    shard("in/a.parquet", [TEXT] * 50)
    done = run("scan", "in", "--output", "out", *NONE, "--dry-run", "--price", 2, "--workers", 1)
    assert done.code == 0
    lines = done.out.decode().splitlines()
    assert lines[0].startswith("to scan: 1 shard, 25 row groups, 50 rows, ")
    assert "MB/s with one process" in lines[1]
    assert lines[2].startswith("estimate: ")
    assert lines[3].startswith("cost: ")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mode", "redakt"], "unknown mode 'redakt' (did you mean redact?)"),
        (["--mode", "annotate", "--from-spans", "x"], "--from-spans goes with --mode redact"),
        (["--from-spans", "x", "--min-score", "0"], "--min-score does not go with --from-spans"),
        (["--from-spans", "x", "--model", "tiny"], "--model does not go with --from-spans"),
        (["--from-spans", "x", "--disable", "ip"], "--disable does not go with --from-spans"),
        (
            ["--from-spans", "x", "--operating-point", "thorough"],
            "--operating-point does not go with --from-spans",
        ),
        (["--from-spans", "x"], "x: no shards there"),
        (["--languages", " , "], "--languages names none; leave it out"),
        (["--drop-unselected"], "--drop-unselected goes with --languages"),
        (["--mode", "annotate", "--operator", "tag"], "--operator goes with --mode redact"),
        (["--limit", "0"], "--limit must be 1 or more"),
        (["--output", "s3://bucket/out"], "--output is an address; expected a directory"),
        (["--workers", "0"], "--workers must be 1 or more"),
        (["--price", "1"], "--price is 0 or more, and goes with --dry-run"),
        (["--engine", "dask"], "unknown engine 'dask'"),
        (["--worker-cpus", "2"], "--worker-cpus goes with --engine ray"),
        (["--device", "tpu"], "--device must be cpu, cuda or cuda:0,1"),
        (["--device", "cuda"], "--device cuda goes with a model, and none is used"),
        (["--text-column", "text"], "no column text; it has content"),
        (["--operator", "rot13"], "unknown operator 'rot13'"),
        (["--output", "in/out"], "lies in the input"),
    ],
)
def test_a_scan_that_cannot_be_done_as_asked_is_refused_in_one_line(run, flags, message):
    shard("in/a.parquet")
    done = run("scan", "in", "--output", "out", *NONE, *flags)
    assert done.code == 2
    assert done.out == b""
    (said,) = done.messages
    assert message in said
    assert not Path("out/a.parquet").exists()


def test_settings_of_scans_come_from_the_settings_file(run):
    import pyarrow as pa

    shard("in/a.parquet", text=pa.array([TEXT, None, CLEAN]))
    write("starencoder.toml", '[scan]\ntext-column = "text"\nmode = "annotate"\nmodel = "none"\n')
    done = run("scan", "in", "--output", "out", "--workers", 1)
    assert done.code == 0
    assert b"2 rows scanned, 0 modified; 2 spans" in done.out


def test_a_language_that_no_row_has_is_told(run):
    import pyarrow as pa

    shard("in/a.parquet", lang=pa.array(["Python", "Go", "Python"]))
    done = run("scan", "in", "--output", "out", *NONE, "--workers", 1, "--languages", "python")
    assert done.code == 0
    assert done.messages == ["no row has the language 'python'; the others have Python, Go"]


@posix_only
def test_a_scan_that_sigterm_stops_exits_with_4_and_goes_on():
    shard("in/a.parquet", [f"# {n} {TEXT}" * 40 for n in range(60)])
    flags = ["scan", "in", "--output", "out", "--workers", "2", "--disable", "router"]
    process = subprocess.Popen([PROGRAM, *flags], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    journal = Path("out/_scan/journal.jsonl")
    while not journal.exists() or b'"unit"' not in journal.read_bytes():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (4, b"", b"starencoder: stopped by SIGTERM\n")
    done = start(*flags)
    assert done.code == 0
    whole = start("scan", "in", "--output", "whole", *flags[4:])
    assert whole.code == 0
    assert Path("out/a.parquet").read_bytes() == Path("whole/a.parquet").read_bytes()


# --------------------------------------------------------------------------------------------------
# status and report


def scanned(run, mode="annotate"):
    import pyarrow as pa
    from pyarrow import parquet

    Path("in").mkdir()
    parquet.write_table(pa.table({"content": [TEXT] * 4}), "in/a.parquet", row_group_size=2)
    assert run("scan", "in", "--output", "out", *NONE, "--mode", mode, "--workers", 1).code == 0


def test_status_of_a_scan_and_of_a_pretraining_run_is_one_command(run):
    scanned(run)
    before = tree("out")
    done = run("status", "out")
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().split("\n")[0].split() == ["out", "done"]
    assert "row groups          2 of 2 (100.0%)" in done.out.decode()
    assert tree("out") == before
    write("run/lock", "")
    assert run("status", "run").out.split() == [b"run", b"not", b"started"]
    (said,) = run("status", "in").messages
    assert said.startswith("in: no pretraining run and no scan's output; give")


def test_a_report_of_a_scan_and_of_a_pretraining_run_is_one_command(run):
    scanned(run)
    done = run("report", "out", "--sample", 2)
    assert (done.code, done.out.split()) == (0, [b"out/_scan/report.html"])
    page = Path("out/_scan/report.html").read_text(encoding="utf-8")
    assert EMAIL not in page
    assert "contact = &#x27;<mark>█████</mark>&#x27;" in page
    assert run("report", "out", "--sample", 2, "--show-values", "--output", "p.html").code == 0
    assert f"<mark>{EMAIL}</mark>" in Path("p.html").read_text(encoding="utf-8")
    write("run/lock", "")
    assert run("report", "run").out.split() == [b"run/report.html"]


def test_a_report_names_the_shards_that_its_sample_lacks(run):
    scanned(run)
    shard = Path("out/a.parquet")
    shard.write_bytes(b"x" * shard.stat().st_size)
    done = run("report", "out", "--sample", 2)
    assert done.code == 3
    assert done.messages == ["a.parquet: no sample of it: not a parquet file, or damaged"]
    assert run("report", "out").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("out --show-values", "--show-values goes with --sample"),
        ("out --sample -1", "--sample must be 0 or more, got -1"),
        ("out --sample 1 --show-values", "out: its texts are redacted, so the values are no"),
        ("run --sample 1", "--sample goes with a scan's directory, and run is none"),
        ("out --output out/a.parquet", "out/a.parquet: is the input out/a.parquet too"),
    ],
)
def test_a_report_that_cannot_be_made_is_one_line(run, arguments, message):
    scanned(run, "redact")
    write("run/lock", "")
    before = tree()
    done = run("report", *arguments.split())
    assert (done.code, done.out) == (2, b"")
    assert done.messages[0].startswith(message)
    assert tree() == before


@pytest.mark.parametrize("command", [("status",), ("report", "--sample", 1)])
def test_looking_at_a_scan_loads_no_model_and_nothing_of_training(run, command):
    scanned(run)
    done, modules = imported(*command, "out")
    assert done.code == 0
    assert modules.isdisjoint({*TRAINING, "onnxruntime", "tokenizers", "matplotlib"})
