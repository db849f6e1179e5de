"""Unpack archives that nobody vouches for: confined, bounded, without links or devices."""

import bz2
import errno
import gzip
import io
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import IO

from starencoder.errors import DataError, OutputError

_BYTE_LIMIT = 1 << 31
_MEMBER_LIMIT = 200_000
_BLOCK = 1 << 16

_DECOMPRESS: Mapping[str, Callable[[Path], io.BufferedIOBase]] = {
    ".tar": lambda path: path.open("rb"),
    ".gz": gzip.GzipFile,
    ".tgz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".lzma": lzma.LZMAFile,
}
# What reading a damaged archive raises. RuntimeError: an encrypted zip member.
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError,
    OverflowError, RuntimeError, OSError,
)  # fmt: skip
_DEBIAN_PART = re.compile(
    r"\.orig-(?P<component>[A-Za-z0-9-]+)\.tar\.\w+$|(?P<packaging>\.debian\.tar\.\w+$)|\.diff\.\w+$"
)
_BAD_NAME_ERRORS = frozenset(
    {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
)


class ArchiveError(DataError):
    """An archive that is damaged or hostile, or holds too much."""


class Unpacker:
    """Writes the regular files of archives below a directory, and nothing outside it.

    Links and devices are never made, so no path that is written can lead elsewhere. What an archive
    holds is bounded over all archives of a package.
    """

    def __init__(self) -> None:
        self.files = self.bytes = 0
        self.skipped: Counter[str] = Counter()
        self._members = self._announced = 0

    def unpack(self, archive: Path, into: Path) -> None:
        """Unpack one archive into a directory that need not exist.

        Raises:
            ArchiveError: It is damaged, too large, or names a path outside of itself.
            OutputError: The directory cannot be written.
        """
        into.mkdir(exist_ok=True)
        try:
            if archive.suffix in (".zip", ".whl"):
                self._unpack_zip(archive, into)
            elif archive.suffix in _DECOMPRESS:
                self._unpack_tar(archive, into)
            else:
                raise ArchiveError(f"{archive.name}: not a kind of archive that can be unpacked")
        except _DAMAGED as error:
            raise ArchiveError(f"{archive.name}: damaged ({error})") from error

    def _unpack_tar(self, archive: Path, into: Path) -> None:
        with (
            _DECOMPRESS[archive.suffix](archive) as data,
            tarfile.open(fileobj=_Bounded(data), mode="r|") as tar,
        ):
            for member in tar:
                self._count(member.size if member.isreg() else 0)
                if member.isdir():
                    continue
                if not member.isreg():
                    is_link = member.issym() or member.islnk()
                    self.skipped["link" if is_link else "not a regular file"] += 1
                elif content := tar.extractfile(member):
                    self._add(member.name, content, into)

    def _unpack_zip(self, archive: Path, into: Path) -> None:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                self._count(member.file_size)
                if member.is_dir():
                    continue
                if S_ISLNK(member.external_attr >> 16):
                    self.skipped["link"] += 1
                    continue
                with file.open(member) as content:
                    self._add(member.filename, content, into)

    def _count(self, size: int) -> None:
        """Before anything of a member is written: would it be too much?"""
        self._members += 1
        self._announced += size
        if self._members > _MEMBER_LIMIT or self._announced > _BYTE_LIMIT:
            raise ArchiveError(
                f"it unpacks to more than {_MEMBER_LIMIT} files or {_BYTE_LIMIT} bytes"
            )

    def _add(self, name: str, content: IO[bytes], into: Path) -> None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError("it names a path outside of itself; nothing of it is kept")
        if "\\" in name or ":" in name or "\0" in name or not path.parts:
            self.skipped["name that not every system can hold"] += 1
            return
        target = into / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except OSError as error:
            if error.errno in _BAD_NAME_ERRORS:
                self.skipped["name given twice, or that this system cannot hold"] += 1
                return
            raise OutputError(f"{into}: cannot be written ({error.strerror})") from error
        with file:
            while block := content.read(_BLOCK):
                write_block(file, block)
                self.bytes += len(block)
        self.files += 1


class _Bounded(io.BufferedIOBase):
    """A decompressed stream that ends in an error when it is longer than a package may be.

    Sizes in headers are not enough: what tarfile passes over or reads into memory (long names, pax
    headers) counts too.
    """

    def __init__(self, data: io.BufferedIOBase) -> None:
        self._data = data
        self._left = _BYTE_LIMIT + _MEMBER_LIMIT * 1024

    def read(self, size: int | None = -1, /) -> bytes:
        block = self._data.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise ArchiveError(f"it unpacks to more than {_BYTE_LIMIT} bytes")
        return block


def unpack_package(registry: str, archives: Sequence[Path], work: Path) -> tuple[Path, Unpacker]:
    """Unpack a package's archives, as `get_archives` gave them, below `work`.

    Debian sources come as upstream's files with its components and `debian/` beside them.

    Returns:
        The directory that holds the sources, and what was counted.

    Raises:
        ArchiveError: An archive is damaged or hostile, or they hold too much.
        OutputError: `work` cannot be written.
    """
    unpacker = Unpacker()
    root = work / "tree"
    if registry != "debian":
        unpacker.unpack(archives[0], root)
        is_wheel = archives[0].suffix == ".whl"
        return root if is_wheel else _only_folder(root), unpacker
    # The upstream tarball makes the folder that its components and the packaging then go into.
    for archive in sorted(archives[1:], key=lambda path: bool(_DEBIAN_PART.search(path.name))):
        part = _DEBIAN_PART.search(archive.name)
        if part is None:
            unpacker.unpack(archive, root)
            root = _only_folder(root)
        elif part["component"]:
            unpacker.unpack(archive, work / "component")
            target = root / part["component"]
            shutil.rmtree(target, ignore_errors=True)
            target.unlink(missing_ok=True)
            _only_folder(work / "component").rename(target)
            shutil.rmtree(work / "component", ignore_errors=True)
        elif part["packaging"]:
            shutil.rmtree(root / "debian", ignore_errors=True)
            unpacker.unpack(archive, root)
        else:
            unpacker.skipped["packaging as a patch"] += 1
    return root, unpacker


def _only_folder(folder: Path) -> Path:
    """The one folder that is all a folder holds, as in most tarballs; else the folder itself."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def write_block(file: IO[bytes], block: bytes) -> None:
    """Write to a file of ours: a full disk is no fault of the archive that is read meanwhile.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        file.write(block)
    except OSError as error:
        raise OutputError(f"the output cannot be written ({error.strerror})") from error
