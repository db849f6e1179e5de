"""The command line: arguments to one call per command.

A command is an `add_..._arguments` and a `run_...` pair in `COMMANDS`. What is heavy is imported in
the `run_...` functions, so that `--help` stays quick.
"""

import argparse
import contextlib
import functools
import io
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pii.labels import LABELS
from starencoder.errors import ConfigError, DataError, OutputError, StarEncoderError
from starencoder.names import check_name, closest
from starencoder.settings import Settings, load_settings
from starencoder.text import counted

if TYPE_CHECKING:
    from tqdm import tqdm

    from export.scan import Account, Engine, Plan
    from export.scanner import ScanConfig
    from export.tally import Tally
    from pii.annotations import Annotations, Document
    from pii.tree import FileResult, Work

FINDINGS, CANNOT_READ, STOPPED, INTERRUPTED = 1, 3, 4, 130

_FORMATS = ("table", "jsonl", "csv")
_OPERATORS = ("tag", "starcoder")
_ENGINES = ("local", "ray")
_SECONDS_BETWEEN_LINES = 30

_EXTRAS = {
    "ray": "ray",
    "datatrove": "datatrove",
    **dict.fromkeys(("onnxruntime", "tokenizers", "numpy", "pyarrow"), "cpu"),
    **dict.fromkeys(
        (
            "torch",
            "transformers",
            "datasets",
            "accelerate",
            "seqeval",
            "onnx",
            "safetensors",
            "fsspec",
            "matplotlib",
            "xxhash",
        ),
        "train",
    ),
}

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand; a name of two words is a group and a command in it."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class _Terminated(BaseException):
    """SIGTERM arrived."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code of the process."""
    if sys.stderr is None:  # closed: no file that is opened here may get its number
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        # Unbuffered (python -u): a raw file may take a part of what it is given, and say so only
        # in a count that nobody looks at.
        buffer = io.BufferedWriter(sys.stdout.buffer)
        sys.stdout = io.TextIOWrapper(buffer, encoding=sys.stdout.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:  # a name or value that the terminal's encoding lacks must not stop us
            reconfigure(errors="backslashreplace")
    previous = _on_sigterm(_raise_terminated)
    try:
        if sys.stdout is None:
            raise OutputError("stdout is closed")
        parsed = _parse(arguments)
        code: int = parsed.run(parsed)
        with _stdout_errors():
            sys.stdout.flush()
    except StarEncoderError as error:
        _say(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        _say(f"{package} is not installed: pip install 'starencoder[{_EXTRAS[package]}]'")
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except _Terminated:
        _say("stopped by SIGTERM")
        return STOPPED
    except BrokenPipeError:
        return STOPPED  # whoever read our output has enough
    finally:
        _on_sigterm(previous)
    return code


def _on_sigterm(handler: "signal._HANDLER") -> "signal._HANDLER":
    try:
        return signal.signal(signal.SIGTERM, handler)
    except ValueError:  # called from another thread, which gets no signals
        return None


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise _Terminated


class _Parser(argparse.ArgumentParser):
    """Errors come as one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parsed, unknown = _parser().parse_known_args(arguments)
    if unknown:
        flag = unknown[0].partition("=")[0]
        hint = closest(flag, parsed.parser._option_string_actions)
        raise ConfigError(f"unknown argument {flag}{hint}; see {parsed.parser.prog} --help")
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="starencoder",
        allow_abbrev=False,  # scripts spell flags out: a prefix may mean two some day
        description="Find and redact personal data and secrets in source code.",
        epilog="Exit codes: 0 done, 1 findings, 2 bad usage, 3 some inputs could not be read, "
        "4 could not finish, 130 interrupted.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    groups: dict[str, argparse._SubParsersAction[_Parser]] = {}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group and group not in groups:
            inner = commands.add_parser(group, help=f"{group} commands; see {group} --help")
            groups[group] = inner.add_subparsers(metavar="COMMAND", required=True)
        subparser = groups.get(group, commands).add_parser(
            name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, parser=subparser)
    return parser


class _Version(argparse.Action):
    """Prints the version; it is looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        _write_bytes(f"starencoder {version('starencoder')}\n".encode())
        parser.exit()


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # stderr is full, or nobody reads it: the exit code tells
        # In one write, unlike print: a signal between a line and its end would join two lines.
        sys.stderr.write(f"starencoder: {message}\n")
        sys.stderr.flush()


# --------------------------------------------------------------------------------------------------
# detect and redact: arguments


def _add_model_arguments(
    parser: argparse.ArgumentParser, operating_point: str
) -> argparse._ArgumentGroup:
    model = parser.add_argument_group("what to look for")
    model.add_argument(
        "--model", metavar="NAME", help="tiny (embedded, default), none (patterns), or a folder"
    )
    model.add_argument(
        "--operating-point",
        metavar="POINT",
        help=f"balanced (few false alarms) or thorough (little missed); default {operating_point}",
    )
    model.add_argument("--min-score", type=float, metavar="S", help="smallest model score, 0 to 1")
    model.add_argument(
        "--labels", type=_names, metavar="A,B", help=f"only these of {', '.join(LABELS)}"
    )
    model.add_argument(
        "--disable",
        type=_names,
        action="extend",
        metavar="RULE",
        help="switch rules off; see detect --list-rules",
    )
    model.add_argument(
        "--include-examples",
        action=argparse.BooleanOptionalAction,
        help="placeholders, loopback and documentation values too",
    )
    return model


def _add_file_arguments(parser: argparse.ArgumentParser, operating_point: str) -> None:
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="files and folders; - for stdin"
    )
    yes_or_no = argparse.BooleanOptionalAction
    _add_model_arguments(parser, operating_point).add_argument(
        "--consistent",
        action=yes_or_no,
        help="find what is found for sure in one file in all of them, also percent-encoded, "
        "escaped as in strings or XML, and in Base64; reads every file twice",
    )
    files = parser.add_argument_group("which files")
    files.add_argument("--hidden", action=yes_or_no, help="enter folders that begin with a dot")
    files.add_argument("--vendored", action=yes_or_no, help="enter node_modules, vendor and such")
    files.add_argument(
        "--no-ignore", action="store_true", default=None, help="read what .gitignore names too"
    )
    files.add_argument("--jobs", type=int, metavar="N", help="processes; default: one per core")
    files.add_argument(
        "-v", "--verbose", action="store_true", help="name every file left out, and why"
    )


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def add_detect_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `detect`."""
    _add_file_arguments(parser, "balanced")
    output = parser.add_argument_group("output")
    output.add_argument("--format", metavar="FORMAT", help="table (default), jsonl or csv")
    output.add_argument("--show-values", action="store_true", help="print what was found")
    output.add_argument(
        "--exit-zero", action=argparse.BooleanOptionalAction, help="exit 0 for findings too"
    )
    output.add_argument("--list-rules", action="store_true", help="list the rules and exit")


def add_redact_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `redact`."""
    _add_file_arguments(parser, "thorough")
    output = parser.add_argument_group("output (one file without these: its text goes to stdout)")
    where = output.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, metavar="DIR", help="write redacted copies here")
    where.add_argument("--in-place", action="store_true", help="replace the files themselves")
    where.add_argument("--diff", action="store_true", help="print a diff, change nothing")
    output.add_argument(
        "--copy-binary", action="store_true", help="with --output: copy binary files as they are"
    )
    output.add_argument(
        "--operator", metavar="NAME", help="tag (<EMAIL>, default) or starcoder (BigCode's rules)"
    )


# --------------------------------------------------------------------------------------------------
# detect and redact: running


def run_detect(arguments: argparse.Namespace) -> int:
    """Report what is found in files."""
    if arguments.list_rules:
        return _list_rules()
    from pii.report import csv_header, csv_lines, jsonl_lines, table_lines

    settings = _load_settings()
    chosen = _option(arguments, settings, "detect", "format", "table")
    file_format = check_name("format", chosen, _FORMATS)
    show_values = arguments.show_values
    work = _work(
        arguments,
        settings,
        "detect",
        operating_point="balanced",
        with_fingerprints=file_format != "table",
        with_values=show_values,
    )
    writers = {"table": table_lines, "jsonl": jsonl_lines, "csv": csv_lines}
    totals = Totals("finding", "findings")
    with _progress(arguments.paths, work, arguments, settings, "detect") as results:
        if file_format == "csv":
            _write(csv_header(with_values=show_values))
        for result in results:
            totals.add(result, verbose=arguments.verbose)
            if result.findings:
                _write(writers[file_format](result.findings))
    totals.report()
    if file_format != "table" and totals.labels:
        _say(
            "fingerprints are made with a public salt, as there is no baseline: "
            "equal values can be told, and short ones guessed"
        )
    exit_zero = _option(arguments, settings, "detect", "exit_zero", False)
    if totals.failed:
        return CANNOT_READ
    return FINDINGS if totals.labels and not exit_zero else 0


def run_redact(arguments: argparse.Namespace) -> int:
    """Redact files: to stdout, as copies, in place, or as a diff."""
    from pii.files import check_output

    settings = _load_settings()
    action = "text"
    if arguments.output is not None:
        action = "output"
    elif arguments.in_place:
        action = "in-place"
    elif arguments.diff:
        action = "diff"
    from_stdin = Path("-") in arguments.paths
    if from_stdin and action in ("output", "in-place"):
        raise ConfigError(f"-: stdin is redacted to stdout; --{action} needs files")
    one_file = len(arguments.paths) == 1 and not arguments.paths[0].is_dir()
    if action == "text" and not (one_file or from_stdin) and arguments.paths:
        raise ConfigError(
            "more than one file: say where the result goes, --output DIR, --in-place or --diff"
        )
    if arguments.copy_binary and action != "output":
        raise ConfigError("--copy-binary goes with --output")
    operator = _option(arguments, settings, "redact", "operator", "tag")
    work = _work(
        arguments,
        settings,
        "redact",
        operating_point="thorough",
        action=action,
        operator=check_name("operator", operator, _OPERATORS),
        output=arguments.output,
        copy_binary=arguments.copy_binary,
    )
    if arguments.output is not None:
        check_output(arguments.paths, arguments.output)
    totals = Totals("value redacted", "values redacted")
    verbose = arguments.verbose or action == "output"
    with _progress(arguments.paths, work, arguments, settings, "redact") as results:
        if arguments.output is not None:
            from pii.files import make_folders

            make_folders(arguments.output, Path())
        for result in results:
            totals.add(result, verbose=verbose)
            _write_bytes(result.content)
    totals.report()
    return CANNOT_READ if totals.failed else 0


def _load_settings() -> Settings:
    settings = load_settings(Path.cwd())
    if settings.source:
        _say(f"settings from {settings.source}")
    return settings


def _option(
    arguments: argparse.Namespace, settings: Settings, command: str, name: str, default: _Value
) -> _Value:
    """A flag, else a setting (whose type is checked), else the default."""
    flag: _Value | None = getattr(arguments, name)
    if flag is not None:
        return flag
    setting = settings.get(command, name.replace("_", "-"))
    return default if setting is None else setting  # type: ignore[return-value]


def _work(
    arguments: argparse.Namespace,
    settings: Settings,
    command: str,
    *,
    operating_point: str,
    action: str = "detect",
    operator: str = "tag",
    output: Path | None = None,
    copy_binary: bool = False,
    with_fingerprints: bool = False,
    with_values: bool = False,
) -> "Work":
    from pii.tree import Work

    if not arguments.paths:
        raise ConfigError(f"nothing to {command}: give files or folders, or - for stdin")
    chosen = _what_to_look_for(arguments, settings, command, operating_point)
    return Work(
        model=chosen.model,
        operating_point=chosen.operating_point,
        labels=chosen.labels,
        min_score=chosen.min_score,
        disabled=chosen.disabled,
        include_examples=chosen.include_examples,
        consistent=_option(arguments, settings, command, "consistent", False),
        operator=operator,
        action=action,
        output=output,
        copy_binary=copy_binary,
        with_fingerprints=with_fingerprints,
        with_values=with_values,
    )


@dataclass(frozen=True, slots=True)
class _WhatToLookFor:
    """What the flags of `_add_model_arguments` and the settings say, checked."""

    model: str
    operating_point: str
    labels: tuple[str, ...]
    min_score: float | None
    disabled: frozenset[str]
    include_examples: bool


def _what_to_look_for(
    arguments: argparse.Namespace, settings: Settings, command: str, operating_point: str
) -> _WhatToLookFor:
    from pii.detect import check_model, check_settings
    from pii.labels import check_labels

    def option(name: str, default: _Value) -> _Value:
        return _option(arguments, settings, command, name, default)

    labels: Sequence[str] = option("labels", LABELS)
    disabled: Sequence[str] = option("disable", ())
    min_score: float | None = option("min_score", None)
    model: str = option("model", "tiny")
    point = option("operating_point", operating_point)
    check_settings(operating_point=point, labels=labels, min_score=min_score, disabled=disabled)
    check_model(model)
    return _WhatToLookFor(
        model=model,
        operating_point=point,
        labels=check_labels(labels),
        min_score=min_score,
        disabled=frozenset(disabled),
        include_examples=option("include_examples", False),
    )


@contextlib.contextmanager
def _progress(
    paths: Sequence[Path],
    work: "Work",
    arguments: argparse.Namespace,
    settings: Settings,
    command: str,
) -> "Iterator[Iterator[FileResult]]":
    """The results of all files, or of stdin, with a bar on a terminal."""
    from pii.files import FoundFile, WalkOptions, find_files
    from pii.tree import process_files

    if Path("-") in paths:
        if len(paths) > 1:
            raise ConfigError("- stands alone: stdin cannot be read together with files")
        yield iter([_process_stdin(work, paths[0])])
        return
    jobs: int | None = _option(arguments, settings, command, "jobs", None)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs must be 1 or more, got {jobs}")
    options = WalkOptions(
        hidden=_option(arguments, settings, command, "hidden", False),
        vendored=_option(arguments, settings, command, "vendored", False),
        gitignore=not _option(arguments, settings, command, "no_ignore", False),
    )
    entries = list(find_files(paths, options))
    left_out: Counter[str] = Counter()
    process = functools.partial(process_files, work, entries, jobs=jobs, left_out=left_out)
    with contextlib.ExitStack() as stack:
        if sys.stderr.isatty():
            from tqdm import tqdm

            size = sum(entry.size for entry in entries if isinstance(entry, FoundFile))
            total = size * (2 if work.consistent else 1)
            bar = tqdm(total=total, unit="B", unit_scale=True, leave=False, delay=0.5)
            stack.enter_context(bar)
            results = process(on_first_pass=bar.update)
            stack.enter_context(contextlib.closing(results))
            yield _with_bar(results, bar)
        else:
            yield stack.enter_context(contextlib.closing(process()))
    if left_out:
        _say(_listed(left_out))


def _process_stdin(work: "Work", path: Path) -> "FileResult":
    from pii.tree import FileResult, load_detect, process_bytes

    if sys.stdin is None:
        raise ConfigError("-: stdin is closed")
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        return FileResult(path=path, left_out=error.strerror or str(error), failed=True)
    return process_bytes(work, load_detect(work), path, data)[0]


def _with_bar(results: "Iterator[FileResult]", bar: "tqdm[NoReturn]") -> "Iterator[FileResult]":
    for result in results:
        bar.update(result.size)
        if result.content or result.findings or result.left_out:
            bar.clear()  # what is printed now does not mix with the bar
        yield result


class Totals:
    """What a run has counted, told on stderr at its end."""

    def __init__(self, singular: str, plural: str) -> None:
        """Start at nothing; the names are those of what is counted by label."""
        self.labels: Counter[str] = Counter()
        self.failed = 0
        self._singular, self._plural = singular, plural
        self._files = self._files_with = self._examples = 0
        self._reasons: Counter[str] = Counter()
        self._encodings: Counter[str] = Counter()

    def add(self, result: "FileResult", *, verbose: bool) -> None:
        """Count a file; name it at once if it could not be read."""
        from pii.files import shown_path

        self.labels.update(result.labels)
        self._examples += result.num_examples
        if result.encoding:
            self._files += 1
            self._files_with += bool(result.labels)
            self._encodings[result.encoding] += 1
            if verbose and result.encoding != "utf-8":
                _say(f"{shown_path(result.path)}: read as {result.encoding}")
        if result.failed:
            self.failed += 1
            _say(f"{shown_path(result.path)}: {result.left_out}")
        elif result.left_out:
            self._reasons[result.left_out] += 1
            if verbose:
                _say(f"{shown_path(result.path)}: left out ({result.left_out})")

    def report(self) -> None:
        """Tell the totals."""
        count = self.labels.total()
        what = f"{count or 'no'} {self._singular if count == 1 else self._plural}"
        where = (
            f"in {self._files_with} of {counted(self._files, 'file')}"
            if count
            else (f"in {counted(self._files, 'file')}")
        )
        by_label = ", ".join(f"{self.labels[name]} {name}" for name in LABELS if self.labels[name])
        _say(f"{what} {where}" + (f": {by_label}" if by_label else ""))
        if self._examples:
            _say(f"placeholders and examples left out: {self._examples} (--include-examples)")
        if self._reasons:
            _say("left out: " + _listed(self._reasons))
        others = Counter({name: n for name, n in self._encodings.items() if name != "utf-8"})
        if others:
            _say("encodings other than utf-8: " + _listed(others))
        if self.failed:
            _say(f"could not be read or written: {counted(self.failed, 'file')}, named above")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _list_rules() -> int:
    from pii.detect import ROUTER
    from pii.filters import FILTERS
    from pii.patterns import RULES
    from pii.propagate import REPEATED

    patterns = [(rule.name, rule.label, rule.description) for rule in RULES]
    filters = [
        (
            rule.name,
            rule.kind,
            "all" if set(rule.labels) == set(LABELS) else ",".join(rule.labels),
            rule.description,
        )
        for rule in FILTERS
    ]
    repeated = (REPEATED, "all", "a value that was found for sure, wherever else it stands")
    router = (ROUTER, "all", "nothing by itself: it spares the model what holds nothing")
    _write(_columns([("PATTERN", "LABEL", "FINDS"), *patterns, repeated, router]) + "\n")
    _write(_columns([("FILTER", "KIND", "LABELS", "APPLIES TO"), *filters]))
    return 0


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "".join(line.rstrip() + "\n" for line in lines)


def _write(text: str) -> None:
    with _stdout_errors():
        sys.stdout.write(text)


def _write_bytes(data: bytes) -> None:
    if data:
        with _stdout_errors():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def _stdout_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is still buffered would fail once more, with a traceback, when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"stdout: {error.strerror or error}") from error


# --------------------------------------------------------------------------------------------------
# scan


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `scan`."""
    parser.add_argument(
        "shards", nargs="+", metavar="SHARD_OR_DIR", help="parquet; paths or addresses (s3://...)"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="a shard for each; goes on there"
    )
    output.add_argument(
        "--mode", metavar="MODE", help="redact (default), or annotate: add the spans, keep the text"
    )
    output.add_argument(
        "--operator", metavar="NAME", help="tag (<EMAIL>, default) or starcoder (BigCode's rules)"
    )
    output.add_argument(
        "--from-spans",
        metavar="DIR",
        help="redact what scan --mode annotate found, without a model",
    )
    _add_model_arguments(parser, "thorough")
    rows = parser.add_argument_group("which rows")
    rows.add_argument("--text-column", metavar="NAME", help="default: content")
    rows.add_argument(
        "--language-column", metavar="NAME", help="default: lang, language or programming_language"
    )
    rows.add_argument("--languages", type=_names, metavar="A,B", help="scan only rows of these")
    rows.add_argument(
        "--drop-unselected", action="store_true", help="leave rows of other languages out"
    )
    rows.add_argument("--limit", type=int, metavar="N", help="scan the first N rows")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes; default: one per core; with --engine ray as many as the cluster has room "
        "for",
    )
    how.add_argument(
        "--engine", metavar="NAME", help="local (processes here, default) or ray (a cluster)"
    )
    how.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="auto (the cluster that runs here), host:port, or local (start one here); default: "
        "auto, or local if none runs",
    )
    how.add_argument(
        "--worker-cpus",
        type=float,
        metavar="N",
        help="CPUs that Ray sets aside for a worker; default: 1",
    )
    how.add_argument(
        "--worker-gpus",
        type=float,
        metavar="N",
        help="GPUs that Ray gives a worker, with --device cuda; default: 1",
    )
    how.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="cpu (default), cuda (the first GPU) or cuda:0,1 (several)",
    )
    how.add_argument(
        "--dry-run", action="store_true", help="say what there is to do and how long it may take"
    )
    how.add_argument("--price", type=float, metavar="P", help="of this machine for one hour")


def run_scan(arguments: argparse.Namespace) -> int:
    """Redact or annotate parquet shards."""
    from export.gpu_engine import parse_device
    from export.scan import plan_scan, scan
    from pii.files import shown_path

    settings = _load_settings()
    devices = parse_device(arguments.device)
    _check_scan_flags(arguments, settings, devices)
    config = _scan_config(arguments, settings, on_gpu=bool(devices))
    engine = _engine(arguments, config, devices)
    plan = plan_scan(arguments.shards, config)
    for shard, problem in plan.unreadable.items():
        _say(f"{shown_path(shard)}: {problem}")
    if arguments.dry_run:
        return _estimate(arguments, plan, devices)
    with _rows_shown(plan.rows) as show:
        account = scan(plan, arguments.output, engine, on_progress=show)
    return _tell_account(account, plan, arguments.output)


def _check_scan_flags(
    arguments: argparse.Namespace, settings: Settings, devices: tuple[int, ...]
) -> None:
    """Refuse flags that are out of range or do not go together."""
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers must be 1 or more, got {arguments.workers}")
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit must be 1 or more, got {arguments.limit}")
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(arguments.output)):  # a Path holds no double slash
        raise ConfigError("--output is an address; expected a directory, local or mounted")
    if arguments.price is not None and not (arguments.dry_run and arguments.price >= 0):
        raise ConfigError("--price is 0 or more, and goes with --dry-run")
    if arguments.languages == []:
        raise ConfigError("--languages names none; leave it out to scan all")
    if arguments.drop_unselected and not arguments.languages:
        raise ConfigError("--drop-unselected goes with --languages")
    mode = _option(arguments, settings, "scan", "mode", "redact")
    for name in ("from_spans", "operator"):
        if getattr(arguments, name) and mode == "annotate":
            raise ConfigError(f"--{name.replace('_', '-')} goes with --mode redact")
    for name in ("model", "operating_point", "min_score", "disable"):
        if arguments.from_spans and getattr(arguments, name) not in (None, "none"):
            raise ConfigError(
                f"--{name.replace('_', '-')} does not go with --from-spans, which detects nothing; "
                "--labels narrows what is replaced"
            )
    model = _option(arguments, settings, "scan", "model", "tiny")
    if devices and (model == "none" or arguments.from_spans):
        raise ConfigError("--device cuda goes with a model, and none is used")
    if check_name("engine", arguments.engine or "local", _ENGINES) == "local":
        for name in ("ray_address", "worker_cpus", "worker_gpus"):
            if getattr(arguments, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')} goes with --engine ray")
        return
    if arguments.dry_run and arguments.workers is None:
        raise ConfigError("--dry-run with --engine ray needs --workers: how many there would be")
    if devices and arguments.device != "cuda":
        raise ConfigError("--engine ray gives each worker its GPUs: say --device cuda")
    if arguments.worker_gpus is not None and not devices:
        raise ConfigError("--worker-gpus goes with --device cuda")
    for flag, value in (
        ("--worker-cpus", arguments.worker_cpus),
        ("--worker-gpus", arguments.worker_gpus),
    ):
        if value is not None and not (0 <= value <= 1 or (value > 1 and value.is_integer())):
            raise ConfigError(f"{flag} is 0 to 1 or a whole number, got {value:g}")


def _estimate(arguments: argparse.Namespace, plan: "Plan", devices: tuple[int, ...]) -> int:
    from export.estimate import estimate, estimate_text
    from export.gpu_engine import serve_cuda
    from pii.workers import default_jobs

    served = serve_cuda(plan.config.model, devices, say=_say) if devices else None
    with served or contextlib.nullcontext() as predict:
        workers = arguments.workers or default_jobs()
        found = estimate(plan, workers=workers, price=arguments.price, predict=predict)
    _write(estimate_text(found))
    return CANNOT_READ if plan.unreadable else 0


def _engine(
    arguments: argparse.Namespace, config: "ScanConfig", devices: tuple[int, ...]
) -> "Engine":
    """The engine that was chosen; refused at once where it cannot be had."""
    from export.cuda import gpu_plan
    from export.gpu_engine import check_gpu, cuda_engine
    from export.scan import local_engine
    from pii.detect import model_folder
    from pii.workers import default_jobs

    if arguments.engine == "ray":
        from export.ray_engine import ray_engine

        if devices:
            gpu_plan(model_folder(config.model))  # whether there is a file for GPUs

        gpus = float(len(devices)) if arguments.worker_gpus is None else arguments.worker_gpus
        return ray_engine(
            arguments.output,
            address=arguments.ray_address,
            workers=arguments.workers,
            cpus=1.0 if arguments.worker_cpus is None else arguments.worker_cpus,
            gpus=gpus,
            say=_say,
        )
    workers = arguments.workers or default_jobs()
    if devices:
        check_gpu(config.model)
        return cuda_engine(workers, devices, say=_say)
    return local_engine(workers, say=_say)


def _scan_config(
    arguments: argparse.Namespace, settings: Settings, *, on_gpu: bool
) -> "ScanConfig":
    from export.scanner import ScanConfig
    from export.shards import ColumnNames

    def option(name: str, default: _Value) -> _Value:
        return _option(arguments, settings, "scan", name, default)

    chosen = _what_to_look_for(arguments, settings, "scan", "thorough")
    return ScanConfig(
        mode=option("mode", "redact"),
        model=chosen.model,
        device="cuda" if on_gpu else "cpu",
        operating_point=chosen.operating_point,
        labels=chosen.labels,
        min_score=chosen.min_score,
        disabled=tuple(sorted(chosen.disabled)),
        include_examples=chosen.include_examples,
        operator=option("operator", "tag"),
        columns=ColumnNames(
            text=option("text_column", "content"), language=option("language_column", None)
        ),
        languages=tuple(arguments.languages or ()),
        drop_unselected=arguments.drop_unselected,
        limit=arguments.limit,
        from_spans=arguments.from_spans or "",
    )


@contextlib.contextmanager
def _rows_shown(total: int) -> "Iterator[Callable[[Tally], object]]":
    """How far a scan is: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, unit=" rows", unit_scale=True, leave=False, delay=0.5) as bar:
            yield lambda tally: bar.update(tally.rows_in)
        return
    done, told = 0, time.monotonic()

    def show(tally: "Tally") -> None:
        nonlocal done, told
        done += tally.rows_in
        if time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            _say(f"{done} of {counted(total, 'row')}")

    yield show


def _tell_account(account: "Account", plan: "Plan", output: Path) -> int:
    from pii.files import shown_path

    tally = account.tally
    for shard, problem in account.problems.items():
        if shard not in plan.unreadable:  # those are named at the start
            _say(f"{shown_path(shard)}: {problem}")
    labels = tally.by_label()
    by_label = ", ".join(f"{count} {label}" for label, count in labels.items())
    found = counted(labels.total(), "span") if labels.total() else "no spans"
    _write(
        f"{shown_path(output)}: {account.shards} of "
        f"{counted(len(plan.shards) + len(plan.unreadable), 'shard')}, "
        f"{counted(tally.rows_out, 'row')}\n"
        f"{counted(tally.scanned, 'row')} scanned, {tally.modified} modified; {found}"
        + (f": {by_label}" if by_label else "")
        + "\n"
    )
    for language in plan.config.languages:
        if tally.rows_in and language not in tally.languages:
            others = ", ".join(name for name, _ in tally.unselected.most_common(5))
            _say(f"no row has the language {language!r}; the others have {others or 'none'}")
    if tally.not_scanned:
        _write("not scanned: " + _listed(tally.not_scanned) + "\n")
    _write(f"account: {shown_path(account.manifest)}\n")
    return CANNOT_READ if account.problems else 0


# --------------------------------------------------------------------------------------------------
# export


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `export onnx`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="a tagger's directory")
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["fp32"],
        metavar="NAME",
        help="one graph each: fp32 for CPUs (default), fp16 for GPUs, packed: fp16 without padding",
    )


def add_quantize_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `export quantize`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="a tagger's directory")
    parser.add_argument(
        "--activations",
        choices=("dynamic", "static"),
        default="dynamic",
        help="scaled by the values that come (default), or by those seen in calibration",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="source files for the static scales (default: this package's own)",
    )
    parser.add_argument(
        "--annotated",
        metavar="FILE",
        help="annotated documents; print F1 by label, and refuse what loses too much",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        metavar="POINTS",
        help="largest loss of F1, of any label and over all, with --annotated (default: 0.5)",
    )
    parser.set_defaults(format="auto", label_map=None)


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `export convert`."""
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="a model directory with pytorch_model.bin"
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="the directory to write")


def run_export_onnx(arguments: argparse.Namespace) -> int:
    """Write a tagger's graphs in the precisions asked for."""
    from export.to_onnx import PRECISIONS, export_onnx

    for precision in arguments.precision:
        check_name("precision", precision, PRECISIONS)
    for precision in dict.fromkeys(arguments.precision):
        path, difference = export_onnx(arguments.directory, precision)
        unseen = "; not run on a GPU here" if precision == "packed" else ""
        _write(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB, probabilities within "
            f"{difference.largest:.1e} of the checkpoint's{unseen}\n"
        )
    return 0


def run_export_quantize(arguments: argparse.Namespace) -> int:
    """Write a tagger's int8 graph and compare its variants."""
    from export.quantize import MAX_LOSS, export_int8

    if arguments.max_loss is not None and not arguments.annotated:
        raise ConfigError("--max-loss needs --annotated: without annotated documents no F1 is lost")
    if arguments.max_loss is not None and not arguments.max_loss >= 0:  # nan is not
        raise ConfigError(f"--max-loss must be 0 or more, got {arguments.max_loss:g}")
    gold = _read_gold([arguments.annotated], arguments)[0] if arguments.annotated else []
    if arguments.annotated and not gold:
        raise DataError(f"{arguments.annotated}: no annotated documents; expected at least one")
    done = export_int8(
        arguments.directory,
        activations=arguments.activations,
        calibration=arguments.calibration,
        documents=gold,
        max_loss=MAX_LOSS if arguments.max_loss is None else arguments.max_loss,
    )
    _write(f"{'':10}      MB  tokens/s  mean difference  largest  changed tags\n")
    for name, variant in done.variants.items():
        gap = variant.difference
        _write(
            f"{name:10} {variant.size / 1e6:7.1f} {variant.rate:9.0f} {gap.mean:16.1e} "
            f"{gap.largest:8.1e} {gap.changed_tags:13.2%}\n"
        )
    before, *after = (variant.f1 for variant in done.variants.values())
    if before:
        _write(f"\n{'F1':10} float32  dynamic  points   static  points\n")
        for label, f1 in before.items():
            columns = "".join(
                f" {scores[label]:8.3f} {100 * (scores[label] - f1):+7.2f}"
                for scores in after
                if scores
            )
            _write(f"{label:10} {f1:7.3f}{columns}\n")
    _write(f"\n{done.path}: {done.activations}\n")
    return 0


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `export bench`."""
    parser.add_argument("model", metavar="MODEL", help="tiny (the embedded model) or a directory")
    parser.add_argument(
        "--providers",
        nargs="+",
        metavar="NAME",
        help="of cpu, cuda, tensorrt (default: those that are there)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        choices=("transformers",),
        default=[],
        help="measure its pipeline in the same run (extra train)",
    )
    parser.add_argument(
        "--text",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="source files (default: this package's own)",
    )
    parser.add_argument("--size", type=float, default=0.1, metavar="MB", help="of text, at most")
    parser.add_argument("--threads", type=int, default=1, help="of one call")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON too")


def run_export_bench(arguments: argparse.Namespace) -> int:
    """Measure a tagger's speed."""
    import json

    from export.bench import bench_text, providers_there, read_texts, run_bench
    from export.parity import own_sources
    from pii.detect import check_model, model_folder
    from pii.session import check_onnxruntime, check_providers
    from starencoder.files import check_outputs, write_whole

    for name in ("size", "threads"):
        if not getattr(arguments, name) > 0:  # nan is not
            raise ConfigError(f"--{name} must be above 0, got {getattr(arguments, name)}")
    if arguments.model == "none":
        raise ConfigError("without a model there is nothing to measure; give tiny or a directory")
    check_model(arguments.model)
    check_onnxruntime()
    directory = model_folder(arguments.model)
    if arguments.providers is None:
        providers, reasons = providers_there()
        for reason in reasons:
            _say(f"left out: {reason}")
    else:
        providers = list(dict.fromkeys(arguments.providers))
        check_providers(providers)
    if arguments.json:
        check_outputs([arguments.json], [*arguments.text, directory])
    bench = run_bench(
        directory,
        read_texts(arguments.text or own_sources(), arguments.size),
        providers=providers,
        against=arguments.against,
        threads=arguments.threads,
    )
    _write(bench_text(bench))
    if arguments.json:
        write_whole(arguments.json, json.dumps(bench.as_json(), indent=1).encode() + b"\n")
    return 0


def run_export_convert(arguments: argparse.Namespace) -> int:
    """Write a pickled model as safetensors."""
    from export.convert import convert_pickle

    for path in convert_pickle(arguments.directory, arguments.output):
        _write(f"{path}\n")
    return 0


# --------------------------------------------------------------------------------------------------
# pii: making a model


def add_synthesize_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii synthesize`."""
    parser.add_argument("folder", type=Path, metavar="PACKAGES", help="one unpacked package each")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--count", type=int, default=40_000, help="windows to write")
    parser.add_argument("--chars", type=int, default=60_000_000, help="real code to draw from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--mix",
        type=Path,
        metavar="FILE.toml",
        help="all that is written, and how often: not laid over the default, pii/synthesis.toml",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write the counts and samples to look at"
    )


def run_synthesize(arguments: argparse.Namespace) -> int:
    """Write labelled windows of real code with made-up values."""
    from pii.synthesis_report import synthesis_text, write_report
    from pii.synthesize import load_sources, write_examples
    from pii.templates import DEFAULT_MIX, load_mix

    for name in ("count", "chars"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name} must be 1 or more, got {getattr(arguments, name)}")
    _check_outputs(
        [arguments.output, arguments.report], [arguments.folder, arguments.mix or DEFAULT_MIX]
    )
    mix = load_mix(arguments.mix or DEFAULT_MIX)
    left_out: Counter[str] = Counter()
    sources = load_sources(
        arguments.folder, num_chars=arguments.chars, seed=arguments.seed, left_out=left_out
    )
    synthesis = write_examples(
        sources, arguments.output, mix, count=arguments.count, seed=arguments.seed
    )
    _write(synthesis_text(synthesis))
    if arguments.report is not None:
        write_report(synthesis, arguments.report)
    if left_out:
        _say("left out: " + _listed(left_out))
    return 0


def add_train_router_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii train-router`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="the tagger's")
    parser.add_argument("packages", type=Path, metavar="PACKAGES", help="one unpacked package each")
    parser.add_argument(
        "--annotated", nargs="+", default=[], metavar="FILE", help="documents to learn from too"
    )
    parser.add_argument("--width", type=int, default=48, help="of embeddings and convolutions")
    parser.add_argument("--epochs", type=int, default=8, help="times that all spans are seen")
    _add_labelling_arguments(parser)


def _add_labelling_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chars", type=int, default=30_000_000, help="real code to label")
    parser.add_argument(
        "--lost",
        type=float,
        default=0.003,
        help="share of the spans that may be lost in packages that choose",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=0, help="processes; default: one per core")


def run_train_router(arguments: argparse.Namespace) -> int:
    """Distil a tagger into the router that spares it most chunks."""
    import logging

    from export.router import export_router
    from pii.router import ROUTER_FILE
    from pii.train_router import RouterConfig, train_router
    from pii.workers import default_jobs

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = RouterConfig(
        width=arguments.width,
        epochs=arguments.epochs,
        lost=arguments.lost,
        chars=arguments.chars,
        seed=arguments.seed,
    )
    _check_outputs([arguments.directory / ROUTER_FILE], [arguments.packages, *arguments.annotated])
    weights, report = train_router(
        arguments.directory,
        arguments.packages,
        arguments.annotated,
        config,
        jobs=arguments.jobs or default_jobs(),
    )
    _write(report.text())
    _write(f"{export_router(weights, arguments.directory)}\n")
    return 0


def add_calibrate_router_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii calibrate-router`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="the tagger's, with its router")
    parser.add_argument(
        "packages",
        type=Path,
        metavar="PACKAGES",
        help="one unpacked package each; none that the router has learned from",
    )
    _add_labelling_arguments(parser)


def run_calibrate_router(arguments: argparse.Namespace) -> int:
    """Choose the thresholds of a router that is there, and write them into it."""
    import logging

    from export.router import write_thresholds
    from pii.router import ROUTER_FILE
    from pii.train_router import calibrate_router
    from pii.workers import default_jobs

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    _check_outputs([arguments.directory / ROUTER_FILE], [arguments.packages])
    thresholds, report = calibrate_router(
        arguments.directory,
        arguments.packages,
        lost=arguments.lost,
        chars=arguments.chars,
        seed=arguments.seed,
        jobs=arguments.jobs or default_jobs(),
    )
    _write(report.text())
    _write(f"{write_thresholds(thresholds, arguments.directory)}\n")
    return 0


def add_pseudo_label_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii pseudo-label`."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="unpacked packages, *.jsonl and *.parquet with a text column, and single files",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        metavar="NAME",
        help="tiny (embedded, default), none (patterns alone), or a folder; may be repeated",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="laid over the default settings"
    )
    parser.add_argument(
        "--text-column", default="", metavar="NAME", help="of rows; default: text or content"
    )


def run_pseudo_label(arguments: argparse.Namespace) -> int:
    """Write labelled windows of unlabelled files."""
    from tqdm import tqdm

    from pii.files import shown_path
    from pii.pseudo_label import load_config, pseudo_label

    _check_outputs([arguments.output], [*arguments.paths, arguments.config])
    with tqdm(unit=" files", leave=False, disable=None) as bar:
        report = pseudo_label(
            arguments.paths,
            arguments.teacher or ["tiny"],
            arguments.output,
            config=load_config(arguments.config),
            column=arguments.text_column,
            on_document=bar.update,
        )
    _write(report.text())
    for path, reason in report.unreadable.items():
        _say(f"{shown_path(path)}: cannot be read ({reason})")
    return CANNOT_READ if report.unreadable else 0


def _add_gold_arguments(parser: argparse.ArgumentParser, *, several: str = "") -> None:
    """Annotated documents of any form, one source or several, and how to read them."""
    parser.add_argument(
        "gold",
        nargs="+" if several else None,
        metavar=several or "GOLD",
        help="annotated documents: a file, or hub:NAME[:SPLIT] for a data set of a hub",
    )
    parser.add_argument(
        "--format",
        default="auto",
        metavar="FORMAT",
        help="gold, fragments or pii (BigCode's), conll; default: what the columns say",
    )
    parser.add_argument(
        "--label-map",
        type=Path,
        metavar="FILE.toml",
        help="what foreign labels are, laid over the table that comes with the package",
    )


def _read_gold(sources: Sequence[str], arguments: argparse.Namespace) -> "list[list[Document]]":
    """The documents of each source; what is left out is said."""
    read = _read_annotations(sources, arguments)
    for annotations in read:
        report = annotations.report
        if report.left_out:
            _say(f"{report.source}: left out: " + _listed(Counter(report.left_out)))
    return [annotations.documents for annotations in read]


def _read_annotations(sources: Sequence[str], arguments: argparse.Namespace) -> "list[Annotations]":
    from pii.annotations import load_label_map, read_annotated

    names = load_label_map(arguments.label_map)
    read = [read_annotated(at, format=arguments.format, label_map=names) for at in sources]
    for annotations in read:
        if not annotations.documents:
            left_out = _listed(Counter(annotations.report.left_out)) or "nothing in it"
            raise DataError(
                f"{annotations.report.source}: no documents ({left_out}); expected annotated ones"
            )
    return read


def _check_outputs(
    outputs: Sequence[Path | None], inputs: Sequence[str | Path | None] = ()
) -> None:
    """`check_outputs` of those that were given."""
    from starencoder.files import check_outputs

    check_outputs([path for path in outputs if path], [Path(path) for path in inputs if path])


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii train`."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="data and settings")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the tagger's")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")


def run_train(arguments: argparse.Namespace) -> int:
    """Fine-tune a tagger as a recipe says."""
    import logging

    from pii.recipe import read_recipe
    from pii.train import train, train_text

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    results = train(read_recipe(arguments.recipe), arguments.output, resume=arguments.resume)
    _write(train_text(results))
    _say(f"{arguments.output}: to detect with it: starencoder export quantize {arguments.output}")
    return 0


def add_calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii calibrate`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="a tagger's directory")
    _add_gold_arguments(parser)


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Choose the thresholds of both operating points and store them with the model."""
    from pii.evaluate import calibrate

    (documents,) = _read_gold([arguments.gold], arguments)
    calibration = calibrate(arguments.directory, documents)
    for labels, why in (
        (calibration.without_spans, "no wanted span"),
        (calibration.unmeasured, "the same F1 at every threshold"),
    ):
        if labels:
            _say(f"{why}, so the thresholds stay as they were: {', '.join(labels)}")
    for point, thresholds in calibration.points.items():
        _write(f"{point}: " + ", ".join(f"{k} {v:.2f}" for k, v in thresholds.items()) + "\n")
    return 0


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii evaluate`."""
    _add_gold_arguments(parser)
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="as in detect; may be repeated; default: tiny. none is always scored too",
    )
    parser.add_argument("--operating-point", default="balanced", metavar="POINT")
    parser.add_argument(
        "--disable",
        type=_names,
        action="extend",
        default=[],
        metavar="RULE",
        help="switch rules off; see detect --list-rules",
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="write the spans of the first model here"
    )
    parser.add_argument(
        "--compare",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="score a file of --predictions too and compare the first model with it; given twice "
        "and without --model, compare the first file with the second",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="OUT.html",
        help="write a page: scores by group, curves, calibration, and every error in its context, "
        "with values",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON, not a table")


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score models and predictions on annotated documents."""
    from pii.detect import rule_names
    from pii.evaluate import evaluate
    from pii.evaluation_report import as_json, score_text, write_report
    from pii.predictions import check_ids, write_predictions

    models = arguments.model or ([] if len(arguments.compare) > 1 else ["tiny"])
    for rule in arguments.disable:
        check_name("rule", rule, rule_names())
    if arguments.predictions is not None and not models:
        raise ConfigError("--predictions writes a model's spans; give --model too")
    _check_outputs(
        [arguments.predictions, arguments.report],
        [arguments.gold, arguments.label_map, *arguments.compare],
    )
    (documents,) = _read_gold([arguments.gold], arguments)
    if arguments.predictions is not None:
        check_ids(documents)
    evaluation = evaluate(
        documents,
        models,
        operating_point=arguments.operating_point,
        disabled=frozenset(arguments.disable),
        files=arguments.compare,
        curves=arguments.json or arguments.report is not None,
    )
    if arguments.predictions is not None:
        spans = evaluation.scored[0].predictions.spans
        write_predictions(documents, spans, arguments.predictions)
    if arguments.report is not None:
        write_report(evaluation, arguments.report)
    _write((as_json(evaluation) if arguments.json else score_text(evaluation)) + "\n")
    return 0


def add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii inspect`."""
    _add_gold_arguments(parser, several="DATA")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="the tagger whose tokenizer and chunks are looked at; default: the embedded one",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="EVAL",
        help="data that must not be among DATA: duplicates are listed, and the exit code is 1",
    )
    parser.add_argument(
        "--near-share",
        type=float,
        metavar="SHARE",
        help="of a text's shingles that another has too, for a near duplicate; default: 0.5",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_inspect(arguments: argparse.Namespace) -> int:
    """Say what annotated data hold, what of it is out of reach, and what leaks."""
    from pii.detect import EMBEDDED_MODEL
    from pii.inspection import inspect_data, inspection_json, inspection_text
    from pii.leakage import NEAR_SHARE

    inspection = inspect_data(
        _read_annotations(arguments.gold, arguments),
        arguments.model or EMBEDDED_MODEL,
        against=_read_annotations(arguments.against, arguments),
        near_share=NEAR_SHARE if arguments.near_share is None else arguments.near_share,
    )
    shown = inspection_json if arguments.json else inspection_text
    _write(shown(inspection))
    return FINDINGS if inspection.leakage.leaks else 0


def add_rebuild_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pii rebuild-gold`."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="annotated documents"
    )
    parser.add_argument(
        "--source-dir",
        type=Path,
        metavar="DIR",
        help="unpacked packages, as packages fetch leaves them; default: fetch them",
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="FILE.jsonl",
        help="windows without their text; default: those that come with the package",
    )
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="train, dev, dev2 or extra; may be repeated; default: all",
    )
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="downloads at a time")


def run_rebuild(arguments: argparse.Namespace) -> int:
    """Cut the gold windows out of public packages."""
    from pii.rebuild import GOLD, SPLITS, read_windows, rebuild_gold

    if arguments.jobs < 1:
        raise ConfigError(f"--jobs must be 1 or more, got {arguments.jobs}")
    for split in arguments.split:
        check_name("split", split, SPLITS)
    annotations = arguments.annotations or GOLD
    _check_outputs([arguments.output], [annotations, arguments.source_dir])
    windows = read_windows(annotations, splits=arguments.split)
    rebuilt = rebuild_gold(
        windows,
        arguments.output,
        source_dir=arguments.source_dir,
        jobs=arguments.jobs,
        progress=sys.stderr.isatty(),
    )
    for label, reason in rebuilt.packages.items():
        _say(f"{label}: {reason}")
    _write(f"{arguments.output}: {rebuilt.windows} of {len(windows)} windows\n")
    if rebuilt.missing:
        _write("missing: " + _listed(Counter(rebuilt.missing)) + "\n")
    return CANNOT_READ if rebuilt.missing else 0


# --------------------------------------------------------------------------------------------------
# packages


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `packages fetch`."""
    parser.add_argument("list", type=Path, metavar="LIST.toml", help="a [[package]] table for each")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="unpack here")
    parser.add_argument(
        "--exclude", type=Path, metavar="FILE", help="names of packages to leave alone, one a line"
    )
    parser.add_argument(
        "--any-licence", action="store_true", help="packages that are not permissive too"
    )
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="downloads at a time")


def run_fetch(arguments: argparse.Namespace) -> int:
    """Fetch and unpack the packages of a list."""
    from tqdm import tqdm

    from starencoder.packages import fetch_packages, read_excluded, read_packages

    if arguments.jobs < 1:
        raise ConfigError(f"--jobs must be 1 or more, got {arguments.jobs}")
    statuses: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    files = size = differing = 0
    packages = read_packages(arguments.list)
    outcomes = fetch_packages(
        packages,
        arguments.output,
        excluded=read_excluded(arguments.exclude) if arguments.exclude else frozenset(),
        any_licence=arguments.any_licence,
        jobs=arguments.jobs,
    )
    # A bar on a terminal only: that is what `disable=None` means.
    for outcome in tqdm(outcomes, total=len(packages), unit="", leave=False, disable=None):
        statuses[outcome.status] += 1
        unpacked = outcome.unpacked
        if unpacked is None:
            reason = f" ({outcome.reason})" if outcome.reason else ""
            _say(f"{outcome.package.label}: {outcome.status}{reason}")
            continue
        files, size = files + unpacked.files, size + unpacked.bytes
        skipped.update(unpacked.skipped)
        if unpacked.licence_agrees is False:
            differing += 1
            _say(
                f"{outcome.package.label}: the list says {unpacked.licence}, "
                f"the package {unpacked.stated_licence!r}"
            )
    _write("packages: " + _listed(statuses) + "\n")
    _write(f"unpacked: {counted(files, 'file')}, {size / 1e6:.1f} MB\n")
    if skipped:
        _write("left out of archives: " + _listed(skipped) + "\n")
    if differing:
        _write(f"licences that differ from the list: {differing}, named above\n")
    return CANNOT_READ if statuses["failed"] or statuses["licence refused"] else 0


# --------------------------------------------------------------------------------------------------
# tokenizer


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tokenizer train`."""
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="files, folders and parquet shards"
    )
    parser.add_argument("--vocab-size", type=int, required=True, metavar="N", help="tokens in all")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--text-column", default="content", metavar="NAME", help="of the shards; default: content"
    )
    parser.add_argument(
        "--chars",
        type=int,
        metavar="N",
        help="draw about so many characters from one folder of packages, as pii synthesize does",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the draw; default: 1")


def run_tokenizer_train(arguments: argparse.Namespace) -> int:
    """Learn a vocabulary from texts."""
    from pii.synthesize import load_sources
    from starencoder.sources import iter_texts
    from starencoder.tokenizer import save_tokenizer, train_tokenizer

    paths: list[Path] = arguments.paths
    left_out: Counter[str] = Counter()
    if arguments.chars is None:
        if arguments.seed is not None:
            raise ConfigError("--seed goes with --chars: without it every text is read")
        texts = iter_texts(paths, column=arguments.text_column, left_out=left_out)
    elif arguments.chars < 1 or len(paths) > 1 or not paths[0].is_dir():
        raise ConfigError("--chars draws 1 or more characters from one folder of packages")
    else:
        seed = 1 if arguments.seed is None else arguments.seed
        sources = load_sources(paths[0], num_chars=arguments.chars, seed=seed, left_out=left_out)
        texts = (source.text for source in sources)
    save_tokenizer(train_tokenizer(texts, arguments.vocab_size), arguments.output)
    _write(f"{arguments.output}: {arguments.vocab_size} tokens\n")
    if left_out:
        _say("left out: " + _listed(left_out))
    return 0


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the `pretrain` commands."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a TOML file, or a preset: starencoder-125m, tiny, debug"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting, such as run.steps=500; may be repeated",
    )


def run_pretrain_prepare(arguments: argparse.Namespace) -> int:
    """Make token shards."""
    import logging

    from pretrain.config import load_config
    from pretrain.corpus_report import report_text
    from pretrain.prepare import prepare

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = load_config(arguments.config, arguments.overrides)
    report = prepare(
        config.prepare, config.data, seed=config.run.seed, progress=sys.stderr.isatty()
    )
    _write(report_text(report) + "\n")
    return CANNOT_READ if report.unreadable else 0


def add_pretrain_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pretrain run`."""
    add_config_arguments(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest whole checkpoint; start where there is none",
    )


def run_pretrain_run(arguments: argparse.Namespace) -> int:
    """Train; alone, or as one of the processes that torchrun started."""
    import logging

    from pretrain.config import load_config
    from pretrain.trainer import pretrain

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    model = pretrain(load_config(arguments.config, arguments.overrides), resume=arguments.resume)
    if os.environ.get("RANK", "0") == "0":
        _write(f"{model}\n")
    return 0


def add_pretrain_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `pretrain plan`."""
    add_config_arguments(parser)
    parser.add_argument(
        "--gpu", default="h100", metavar="NAME", help="a100, h100, h200, ...; default: h100"
    )
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="over all machines")
    parser.add_argument(
        "--mfu", type=float, default=0.4, metavar="SHARE", help="of the peak; default: 0.4"
    )
    parser.add_argument("--price", type=float, metavar="P", help="of one GPU for one hour")


def run_pretrain_plan(arguments: argparse.Namespace) -> int:
    """Say what a run takes."""
    from pretrain.config import load_config
    from pretrain.plan import plan, plan_text

    planned = plan(
        load_config(arguments.config, arguments.overrides),
        gpu=arguments.gpu,
        gpus=arguments.gpus,
        mfu=arguments.mfu,
        price=arguments.price,
    )
    _write(plan_text(planned))
    return 0


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `status`."""
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="a scan's or a pretraining run's"
    )


def run_status(arguments: argparse.Namespace) -> int:
    """Say how far a scan or a pretraining run is."""
    if _is_scan(arguments.directory):
        from export import scan_status

        _write(scan_status.status_text(arguments.directory))
    else:
        from pretrain import report

        _write(report.status_text(arguments.directory))
    return 0


def _is_scan(directory: Path) -> bool:
    from export.scan_dir import is_scan

    return is_scan(directory)


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `report`."""
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="a scan's or a pretraining run's"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: report.html in a run's directory, _scan/report.html in a scan's",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=0,
        metavar="N",
        help="of a scan: N findings of each label, to judge them; default: none",
    )
    parser.add_argument("--show-values", action="store_true", help="with --sample: unmasked")


def run_report(arguments: argparse.Namespace) -> int:
    """Write a scan's or a pretraining run's page."""
    directory: Path = arguments.directory
    if arguments.sample < 0:
        raise ConfigError(f"--sample must be 0 or more, got {arguments.sample}")
    if arguments.show_values and not arguments.sample:
        raise ConfigError("--show-values goes with --sample")
    if _is_scan(directory):
        from export.scan_report import write_scan_report

        page, unread = write_scan_report(
            directory,
            arguments.output,
            sample=arguments.sample,
            show_values=arguments.show_values,
        )
        for shard, problem in unread.items():
            _say(f"{shard}: no sample of it: {problem}")
        _write(f"{page}\n")
        return CANNOT_READ if unread else 0
    if arguments.sample:
        raise ConfigError(f"--sample goes with a scan's directory, and {directory} is none")
    from pretrain.report import write_report

    _write(f"{write_report(directory, arguments.output)}\n")
    return 0


COMMANDS = (
    Command("detect", "report personal data and secrets", add_detect_arguments, run_detect),
    Command("redact", "replace personal data and secrets", add_redact_arguments, run_redact),
    Command("scan", "redact or annotate parquet shards", add_scan_arguments, run_scan),
    Command(
        "export onnx",
        "write DIR/onnx/model.onnx, or graphs for GPUs",
        add_export_arguments,
        run_export_onnx,
    ),
    Command(
        "export quantize",
        "write DIR/onnx/model_int8.onnx, for CPUs",
        add_quantize_arguments,
        run_export_quantize,
    ),
    Command(
        "export bench",
        "measure speed and memory, beside transformers if asked",
        add_bench_arguments,
        run_export_bench,
    ),
    Command(
        "export convert",
        "rewrite a model published as pytorch_model.bin with safetensors",
        add_convert_arguments,
        run_export_convert,
    ),
    Command(
        "pii synthesize",
        "write labelled examples: made-up values in real code",
        add_synthesize_arguments,
        run_synthesize,
    ),
    Command(
        "pii pseudo-label",
        "write unlabelled files as labelled examples, as taggers and patterns see them",
        add_pseudo_label_arguments,
        run_pseudo_label,
    ),
    Command(
        "pii inspect",
        "what annotated data hold, what no model can learn of it, and what leaks",
        add_inspect_arguments,
        run_inspect,
    ),
    Command(
        "pii rebuild-gold",
        "cut the gold set's windows out of public packages",
        add_rebuild_arguments,
        run_rebuild,
    ),
    Command("pii train", "fine-tune a tagger as a recipe says", add_train_arguments, run_train),
    Command(
        "pii train-router",
        "write DIR/onnx/router.onnx, which spares the tagger most of the text",
        add_train_router_arguments,
        run_train_router,
    ),
    Command(
        "pii calibrate-router",
        "choose the thresholds of a tagger's router anew, on packages it did not learn from",
        add_calibrate_router_arguments,
        run_calibrate_router,
    ),
    Command(
        "pii calibrate",
        "choose a tagger's thresholds on annotated documents",
        add_calibrate_arguments,
        run_calibrate,
    ),
    Command(
        "pii evaluate",
        "score a model on annotated documents",
        add_evaluate_arguments,
        run_evaluate,
    ),
    Command(
        "pretrain prepare",
        "tokenise a corpus into shards",
        add_config_arguments,
        run_pretrain_prepare,
    ),
    Command(
        "pretrain run",
        "pretrain an encoder; under torchrun on several GPUs",
        add_pretrain_run_arguments,
        run_pretrain_run,
    ),
    Command(
        "pretrain plan",
        "tokens, FLOPs, memory, hours and cost of a run",
        add_pretrain_plan_arguments,
        run_pretrain_plan,
    ),
    Command("status", "how far a scan or a pretraining run is", add_status_arguments, run_status),
    Command(
        "report",
        "write a page about a scan, or with a pretraining run's curves",
        add_report_arguments,
        run_report,
    ),
    Command(
        "tokenizer train",
        "learn a vocabulary from source files or parquet shards",
        add_tokenizer_arguments,
        run_tokenizer_train,
    ),
    Command(
        "packages fetch",
        "fetch and unpack public source packages for corpora",
        add_fetch_arguments,
        run_fetch,
    ),
)

if __name__ == "__main__":
    sys.exit(main())
