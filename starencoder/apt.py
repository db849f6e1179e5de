"""Debian sources through apt, under a private configuration derived from the machine's own.

Machines name the archives of binary packages, seldom those of sources. The private configuration
names the sources of the same archives, and keeps its lists and cache in a folder of its own; the
machine's is read and never changed.
"""

import subprocess
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock

_UPDATE_SECONDS = 600
_LOCK = Lock()


class AptError(Exception):
    """apt is not there, or does not have what it was asked for; the message is its last line."""


def fetch_source(name: str, version: str, into: Path) -> list[Path]:
    """Download a source package's files without unpacking them; apt checks their hashes.

    Args:
        name: Of the source package.
        version: Exact.
        into: An empty folder.

    Returns:
        The `.dsc`, then the files it names, without signatures.

    Raises:
        AptError: It cannot be had.
    """
    with _LOCK:  # once for all that wait
        options = _private_options()
    _run(
        "apt-get", *options, "source", "--download-only", "--only-source", f"{name}={version}",
        cwd=into,
    )  # fmt: skip
    files = sorted(path for path in into.iterdir() if path.suffix != ".asc")
    dsc = [path for path in files if path.suffix == ".dsc"]
    if len(dsc) != 1 or len(files) < 2:
        raise AptError("it left no .dsc with the files of a source package")
    return [dsc[0], *(path for path in files if path != dsc[0])]


@cache
def _private_options() -> tuple[str, ...]:
    """Options of apt-get that make it read the private configuration; its lists are up to date."""
    folder = tempfile.TemporaryDirectory(prefix="starencoder-apt-")
    _FOLDERS.append(folder)
    root = Path(folder.name)
    sources = root / "sources.list"
    sources.write_text("".join(f"{line}\n" for line in _source_lines()), encoding="utf-8")
    for path in (root / "lists" / "partial", root / "cache" / "archives" / "partial"):
        path.mkdir(parents=True)
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": root / "lists",
        "Dir::Cache": root / "cache",
        # The folder is ours alone, so a user of apt's own could not write there.
        "APT::Sandbox::User": "",
    }
    options = (
        "-q",
        *(part for name, value in settings.items() for part in ("-o", f"{name}={value}")),
    )
    _run("apt-get", *options, "update")
    return tuple(options)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Kept until the process ends, which removes them."""


def _source_lines() -> list[str]:
    """A deb-src line for each archive of binary packages that the machine's apt reads."""
    fields = ("REPO_URI", "RELEASE", "COMPONENT", "SIGNED_BY", "TRUSTED")
    form = "\t".join(f"$({field})" for field in fields)
    lines = []
    for said in _run("apt-get", "indextargets", "--format", form, "Created-By: Packages").split(
        "\n"
    ):
        # apt leaves $(FIELD) standing where an archive does not have it.
        parts = ["" if part.startswith("$(") else part for part in said.split("\t")]
        if len(parts) != len(fields) or not all(parts[:3]):
            continue
        uri, release, component, key, trusted = parts
        options = [f"signed-by={key}"] * bool(key) + ["trusted=yes"] * (trusted == "yes")
        shown = f"[{' '.join(options)}] " if options else ""
        lines.append(f"deb-src {shown}{uri} {release} {component}")
    if not lines:
        raise AptError("apt names no archive on this machine")
    return list(dict.fromkeys(lines))


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, errors="replace",
            timeout=_UPDATE_SECONDS, check=True,
        ).stdout  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.startswith("E: ")]
        raise AptError(said[-1][3:] if said else f"it ends with {error.returncode}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise AptError(f"it cannot be run ({type(error).__name__})") from error
