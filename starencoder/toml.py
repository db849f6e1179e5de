"""TOML to frozen dataclasses, strictly: unknown keys, missing keys and wrong types are errors."""

import dataclasses
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from starencoder.errors import ConfigError
from starencoder.names import closest

_Config = TypeVar("_Config")

_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def read_toml(path: Path) -> dict[str, object]:
    """The tables of a TOML file.

    Raises:
        ConfigError: It cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """`base` with the values of `over`; tables are merged key by key, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def parse_overrides(assignments: Sequence[str]) -> dict[str, object]:
    """The tables that `key.inner=value` arguments say; a value that is no TOML is a string.

    Raises:
        ConfigError: An argument has no `=` or no key.
    """
    tables: dict[str, object] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set takes key=value, such as optimizer.learning_rate=1e-4: {key}")
        try:
            value: object = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, KeyError):
            value = text
        for part in reversed(key.split(".")):
            value = {part: value}
        tables = merge(tables, value)  # type: ignore[arg-type]
    return tables


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested tables as one, with keys such as `run.steps`; those in lists are numbered from 1."""
    table: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
            value = {str(number): inner for number, inner in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            table |= flatten(value, f"{prefix}{name}.")
        else:
            table[prefix + name] = value
    return table


def differences(before: object, now: Mapping[str, object]) -> dict[str, str]:
    """Settings that are not what they were: by name what was and what is.

    Args:
        before: As read from JSON; what is no table counts as an empty one.
        now: As given, with tuples where JSON has lists.
    """
    were = flatten(before) if isinstance(before, Mapping) else {}
    are = flatten(json.loads(json.dumps(now)))
    return {
        name: f"{name} was {were.get(name)}, is {are.get(name)}"
        for name in sorted({*were, *are})
        if were.get(name) != are.get(name)
    }


def from_toml(into: type[_Config], values: Mapping[str, object], source: str) -> _Config:
    """Build a dataclass from a table; fields may be dataclasses, tuples, mappings and literals.

    Args:
        into: A dataclass; its `__post_init__` may raise `ConfigError` with a message that starts
            with a field's name.
        values: The table.
        source: What an error names first, such as the file.

    Raises:
        ConfigError: A key is unknown (the nearest one is suggested) or missing, or a value has the
            wrong type or is out of range.
    """
    return _table(into, values, source, "")


def _table(into: type[_Config], values: Mapping[str, object], source: str, prefix: str) -> _Config:
    hints = get_type_hints(into)
    for name in values:
        if name not in hints:
            hint = closest(name, hints, prefix=prefix)
            raise ConfigError(f"{source}: {prefix}{name} is not a setting{hint}")
    fields = {}
    for field in dataclasses.fields(into):  # type: ignore[arg-type]
        name = field.name
        if name in values:
            fields[name] = _value(hints[name], values[name], source, prefix + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: {prefix}{name} is missing")
    try:
        return into(**fields)
    except ConfigError as error:
        raise ConfigError(f"{source}: {prefix}{error}") from error


def _value(wanted: object, value: object, source: str, name: str) -> object:
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):  # X | None: TOML has no null, so it is an X
        return _value(next(kind for kind in inner if kind is not type(None)), value, source, name)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{source}: {name} must be a table")
        return _table(wanted, value, source, f"{name}.")
    if origin is tuple:
        if not isinstance(value, list):
            kind = "tables, [[" + name + "]]" if dataclasses.is_dataclass(inner[0]) else "a list"
            raise ConfigError(f"{source}: {name} must be {kind}")
        return tuple(
            _value(inner[0], item, source, f"{name}[{index}]") for index, item in enumerate(value)
        )
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise ConfigError(f"{source}: {name} must be a table")
        return {key: _value(inner[1], item, source, f"{name}.{key}") for key, item in value.items()}
    if origin is Literal:
        if value not in inner:
            raise ConfigError(f"{source}: {name} must be one of {', '.join(map(str, inner))}")
        return value
    # An int is a fine float; a bool, which Python takes for an int, is neither.
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{source}: {name} must be {_NAMES[wanted]}")  # type: ignore[index]
    return value
