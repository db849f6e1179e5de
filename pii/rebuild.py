"""Rebuild the gold set: from where its windows stand in public packages to documents with text.

`gold/annotations.jsonl` says of each window which lines of which file of which package it is, and
where the spans are, but not what it says; `gold/README.md` describes the fields.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, cast

from pii.records import field, json_records, objects, span_of
from starencoder.errors import ConfigError, DataError, OutputError
from starencoder.files import open_whole
from starencoder.packages import fetch_packages, malformed_field
from starencoder.registries import Package

GOLD = Path(__file__).parent / "gold" / "annotations.jsonl"
SPLITS = ("train", "dev", "dev2", "extra")
"""The first three are those of the scores; `extra` was annotated later, for training."""

_PATCH_SECONDS = 60
_REGISTRIES = ("pypi", "npm", "debian")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Some lines of a file of a package, and the spans in them, without their text."""

    id: str
    split: str
    """One of `SPLITS`; empty where the file does not say."""
    package: Package
    path: str
    """In the unpacked package."""
    language: str
    line: int
    """The first line, from 1; lines end where `str.splitlines` ends them."""
    chars: int
    """Code points from the beginning of that line."""
    sha1: str
    """Of the text as UTF-8, with line ends as `\\n`."""
    spans: Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What became of the windows."""

    windows: int
    """Those that were written."""
    missing: Mapping[str, int]
    """Those that cannot be had, by reason."""
    packages: Mapping[str, str]
    """For each package that cannot be had, why."""


def read_windows(path: Path = GOLD, *, splits: Collection[str] = ()) -> list[Window]:
    """Read windows; of some splits only, if any are named.

    Raises:
        DataError: The file cannot be read, a line is not a window or the second of one id (it is
            named), or there is none.
    """
    windows = []
    ids: set[str] = set()
    for where, record in json_records(path, "windows as JSON lines"):
        window = _window(record, where)
        if window.id in ids:
            raise DataError(f"{where}: a second window has this id; expected one of its own")
        ids.add(window.id)
        if not splits or window.split in splits:
            windows.append(window)
    if not windows:
        asked = f" of {', '.join(splits)}" if splits else ""
        raise DataError(f"{path}: no windows{asked}; expected one a line, as JSON")
    return windows


def _window(record: Mapping[str, object], where: str) -> Window:
    path = PurePosixPath(field(record, "path", str, where))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where}: the field 'path' leaves the package; expected one inside of it")
    registry = field(record, "registry", str, where)
    if registry not in _REGISTRIES:
        raise DataError(f"{where}: the registry is unknown; known: {', '.join(_REGISTRIES)}")
    package = Package(
        registry=cast(Literal["pypi", "npm", "debian"], registry),
        name=field(record, "package", str, where),
        version=field(record, "version", str, where),
        licence="",  # nobody's business here: the text stays with who rebuilds it
        archive=field(record, "archive", str, where, ""),
    )
    if malformed := malformed_field(package):
        malformed = "package" if malformed == "name" else malformed
        raise DataError(f"{where}: the field {malformed!r} is not of the form it has in {registry}")
    line, chars = field(record, "line", int, where), field(record, "chars", int, where)
    if line < 1 or chars < 1:
        raise DataError(f"{where}: the fields 'line' and 'chars' must be 1 or more")
    spans = []
    for place, span in objects(record, "spans", where):
        span_of(span, chars, place)
        spans.append(span)
    return Window(
        id=field(record, "id", str, where),
        split=field(record, "split", str, where, ""),
        package=package,
        path=str(path),
        language=field(record, "language", str, where, ""),
        line=line,
        chars=chars,
        sha1=field(record, "sha1", str, where),
        spans=spans,
    )


def rebuild_gold(
    windows: Sequence[Window],
    output: Path,
    *,
    source_dir: Path | None = None,
    jobs: int = 4,
    progress: bool = False,
) -> Rebuilt:
    """Cut the windows out of their packages and write those whose hash is right, as JSON lines.

    Args:
        windows: What `read_windows` gave.
        output: The file to write: `id`, `split`, `language`, `package`, `path`, `text`, `spans`.
        source_dir: Holds unpacked packages as `packages fetch` leaves them, and nothing is fetched.
            Without it every package is fetched, and removed when its windows are cut.
        jobs: Downloads at a time.
        progress: Whether a bar is shown.

    Raises:
        ConfigError: It is set up nowhere where a registry lies, or `source_dir` is no folder.
        OutputError: The file, or a folder beside it for the packages, cannot be written.
    """
    from tqdm import tqdm

    if source_dir is not None and not source_dir.is_dir():
        raise ConfigError(f"{source_dir}: no such folder; expected unpacked packages in it")
    by_package: dict[Package, list[Window]] = {}
    for window in windows:
        by_package.setdefault(window.package, []).append(window)
    texts: dict[str, str] = {}
    missing: Counter[str] = Counter()
    without: dict[str, str] = {}
    if source_dir is None:
        sources = _fetched(list(by_package), output.absolute().parent, jobs)
    else:
        sources = _found(by_package, source_dir)
    for package, source in tqdm(sources, total=len(by_package), leave=False, disable=not progress):
        wanted = by_package[package]
        if isinstance(source, str):
            without[package.label] = source
            missing["package cannot be had"] += len(wanted)
            continue
        cut = cut_windows(source, wanted)
        texts |= cut.texts
        missing.update(cut.missing.values())
    with open_whole(output) as file:
        for window in windows:
            if window.id in texts:
                row = {
                    "id": window.id,
                    "split": window.split,
                    "language": window.language,
                    "package": window.package.name,
                    "path": window.path,
                    "text": texts[window.id],
                    "spans": window.spans,
                }
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    return Rebuilt(
        windows=len(texts),
        missing=dict(sorted(missing.items())),
        packages=dict(sorted(without.items())),
    )


@dataclass(frozen=True, slots=True)
class CutWindows:
    """The windows of one package."""

    texts: Mapping[str, str]
    """By id."""
    missing: Mapping[str, str]
    """Why there is no text, by id."""


def cut_windows(root: Path, windows: Sequence[Window]) -> CutWindows:
    """Cut windows out of their unpacked package, which is left as it is.

    Some windows of Debian's sources were read with Debian's patches applied; those whose text is
    another are looked for in a patched copy too.
    """
    texts, missing = _cut(root, windows)
    series = root / "debian" / "patches" / "series"
    if missing and windows[0].package.registry == "debian" and series.is_file():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "patched")
            shutil.copytree(root, copy, symlinks=True)
            if _apply_patches(copy, series):
                more, missing = _cut(copy, [w for w in windows if w.id in missing])
                texts |= more
    return CutWindows(texts, missing)


def _cut(root: Path, windows: Iterable[Window]) -> tuple[dict[str, str], dict[str, str]]:
    texts, missing = {}, {}
    for window in windows:
        try:
            text = (root / window.path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            missing[window.id] = "file not UTF-8"
            continue
        except (OSError, ValueError):  # or a path that no file system has
            missing[window.id] = "no such file in the package"
            continue
        start = sum(map(len, text.splitlines(keepends=True)[: window.line - 1]))
        cut = text[start : start + window.chars]
        if hashlib.sha1(cut.encode(), usedforsecurity=False).hexdigest() == window.sha1:
            texts[window.id] = cut
        else:
            missing[window.id] = "other text than was annotated"
    return texts, missing


def _apply_patches(root: Path, series: Path) -> bool:
    """Apply a Debian source's patches as dpkg-source does; False where `patch` is missing.

    A patch that does not apply is passed over: the windows' hashes say what is right.
    """
    for line in series.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.partition("#")[0].split()
        path = series.parent / words[0] if words else None
        if path is None or not path.resolve().is_relative_to(series.parent.resolve()):
            continue
        # Quiet, no questions, no fuzz, no backups; patch itself refuses paths outside of root.
        command = ["patch", "-d", str(root), "-p1", "-t", "-N", "-s", "-E", "-F0", "-r-", "-Vnever"]
        try:
            with path.open("rb") as file:
                subprocess.run(
                    command, stdin=file, capture_output=True, timeout=_PATCH_SECONDS, check=False
                )
        except FileNotFoundError:
            if shutil.which("patch") is None:
                return False
        except (OSError, subprocess.SubprocessError):
            continue
    return True


_Source = Iterator[tuple[Package, Path | str]]
"""Packages, each with the folder that holds it or the reason why there is none."""


def _found(packages: Collection[Package], source_dir: Path) -> _Source:
    for package in packages:
        folder = source_dir / package.folder
        yield package, folder if folder.is_dir() else f"not in {source_dir}"


def _fetched(packages: Sequence[Package], beside: Path, jobs: int) -> _Source:
    """Each package in a folder that is removed when the next one is asked for."""
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=beside, prefix=".rebuild-") as folder:
            # Every licence: what is written stays with who asked for it.
            for outcome in fetch_packages(packages, Path(folder), any_licence=True, jobs=jobs):
                root = Path(folder, outcome.package.folder)
                yield outcome.package, root if outcome.unpacked else outcome.reason
                shutil.rmtree(root, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{beside}: cannot be written ({error.strerror})") from error
