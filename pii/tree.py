"""Detect or redact over many files: what is done to one, and what is counted over all.

With `consistent` there are two passes: the first finds spans, the second adds the places where a
value that was found for sure in any of the files stands in another, or in an encoded form.
"""

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pii.diff import unified_diff
from pii.files import (
    SYMLINK,
    Document,
    FoundFile,
    LeftOut,
    copy_link,
    decode,
    make_folders,
    read_file,
    replace_file,
    take_snapshot,
    write_file,
)
from pii.labels import LABELS
from pii.propagate import (
    ValueIndex,
    find_everywhere,
    merge_repeated,
    with_plus_for_space,
)
from pii.redact import OPERATORS, Redaction, redact
from pii.redactor import Redactor
from pii.report import Finding, findings_of
from pii.spans import Span, without_examples
from pii.workers import Crash, default_jobs, run_ordered
from starencoder.errors import OutputError

Detect = Callable[[str], list[Span]]
"""From a text to its spans, sorted and apart, examples among them."""

_BYTES_PER_WORKER = 1 << 18
"""A process more pays from about this many bytes on: it takes about a second to start."""

_LARGE_SHARE = 1 / 128
"""Of the bytes of one process: files that are larger are handed out first. A file dense with
findings takes up to 30 times as long as others of its size, and as the last would keep one process
busy alone. The others are handed out in order, so that results come out all the while."""

_MOST_VALUES = 1 << 20
"""Characters of the values that are looked for in all files: some 50,000 values, for which a
process needs about 100 MB."""

CHANGED = "changed while it was read; not overwritten"
CHANGED_BETWEEN = "changed between the two passes; run it again"
TOO_MANY_VALUES = "of the values, too many to be looked for in other files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What to do with each file."""

    model: str = "tiny"
    operating_point: str = "balanced"
    labels: tuple[str, ...] = LABELS
    min_score: float | None = None
    disabled: frozenset[str] = frozenset()
    include_examples: bool = False
    operator: str = "tag"

    action: str = "detect"
    """`detect`; or redact: `text` gives the new content, `diff` a diff, `output` writes a copy
    below `output`, `in-place` replaces the file."""
    output: Path | None = None
    copy_binary: bool = False
    """With `output`: copy binary files as they are."""
    consistent: bool = False
    """Find a value that is found in one file in all, and in encoded forms."""
    with_fingerprints: bool = False
    with_values: bool = False

    def load(self) -> Redactor:
        """Load the model. Examples are kept: `process_file` counts them."""
        return Redactor(
            self.model,
            operator=self.operator,
            operating_point=self.operating_point,
            labels=self.labels,
            min_score=self.min_score,
            disabled=self.disabled,
            include_examples=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What came of one file."""

    path: Path
    size: int = 0
    findings: tuple[Finding, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    """Number of findings, or of replacements, by label."""
    num_examples: int = 0
    """Spans of kind `example` that were left out."""
    encoding: str = ""
    content: bytes = b""
    """The redacted file (`text`) or the diff."""
    left_out: str = ""
    """Why the file was not read or not written; empty if it was."""
    failed: bool = False
    """It should have been."""


def process_files(
    work: Work,
    entries: Sequence[FoundFile | LeftOut],
    *,
    jobs: int | None = None,
    left_out: Counter[str] | None = None,
    on_first_pass: Callable[[int], object] | None = None,
) -> Generator[FileResult, None, None]:
    """Detect or redact files, in several processes if there is enough to do.

    Args:
        work: What to do.
        entries: What `find_files` found.
        jobs: Number of processes; None for one per core, and fewer for little data.
        left_out: Counts values that were not looked for in other files, by reason.
        on_first_pass: Called with the size of each file that the first of two passes has done.

    Yields:
        One result per entry, in their order.

    Raises:
        OutputError: An output, or a temporary file, cannot be written.
        ConfigError, CheckpointError, MissingExtraError: See `Redactor`.
    """
    files = [entry for entry in entries if isinstance(entry, FoundFile)]
    if jobs is None:
        jobs = min(default_jobs(), 1 + sum(file.size for file in files) // _BYTES_PER_WORKER)
    jobs = max(1, min(jobs, len(files)))
    with contextlib.ExitStack() as stack:
        if work.consistent:
            found = stack.enter_context(contextlib.closing(_FirstPass(files)))
            values = found.run(
                work, jobs, Counter() if left_out is None else left_out, on_first_pass
            )
            second = functools.partial(_start_second, work, values)
            results = run_ordered(second, found, jobs=jobs, first=_large(files, jobs))
        else:
            start = functools.partial(_start, work)
            results = run_ordered(start, files, jobs=jobs, first=_large(files, jobs))
        stack.enter_context(contextlib.closing(results))
        for entry in entries:
            if isinstance(entry, LeftOut):
                yield _process_left_out(work, entry)
                continue
            result = next(results)
            if isinstance(result, Crash):
                result = FileResult(path=entry.path, left_out=result.reason, failed=True)
            yield result


def _large(files: Sequence[FoundFile], jobs: int) -> list[int]:
    """Indices of the large files, the largest first."""
    least = _LARGE_SHARE * sum(file.size for file in files) / jobs
    large = [index for index, file in enumerate(files) if file.size > least]
    return sorted(large, key=lambda index: files[index].size, reverse=True)


def _start(work: Work) -> Callable[[FoundFile], FileResult]:
    return functools.partial(process_file, work, work.load().detect)


# --------------------------------------------------------------------------------------------------
# Two passes


@dataclass(frozen=True, slots=True)
class _Spans:
    """What the first pass found in one file."""

    digest: bytes
    """Of its bytes; empty if it could not be read."""
    spans: Sequence[Span]


_SecondTask = tuple[FoundFile, _Spans | Crash]
_Record = dict[str, Any]


def _as_record(found: _Spans | Crash) -> _Record:
    if isinstance(found, Crash):
        return asdict(found)
    return {"digest": found.digest.hex(), "spans": [asdict(span) for span in found.spans]}


def _from_record(record: _Record) -> _Spans | Crash:
    if "reason" in record:
        return Crash(**record)
    digest = bytes.fromhex(record["digest"])
    return _Spans(digest, [Span(**fields) for fields in record["spans"]])


class _FirstPass(Sequence[_SecondTask]):
    """The spans of every file, which wait on the disk: only the values are held in memory."""

    def __init__(self, files: Sequence[FoundFile]) -> None:
        self._files = files
        self._starts = array("q")
        try:
            self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - see close
        except OSError as error:
            raise OutputError(f"no temporary file can be made ({error.strerror})") from error

    def run(
        self,
        work: Work,
        jobs: int,
        left_out: Counter[str],
        on_file: Callable[[int], object] | None,
    ) -> dict[str, Span]:
        """Find the spans of all files; return the values to look for in each."""
        values: dict[str, Span] = {}
        size = 0
        start = functools.partial(_start_first, work)
        results = run_ordered(start, self._files, jobs=jobs, first=_large(self._files, jobs))
        with contextlib.closing(results):
            for file, result in zip(self._files, results, strict=True):
                kept: _Spans | Crash
                if isinstance(result, Crash):
                    kept = result
                else:
                    kept, sure = result
                    for value, span in sure.items():
                        if value in values:
                            continue
                        if size + len(value) > _MOST_VALUES:
                            left_out[TOO_MANY_VALUES] += 1
                        else:
                            values[value] = span
                            size += len(value)
                self._keep(kept)
                if on_file is not None:
                    on_file(file.size)
        return values

    def _keep(self, found: _Spans | Crash) -> None:
        try:
            self._starts.append(self._spool.seek(0, os.SEEK_END))
            self._spool.write(json.dumps(_as_record(found)).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"a temporary file cannot be written ({error.strerror})") from error

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> _SecondTask:  # type: ignore[override]
        self._spool.seek(self._starts[index])
        return self._files[index], _from_record(json.loads(self._spool.readline()))

    def close(self) -> None:
        """Let go of what is on the disk."""
        self._spool.close()


def _start_first(work: Work) -> Callable[[FoundFile], tuple[_Spans, dict[str, Span]]]:
    return functools.partial(_find_spans, work.load())


def _find_spans(redactor: Redactor, file: FoundFile) -> tuple[_Spans, dict[str, Span]]:
    try:
        data, _ = read_file(file.path)
    except OSError:  # the second pass fails to read it too, and says so
        return _Spans(b"", ()), {}
    document = decode(data)
    digest = hashlib.sha256(data).digest()
    if isinstance(document, str):
        return _Spans(digest, ()), {}
    spans = redactor.detect(document.text)
    return _Spans(digest, spans), redactor.sure_values(document.text, spans)


def _start_second(work: Work, values: Mapping[str, Span]) -> Callable[[_SecondTask], FileResult]:
    return functools.partial(_process_second, work, ValueIndex(with_plus_for_space(values)))


def _process_second(work: Work, index: ValueIndex, task: _SecondTask) -> FileResult:
    file, found = task
    if isinstance(found, Crash):
        return FileResult(path=file.path, size=file.size, left_out=found.reason, failed=True)

    def detect(text: str) -> list[Span]:
        return merge_repeated(text, found.spans, find_everywhere(text, index), work.disabled)

    return process_file(work, detect, file, digest=found.digest)


def load_detect(work: Work) -> Detect:
    """What finds the spans of a text that stands alone, such as stdin."""
    redactor = work.load()
    if not work.consistent:
        return redactor.detect

    def detect_everywhere(text: str) -> list[Span]:
        spans = redactor.detect(text)
        index = ValueIndex(with_plus_for_space(redactor.sure_values(text, spans)))
        return merge_repeated(text, spans, find_everywhere(text, index), work.disabled)

    return detect_everywhere


# --------------------------------------------------------------------------------------------------
# One file


def _process_left_out(work: Work, entry: LeftOut) -> FileResult:
    reason = entry.reason
    if work.output is not None and reason == SYMLINK:
        make_folders(work.output, entry.relative.parent)
        copy_link(entry.path, work.output / entry.relative)
        reason = f"{SYMLINK}, copied as a link"
    return FileResult(path=entry.path, left_out=reason, failed=entry.failed)


def process_file(work: Work, detect: Detect, file: FoundFile, *, digest: bytes = b"") -> FileResult:
    """Detect or redact one file.

    Args:
        work: What to do.
        detect: Finds the spans of its text.
        file: The file.
        digest: SHA-256 that its bytes must have, if any is given.

    Raises:
        OutputError: The redacted file cannot be written.
    """
    try:
        if work.action == "in-place":
            snapshot = take_snapshot(file.path)
            data, mode = snapshot.data, snapshot.status.st_mode
        else:
            data, status = read_file(file.path)
            mode = status.st_mode
    except OSError as error:
        reason = error.strerror or str(error)
        return FileResult(path=file.path, size=file.size, left_out=reason, failed=True)
    if digest and hashlib.sha256(data).digest() != digest:
        return FileResult(path=file.path, size=len(data), left_out=CHANGED_BETWEEN, failed=True)
    result, redacted = process_bytes(work, detect, file.path, data)
    reason = ""
    if work.output is not None and (not result.left_out or work.copy_binary):
        make_folders(work.output, file.relative.parent)
        write_file(work.output / file.relative, redacted, mode)
        if result.left_out:
            reason = f"{result.left_out}, copied as it is"
    if work.action == "in-place" and redacted != data and not replace_file(snapshot, redacted):
        return FileResult(path=file.path, size=len(data), left_out=CHANGED, failed=True)
    return replace(result, left_out=reason) if reason else result


def process_bytes(work: Work, detect: Detect, path: Path, data: bytes) -> tuple[FileResult, bytes]:
    """Detect or redact a file's bytes; also return the redacted bytes (for `detect` the same)."""
    document = decode(data)
    if isinstance(document, str):
        # Where the result itself is asked for, there is none: that must not pass for success.
        failed = work.action == "text"
        return FileResult(path=path, size=len(data), left_out=document, failed=failed), data
    found = detect(document.text)
    spans = found if work.include_examples else without_examples(found)
    common = functools.partial(
        FileResult,
        path=path,
        size=len(data),
        encoding=document.encoding_name,
        num_examples=len(found) - len(spans),
    )
    if work.action == "detect":
        findings = findings_of(
            str(path),
            document.text,
            spans,
            with_fingerprints=work.with_fingerprints,
            with_values=work.with_values,
        )
        return common(findings=tuple(findings), labels=_count_labels(spans)), data
    redaction = redact(document.text, spans, OPERATORS[work.operator])
    labels = _count_labels([replacement.span for replacement in redaction.replacements])
    if work.action == "diff" and redaction.replacements:
        if not document.keeps_ascii:
            reason = f"{document.encoding} has no line diff; use --output or --in-place"
            return FileResult(path=path, size=len(data), left_out=reason, failed=True), data
        return common(labels=labels, content=_diff(path, document, redaction)), data
    redacted = document.encode(redaction.text)
    content = redacted if work.action == "text" else b""
    return common(labels=labels, content=content), redacted


def _diff(path: Path, document: Document, redaction: Redaction) -> bytes:
    # Absolute paths as `git diff --no-index` shows them: below the root.
    name = os.fsencode(path.relative_to(path.anchor).as_posix())
    mark = document.before.decode("utf-8")
    diff = unified_diff(name, document.text, redaction, mark=mark)
    return diff.encode(document.encoding, document.errors)


def _count_labels(spans: Sequence[Span]) -> dict[str, int]:
    counts = Counter(span.label for span in spans)
    return {label: counts[label] for label in LABELS if counts[label]}
