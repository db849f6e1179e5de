"""False alarms in many languages: translated messages as code has them, none with an entity.

    pip download --no-deps django==4.2.16 && unzip -q django-*.whl -d FOLDER
    python benchmarks/languages.py FOLDER [--model tiny|DIR]

The messages of all catalogues of a language (`LANGUAGE/LC_MESSAGES/*.po`) without placeholders, in
windows of 25 lines, of which two are comments and the third is an error that is raised. Printed is
the share of windows in which anything is found that is no example.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pii.labels import OPERATING_POINTS
from pii.redactor import Redactor

LINES = 25
LEAST = 10
"""Windows of a language that is shown."""

_MESSAGE = re.compile(r'^msgstr "(?!")([^"\\%{<@]+)"$', re.MULTILINE)


def main() -> None:
    """Print a row for each language."""
    parser = argparse.ArgumentParser(description="False alarms by language.")
    parser.add_argument("folder", type=Path, help="holds LANGUAGE/LC_MESSAGES/*.po somewhere")
    parser.add_argument("--model", default="tiny", help="tiny or a directory; default: tiny")
    options = parser.parse_args()
    redactors = {
        point: Redactor(model=options.model, operating_point=point) for point in OPERATING_POINTS
    }
    print(f"{'language':10} {'windows':>8}", *(f"{point:>9}" for point in redactors))
    whole, read = [0] * len(redactors), 0
    for language, messages in sorted(messages_of(options.folder).items()):
        windows = list(iter_windows(messages))
        if len(windows) < LEAST:
            continue
        found = [sum(bool(r.detect(window)) for window in windows) for r in redactors.values()]
        _print_row(language, len(windows), found)
        whole = [a + b for a, b in zip(whole, found, strict=True)]
        read += len(windows)
    _print_row("all", read, whole)


def _print_row(name: str, windows: int, found: Sequence[int]) -> None:
    print(f"{name:10} {windows:8}", *(f"{count / max(1, windows):9.2f}" for count in found))


def messages_of(folder: Path) -> Mapping[str, list[str]]:
    """The messages of all catalogues by language; without the headers, which name translators."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("LC_MESSAGES/*.po")):
        _, _, entries = path.read_text(encoding="utf-8").partition("\n\n")
        found[path.parent.parent.name] += _MESSAGE.findall(entries)
    return found


def iter_windows(messages: list[str]) -> Iterator[str]:
    """Windows of comments and raised errors; what is left at the end makes none."""
    for start in range(0, len(messages) - LINES + 1, LINES):
        yield "".join(
            f"# {message}\n" if number % 3 else f'    raise ValueError("{message}")\n'
            for number, message in enumerate(messages[start : start + LINES])
        )


if __name__ == "__main__":
    main()
