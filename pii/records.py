"""Records of JSON lines, and their fields, with messages that name a field and never its value."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pii.labels import LABELS
from pii.spans import Span
from starencoder.errors import DataError, reason_of

_T = TypeVar("_T")

_TYPES: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number",
    bool: "true or false", type(None): "null",
}  # fmt: skip


def json_records(path: Path, expected: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The objects of a JSON lines file, with or without a byte order mark, and where each stands.

    Raises:
        DataError: The file cannot be read, or a line is no object; `expected` says what it is.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(
                        f"{where}: not JSON; expected an object on each line"
                    ) from error
                if not isinstance(record, dict):
                    raise DataError(f"{where}: {_type_of(record)}; expected an object")
                yield where, record
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {reason_of(error)}; expected {expected}") from error


def field(
    record: Mapping[str, object], name: str, kind: type[_T], where: str, default: _T | None = None
) -> _T:
    """A field of a record; the default, if there is one, where the record has no such field.

    Args:
        record: An object of JSON.
        name: The field's.
        kind: A type of `json`; `float` takes whole numbers too.
        where: Where the record stands, for the message.
        default: Without one the field must be there.

    Raises:
        DataError: It is missing or of another type.
    """
    if name not in record:
        if default is not None:
            return default
        raise DataError(f"{where}: no field {name!r}; expected {_TYPES[kind]}")
    value = record[name]
    # `bool` is an `int` to Python and not to JSON.
    if type(value) is kind or (kind is float and type(value) is int):
        return value  # type: ignore[return-value]
    raise DataError(f"{where}: the field {name!r} is {_type_of(value)}; expected {_TYPES[kind]}")


def id_of(record: Mapping[str, object], where: str) -> str:
    """The field `id`, text or a whole number, as text.

    Raises:
        DataError: It is missing or of another type.
    """
    if type(record.get("id")) is int:
        return str(record["id"])
    return field(record, "id", str, where)


def objects(
    record: Mapping[str, object], name: str, where: str
) -> list[tuple[str, Mapping[str, object]]]:
    """The objects of a field that is a list of them, each with where it stands.

    Raises:
        DataError: It is missing, or something else.
    """
    found: list[tuple[str, Mapping[str, object]]] = []
    for number, item in enumerate(field(record, name, list, where)):
        place = f"{where}: {name}[{number}]"
        if not isinstance(item, dict):
            raise DataError(f"{place} is {_type_of(item)}; expected an object")
        found.append((place, item))
    return found


def span_of(record: Mapping[str, object], num_chars: int, where: str) -> Span:
    """A span of a text of so many characters, from the fields `start`, `end` and `label`.

    Raises:
        DataError: A field is missing or of another type, the label is unknown, or the span is empty
            or reaches outside the text.
    """
    start, end = field(record, "start", int, where), field(record, "end", int, where)
    label = field(record, "label", str, where)
    if label not in LABELS:
        raise DataError(f"{where}: the label is unknown; known: {', '.join(LABELS)}")
    # Offsets are not quoted: a wrong one may have any number of digits.
    if start < 0 or end > num_chars:
        raise DataError(
            f"{where}: the span reaches outside the text, which has {num_chars} characters; "
            "expected offsets in code points of the text"
        )
    if start >= end:
        raise DataError(f"{where}: the span is empty; expected a start before its end")
    return Span(start=start, end=end, label=label)


def _type_of(value: object) -> str:
    return _TYPES.get(type(value), type(value).__name__)
