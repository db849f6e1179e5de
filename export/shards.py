"""Parquet shards: find them, see what they hold, and read their row groups."""

import base64
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import pyarrow as pa
from pyarrow import parquet

from pii.files import shown_path
from pii.labels import LABELS
from pii.spans import Span
from starencoder.errors import ConfigError, DataError, reason_of
from starencoder.languages import LANGUAGE_COLUMNS
from starencoder.remote import changed_of, file_system, remote_errors

SUFFIX = ".parquet"
SPANS_COLUMN, MODIFIED_COLUMN = "pii_spans", "pii_modified"
AUTHOR = "author"
EVENT_TEXTS = ("title", "text", "description", "comment")
"""The fields that are read of an issue's events; bigcode's filtered threads have `text`."""

SPANS_TYPE = pa.list_(
    pa.struct(
        [
            pa.field("start", pa.int64()),
            pa.field("end", pa.int64()),
            pa.field("label", pa.string()),
            pa.field("kind", pa.string()),
            pa.field("score", pa.float32()),
            pa.field("source", pa.string()),
        ]
    )
)
"""Offsets are code points of the original text."""

ARROW_SCHEMA = b"ARROW:schema"
"""Where Arrow's types stand in a parquet file's metadata."""

_BATCH_BYTES = 1 << 22
_MOST_ROWS = 1024
_MOST_BYTES = 1 << 26
_READ_ROWS = 128
"""At once."""
_READ_BYTES = 1 << 20
_TAIL = 8
"""Bytes at a parquet file's end: the footer's length and a mark."""
_FOOTERS_AT_ONCE = 8


class Unreadable(Exception):  # noqa: N818 - an answer rather than an error: the shard is named
    """Why a shard, or a part of it, cannot be scanned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFile:
    """A shard that was found."""

    address: str
    """A path or, with `://`, an address of fsspec."""
    relative: str
    """Below the output directory, with `/`."""
    size: int
    changed: str
    """When it last changed, or its store's name for its content; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard that can be scanned."""

    file: ShardFile
    footer: str
    """SHA-256 of its footer."""
    rows: tuple[int, ...]
    """Of each row group."""
    text_bytes: tuple[int, ...]
    """Of the text column in each row group, without compression."""
    has_spans: bool
    """Whether it has the spans of an earlier scan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """Which columns are read."""

    text: str = "content"
    language: str | None = None
    """None: the first of `LANGUAGE_COLUMNS` that is there."""


def find_shards(inputs: Sequence[str]) -> list[ShardFile]:
    """The shards among files, and below directories, local or of fsspec.

    Names that begin with `_` or `.` are left out below a directory: they hold what is no data.
    Links are followed; a directory is read once.

    Raises:
        ConfigError: There is none at an input, or two cannot both have their place in the output.
        MissingExtraError: A package that an address needs is not installed.
        DataError: A directory cannot be listed.
    """
    found: list[ShardFile] = []
    for item in inputs:
        shards = _find_remote(item) if "://" in item else _find_local(Path(item))
        if not shards:
            raise ConfigError(
                f"{item}: no shards there; expected a {SUFFIX} file or a directory with some"
            )
        found += sorted(shards, key=lambda shard: shard.relative)
    places: dict[str, str] = {}
    for shard in found:
        other = places.setdefault(shard.relative, shard.address)
        if other is not shard.address:
            raise ConfigError(
                f"{shown_path(shard.address)}: its output would be that of "
                f"{shown_path(other)}; scan them apart, or give the directory above both"
            )
    for shard in found:
        for folder in PurePosixPath(shard.relative).parents:
            if str(folder) in places:
                raise ConfigError(
                    f"{shown_path(shard.address)}: its output would lie below that of "
                    f"{shown_path(places[str(folder)])}, which is no directory; scan them apart"
                )
    return found


def _find_local(path: Path) -> list[ShardFile]:
    try:
        if not path.is_dir():
            return [_local_file(path, path.name)] if path.exists() else []
        shards = []
        for file in _walk(path):
            relative = file.relative_to(path).as_posix()
            try:
                shards.append(_local_file(file, relative))
            except FileNotFoundError:  # a link to nothing: named when it is read
                gone = ShardFile(address=str(file), relative=relative, size=0, changed="")
                shards.append(gone)
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be listed ({reason_of(error)})") from error
    return shards


def _walk(path: Path) -> Iterator[Path]:
    """The shards below a directory; linked ones come last, and none comes twice."""
    seen: set[tuple[int, int]] = set()
    starts = [path]
    for start in starts:
        for folder, folders, names in os.walk(start, onerror=_raise):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if name[0] not in "._")
            starts += [link for name in folders if (link := Path(folder, name)).is_symlink()]
            for name in names:
                if name.endswith(SUFFIX) and name[0] not in "._":
                    yield Path(folder, name)


def _raise(error: OSError) -> None:
    raise error


def _local_file(path: Path, relative: str) -> ShardFile:
    status = path.stat()
    changed = str(status.st_mtime_ns)
    return ShardFile(address=str(path), relative=relative, size=status.st_size, changed=changed)


def _find_remote(address: str) -> list[ShardFile]:
    system, root = file_system(address)
    root = root.rstrip("/")
    try:
        with remote_errors(address):
            found: dict[str, dict[str, Any]]
            if system.isfile(root):
                found = {root: system.info(root)}
            else:
                found = system.find(root, detail=True) if system.exists(root) else {}
    except OSError as error:
        raise DataError(f"{address}: cannot be listed ({reason_of(error)})") from error
    shards = []
    for name, info in found.items():
        relative = name.removeprefix(root).lstrip("/") or name.rpartition("/")[2]
        hidden = any(part[:1] in ("_", ".") for part in relative.split("/"))
        if name == root or (name.endswith(SUFFIX) and not hidden):
            shards.append(_remote_file(system.unstrip_protocol(name), relative, info))
    return shards


def _remote_file(address: str, relative: str, info: dict[str, Any]) -> ShardFile:
    size = int(info.get("size") or 0)
    return ShardFile(address=address, relative=relative, size=size, changed=changed_of(info))


@contextmanager
def open_shard(address: str) -> Iterator[BinaryIO]:
    """Open a shard's bytes.

    Raises:
        OSError: It cannot be opened or, while it is open, read.
    """
    if "://" not in address:
        if not stat.S_ISREG(Path(address).stat().st_mode):  # a pipe would keep us waiting for ever
            raise OSError(errno.EINVAL, "not a regular file")
        with Path(address).open("rb") as file:
            yield file
        return
    with remote_errors(address, Unreadable):
        system, path = file_system(address)
        with system.open(path, "rb") as remote:
            yield cast(BinaryIO, remote)


def stat_shard(file: ShardFile) -> ShardFile:
    """The same file as it is now.

    Raises:
        OSError: It is gone.
    """
    if "://" not in file.address:
        return _local_file(Path(file.address), file.relative)
    with remote_errors(file.address):
        system, path = file_system(file.address)
        return _remote_file(file.address, file.relative, system.info(path))


def read_shards(
    files: Sequence[ShardFile],
    names: ColumnNames,
    *,
    needs_languages: bool = False,
    may_have_spans: bool = False,
) -> Iterator[tuple[ShardFile, Shard | Unreadable]]:
    """What each shard holds by its footer, in their order.

    Args:
        files: The shards.
        names: The columns that are read.
        needs_languages: A shard that does not say its rows' languages cannot be scanned.
        may_have_spans: A shard with the columns that a scan adds can be.
    """

    def read(file: ShardFile) -> Shard | Unreadable:
        try:
            return _read_shard(file, names, needs_languages, may_have_spans)
        except Unreadable as error:
            return error

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        yield from zip(files, pool.map(read, files), strict=True)


def _read_shard(
    file: ShardFile, names: ColumnNames, needs_languages: bool, may_have_spans: bool
) -> Shard:
    try:
        with open_shard(file.address) as opened:
            footer = _footer_digest(opened, file.size)
            opened.seek(0)
            with parquet.ParquetFile(opened) as shard:
                _check_columns(shard.schema_arrow, names, needs_languages, may_have_spans)
                schema = shard.metadata.schema
                leaves = [
                    index
                    for index in range(shard.metadata.num_columns)
                    if f"{schema.column(index).path}.".startswith(f"{names.text}.")
                ]
                groups = [shard.metadata.row_group(i) for i in range(shard.num_row_groups)]
                return Shard(
                    file=file,
                    footer=footer,
                    rows=tuple(group.num_rows for group in groups),
                    text_bytes=tuple(
                        sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
                        for group in groups
                    ),
                    has_spans=shard.schema_arrow.names.count(SPANS_COLUMN) == 1,
                )
    except (OSError, pa.ArrowException) as error:
        raise Unreadable(_read_problem(error)) from error


def _footer_digest(file: BinaryIO, size: int) -> str:
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    length = min(int.from_bytes(tail[:4], "little") + _TAIL, size)
    file.seek(size - length)
    return hashlib.sha256(file.read(length)).hexdigest()


def is_events(kind: pa.DataType) -> bool:
    """Whether a column holds the events of issues: lists of structs with texts."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    if not pa.types.is_struct(kind.value_type):
        return False
    names = [name for name, _ in event_fields(kind)]
    return len(set(names)) == len(names) and not set(names).isdisjoint(EVENT_TEXTS)


def event_fields(kind: pa.DataType) -> list[tuple[str, int]]:
    """The fields of events that are read, and where they stand among all."""
    return [
        (field.name, index)
        for index, field in enumerate(kind.value_type)
        if field.name in (AUTHOR, *EVENT_TEXTS)
        and is_strings(field.type)
        and not pa.types.is_null(field.type)
    ]


def _read_problem(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read ({strerror})" if strerror else "not a parquet file, or damaged"


def _check_columns(
    schema: pa.Schema, names: ColumnNames, needs_languages: bool, may_have_spans: bool
) -> None:
    added = [name for name in (SPANS_COLUMN, MODIFIED_COLUMN) if name in schema.names]
    if added and not may_have_spans:
        raise Unreadable(
            f"has a column {added[0]} already; scan the original, or redact with --from-spans"
        )
    for name in (names.text, *([names.language] if names.language else [])):
        count = schema.names.count(name)
        if count != 1:
            found = "no" if count == 0 else f"{count} times the"
            raise Unreadable(f"{found} column {name}; it has {', '.join(schema.names)}")
        kind = schema.field(name).type
        if not (is_strings(kind) or (name == names.text and is_events(kind))):
            raise Unreadable(f"column {name} holds {kind}; expected strings")
    if needs_languages and language_column(schema, names) is None:
        raise Unreadable(
            f"no column with strings called {', '.join(LANGUAGE_COLUMNS)}; "
            "name the one that holds the languages"
        )


def language_column(schema: pa.Schema, names: ColumnNames) -> str | None:
    """The column that holds the rows' languages; None where there is none."""
    if names.language is not None:
        return names.language
    for name in LANGUAGE_COLUMNS:
        if schema.names.count(name) == 1 and is_strings(schema.field(name).type):
            return name
    return None


def is_strings(kind: pa.DataType) -> bool:
    """Whether a column holds strings, in any of Arrow's forms, or nothing but nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def output_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of a shard's output: all of its own and the two that a scan adds.

    Their types are those of `plain_type`; the shard's own ones, where others, are in the metadata
    as readers of parquet look for them.

    What Hugging Face `datasets` wrote about the columns is left out: it would no longer be true,
    and refused there.
    """
    fields = [field for field in schema if field.name not in (SPANS_COLUMN, MODIFIED_COLUMN)]
    metadata = {
        key: value for key, value in (schema.metadata or {}).items() if key != b"huggingface"
    }
    fields += [pa.field(SPANS_COLUMN, SPANS_TYPE), pa.field(MODIFIED_COLUMN, pa.bool_())]
    own = pa.schema(fields, metadata)
    plain = plain_schema(own)
    if plain == own:
        return own
    return plain.with_metadata({**metadata, ARROW_SCHEMA: base64.b64encode(own.serialize())})


def spans_to_json(spans: Sequence[Span]) -> list[dict[str, object]]:
    """Spans as a value of `SPANS_TYPE`."""
    return [asdict(span) for span in spans]


def spans_from_json(values: Sequence[Mapping[str, Any]]) -> list[Span]:
    """What `spans_to_json` gave.

    Raises:
        TypeError: A span lacks a field, has another one, or one of another type.
        ValueError: Its label is not known, or the spans are not sorted and apart.
    """
    spans = [Span(**value) for value in values]
    reached = 0
    for span in spans:
        if not reached <= span.start < span.end or span.label not in LABELS:
            raise ValueError("no spans of a text")
        reached = span.end
    return spans


@contextmanager
def open_row_groups(file: ShardFile) -> Iterator[parquet.ParquetFile]:
    """Open a shard for `iter_batches`.

    Raises:
        Unreadable: It cannot be opened, or is not, or no longer, the file that was found.
    """
    # Closed without being told of an error inside, which may not be the shard's.
    with closing(ExitStack()) as stack:
        with _unreadable():
            _check_same(file)
            opened = stack.enter_context(open_shard(file.address))
            # Page by page: a row group may be larger than the memory.
            reading = parquet.ParquetFile(
                opened,
                pre_buffer=False,
                buffer_size=_READ_BYTES,
                page_checksum_verification=True,
            )
            shard = stack.enter_context(reading)
        yield shard
        with _unreadable():
            _check_same(file)


@contextmanager
def _unreadable() -> Iterator[None]:
    """Raise the errors of reading as Unreadable."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise Unreadable(_read_problem(error)) from error


def _check_same(file: ShardFile) -> None:
    if stat_shard(file) != file:
        raise Unreadable("changed while it was scanned; run it again into another output")


def iter_batches(
    shard: parquet.ParquetFile, group: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """A row group in batches of some megabytes, their columns of types of `plain_type`.

    Args:
        shard: An open one.
        group: Its number.
        columns: Those to read; None: all.

    Raises:
        Unreadable: A page is damaged, or cannot be read.
    """
    held = shard.metadata.row_group(group)
    per_row = max(1, held.total_byte_size // max(1, held.num_rows))
    most_rows = max(1, min(_MOST_ROWS, _BATCH_BYTES // per_row))
    # The footer counts what rows have in common once, so it may call large rows small: few are
    # read at first, then as many as those before them let expect. Where it is right, batches end
    # at `most_rows` however they were read: pages of the output begin where batches do.
    reads = shard.iter_batches(1, row_groups=[group], columns=columns, use_threads=False)
    batch: list[pa.RecordBatch] = []
    rows, size, growing = 0, 0, 1
    while (read := _next_read(reads)) is not None:
        batch.append(read)
        rows += read.num_rows
        size += read.nbytes
        if rows == most_rows or size >= _MOST_BYTES:
            yield from pa.Table.from_batches(batch).combine_chunks().to_batches()
            batch, rows, size = [], 0, 0
        growing = min(2 * growing, _READ_ROWS)
        expected = max(1, _BATCH_BYTES * read.num_rows // max(1, read.nbytes))
        shard.reader.set_batch_size(min(growing, expected, most_rows - rows))
    if batch:
        yield from pa.Table.from_batches(batch).combine_chunks().to_batches()


def _next_read(reads: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    try:
        read = next(reads, None)
    except MemoryError:
        raise
    except Exception as error:  # a remote store's client raises errors of any type
        raise Unreadable("is damaged, or cannot be read") from error
    return None if read is None else read.cast(plain_schema(read.schema))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema with the types of `plain_type`."""
    return pa.schema([f.with_type(plain_type(f.type)) for f in schema], schema.metadata)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without dictionaries, which differ from batch to batch, and without views.

    Arrow cannot write all columns of views.
    """

    def plain(field: pa.Field) -> pa.Field:
        return field.with_type(plain_type(field.type))

    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([plain(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_field, plain(kind.item_field), kind.keys_sorted)
    if pa.types.is_large_list(kind):
        return pa.large_list(plain(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(plain(kind.value_field))
    return kind


def hash_file(file: ShardFile) -> str:
    """SHA-256 of a shard.

    Raises:
        Unreadable: It cannot be read, or is not the file that was found.
    """
    digest = hashlib.sha256()
    try:
        _check_same(file)
        with open_shard(file.address) as opened:
            while block := opened.read(_READ_BYTES):
                digest.update(block)
        _check_same(file)
    except OSError as error:
        raise Unreadable(_read_problem(error)) from error
    return digest.hexdigest()
