"""Names that a user writes, checked against those that are known."""

import difflib
from collections.abc import Iterable

from starencoder.errors import ConfigError


def check_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return a name that is known.

    Raises:
        ConfigError: It is not; the message suggests the nearest one.
    """
    names = tuple(known)
    if name not in names:
        shown = f"; known: {', '.join(names)}" if len(names) <= 12 else ""
        raise ConfigError(f"unknown {what} {name!r}{closest(name, names)}{shown}")
    return name


def closest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Suggest the nearest known name, as the middle of an error message; empty if none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f" (did you mean {prefix}{by_folded[near[0]]}?)" if near else ""
