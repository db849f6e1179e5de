"""Licences of packages: which are permissive, and what a package says of its own."""

import json
import re
from email.parser import Parser
from pathlib import Path

PERMISSIVE_LICENCES = frozenset(
    "0BSD Apache-2.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause "
    "BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 CC0-1.0 HPND ISC LicenseRef-Public-Domain MIT MIT-0 "
    "MIT-CMU NTP PostgreSQL PSF-2.0 Python-2.0 SSH-OpenSSH TCL Unlicense Zlib blessing".split()
)
"""SPDX names of licences that ask for no more than that they and the authors are named."""

_FILE_LIMIT = 1 << 20


def is_permissive(expression: str) -> bool:
    """Whether an SPDX expression lets us choose licences of `PERMISSIVE_LICENCES` only.

    An expression with both OR and parentheses is taken at its strictest: every licence in it
    must be permissive.
    """
    alternatives = [expression]
    if "(" not in expression:
        alternatives = re.split(r"\s+OR\s+", expression)
    return any(
        all(
            re.split(r"\s+WITH\s+", name)[0].strip("() ") in PERMISSIVE_LICENCES
            for name in re.split(r"\s+(?:AND|OR)\s+", alternative)
        )
        for alternative in alternatives
    )


_EMPTY_WORDS = frozenset(
    "the a license licence licenses licensed under software version v clause style new modified "
    "revised simplified only osi approved and or with inc foundation".split()
)
_SYNONYMS = {"expat": "mit", "python": "psf", "psfl": "psf", "asl": "apache"}


def licences_agree(listed: str, stated: str) -> bool:
    """Whether a package's own words for its licence can mean what the list says.

    The words are free text ("BSD", "Apache License, Version 2.0"), so one may be the more exact.
    """
    for wanted in re.split(r"\s+OR\s+", listed):
        expected = _licence_words(wanted)
        for alternative in re.split(r"(?i)\s+or\s+|\s*/\s*", stated):
            found = _licence_words(alternative)
            joined = bool(re.search(r"(?i)\s+and\s+|[;&]", alternative))
            if found and (found <= expected or (expected <= found and not joined)):
                return True
    return False


def _licence_words(text: str) -> set[str]:
    words = re.findall(r"[a-z]+|\d+(?:\.\d+)*", text.lower())
    words = [_SYNONYMS.get(word, word).removesuffix(".0") for word in words]
    return set(words) - _EMPTY_WORDS


def stated_licence(registry: str, root: Path) -> str:
    """What an unpacked package says of its own licence, on one line; empty if nothing."""
    if registry == "npm":
        try:
            described = json.loads(_head(root / "package.json"))
            stated = described.get("license") or described.get("licenses") or ""
        except (ValueError, AttributeError, RecursionError):
            return ""
        # Old packages give a list, and objects with a type and an address.
        choices = stated if isinstance(stated, list) else [stated]
        names = (choice.get("type") if isinstance(choice, dict) else choice for choice in choices)
        return _one_line(" OR ".join(name for name in names if isinstance(name, str)))
    if registry == "debian":
        text = _head(root / "debian" / "copyright")
        match = re.search(r"(?m)^Files:\s*\*\s*$(?:\n(?!\n).*)*?\nLicense:[ \t]*(\S.*)$", text)
        return _one_line(match[1]) if match else ""
    paths = [root / "PKG-INFO", *root.glob("*.dist-info/METADATA")]
    headers = Parser().parsestr("".join(map(_head, paths)), headersonly=True)
    for name in ("License-Expression", "License"):
        value = str(headers.get(name, "")).strip()
        if value and value != "UNKNOWN" and "\n" not in value:
            return _one_line(value)
    classifiers = [str(value).split(" :: ") for value in headers.get_all("Classifier", [])]
    return _one_line(" AND ".join(c[-1] for c in classifiers if c[0] == "License"))


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_LIMIT).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:80]
