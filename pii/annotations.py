"""Annotated documents, from the forms they come in.

`gold`, our own: JSON lines `{"id", "language", "package", "path", "text", "spans": [{"start",
"end", "label", "kind"}]}`; offsets are code points of the text. Foreign forms, whose labels a
`LabelMap` translates: BigCode's `fragments` (`text`, `fragments: [{category, position: [start,
end], value}]`) and `pii` (`content`, `pii: [{tag, value, start, end, context}]`), and `conll` (a
token and its BIO tag a line, a blank line ends a document).
"""

import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pii.labels import KINDS, LABELS, OUTSIDE
from pii.records import field, id_of, json_records, objects, span_of
from pii.spans import Span, resolve_overlaps
from starencoder.errors import ConfigError, DataError
from starencoder.names import check_name, closest
from starencoder.toml import read_toml

FORMATS = ("auto", "gold", "fragments", "pii", "conll")

_HUB = "hub:"
_IGNORE = "ignore"
_DEFAULT_MAP = Path(__file__).parent / "label_map.toml"
_SPANS_COLUMN = {"gold": "spans", "fragments": "fragments", "pii": "pii"}
TEXT_COLUMNS = ("text", "content")
_LABEL_KEY = {"fragments": "category", "pii": "tag"}
# BIOES and BILOU tags begin an entity with these, or go on with it.
_BEGINS, _GOES_ON = "BSU", "IEL"
_TAG = re.compile(rf"{OUTSIDE}|[{_BEGINS}{_GOES_ON}]-\S+")
_BATCH_ROWS = 256
# Offsets as text, as some of BigCode's published files have them.
_DIGITS = re.compile(r"[0-9]{1,12}")
_POSITION = re.compile(rf"\s*\[\s*({_DIGITS.pattern})\s*,\s*({_DIGITS.pattern})\s*\]\s*")
_CONLL_SUFFIX, _PARQUET_SUFFIX = ".conll", ".parquet"
_EXPECTED = "annotated JSON lines, parquet or CoNLL"

_Row = tuple[str, Mapping[str, object]]
"""Where a row stands, for messages, and its columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text and its annotated spans, sorted and without overlaps."""

    id: str
    language: str
    package: str
    path: str
    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReport:
    """What was read from one source, and what was not."""

    source: str
    format: str
    """One of `FORMATS`, as stated or detected."""
    documents: int
    spans: int
    """Those that were kept."""
    left_out: Mapping[str, int]
    """Spans and rows that were left out, by reason."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """The documents of one source."""

    documents: list[Document]
    report: ReadReport


# --------------------------------------------------------------------------------------------------
# Labels of others


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What foreign labels are here."""

    targets: Mapping[str, tuple[str, str] | None]
    """For each foreign label our label and kind; None: its spans are left out."""

    def target(self, label: str, where: str) -> tuple[str, str] | None:
        """Our label and kind for a foreign label; None where its spans are to be left out.

        Raises:
            ConfigError: The map does not say.
        """
        if label not in self.targets:
            raise ConfigError(
                f"{where}: the label map does not say what {label!r} is"
                f"{closest(label, self.targets)}; add it to a TOML file and give that as label map:"
                f' [labels] "{label}" = ["KEY", "real"], or "{label}" = "ignore"'
            )
        return self.targets[label]


def load_label_map(path: Path | None = None) -> LabelMap:
    """The label map of the package, with the entries of a file laid over it.

    Raises:
        ConfigError: The file cannot be read, or an entry is neither `[label, kind]` nor "ignore".
    """
    targets = _read_map(_DEFAULT_MAP)
    if path is not None:
        targets |= _read_map(path)
    return LabelMap(targets)


def _read_map(path: Path) -> dict[str, tuple[str, str] | None]:
    tables = read_toml(path)
    labels = tables.pop("labels", None)
    if not isinstance(labels, dict) or tables:
        raise ConfigError(f"{path}: expected one table, [labels]")
    targets: dict[str, tuple[str, str] | None] = {}
    for name, value in labels.items():
        if value == _IGNORE:
            targets[name] = None
        elif (
            isinstance(value, list) and len(value) == 2 and value[0] in LABELS and value[1] in KINDS
        ):
            targets[name] = (value[0], value[1])
        else:
            raise ConfigError(
                f'{path}: labels.{name} must be [label, kind] or "ignore"; '
                f"labels: {', '.join(LABELS)}; kinds: {', '.join(KINDS)}"
            )
    return targets


# --------------------------------------------------------------------------------------------------
# Reading


def read_annotated(
    source: str, *, format: str = "auto", label_map: LabelMap | None = None
) -> Annotations:
    """Read annotated documents.

    Foreign spans whose value does not stand at their offsets, that lie outside the text or that
    overlap a longer one are left out and counted; in our own form they are errors.

    Args:
        source: A file of JSON lines, parquet or CoNLL; or `hub:NAME[:SPLIT]`, a data set that
            `datasets` knows (extra `train`), which is streamed.
        format: One of `FORMATS`; "auto" tells by the columns.
        label_map: What foreign labels are here; by default the package's own map.

    Raises:
        ConfigError: The format is unknown, cannot be told, or is not the data's; or a foreign
            label is not in the map.
        DataError: The source cannot be read, or a row is not of the form; the row is named.
    """
    check_name("format", format, FORMATS)
    names = load_label_map() if label_map is None else label_map
    left_out: Counter[str] = Counter()
    rows = _open_rows(source, format)
    if rows is None:
        format = "conll"
        documents = list(_conll_documents(Path(source), names, left_out))
    else:
        first = next(rows, None)
        if first is None:  # nothing to tell the format by, and nothing to read
            documents, format = [], "gold" if format == "auto" else format
        else:
            format = _format_of(first, source, format)
            documents = []
            for where, row in itertools.chain([first], rows):
                if format == "gold":
                    documents.append(_gold_document(row, where))
                elif document := _foreign_document(row, where, format, names, left_out):
                    documents.append(document)
    report = ReadReport(
        source=source,
        format=format,
        documents=len(documents),
        spans=sum(len(document.spans) for document in documents),
        left_out={reason: left_out[reason] for reason in sorted(+left_out)},
    )
    return Annotations(documents, report)


def _open_rows(source: str, format: str) -> Iterator[_Row] | None:
    """The rows of a source; None for a CoNLL file, which has none."""
    if source.startswith(_HUB):
        if format == "conll":
            raise ConfigError(f"{source}: a data set of rows; conll is a form of files")
        return _hub_rows(source)
    path = Path(source)
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected {_EXPECTED}") from error
    # A name that says what a file is is believed: its reader says best what is wrong with it.
    if head.startswith(b"PAR1") or path.suffix == _PARQUET_SUFFIX:
        rows = parquet_rows(path)
    elif format == "conll" or (
        format == "auto" and (path.suffix == _CONLL_SUFFIX or _looks_like_conll(head))
    ):
        return None
    else:
        rows = json_records(path, _EXPECTED)
    if format == "conll":
        raise ConfigError(f"{source}: a parquet file; conll is lines of a token and its tag")
    return rows


def _looks_like_conll(head: bytes) -> bool:
    """Whether the first line that says something is a token and a BIO tag."""
    for line in head.decode("utf-8-sig", "replace").splitlines():
        columns = _columns(line)
        if columns and columns[0] != "-DOCSTART-":
            return len(columns) > 1 and bool(_TAG.fullmatch(columns[-1]))
    return False


def _format_of(first: _Row, source: str, stated: str) -> str:
    """The format of rows by their columns, which must have what a stated one asks for."""
    where, row = first
    fitting = [name for name, column in _SPANS_COLUMN.items() if column in row]
    if stated != "auto":
        if stated not in fitting:
            raise ConfigError(
                f"{where}: no column {_SPANS_COLUMN[stated]!r}, which the format {stated} has; "
                f"the columns are {', '.join(map(repr, row)) or 'none'}"
            )
        return stated
    if len(fitting) > 1:
        raise ConfigError(
            f"{source}: the format is ambiguous, the columns fit {' and '.join(fitting)}; "
            f"state which one (--format, or format in a recipe)"
        )
    if not fitting:
        raise ConfigError(
            f"{where}: the format cannot be told; the columns are "
            f"{', '.join(map(repr, row)) or 'none'}, expected one of "
            f"{', '.join(map(repr, _SPANS_COLUMN.values()))} beside the text"
        )
    return fitting[0]


# --------------------------------------------------------------------------------------------------
# Rows


def parquet_rows(path: Path) -> Iterator[_Row]:
    """The rows of a parquet file, each with where it stands."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as shard:
            number = 0
            for batch in shard.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield f"{path} row {number}", row
                    number += 1
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a parquet file that can be read ({error})") from error


def _hub_rows(source: str) -> Iterator[_Row]:
    import datasets

    # Its client warns of each of its retries; the error at the end says it once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, _, split = source.removeprefix(_HUB).partition(":")
    if not name:
        raise ConfigError(f"{source}: expected {_HUB}NAME or {_HUB}NAME:SPLIT")
    try:
        loaded = datasets.load_dataset(name, split=split or None, streaming=True)
        if not split:
            if len(loaded) > 1:
                raise ConfigError(
                    f"{source}: has the splits {', '.join(loaded)}; name one: {_HUB}{name}:SPLIT"
                )
            loaded = next(iter(loaded.values()))
        for number, row in enumerate(loaded):
            yield f"{source} row {number}", row
    except ConfigError:
        raise
    except ConnectionError as error:
        raise DataError(
            f"{source}: the hub cannot be reached; is there a network, and does HF_ENDPOINT, where "
            "set, name its host?"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        # The first line says what is wrong; the rest is advice for programmers.
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{source}: cannot be read ({type(error).__name__}: {reason}); is the name right, and "
            "does it need an account (hf auth login)?"
        ) from error


# --------------------------------------------------------------------------------------------------
# Our own form


def _gold_document(row: Mapping[str, object], where: str) -> Document:
    identity, text = id_of(row, where), field(row, "text", str, where)
    spans = []
    for place, record in objects(row, "spans", where):
        kind = field(record, "kind", str, place, "real")
        if kind not in KINDS:
            raise DataError(f"{place}: the kind is unknown; known: {', '.join(KINDS)}")
        span = replace(span_of(record, len(text), place), kind=kind, source="gold")
        spans.append((span, place.removeprefix(f"{where}: ")))
    spans.sort(key=lambda placed: placed[0].start)
    for (before, other), (span, name) in itertools.pairwise(spans):
        if span.start < before.end:
            raise DataError(f"{where}: {name} overlaps {other}; expected spans that lie apart")
    return Document(
        id=identity,
        language=_first_text(row, "language"),
        package=_first_text(row, "package"),
        path=_first_text(row, "path"),
        text=text,
        spans=tuple(span for span, _ in spans),
    )


def _first_text(row: Mapping[str, object], *columns: str) -> str:
    """The first of some columns that holds text; empty where none does."""
    return next((value for name in columns if isinstance(value := row.get(name), str)), "")


# --------------------------------------------------------------------------------------------------
# BigCode's forms


def _foreign_document(
    row: Mapping[str, object],
    where: str,
    format: str,
    names: LabelMap,
    left_out: Counter[str],
) -> Document | None:
    if _SPANS_COLUMN[format] not in row:
        raise DataError(
            f"{where}: no column {_SPANS_COLUMN[format]!r}; expected it in every row of the format "
            f"{format}, with an empty list where there is no entity"
        )
    columns = [name for name in TEXT_COLUMNS if name in row]
    if len(columns) != 1:
        raise DataError(
            f"{where}: expected one of the columns {' and '.join(TEXT_COLUMNS)}, found "
            f"{'both' if columns else 'neither'}"
        )
    text = row[columns[0]]
    if text is None:
        left_out["row: no text"] += 1
        return None
    if not isinstance(text, str):
        raise DataError(f"{where}: the column {columns[0]} holds {type(text).__name__}, not text")
    spans = []
    for item in _items(row[_SPANS_COLUMN[format]], where, format):
        span = _foreign_span(item, text, where, format, names, left_out)
        if span is not None:
            spans.append(span)
    identity = row.get("id")
    return Document(
        id=where if identity is None else str(identity),
        language=_first_text(row, "language", "lang"),
        package=_first_text(row, "package", "max_stars_repo_name", "repository_name"),
        path=_first_text(row, "path", "max_stars_repo_path"),
        text=text,
        spans=_without_overlaps(spans, left_out),
    )


def _items(value: object, where: str, format: str) -> list[Mapping[str, object]]:
    """The entities of a row: a list of objects, an object of lists, or either as JSON text."""
    column = _SPANS_COLUMN[format]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: the text in the column {column} is not JSON") from error
    if value is None:
        return []
    if isinstance(value, dict) and all(isinstance(items, list) for items in value.values()):
        # How `datasets` hands out a sequence of structs.
        if len({len(items) for items in value.values()}) > 1:
            raise DataError(f"{where}: the lists in the column {column} differ in length")
        return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise DataError(f"{where}: the column {column} holds no list of objects")


def _foreign_span(
    item: Mapping[str, object],
    text: str,
    where: str,
    format: str,
    names: LabelMap,
    left_out: Counter[str],
) -> Span | None:
    label = item.get(_LABEL_KEY[format])
    if not isinstance(label, str):
        raise DataError(f"{where}: an entity without {_LABEL_KEY[format]}")
    target = names.target(label, where)
    if target is None:
        left_out[f"label ignored: {label}"] += 1
        return None
    if format == "fragments":
        start, end = _position(item.get("position"))
    else:
        start, end = _offset(item.get("start")), _offset(item.get("end"))
    if start is None or end is None:
        left_out["span: no offsets"] += 1
        return None
    if start < 0 or end > len(text):
        left_out["span: outside the text"] += 1
        return None
    if start >= end:
        left_out["span: empty"] += 1
        return None
    if item.get("value") not in (None, text[start:end]):
        left_out["span: the value is not the text at its offsets"] += 1
        return None
    return Span(start=start, end=end, label=target[0], kind=target[1], source="gold")


def _position(value: object) -> tuple[int | None, int | None]:
    """A list of start and end, or such a list as text; None for what is no offset."""
    if isinstance(value, str) and (match := _POSITION.fullmatch(value)):
        return int(match[1]), int(match[2])
    if isinstance(value, list) and len(value) == 2:
        return _offset(value[0]), _offset(value[1])
    return None, None


def _offset(value: object) -> int | None:
    """An offset, a whole number or its digits as text; None for anything else."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if type(value) is int else None


def _without_overlaps(spans: Sequence[Span], left_out: Counter[str]) -> tuple[Span, ...]:
    once = list(dict.fromkeys(spans))
    kept = resolve_overlaps(once)
    left_out += Counter(
        {
            "span: stated twice": len(spans) - len(once),
            "span: overlaps another": len(once) - len(kept),
        }
    )
    return tuple(kept)


# --------------------------------------------------------------------------------------------------
# CoNLL


def _columns(line: str) -> list[str]:
    """The columns of a line: parted by tabs if there are any, else by spaces."""
    line = line.rstrip("\r\n")
    return [part.strip() for part in line.split("\t")] if "\t" in line else line.split()


def _conll_documents(path: Path, names: LabelMap, left_out: Counter[str]) -> Iterator[Document]:
    """Documents of a file of a token and its tag (the last column) a line.

    The form does not say what stood between two tokens: a document's text is its tokens with a
    space between them, which is not how code is written.
    """
    tokens: list[tuple[str, str]] = []
    first = 1
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(itertools.chain(file, ["\n"]), 1):
                where = f"{path}:{number}"
                columns = _columns(line)
                if not any(columns):
                    if tokens:
                        yield _conll_document(tokens, f"{path}:{first}", names, left_out)
                    tokens = []
                elif columns[0] != "-DOCSTART-":
                    if len(columns) < 2 or not columns[0]:
                        raise DataError(f"{where}: expected a token and its tag")
                    if not _TAG.fullmatch(columns[-1]):
                        raise DataError(
                            f"{where}: the last column is no tag; expected O or B-, I- (E-, S-, "
                            "L-, U-) and a label"
                        )
                    first = first if tokens else number
                    tokens.append((columns[0], columns[-1]))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected lines of CoNLL") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; expected lines of CoNLL") from error


def _conll_document(
    tokens: Sequence[tuple[str, str]], where: str, names: LabelMap, left_out: Counter[str]
) -> Document:
    entities: list[tuple[int, int, str]] = []
    at, before = 0, OUTSIDE
    for token, tag in tokens:
        end = at + len(token)
        if tag != OUTSIDE:
            # An I- that follows no entity of its label begins one, as in the first CoNLL sets.
            if tag[0] in _GOES_ON and before[2:] == tag[2:] and before[0] not in "ESLU":
                entities[-1] = (entities[-1][0], end, tag[2:])
            else:
                entities.append((at, end, tag[2:]))
        at, before = end + 1, tag
    spans = []
    for start, end, label in entities:
        target = names.target(label, where)
        if target is None:
            left_out[f"label ignored: {label}"] += 1
        else:
            spans.append(Span(start=start, end=end, label=target[0], kind=target[1], source="gold"))
    return Document(
        id=where,
        language="",
        package="",
        path="",
        text=" ".join(token for token, _ in tokens),
        spans=tuple(spans),
    )
