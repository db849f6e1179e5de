"""Public source packages for corpora: fetch, check and unpack what a list names.

A list is a TOML file of `[[package]]` tables, one for each `Package`. Three registries are known:
`pypi` (the sdist; a pure wheel where there is none), `npm` (the tarball) and `debian` (the `.dsc`
and the files it names; patches are not applied). Each package is unpacked into
`OUTPUT/<registry>-<name>-<version>/`, and `OUTPUT/manifest.jsonl` says what is there.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from starencoder.archives import ArchiveError, unpack_package
from starencoder.errors import ConfigError, DataError, OutputError, reason_of
from starencoder.files import write_whole
from starencoder.licences import is_permissive, licences_agree, stated_licence
from starencoder.registries import (
    Package,
    RegistryError,
    find_registries,
    get_archives,
)
from starencoder.toml import from_toml, read_toml

MANIFEST = "manifest.jsonl"

_TEMPORARY = ".fetch-"

_NAMES = {
    "pypi": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
    "npm": re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*"),
    "debian": re.compile(r"[a-z0-9][a-z0-9+.-]+"),
}
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~!:_-]*")
_SHA256 = re.compile(r"(?:[0-9a-f]{64})?")
_ARCHIVE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+!-]*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """One line of the manifest: a package that lies in the output."""

    registry: Literal["pypi", "npm", "debian"]
    name: str
    version: str
    archive: str
    """File name of what was fetched; for Debian the `.dsc`."""
    sha256: str
    licence: str
    """As the list says."""
    stated_licence: str
    """As the package itself says; empty where it does not say."""
    licence_agrees: bool | None
    """Whether the two can be the same; None where the package does not say."""
    files: int
    bytes: int
    skipped: Mapping[str, int]
    """Members of the archive that were not unpacked, counted by reason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one package of the list."""

    package: Package
    status: Literal["fetched", "already there", "excluded", "licence refused", "failed"]
    reason: str = ""
    unpacked: Unpacked | None = None


# --------------------------------------------------------------------------------------------------
# Lists


@dataclass(frozen=True, slots=True)
class _List:
    package: tuple[Package, ...] = ()


def read_packages(path: Path) -> list[Package]:
    """Read a list of packages.

    Raises:
        ConfigError: The file cannot be read, or an entry is not of the form of `Package`.
    """
    packages = from_toml(_List, read_toml(path), str(path)).package
    if not packages:
        raise ConfigError(f"{path}: no package; expected one [[package]] table for each")
    folders: set[str] = set()
    for number, package in enumerate(packages):
        where = f"{path}: package[{number}]"
        if malformed := malformed_field(package) or (
            "licence" if not package.licence.strip() else ""
        ):
            raise ConfigError(
                f"{where}: {malformed} is not of the form it has in {package.registry}"
            )
        if package.archive and package.registry != "pypi":
            raise ConfigError(f"{where}: archive is for pypi only")
        if package.folder.lower() in folders:
            raise ConfigError(f"{where}: {package.label} stands there twice")
        folders.add(package.folder.lower())
    return list(packages)


def malformed_field(package: Package) -> str:
    """The first field whose form no package of the registry has, or which could leave a folder.

    Empty where all are well; the licence may be anything.
    """
    for key, pattern in (
        ("name", _NAMES[package.registry]),
        ("version", _VERSION),
        ("sha256", _SHA256),
        ("archive", _ARCHIVE),
    ):
        if not pattern.fullmatch(getattr(package, key)):
            return key
    return ""


def read_excluded(path: Path) -> frozenset[str]:
    """Read names of packages to leave alone, one a line.

    `#` begins a comment, and so does a space after a name. A name counts in every registry and
    version, however its words are joined, and for Debian also behind `python-`, `node-` and such.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({reason_of(error)})") from error
    names = (line.partition("#")[0].split() for line in lines)
    return frozenset(_normal_name(words[0]) for words in names if words)


def is_excluded(package: Package, excluded: Collection[str]) -> bool:
    """Whether a package is one of the names that `read_excluded` gave."""
    name = _normal_name(package.name)
    bare = name
    if package.registry == "debian":
        bare = re.sub(
            r"^(?:python3?|node|ruby|rust|haskell|erlang|php|lua|golang|r-cran)-", "", name
        )
    return name in excluded or bare in excluded


def _normal_name(name: str) -> str:
    """A name as PyPI compares names; `@scope/name` becomes `scope-name`."""
    return re.sub(r"[-_./@]+", "-", name).strip("-").lower()


# --------------------------------------------------------------------------------------------------
# Fetching


def fetch_packages(
    packages: Sequence[Package],
    output: Path,
    *,
    excluded: Collection[str] = frozenset(),
    any_licence: bool = False,
    jobs: int = 4,
) -> Iterator[Outcome]:
    """Fetch and unpack packages, several at a time; tell of each when it is done.

    A package that already lies in `output`, with the hash and archive the list asks for, is not
    fetched again. Directories appear whole or not at all. The manifest is written anew after each
    package; lines of packages that are not in this list stay.

    Args:
        packages: What `read_packages` gave.
        output: The directory to unpack into; made if needed.
        excluded: Names to leave alone, from `read_excluded`.
        any_licence: Take packages whose licence is not permissive too.
        jobs: Downloads at a time.

    Raises:
        ConfigError: It is set up nowhere where a registry lies.
        DataError: The manifest in `output` is damaged.
        OutputError: `output` cannot be written.
    """
    outcomes: list[Outcome] = []
    wanted: list[Package] = []
    for package in packages:
        if is_excluded(package, excluded):
            outcomes.append(Outcome(package, "excluded"))
        elif not any_licence and not is_permissive(package.licence):
            reason = f"{package.licence} is not among the permissive licences"
            outcomes.append(Outcome(package, "licence refused", reason))
        else:
            wanted.append(package)
    manifest = _read_manifest(output / MANIFEST)
    missing = []
    for package in wanted:
        entry = manifest.get(package.folder)
        if entry is None or not _is_there(package, entry, output):
            missing.append(package)
            continue
        agrees = licences_agree(package.licence, entry.stated_licence)
        manifest[package.folder] = replace(
            entry, licence=package.licence, licence_agrees=agrees if entry.stated_licence else None
        )
        outcomes.append(Outcome(package, "already there", "", manifest[package.folder]))
    addresses = find_registries({package.registry for package in missing})
    try:
        output.mkdir(parents=True, exist_ok=True)
        for left in output.glob(f"{_TEMPORARY}*"):  # of a run that was killed
            shutil.rmtree(left)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
    order = [package.folder for package in packages]
    yield from outcomes
    _write_manifest(output, manifest, order)
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = [
            pool.submit(_fetch_package, package, addresses[package.registry], output)
            for package in missing
        ]
        for future in as_completed(futures):
            outcome = future.result()
            if outcome.unpacked is not None:
                manifest[outcome.package.folder] = outcome.unpacked
                _write_manifest(output, manifest, order)
            yield outcome
    finally:
        pool.shutdown(cancel_futures=True)


def _is_there(package: Package, entry: Unpacked, output: Path) -> bool:
    return (
        (output / package.folder).is_dir()
        and package.sha256 in ("", entry.sha256)
        and package.archive in ("", entry.archive)
    )


def _fetch_package(package: Package, addresses: Sequence[str], output: Path) -> Outcome:
    try:
        with tempfile.TemporaryDirectory(dir=output, prefix=_TEMPORARY) as folder:
            work = Path(folder)
            downloads = work / "archives"
            downloads.mkdir()
            archives = get_archives(package, addresses, downloads)
            root, unpacker = unpack_package(package.registry, archives, work)
            if not unpacker.files:
                raise ArchiveError("it holds no files")
            stated = stated_licence(package.registry, root)
            with archives[0].open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            target = output / package.folder
            if target.exists():  # another version of the same name, or one the manifest lost
                target.rename(work / "old")
            root.rename(target)
    except (ArchiveError, RegistryError) as error:
        return Outcome(package, "failed", str(error))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
    unpacked = Unpacked(
        registry=package.registry,
        name=package.name,
        version=package.version,
        archive=archives[0].name,
        sha256=sha256,
        licence=package.licence,
        stated_licence=stated,
        licence_agrees=licences_agree(package.licence, stated) if stated else None,
        files=unpacker.files,
        bytes=unpacker.bytes,
        skipped=dict(sorted(unpacker.skipped.items())),
    )
    return Outcome(package, "fetched", "", unpacked)


def _read_manifest(path: Path) -> dict[str, Unpacked]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
    entries = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = Unpacked(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path} line {number}: not a line of a manifest; remove the file to fetch anew"
            ) from error
        package = Package(
            registry=entry.registry, name=entry.name, version=entry.version, licence=entry.licence
        )
        entries[package.folder] = entry
    return entries


def _write_manifest(output: Path, manifest: Mapping[str, Unpacked], order: Sequence[str]) -> None:
    """Write the manifest whole, packages of the list first and in its order."""
    folders = [*order, *sorted(set(manifest).difference(order))]
    text = "".join(
        json.dumps(asdict(manifest[folder])) + "\n" for folder in folders if folder in manifest
    )
    write_whole(output / MANIFEST, text.encode())
