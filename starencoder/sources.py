"""Texts to learn from: source files below directories, and the text column of parquet shards.

What is left out is counted by reason in the counter that a caller hands in.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from starencoder.errors import ConfigError, DataError, reason_of
from starencoder.languages import language_of

_FILE_BYTES = (300, 200_000)
_MEAN_LINE_CHARS = 160
_VENDORED = frozenset(
    ".git .pc node_modules bower_components vendor vendored _vendor third_party dist".split()
)
_SHARD = ".parquet"
_BATCH_ROWS = 64


def find_source_files(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """The files below a folder, in the order of their paths, that look like written source.

    Vendored and minified files, and those that are very large, very small or of no known language,
    are left out; so are links and shards, which are not counted.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.suffix == _SHARD or not path.is_file():
            continue
        if language_of(path) is None:
            left_out["language not known"] += 1
        elif ".min." in path.name or _VENDORED.intersection(path.relative_to(folder).parts):
            left_out["vendored or minified"] += 1
        elif not _FILE_BYTES[0] < path.stat().st_size < _FILE_BYTES[1]:
            left_out["very large or very small"] += 1
        else:
            yield path


def read_source(path: Path, left_out: Counter[str]) -> str | None:
    """A file's text; None where it is not UTF-8 or has lines too long to be written by hand."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        left_out["not UTF-8"] += 1
        return None
    except OSError:
        left_out["not readable"] += 1
        return None
    if len(text) > _MEAN_LINE_CHARS * (text.count("\n") + 1):
        left_out["long lines"] += 1
        return None
    return text


def iter_texts(paths: Sequence[Path], *, column: str, left_out: Counter[str]) -> Iterator[str]:
    """The texts of files, of source files and shards below directories, and of shards' rows.

    A file given by its name is read whatever its kind. One text, or one batch of a shard's rows, is
    in memory at a time.

    Args:
        paths: Files, directories and shards (`*.parquet`).
        column: The shards' column that holds the text.
        left_out: Counts files and rows that are left out, by reason.

    Raises:
        ConfigError: A path does not exist.
        DataError: A file given by its name, or a shard, cannot be read, or has no such column.
    """
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or directory")
    for path in paths:
        if path.is_dir():
            for shard in sorted(path.rglob(f"*{_SHARD}")):
                yield from _iter_shard(shard, column, left_out)
            for file in find_source_files(path, left_out):
                text = read_source(file, left_out)
                if text is not None:
                    yield text
        elif path.suffix == _SHARD:
            yield from _iter_shard(path, column, left_out)
        else:
            try:
                yield path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error


def _iter_shard(path: Path, column: str, left_out: Counter[str]) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as shard:
            schema = shard.schema_arrow
            if column not in schema.names:
                raise DataError(f"{path}: no column {column}; it has {', '.join(schema.names)}")
            kind = schema.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise DataError(f"{path}: column {column} holds {kind}, expected strings")
            for batch in shard.iter_batches(_BATCH_ROWS, columns=[column]):
                for value in batch.column(0):
                    if value.is_valid:
                        yield value.as_py()
                    else:
                        left_out["null"] += 1
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a parquet file that can be read ({error})") from error
