"""The registries of public packages: where they lie, and how a package is read from each.

No address stands here: pip, npm and apt are asked (`find_registries`). No code of a package runs.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import IO, Literal

from starencoder.apt import AptError, fetch_source
from starencoder.archives import write_block
from starencoder.errors import ConfigError, DataError

_INDEX_LIMIT = 1 << 26
_ARCHIVE_LIMIT = 1 << 30
_DSC_LIMIT = 1 << 20
_TIMEOUT_SECONDS = 60
_TRIES = 3
_RETRY_SECONDS = 1.0
_BLOCK = 1 << 16
# What reading JSON of another form raises; RecursionError: very deep JSON.
_NOT_OF_THE_FORM = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One `[[package]]` of a list."""

    registry: Literal["pypi", "npm", "debian"]
    name: str
    """As the registry writes it; for Debian the source package's."""
    version: str
    """Exact."""
    licence: str
    """An SPDX expression."""
    sha256: str = ""
    """Of the archive, for Debian of the `.dsc`, which holds the hashes of the other files. Without
    it whatever the registry serves is taken, and its hash is written to the manifest."""
    archive: str = ""
    """PyPI: the file to take, such as a wheel, instead of the sdist."""

    @property
    def folder(self) -> str:
        """The name of the directory it is unpacked into."""
        name = self.name.replace("/", "+")
        return f"{self.registry}-{name}-{self.version.replace(':', '%3a')}"

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.registry} {self.name} {self.version}"


class RegistryError(DataError):
    """A package that a registry does not have, or not as it should be."""


class _NotFoundError(RegistryError):
    """The registry answers that it has no such file."""


def find_registries(registries: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The addresses of some registries, as this machine's tools are set up.

    PyPI: `PIP_INDEX_URL`, else pip's `global.index-url` or default. npm: `npm_config_registry`,
    else what npm says. Debian: `DEBIAN_MIRROR`, else the mirrors apt uses, in its order; what none
    of them has where sources of main lie is asked of apt itself (`starencoder.apt`).

    Raises:
        ConfigError: One of them is set up nowhere.
    """
    found: dict[str, tuple[str, ...]] = {}
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    pip_help = [sys.executable, "-m", "pip", "download", "--help"]
    npm = ["npm", "config", "get", "registry"]
    apt = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Component: main"]
    for registry, variable, command, remedy in (
        ("pypi", "PIP_INDEX_URL", pip, "pip config set global.index-url URL"),
        ("npm", "npm_config_registry", npm, "npm config set registry URL"),
        ("debian", "DEBIAN_MIRROR", apt, "name a mirror in apt's sources"),
    ):
        if registry not in registries:
            continue
        said = os.environ.get(variable) or _output_of(command)
        if registry == "pypi" and not said:  # pip tells its own default in its help alone
            said = "\n".join(re.findall(r"\(default\s+(\S+?)\)", _output_of(pip_help)))
        urls = tuple(dict.fromkeys(re.findall(r"(?m)^(?:https?|file):\S+$", said)))
        if not urls:
            raise ConfigError(
                f"{registry}: no address is set up for it; set {variable}, or {remedy}"
            )
        found[registry] = urls
    return found


def _output_of(command: Sequence[str]) -> str:
    """What a tool prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _download(url: str, target: IO[bytes], limit: int, *, accept: str = "*/*") -> str:
    """Read an address into an empty file; return the address that answered in the end.

    A failure that may pass (no connection, a broken one, a server's trouble) is tried again.

    Raises:
        _NotFoundError: The server says so.
        RegistryError: It failed to the end, or holds more than `limit` bytes.
    """
    plain, token = _without_credentials(url)
    request = urllib.request.Request(plain, headers={"Accept": accept})
    if token:  # not for whom the server may redirect to
        request.add_unredirected_header("Authorization", token)
    for attempt in range(1, _TRIES + 1):
        target.seek(0)
        target.truncate()
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
                stated = answer.headers.get("Content-Length")
                size = 0
                while block := answer.read(_BLOCK):
                    size += len(block)
                    if size > limit:
                        raise RegistryError(f"{plain}: longer than {limit} bytes")
                    write_block(target, block)
                if stated is None or str(size) == stated.strip():
                    return str(answer.url)
                reason = f"ended after {size} of {stated} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answers {error.code}"
            if error.code in (404, 410):
                raise _NotFoundError(f"{plain}: {reason}") from error
            if error.code < 500 and error.code not in (408, 429):
                raise RegistryError(f"{plain}: {reason}") from error
        except urllib.error.URLError as error:
            reason = str(error.reason)
            if isinstance(error.reason, FileNotFoundError):  # file: addresses
                raise _NotFoundError(f"{plain}: {error.reason.strerror}") from error
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
        if attempt < _TRIES:
            time.sleep(_RETRY_SECONDS * attempt)
    raise RegistryError(f"{plain}: {reason} (tried {_TRIES} times)")


def _without_credentials(url: str) -> tuple[str, str]:
    """An address without user and password, and the header value that carries them, if any."""
    parts = urllib.parse.urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    token = base64.b64encode(urllib.parse.unquote(credentials).encode()).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {token}"


def _read_index(url: str, accept: str) -> tuple[bytes, str]:
    with tempfile.TemporaryFile() as file:
        answered = _download(url, file, _INDEX_LIMIT, accept=accept)
        file.seek(0)
        return file.read(), answered


def _fetch(url: str, target: Path, limit: int, hashes: Collection[tuple[str, str]]) -> None:
    """Download a file and check its hashes, given as pairs of algorithm and hexadecimal digest."""
    with target.open("w+b") as file:
        _download(url, file, limit)
        for algorithm, digest in hashes:
            file.seek(0)
            if hashlib.file_digest(file, algorithm).hexdigest() != digest.lower():
                raise RegistryError(
                    f"{target.name}: its {algorithm} is not the one that is stated; not unpacked"
                )


def _linked(base: str, link: str) -> str:
    """A link of an index as an address; an index on the net must not point at this machine."""
    url = urllib.parse.urljoin(base, link)
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("http", "https") and scheme != urllib.parse.urlsplit(base).scheme:
        raise RegistryError("the registry points at an address that is not http or https")
    return url


def _get_pypi(index: str, package: Package, into: Path) -> list[Path]:
    """Read the project's page of the simple index (PEP 503, PEP 691) and take one file of it."""
    url = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', package.name).lower()}/"
    if url.startswith("file:"):
        url += "index.html"
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    page, answered = _read_index(url, accept)
    credentials = urllib.parse.urlsplit(index).netloc.rpartition("@")
    files = _index_files(page, answered)
    name = _chosen_file(package, files)
    link, digest = files[name]
    link = _linked(answered, link)
    parts = urllib.parse.urlsplit(link)
    if credentials[1] and parts.netloc == credentials[2]:
        link = parts._replace(netloc="".join(credentials)).geturl()
    target = into / name
    hashes = [("sha256", value) for value in (package.sha256, digest) if value]
    _fetch(link, target, _ARCHIVE_LIMIT, hashes)
    return [target]


def _index_files(page: bytes, base: str) -> dict[str, tuple[str, str]]:
    """The link and the SHA-256 (empty where there is none) of each file of a simple index."""
    try:
        if page.lstrip().startswith(b"{"):
            return {
                str(file["filename"]): (str(file["url"]), str(file["hashes"].get("sha256", "")))
                for file in json.loads(page)["files"]
            }
    except _NOT_OF_THE_FORM as error:
        raise RegistryError(f"{base}: not an index of the form of PEP 691") from error
    links = _Links()
    links.feed(page.decode("utf-8", "replace"))
    files = {}
    for link in links.found:
        parts = urllib.parse.urlsplit(link)
        name = urllib.parse.unquote(parts.path).rpartition("/")[2]
        digest = re.fullmatch(r"sha256=([0-9A-Fa-f]{64})", parts.fragment)
        files[name] = (urllib.parse.urldefrag(link).url, digest[1] if digest else "")
    return files


class _Links(HTMLParser):
    """The addresses of all links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _chosen_file(package: Package, files: Collection[str]) -> str:
    if package.archive:
        if package.archive in files:
            return package.archive
        raise RegistryError(f"the index has no file {package.archive}")
    name = "[-_.]+".join(re.split(r"[-_.]+", package.name))
    stem = rf"(?i:{name})-{re.escape(package.version)}"
    for form in (rf"{stem}\.(?:tar\.gz|tar\.bz2|tar\.xz|zip|tgz)", rf"{stem}-[^-]+-none-any\.whl"):
        for file in sorted(files):
            if re.fullmatch(form, file):
                return file
    raise RegistryError("the index has neither an sdist nor a pure wheel of this version")


def _get_npm(registry: str, package: Package, into: Path) -> list[Path]:
    quoted = urllib.parse.quote(package.name, safe="@")
    url = f"{registry.rstrip('/')}/{quoted}/{urllib.parse.quote(package.version)}"
    page, answered = _read_index(url, "application/json")
    try:
        stated = json.loads(page)["dist"]
        link = _linked(answered, stated["tarball"])
        integrity = str(stated.get("integrity", "")).split()
        # Its best hash: base64 of one of the SHA-2 family. Very old packages have SHA-1 only.
        pairs = [item.partition("-")[::2] for item in integrity]
        hashes = [
            (algorithm, base64.b64decode(value, validate=True).hex())
            for algorithm, value in pairs
            if algorithm in ("sha256", "sha384", "sha512")
        ] or [("sha1", str(stated["shasum"]))]
    except _NOT_OF_THE_FORM as error:
        raise RegistryError(f"{url}: not the description of an npm package") from error
    target = into / f"{package.name.rpartition('/')[2]}-{package.version}.tgz"
    if package.sha256:
        hashes.append(("sha256", package.sha256))
    _fetch(link, target, _ARCHIVE_LIMIT, hashes)
    return [target]


def _get_debian(mirror: str, package: Package, into: Path) -> list[Path]:
    """Read the `.dsc` where every Debian archive keeps it (component main), then its files."""
    initial = package.name[: 4 if package.name.startswith("lib") else 1]
    pool = f"{mirror.rstrip('/')}/pool/main/{initial}/{package.name}"
    dsc = into / f"{package.name}_{package.version.partition(':')[2] or package.version}.dsc"
    hashes = [("sha256", package.sha256)] if package.sha256 else []
    _fetch(f"{pool}/{urllib.parse.quote(dsc.name)}", dsc, _DSC_LIMIT, hashes)
    text = dsc.read_text(encoding="utf-8", errors="replace")
    sums = re.search(r"(?m)^Checksums-Sha256:[ \t]*\n((?: .*\n)+)", text)
    entries = [line.split() for line in sums[1].splitlines()] if sums else []
    paths = [dsc]
    for entry in entries:
        if len(entry) != 3 or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+.~:_-]*", entry[2]):
            raise RegistryError(f"{dsc.name}: its list of files is not of the form it should have")
        path = into / entry[2]
        if path.suffix != ".asc":
            url = f"{pool}/{urllib.parse.quote(path.name)}"
            _fetch(url, path, _ARCHIVE_LIMIT, [("sha256", entry[0])])
            paths.append(path)
    if len(paths) == 1:
        raise RegistryError(f"{dsc.name}: names no files with their SHA-256")
    return paths


_GETTERS: Mapping[str, Callable[[str, Package, Path], list[Path]]] = {
    "pypi": _get_pypi,
    "npm": _get_npm,
    "debian": _get_debian,
}


def get_archives(package: Package, addresses: Sequence[str], work: Path) -> list[Path]:
    """Download a package's archives from the first address that has them.

    Returns:
        Their paths; first the one whose hash stands in lists.

    Raises:
        RegistryError: None has it, or what one has is not what the package says.
        OutputError: `work` cannot be written.
    """
    reasons = []
    for address in addresses:
        try:
            return _GETTERS[package.registry](address, package, work)
        except _NotFoundError as error:
            reasons.append(str(error))
    if package.registry == "debian" and not os.environ.get("DEBIAN_MIRROR"):
        try:
            return _get_by_apt(package, work / "apt")
        except AptError as error:
            reasons.append(f"apt: {error}")
    raise RegistryError("; ".join(reasons))


def _get_by_apt(package: Package, into: Path) -> list[Path]:
    """Ask apt, which knows where an archive keeps what: not all lies in main, or in one pool."""
    into.mkdir()
    paths = fetch_source(package.name, package.version, into)
    with paths[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if package.sha256 not in ("", digest):
        raise RegistryError(f"{paths[0].name}: its sha256 is not the one that is stated")
    return paths
