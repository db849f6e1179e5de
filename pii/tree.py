"""Detect or redact over many files: what is done to one, and what is counted over all."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from pii.redact import Redaction
from pii.redactor import Redactor
from pii.report import Finding, findings_of
from pii.spans import Span
from pii.workers import Crash, default_jobs, run_ordered

_BYTES_PER_WORKER = 1 << 18
"""A process more pays from about this many bytes on: it takes about a second to start."""


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
    work: Work, entries: Sequence[FoundFile | LeftOut], *, jobs: int | None = None
) -> Generator[FileResult, None, None]:
    """Detect or redact files, in several processes if there is enough to do.

    Args:
        work: What to do.
        entries: What `find_files` found.
        jobs: Number of processes; None for one per core, and fewer for little data.

    Yields:
        One result per entry, in their order.

    Raises:
        OutputError: An output cannot be written.
        ConfigError, CheckpointError, MissingExtraError: See `Redactor`.
    """
    files = [entry for entry in entries if isinstance(entry, FoundFile)]
    if jobs is None:
        jobs = min(default_jobs(), 1 + sum(file.size for file in files) // _BYTES_PER_WORKER)
    jobs = max(1, min(jobs, len(files)))
    start = functools.partial(_start, work)
    results = run_ordered(start, files, jobs=jobs)
    try:
        for entry in entries:
            if isinstance(entry, LeftOut):
                yield _process_left_out(work, entry)
                continue
            result = next(results)
            if isinstance(result, Crash):
                result = FileResult(path=entry.path, left_out=result.reason, failed=True)
            yield result
    finally:
        results.close()


def _start(work: Work) -> Callable[[FoundFile], FileResult]:
    return functools.partial(process_file, work, work.load())


def _process_left_out(work: Work, entry: LeftOut) -> FileResult:
    reason = entry.reason
    if work.output is not None and reason == SYMLINK:
        make_folders(work.output, entry.relative.parent)
        copy_link(entry.path, work.output / entry.relative)
        reason = f"{SYMLINK}, copied as a link"
    return FileResult(path=entry.path, left_out=reason, failed=entry.failed)


def process_file(work: Work, redactor: Redactor, file: FoundFile) -> FileResult:
    """Detect or redact one file.

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
    result, redacted = process_bytes(work, redactor, file.path, data)
    reason = ""
    if work.output is not None and (not result.left_out or work.copy_binary):
        make_folders(work.output, file.relative.parent)
        write_file(work.output / file.relative, redacted, mode)
        if result.left_out:
            reason = f"{result.left_out}, copied as it is"
    if work.action == "in-place" and redacted != data and not replace_file(snapshot, redacted):
        return FileResult(
            path=file.path,
            size=len(data),
            left_out="changed while it was read; not overwritten",
            failed=True,
        )
    return replace(result, left_out=reason) if reason else result


def process_bytes(
    work: Work, redactor: Redactor, path: Path, data: bytes
) -> tuple[FileResult, bytes]:
    """Detect or redact a file's bytes; also return the redacted bytes (for `detect` the same)."""
    document = decode(data)
    if isinstance(document, str):
        # Where the result itself is asked for, there is none: that must not pass for success.
        failed = work.action == "text"
        return FileResult(path=path, size=len(data), left_out=document, failed=failed), data
    found = redactor.detect(document.text)
    spans = [span for span in found if work.include_examples or span.kind != "example"]
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
    redaction = redactor.apply(document.text, spans)
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
