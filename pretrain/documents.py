"""Sources to documents: code, GitHub issues and commits, from files here, elsewhere or streamed.

Column names are those of The Stack v1 and v2, the-stack-smol, StarCoderData,
the-stack-github-issues and BigCode's commits.
"""

import io
import itertools
import json
import logging
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from pretrain.config import SourceConfig
from starencoder.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    reason_of,
)
from starencoder.languages import LANGUAGE_COLUMNS, LANGUAGES, language_of
from starencoder.remote import changed_of, file_system, remote_errors
from starencoder.sources import find_source_files, read_source
from starencoder.tokenizer import SENTINELS

if TYPE_CHECKING:
    import fsspec
    import pyarrow as pa

_LOG = logging.getLogger(__name__)

ISSUES, COMMITS, UNKNOWN = "GitHub issues", "Git commits", "unknown"

_SUFFIXES = {
    "parquet": (".parquet",),
    "jsonl": (
        ".json",  # of the-stack-smol, which has an object a line in it
        ".jsonl",
        ".jsonl.gz",
        ".jsonl.zst",
        ".ndjson",
        ".json.gz",
        ".json.zst",
    ),
}
_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_OPTIONAL = ("title", "subject", "repos")
"""Columns of issues and commits without which a document is whole."""
_BATCH_ROWS = 64
_FIRST_ROWS = 100
"""Rows without a schema whose keys together are taken for the columns."""
# Streams that are read in turn, so that neighbours in the output come from many files.
_OPEN_STREAMS = 16
_FILES_PER_STREAM = 256
_SENTINEL = re.compile("(" + "|".join(map(re.escape, SENTINELS)) + ")")
# Folder names of The Stack and StarCoderData that are not a language's name in lower case.
_ALIASES = {
    "c-sharp": "C#", "csharp": "C#", "cpp": "C++", "bash": "Shell",
    "github-issues-filtered-structured": ISSUES, "git-commits-cleaned": COMMITS,
}  # fmt: skip
_PLAIN_FOLDERS = frozenset("data train default main shards part parts output".split())
_NAMES = {name.lower(): name for name in (*LANGUAGES, ISSUES, COMMITS)}


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its language. `parts` are texts, each behind a sentinel or behind nothing ("").

    Only these sentinels become special tokens; a text that spells one stays text.
    """

    parts: tuple[tuple[str, str], ...]
    language: str

    @property
    def text(self) -> str:
        """The texts without their sentinels, a line each."""
        return "\n".join(text for _, text in self.parts)


@dataclass(slots=True)
class Dropped:
    """What was left out on the way."""

    documents: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By reason and language."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Inputs that could not be read, or not to their end: address -> why."""

    def by_reason(self) -> dict[str, dict[str, int]]:
        """Documents: reason -> language -> number."""
        found: dict[str, dict[str, int]] = {}
        for (reason, language), number in sorted(self.documents.items()):
            found.setdefault(reason, {})[language] = number
        return found

    def __str__(self) -> str:
        sums = {reason: sum(numbers.values()) for reason, numbers in self.by_reason().items()}
        sums["unreadable inputs"] = len(self.unreadable)
        return ", ".join(f"{n} {reason}" for reason, n in sums.items() if n)


@dataclass(frozen=True, slots=True)
class Input:
    """One file of a source, or, with an empty `name`, a dataset on the hub."""

    source: SourceConfig
    name: str
    size: int
    changed: str
    """When it last changed, or the name its store has for its content; empty: not known."""
    language: str
    """Of documents whose row does not say it."""


def known_language(name: str) -> str:
    """The package's spelling of a language that a column, folder or setting names."""
    name = name.encode("utf-8", "backslashreplace").decode()  # it will be written to files
    return _ALIASES.get(name.lower()) or _NAMES.get(name.lower(), name)


def list_inputs(sources: Sequence[SourceConfig], dropped: Dropped) -> list[Input]:
    """The files of all sources, sorted within each source.

    Raises:
        ConfigError: There is none at a source's path.
        DataError: A remote folder cannot be listed.
        MissingExtraError: A package that the address needs is not installed.
    """
    inputs = []
    for source in sources:
        if source.format == "hub":
            inputs.append(Input(source, "", 0, "", _default_language(source, "")))
        elif source.format == "files":
            inputs.extend(_list_files(source, dropped))
        else:
            inputs.extend(_list_shards(source))
    return inputs


def iter_documents(
    inputs: Sequence[Input], *, limit: int, seed: int, dropped: Dropped
) -> Iterator[Document]:
    """The documents of inputs in an order that depends on the seed only, mixed from many inputs.

    Files come in a shuffled order and several are read in turn, so that documents of a language,
    which lie in one folder in The Stack, do not follow each other for long.

    Args:
        inputs: From `list_inputs`.
        limit: Most documents per source, those left out here not counted; 0: all.
        seed: Of the order.
        dropped: Takes up what is left out and what cannot be read.

    Raises:
        DataError: A column is missing or holds no text.
        MissingExtraError: A package that an input needs is not installed.
    """
    order = np.random.default_rng(seed).permutation(len(inputs))
    shuffled = [inputs[i] for i in order]
    files = [item for item in shuffled if item.source.format == "files"]
    waiting = deque[Sequence[Input]](
        [[item] for item in shuffled if item.source.format != "files"]
        + [files[i : i + _FILES_PER_STREAM] for i in range(0, len(files), _FILES_PER_STREAM)]
    )
    waiting = deque(waiting[int(i)] for i in np.random.default_rng(seed).permutation(len(waiting)))
    taken: Counter[SourceConfig] = Counter()
    streams: deque[Iterator[tuple[SourceConfig, Document]]] = deque()
    while waiting or streams:
        while waiting and len(streams) < _OPEN_STREAMS:
            streams.append(_read_all(waiting.popleft(), taken, limit, dropped))
        stream = streams.popleft()
        found = next(stream, None)
        if found is not None:
            streams.append(stream)
            source, document = found
            taken[source] += 1
            yield document


def _read_all(
    inputs: Sequence[Input], taken: Mapping[SourceConfig, int], limit: int, dropped: Dropped
) -> Iterator[tuple[SourceConfig, Document]]:
    readers = {"parquet": _read_parquet, "jsonl": _read_jsonl, "hub": _read_hub}
    for item in inputs:
        if limit and taken[item.source] >= limit:
            continue
        if item.source.format == "files":
            document = _read_file(item, dropped)
            if document is not None:
                yield item.source, document
            continue
        try:
            for row in readers[item.source.format](item):
                document = _document(row, item, dropped)
                if document is None:
                    continue
                yield item.source, document
                if limit and taken[item.source] >= limit:
                    break
        except _UnreadableError as error:
            address = (item.name or item.source.path).encode("utf-8", "backslashreplace").decode()
            dropped.unreadable[address] = str(error)
            _LOG.warning("%s: %s; left out from there on", address, error)


class _UnreadableError(Exception):
    """An input is damaged; the others are read on."""


# --- Rows: a text (or the columns of an issue or a commit) and a language, before any check.


@dataclass(frozen=True, slots=True)
class _Row:
    values: Mapping[str, object]
    language: object
    problem: str = ""
    """Why there are no values."""


def _document(row: _Row, item: Input, dropped: Dropped) -> Document | None:
    """A row's document; None, and counted, when it has none."""
    kind = item.source.kind
    language = row.language if isinstance(row.language, str) and row.language else item.language
    language = known_language(language)
    parts: tuple[tuple[str, str], ...] | str
    if row.problem:
        parts = row.problem
    elif kind == "issues" and "events" in row.values:
        parts = _issue_parts(row.values)
    elif kind == "commits" and "new_contents" in row.values:
        parts = _commit_parts(row.values)
    else:
        parts = _text_parts(row.values.get(item.source.text_column), formatted=kind != "code")
    if isinstance(parts, str):
        dropped.documents[parts, language] += 1
        return None
    return Document(parts, language)


def _text_parts(text: object, *, formatted: bool) -> tuple[tuple[str, str], ...] | str:
    """Parts of a text, or why there are none. In a formatted one, sentinels are spelled out."""
    if text is None:
        return "null"
    if not isinstance(text, str):
        return "not a string"
    if not text.strip():
        return "empty"
    if not formatted:
        return (("", text),)
    head, *rest = _SENTINEL.split(text)
    parts = list(zip(rest[::2], rest[1::2], strict=True))
    return tuple([("", head), *parts] if head else parts)


def _issue_parts(values: Mapping[str, object]) -> tuple[tuple[str, str], ...] | str:
    """The events of the-stack-github-issues, as StarCoder saw them: speakers have numbers only."""
    events = values["events"]
    if events is None:
        return "null"
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        return "not a list of events"
    speakers: dict[str, str] = {}
    parts: list[tuple[str, str]] = []
    title = values.get("title")
    for event in events:
        text = event.get("text") or event.get("comment") or event.get("description")
        text = text if isinstance(text, str) else ""
        title = title or event.get("title")
        author = json.dumps(event.get("author"), sort_keys=True, default=str)
        speaker = speakers.setdefault(author, f"username_{len(speakers)}")
        said = f"{speaker}: {text}"
        if event.get("action") == "closed":
            parts.append(("<issue_closed>", said if text else ""))
        elif text or not parts:
            parts.append(("<issue_comment>" if parts else "<issue_start>", said if text else ""))
    if not any(text for _, text in parts):
        return "empty"
    start, said = parts[0]
    if isinstance(title, str) and title:
        parts[0] = (start, f"Title: {title}\n{said}")
    return tuple(parts)


def _commit_parts(values: Mapping[str, object]) -> tuple[tuple[str, str], ...] | str:
    """A commit's row, as StarCoder saw it, with the first of its repositories in front."""
    before, after = values.get("old_contents"), values["new_contents"]
    message = values.get("message") or values.get("subject")
    if before is None or after is None or message is None:
        return "null"
    if not isinstance(before, str) or not isinstance(after, str) or not isinstance(message, str):
        return "not a string"
    if not (before.strip() or after.strip()):
        return "empty"
    repositories = values.get("repos")
    parts = [("<commit_before>", before), ("<commit_msg>", message), ("<commit_after>", after)]
    if isinstance(repositories, str) and repositories:
        parts.insert(0, ("<reponame>", repositories.split(",")[0]))
    return tuple(parts)


def _columns(item: Input, names: Sequence[str]) -> tuple[list[str], str | None]:
    """The columns to read of those that are there, and which one has the language.

    Raises:
        DataError: One that is needed is missing.
    """
    source = item.source
    if source.kind == "issues" and "events" in names:
        columns = ["events", *(name for name in ("title",) if name in names)]
    elif source.kind == "commits" and "new_contents" in names:
        wanted = ("old_contents", "new_contents", "message", "subject", "repos")
        columns = [name for name in wanted if name in names]
    else:
        columns = [source.text_column]
    automatic = next((name for name in LANGUAGE_COLUMNS if name in names), None)
    language = source.language_column or (automatic if source.kind == "code" else None)
    for column in (*columns, *([language] if language else [])):
        if column not in names:
            raise DataError(
                f"{item.name or source.path}: no column {column}; it has {', '.join(names)}; "
                "set the source's text_column or language_column to one of them"
            )
        if names.count(column) > 1:
            raise DataError(
                f"{item.name or source.path}: several columns are called {column}; expected one"
            )
    return columns, language


# --- Readers


def _read_parquet(item: Input) -> Iterator[_Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with (
            remote_errors(item.name),
            _open(item) as file,
            parquet.ParquetFile(file, pre_buffer=True, page_checksum_verification=True) as shard,
        ):
            schema = shard.schema_arrow
            names = [
                field.name
                for field in schema
                # Numbers under a usual name for languages are none.
                if field.name not in LANGUAGE_COLUMNS
                or field.name == item.source.language_column
                or _is_text(field.type)
            ]
            columns, language = _columns(item, names)
            columns = [
                column
                for column in columns
                if column not in _OPTIONAL or _is_text(schema.field(column).type)
            ]
            for column in (*columns, *([language] if language else [])):
                kind = schema.field(column).type
                if column != "events" and not _is_text(kind):
                    setting = "language_column" if column == language else "text_column"
                    raise DataError(
                        f"{item.name}: column {column} holds {kind}, expected strings; "
                        f"set the source's {setting} to one that holds text"
                    )
            wanted = columns if language is None else [*columns, language]
            for batch in shard.iter_batches(_BATCH_ROWS, columns=wanted):
                for row in range(batch.num_rows):
                    yield _parquet_row(batch, row, columns, language)
    except (OSError, pa.ArrowException) as error:
        strerror = error.strerror if isinstance(error, OSError) else None
        reason = f"cannot be read ({strerror})" if strerror else "not a parquet file, or damaged"
        raise _UnreadableError(reason) from error


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)  # no row has one
    )


def _parquet_row(
    batch: "pa.RecordBatch", row: int, columns: Sequence[str], language: str | None
) -> _Row:
    try:
        name = batch.column(language)[row].as_py() if language is not None else None
        return _Row({column: batch.column(column)[row].as_py() for column in columns}, name)
    except UnicodeDecodeError:
        return _Row({}, None, "not UTF-8")


def _read_jsonl(item: Input) -> Iterator[_Row]:
    try:
        with remote_errors(item.name), _open(item) as file:
            lines = (_json_line(line) for line in file if line.strip())
            yield from _rows_without_schema(item, lines)
    except OSError as error:
        raise _UnreadableError(f"cannot be read ({reason_of(error)})") from error


def _json_line(line: bytes) -> Mapping[str, object] | str:
    """The object in a line, or why there is none."""
    try:
        values = json.loads(line)
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "broken JSON line"
    return values if isinstance(values, dict) else "broken JSON line"


def _rows_without_schema(
    item: Input, found: Iterator[Mapping[str, object] | str]
) -> Iterator[_Row]:
    """Rows of objects, or of the reasons for which there is none; not all need have all keys."""
    first = list(itertools.islice(found, _FIRST_ROWS))
    names = {name: None for values in first if not isinstance(values, str) for name in values}
    language = _columns(item, list(names))[1] if names else None
    for values in itertools.chain(first, found):
        if isinstance(values, str):
            yield _Row({}, None, values)
        else:
            yield _Row(values, values.get(language) if language else None)


def _read_hub(item: Input) -> Iterator[_Row]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtraError(
            "datasets is not installed; format hub needs it: pip install 'starencoder[train]'"
        ) from error
    source = item.source
    # The Stack has a folder per language, other datasets have configurations.
    chosen = {"data_dir" if "/" in source.subset else "name": source.subset or None}
    try:
        rows = load_dataset(source.path, split="train", streaming=True, **chosen)
        yield from _rows_without_schema(item, iter(rows))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source.path}: cannot be streamed from the hub ({type(error).__name__}); check the "
            "name and the subset, and that you are logged in where access is granted by request"
        ) from error


def _read_file(item: Input, dropped: Dropped) -> Document | None:
    reasons: Counter[str] = Counter()
    text = read_source(Path(item.name), reasons)
    dropped.documents.update({(reason, item.language): n for reason, n in reasons.items()})
    return None if text is None else Document((("", text),), item.language)


# --- Where inputs are


def _list_files(source: SourceConfig, dropped: Dropped) -> Iterator[Input]:
    folder = Path(source.path)
    if not folder.is_dir():
        raise ConfigError(
            f"{source.path}: no such folder; format files reads source files below a local folder"
        )
    reasons: Counter[str] = Counter()
    for path in find_source_files(folder, reasons):
        language = known_language(source.language or language_of(path) or UNKNOWN)
        found = path.stat()
        yield Input(source, str(path), found.st_size, str(found.st_mtime_ns), language)
    dropped.documents.update({(reason, UNKNOWN): n for reason, n in reasons.items()})


def _list_shards(source: SourceConfig) -> list[Input]:
    suffixes = _SUFFIXES[source.format]
    system, root = file_system(source.path)
    try:
        with remote_errors(source.path):
            found = _find(system, root, suffixes)
    except OSError as error:
        raise DataError(f"{source.path}: cannot be listed ({reason_of(error)})") from error
    files = {name: info for name, info in found.items() if info["type"] == "file"}
    if not files:
        raise ConfigError(
            f"{source.path}: no files there; expected a file, a glob, or a folder with "
            f"{' or '.join(suffixes)} files"
        )
    inputs = []
    for name, info in sorted(files.items()):
        address = system.unstrip_protocol(name) if "://" in source.path else name
        folder = _language_folder(name, root)
        size = int(info.get("size") or 0)
        language = _default_language(source, folder)
        inputs.append(Input(source, address, size, changed_of(info), language))
    return inputs


def _find(
    system: "fsspec.AbstractFileSystem", root: str, suffixes: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Names and what the file system says of them: of a glob, of a file or of a folder's shards."""
    found: dict[str, dict[str, Any]]
    if any(c in root for c in "*?["):
        found = system.glob(root, detail=True)
    elif system.isfile(root):
        found = {root: system.info(root)}
    else:
        below = system.find(root, detail=True)
        found = {name: info for name, info in below.items() if name.endswith(suffixes)}
    return found


def _language_folder(name: str, root: str) -> str:
    """The folder that may be named after a file's language.

    Below the source's own folder it may have any name, since The Stack knows more languages than
    this package.
    """
    parent = PurePosixPath(name).parent
    folder = parent.name
    top = PurePosixPath(root.split("*")[0].split("?")[0].split("[")[0].rstrip("/"))
    nested = top in parent.parents and folder not in _PLAIN_FOLDERS
    return folder if nested or known_language(folder) in _NAMES.values() else ""


def _default_language(source: SourceConfig, folder: str) -> str:
    """The language where no column has it: as set, by the kind, or the folder's."""
    if source.language:
        return known_language(source.language)
    if source.kind != "code":
        return ISSUES if source.kind == "issues" else COMMITS
    return known_language(folder) if folder else UNKNOWN


def _open(item: Input) -> BinaryIO:
    system, path = file_system(item.name)
    file = system.open(path, "rb")
    packed = _COMPRESSION.get(PurePosixPath(item.name).suffix)
    if packed is None:
        return cast(BinaryIO, file)
    import pyarrow as pa

    return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(file, packed)))
