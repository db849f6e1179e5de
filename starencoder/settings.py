"""Settings of a project: `starencoder.toml`, or `[tool.starencoder]` in pyproject.toml.

They are read from the current directory and nowhere else: the tree that is scanned may be hostile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starencoder.errors import ConfigError
from starencoder.names import closest
from starencoder.toml import read_toml

Value = str | bool | int | float | tuple[str, ...]

_SHARED: Mapping[str, type] = {
    "model": str,
    "labels": tuple,
    "min-score": float,
    "disable": tuple,
    "include-examples": bool,
    "consistent": bool,
    "hidden": bool,
    "vendored": bool,
    "no-ignore": bool,
    "jobs": int,
    "operating-point": str,
}
_BY_COMMAND: Mapping[str, Mapping[str, type]] = {
    "detect": {"format": str, "exit-zero": bool},
    "redact": {"operator": str},
    "scan": {"mode": str, "operator": str, "text-column": str, "language-column": str},
}
_TYPE_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list of strings",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a settings file says, by the names of the command line's flags without their dashes."""

    source: str = ""
    """The file they come from; empty if there is none."""
    shared: Mapping[str, Value] | None = None
    by_command: Mapping[str, Mapping[str, Value]] | None = None

    def get(self, command: str, name: str) -> Value | None:
        """A command's own setting, or the one shared by all commands; None where there is none."""
        own = (self.by_command or {}).get(command, {}).get(name)
        return own if own is not None else (self.shared or {}).get(name)


def load_settings(folder: Path) -> Settings:
    """Read a directory's settings; `starencoder.toml` hides what pyproject.toml says.

    Raises:
        ConfigError: Not TOML, an unknown key, or a value of the wrong type.
    """
    own, project = folder / "starencoder.toml", folder / "pyproject.toml"
    if own.exists():
        return _settings(own.name, "", read_toml(own))
    tools = read_toml(project).get("tool") if project.exists() else None
    table = tools.get("starencoder") if isinstance(tools, dict) else None
    if table is None:
        return Settings()
    if not isinstance(table, dict):
        raise ConfigError("pyproject.toml: tool.starencoder must be a table")
    return _settings("pyproject.toml", "tool.starencoder.", table)


def _settings(source: str, prefix: str, table: Mapping[str, object]) -> Settings:
    shared: dict[str, Value] = {}
    by_command: dict[str, Mapping[str, Value]] = {}
    for key, value in table.items():
        if key in _BY_COMMAND and isinstance(value, dict):
            allowed = {**_SHARED, **_BY_COMMAND[key]}
            by_command[key] = {
                name: _checked(source, f"{prefix}{key}.", name, inner, allowed)
                for name, inner in value.items()
            }
        else:
            allowed = {**_SHARED, **dict.fromkeys(_BY_COMMAND, dict)}
            shared[key] = _checked(source, prefix, key, value, allowed)
    return Settings(source, shared, by_command)


def _checked(
    source: str, prefix: str, name: str, value: object, allowed: Mapping[str, type]
) -> Value:
    if name not in allowed:
        hint = closest(name, allowed, prefix=prefix)
        raise ConfigError(f"{source}: {prefix}{name} is not a setting{hint}")
    wanted = allowed[name]
    if wanted is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    # In Python a bool is an int; in a settings file it is a mistake.
    is_bool = isinstance(value, bool)
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is str and isinstance(value, str):
        return value
    if wanted is int and isinstance(value, int) and not is_bool:
        return value
    if wanted is float and isinstance(value, int | float) and not is_bool:
        return float(value)
    expected = _TYPE_NAMES.get(wanted, "a table")
    raise ConfigError(f"{source}: {prefix}{name} must be {expected}")
