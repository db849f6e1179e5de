"""Files as they come: find them in a tree, read their bytes as text, write them safely.

Any bytes may come. `decode` either says why a file is no text or gives a `Document` whose `encode`
returns the same bytes for the same text, invalid sequences included, so that a redacted file
differs from the original inside the spans only.
"""

import codecs
import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from starencoder.errors import ConfigError, OutputError

VENDORED_FOLDERS = frozenset(
    (
        "node_modules",
        "bower_components",
        "jspm_packages",
        "site-packages",
        "vendor",
        "third_party",
        "third-party",
        "Pods",
    )
)
"""Names of folders that hold other people's code."""

LARGEST_FILE = 1 << 30
"""In bytes. Offsets are 32-bit code points, and a file is held in memory as a whole."""

_SAMPLE = 8000
"""Bytes looked at for NUL, as git does."""

IGNORED = "ignored by .gitignore"
HIDDEN = "hidden folder"
VENDORED = "vendored folder"
VERSION_CONTROL = ".git"
SYMLINK = "symbolic link"
SPECIAL = "not a regular file"
BINARY = "binary"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file to read."""

    path: Path
    """As it is opened and reported: the argument it was found under, joined with the rest."""
    relative: PurePath
    """Where its redacted copy lies below the output directory."""
    size: int
    """In bytes, when it was found."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file, or a folder with all it holds, that is not read."""

    path: Path
    relative: PurePath
    reason: str
    failed: bool = False
    """It should have been read and could not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkOptions:
    """What a walk enters and reads beside plain files in plain folders."""

    hidden: bool = False
    """Enter folders whose name begins with a dot. Files of such a name are always read."""
    vendored: bool = False
    """Enter `VENDORED_FOLDERS`."""
    gitignore: bool = True
    """Leave out what the .gitignore files of the tree, and of the repository around it, name."""


# --------------------------------------------------------------------------------------------------
# Walking


def find_files(
    arguments: Sequence[Path], options: WalkOptions | None = None
) -> Iterator[FoundFile | LeftOut]:
    """Find the files below some files and directories, in the order of their paths.

    An argument itself is always read, whatever .gitignore or its name say, and followed if it is a
    symbolic link; below it no link is followed. With one argument `relative` starts below it; with
    several, at its name. A file that lies below two arguments comes once.

    Raises:
        ConfigError: An argument does not exist, or two would be written to the same place.
    """
    options = options or WalkOptions()
    single = len(arguments) == 1
    tops: dict[str, Path] = {}
    for argument in arguments:
        try:
            mode = argument.stat().st_mode
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"{shown_path(argument)}: {reason}") from error
        name = argument.name if argument.name not in ("", "..") else argument.resolve().name
        if not (single and stat.S_ISDIR(mode)):
            other = tops.setdefault(name, argument)
            if other is not argument and other.resolve() != argument.resolve():
                raise ConfigError(
                    f"{shown_path(argument)} and {shown_path(other)} have the same name and "
                    "would be written to the same place; give them one by one"
                )
    seen: set[str] = set()
    for argument in arguments:
        for entry in _find_below(argument, single, options):
            key = os.path.abspath(entry.path)  # noqa: PTH100 - links are kept as they are
            if key not in seen:
                seen.add(key)
                yield entry


def _find_below(
    argument: Path, single: bool, options: WalkOptions
) -> Iterator[FoundFile | LeftOut]:
    status = argument.stat()
    name = argument.name if argument.name not in ("", "..") else argument.resolve().name
    if stat.S_ISDIR(status.st_mode):
        real = argument.resolve()
        rules = _rules_above(real) if options.gitignore else ()
        below = PurePath() if single else PurePath(name)
        yield from _walk(argument, str(real), below, rules, options)
    elif stat.S_ISREG(status.st_mode):
        yield FoundFile(argument, PurePath(name), status.st_size)
    else:
        yield LeftOut(argument, PurePath(name), SPECIAL, failed=True)


def _walk(
    folder: Path,
    real: str,
    relative: PurePath,
    rules: "tuple[_IgnoreFile, ...]",
    options: WalkOptions,
) -> Iterator[FoundFile | LeftOut]:
    """Walk a folder; `real` is the same folder as an absolute path without links."""
    try:
        with os.scandir(folder) as scan:
            entries = [(entry, entry.is_dir(follow_symlinks=False)) for entry in scan]
    except OSError as error:
        yield LeftOut(folder, relative, error.strerror or str(error), failed=True)
        return
    if options.gitignore:
        names = {entry.name for entry, _ in entries}
        if ".git" in names:
            rules = (_IgnoreFile.read(real, ".git/info/exclude"),)
        if ".gitignore" in names:
            rules = (*rules, _IgnoreFile.read(real, ".gitignore"))
    # As if a folder's name ended in a slash: the order of the whole paths as bytes, git's order.
    entries.sort(key=lambda pair: os.fsencode(pair[0].name) + b"/" * pair[1])
    for entry, is_folder in entries:
        path, below = folder / entry.name, relative / entry.name
        entry_real = os.path.join(real, entry.name)  # noqa: PTH118 - many, and only a string
        reason = _reason_to_leave_out(entry, is_folder, entry_real, rules, options)
        if reason:
            yield LeftOut(path, below, reason)
        elif is_folder:
            yield from _walk(path, entry_real, below, rules, options)
        else:
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except OSError as error:
                yield LeftOut(path, below, error.strerror or str(error), failed=True)
                continue
            yield FoundFile(path, below, size)


def _reason_to_leave_out(
    entry: os.DirEntry[str],
    is_folder: bool,
    real: str,
    rules: "tuple[_IgnoreFile, ...]",
    options: WalkOptions,
) -> str:
    if entry.name == ".git":
        return VERSION_CONTROL
    if rules and _is_ignored(real, is_folder, rules):
        return IGNORED
    if is_folder:
        if entry.name.startswith(".") and not options.hidden:
            return HIDDEN
        if entry.name in VENDORED_FOLDERS and not options.vendored:
            return VENDORED
        return ""
    if entry.is_symlink() or _is_junction(entry):
        return SYMLINK
    return "" if entry.is_file(follow_symlinks=False) else SPECIAL


def _is_junction(entry: os.DirEntry[str]) -> bool:
    # Windows' other kind of link; Python 3.12 can tell.
    check = getattr(entry, "is_junction", None)
    return bool(check and check())


# --------------------------------------------------------------------------------------------------
# .gitignore


_POSIX_CLASS = re.compile(r"\[:([a-z]+):\]")
_POSIX_CLASSES = {
    **{"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z"},
    **{"xdigit": "0-9a-fA-F", "space": " \t\n\r\f\v", "blank": " \t"},
}


def _posix_class(match: re.Match[str]) -> str:
    return _POSIX_CLASSES.get(match[1], match[0])


@dataclass(frozen=True, slots=True)
class _IgnoreRule:
    regex: re.Pattern[str]
    ignores: bool
    by_name: bool
    """The pattern has no slash but a last one: it is about the name alone, at any depth."""
    below: bool
    """The pattern ends in `/**` or `/**/`: it is about what lies below, not about the folder."""
    folders_only: bool

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether the rule is about this very path, not about a folder above it.

        The library's expressions match what lies below a match too. Here a folder is decided when
        it is met and never entered if ignored, so that git's order of precedence comes out.
        """
        if self.by_name:
            path = path.rsplit("/", 1)[-1]
        if is_folder:
            path += "/"
        elif self.folders_only:
            return False
        match = self.regex.search(path)
        if match is None or self.by_name:
            return match is not None
        return match.end() < len(path) if self.below else match.end() == len(path)


@dataclass(frozen=True, slots=True)
class _IgnoreFile:
    folder: str
    """Absolute; the patterns are relative to it."""
    rules: tuple[_IgnoreRule, ...]

    @staticmethod
    def read(folder: str, name: str) -> "_IgnoreFile":
        """Read a folder's patterns; a file that cannot be read has none, as for git."""
        from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

        try:
            data, _ = read_file(Path(folder, name), follow_symlinks=False)
        except OSError:
            return _IgnoreFile(folder, ())
        rules = []
        # Bytes as characters: git's ? matches one byte.
        for line in data.removeprefix(codecs.BOM_UTF8).decode("latin-1").split("\n"):
            # The library takes the classes' brackets for a set's end.
            line = _POSIX_CLASS.sub(_posix_class, line.removesuffix("\r"))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of `re`, about sets such as [[:alpha:]]
                    pattern = GitIgnoreSpecPattern(line)
            except (ValueError, re.error):
                continue  # git passes over what is no pattern
            if pattern.include is not None and pattern.regex is not None:
                body = line.rstrip().removeprefix("!")
                path = body.removesuffix("/")
                rules.append(
                    _IgnoreRule(
                        pattern.regex,
                        pattern.include,
                        by_name="/" not in path or path == "/**",
                        below=path.endswith("/**"),
                        folders_only=body.endswith("/"),
                    )
                )
        return _IgnoreFile(folder, tuple(rules))


def _is_ignored(path: str, is_folder: bool, files: tuple[_IgnoreFile, ...]) -> bool:
    """The last matching pattern of the deepest file that has one decides, as in git."""
    for ignore in reversed(files):
        relative = os.fsencode(path[len(ignore.folder) :]).decode("latin-1")
        relative = relative.replace(os.sep, "/").lstrip("/")
        for rule in reversed(ignore.rules):
            if rule.matches(relative, is_folder):
                return rule.ignores
    return False


def _rules_above(folder: Path) -> tuple[_IgnoreFile, ...]:
    """The patterns that a repository around a folder (absolute, without links) has above it."""
    found: list[_IgnoreFile] = []
    for parent in (folder, *folder.parents):
        if parent != folder:
            found.insert(0, _IgnoreFile.read(str(parent), ".gitignore"))
        if (parent / ".git").exists():
            found.insert(0, _IgnoreFile.read(str(parent), ".git/info/exclude"))
            return tuple(found)
    return ()


# --------------------------------------------------------------------------------------------------
# Reading


def read_file(path: Path, *, follow_symlinks: bool = True) -> tuple[bytes, os.stat_result]:
    """Read a regular file whole, and its status.

    Raises:
        OSError: It cannot be read, is no regular file, is larger than `LARGEST_FILE`, or is a
            symbolic link that is not to be followed.
    """
    # A file may have become a pipe or a link since it was found: never wait for it or follow it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow_symlinks:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if path.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link", str(path))
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, SPECIAL, str(path))
        if status.st_size > LARGEST_FILE:
            raise OSError(errno.EFBIG, f"larger than {LARGEST_FILE >> 20} MiB", str(path))
        return file.read(), status


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text, and what it takes to turn it back into the same bytes."""

    text: str
    encoding: str
    """The Python codec."""
    errors: str = "strict"
    """How the codec keeps what is invalid: `surrogateescape`, `surrogatepass` or `strict`."""
    before: bytes = b""
    """A byte order mark."""
    after: bytes = b""
    """The odd last byte of a two-byte encoding."""

    @property
    def encoding_name(self) -> str:
        """The encoding as it is reported."""
        if self.encoding == "utf-8":
            if self.errors == "surrogateescape":
                return "utf-8 with invalid bytes"
            return "utf-8 with byte order mark" if self.before else "utf-8"
        return self.encoding

    @property
    def keeps_ascii(self) -> bool:
        """Whether ASCII characters are their own bytes, and lines of bytes lines of text."""
        return not self.encoding.startswith(("utf-16", "utf-32"))

    def encode(self, text: str) -> bytes:
        """Encode a text as this file was encoded. `encode(self.text)` gives the file's bytes."""
        return self.before + text.encode(self.encoding, self.errors) + self.after


_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "strict"),
    (codecs.BOM_UTF8, "utf-8", "surrogateescape"),
    # Before UTF-16: its little-endian mark begins with the mark of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le", "strict"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "strict"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "surrogatepass"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "surrogatepass"),
)

_DECLARED = re.compile(rb"(?:coding|charset)\s{0,3}[:=]\s{0,3}[\"']?([A-Za-z][\w.:-]{1,30})")
_DECLARATION_BYTES = 1024

# Every byte that is ASCII by itself stays ASCII in all of these, and no character depends on the
# ones before it, so that a text can be cut and joined anywhere.
_LEGACY = frozenset(
    codecs.lookup(name).name
    for name in (
        *(f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
        *(f"cp125{part}" for part in range(9)),
        *("koi8-r", "koi8-u", "mac-roman", "cp437", "cp850", "cp866", "cp874"),
        *("gbk", "gb2312", "gb18030", "big5", "cp949", "euc-kr", "euc-jp", "shift_jis", "cp932"),
    )
)

_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\b\x1b")) + b"\x7f"
_MOST_CONTROLS = 0.05
"""Share of control characters in the sample from which a file counts as binary."""


def decode(data: bytes) -> Document | str:
    """Read bytes as text, or say why they are none.

    In this order: a byte order mark; UTF-16 without one, if nearly every second byte is NUL; NUL or
    many control characters: binary; UTF-8; a legacy encoding that the file declares in its first
    kilobyte (`coding: koi8-r`, `<?xml encoding=...`, `charset=`); UTF-8 with some invalid bytes, if
    valid characters outside ASCII outnumber them; Windows-1252; Latin-1, which takes any byte.

    Returns:
        The document, or the reason why the bytes are no text.
    """
    for mark, encoding, errors in _MARKS:
        if data.startswith(mark):
            document = _with_mark(data, mark, encoding, errors)
            if document is not None:
                return document
    wide = _wide_without_mark(data)
    if wide is not None:
        return wide
    sample = data[:_SAMPLE]
    if b"\0" in sample:
        return BINARY
    if len(sample) - len(sample.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(sample):
        return BINARY
    try:
        return Document(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    return _declared(data) or _with_invalid_bytes(data)


def _with_mark(data: bytes, mark: bytes, encoding: str, errors: str) -> Document | None:
    body, after = data[len(mark) :], b""
    if encoding.startswith("utf-16") and len(body) % 2:
        body, after = body[:-1], body[-1:]
    try:
        text = body.decode(encoding, errors)
    except UnicodeDecodeError:
        return None
    if encoding != "utf-8" and "\0" in text[:_SAMPLE]:
        return None
    if encoding == "utf-8" and b"\0" in body[:_SAMPLE]:
        return None
    return Document(text, encoding, errors, mark, after)


def _wide_without_mark(data: bytes) -> Document | None:
    sample = data[:_SAMPLE]
    if len(data) < 4 or len(data) % 2:
        return None
    for encoding, high, low in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        highs, lows = sample[high::2], sample[low::2]
        if highs.count(0) < 0.9 * len(highs) or lows.count(0) > 0.02 * len(lows):
            continue
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        controls = sum(char < " " and char not in "\t\n\r\f\v" for char in text[:_SAMPLE])
        if not controls:
            return Document(text, encoding)
    return None


def _declared(data: bytes) -> Document | None:
    for match in _DECLARED.finditer(data[:_DECLARATION_BYTES]):
        try:
            name = codecs.lookup(match[1].decode("ascii")).name
            if name in _LEGACY:
                text = data.decode(name)
                if text.encode(name) == data:
                    return Document(text, name)
        except (LookupError, UnicodeError):
            continue
    return None


def _with_invalid_bytes(data: bytes) -> Document:
    text = data.decode("utf-8", "surrogateescape")
    # A character outside ASCII by accident needs a lead byte with just the right bytes behind it.
    valid = len(re.findall(r"[^\x00-\x7f\udc80-\udcff]", text))
    invalid = len(re.findall(r"[\udc80-\udcff]", text))
    if valid > invalid:
        return Document(text, "utf-8", "surrogateescape")
    try:
        return Document(data.decode("cp1252"), "cp1252")
    except UnicodeDecodeError:
        return Document(data.decode("latin-1"), "latin-1")


# --------------------------------------------------------------------------------------------------
# Writing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file's bytes as read, and enough to tell whether it has changed since."""

    path: Path
    data: bytes
    status: os.stat_result
    digest: bytes

    def is_current(self) -> bool:
        """Whether the file still is the one that was read, with the same content."""
        try:
            data, status = read_file(self.path, follow_symlinks=False)
        except OSError:
            return False
        same_file = (status.st_dev, status.st_ino) == (self.status.st_dev, self.status.st_ino)
        return same_file and hashlib.sha256(data).digest() == self.digest


def take_snapshot(path: Path) -> Snapshot:
    """Read a file that is to be replaced later; symbolic links are refused with an OSError."""
    data, status = read_file(path, follow_symlinks=False)
    return Snapshot(path, data, status, hashlib.sha256(data).digest())


def replace_file(snapshot: Snapshot, data: bytes) -> bool:
    """Replace a file by new content, whole or not at all; keep its mode, owner and attributes.

    Returns:
        False if the file has changed since the snapshot; it is left alone then.

    Raises:
        OutputError: The new content cannot be written; the old one is untouched.
    """
    path = snapshot.path
    with _temporary_beside(path, data, durable=True) as temporary:
        if not snapshot.is_current():
            return False
        if hasattr(os, "chown"):
            # Without the right to give files away the new file belongs to whoever runs this.
            with contextlib.suppress(PermissionError):
                os.chown(temporary, snapshot.status.st_uid, snapshot.status.st_gid)
        shutil.copystat(path, temporary)
        os.utime(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    return True


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file with these permission bits, whole or not at all; replace what has its name.

    It is a copy that can be made again, so nothing waits for the disk.

    Raises:
        OutputError: It cannot be written.
    """
    with _temporary_beside(path, data, durable=False) as temporary:
        temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(path)


def make_folders(top: Path, relative: PurePath) -> None:
    """Make the folders `top / relative` needs, none of them through a symbolic link below `top`.

    Raises:
        OutputError: One cannot be made, or the way leads through a link.
    """
    folder = top
    with _output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for part in relative.parts:
        folder /= part
        with _output_errors(folder):
            folder.mkdir(exist_ok=True)
        if folder.is_symlink():
            raise OutputError(
                f"{shown_path(folder)}: is a symbolic link; nothing is written through it"
            )


def copy_link(source: Path, target: Path) -> None:
    """Make the same symbolic link elsewhere; replace what has its name.

    Raises:
        OutputError: It cannot be made.
    """
    with _output_errors(target):
        temporary = target.with_name(_temporary_name())
        try:
            temporary.symlink_to(source.readlink(), target_is_directory=source.is_dir())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _temporary_beside(path: Path, data: bytes, *, durable: bool) -> Iterator[Path]:
    """A file in the same folder with this content; gone afterwards unless renamed.

    A durable one is on the disk before it is renamed, so that a power cut leaves the old or the
    new content.
    """
    temporary = path.with_name(_temporary_name())
    with _output_errors(path):
        try:
            # Nobody else may read it until it has its final mode.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _temporary_name() -> str:
    return f".starencoder-{secrets.token_hex(8)}.tmp"


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{shown_path(path)}: {error.strerror or error}; not written") from error


def shown_path(path: PurePath | str) -> str:
    """A path as one line of printable text: anything else is escaped."""
    return escaped(str(path))


def escaped(text: str) -> str:
    """Escape whatever a terminal would not print, so that no text can steer one."""
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape").decode("ascii")
        if not "\udc80" <= char <= "\udcff"
        else f"\\x{ord(char) - 0xDC00:02x}"
        for char in text
    )


def check_output(arguments: Iterable[Path], output: Path) -> None:
    """Refuse an output directory that holds, or lies in, what is to be read.

    Raises:
        ConfigError: It does; links are followed to find out.
    """
    target = output.resolve()
    for argument in arguments:
        source = argument.resolve()
        if source.is_dir():
            if target == source or source in target.parents:
                raise ConfigError(
                    f"{shown_path(output)}: lies inside the input {shown_path(argument)}; "
                    "choose a directory outside it"
                )
            if target in source.parents:
                raise ConfigError(
                    f"{shown_path(argument)}: lies inside the output {shown_path(output)}; "
                    "choose another output directory"
                )
        elif target / source.name == source or target / argument.name == source:
            raise ConfigError(
                f"{shown_path(argument)}: would be overwritten by its own copy in "
                f"{shown_path(output)}; use --in-place or another output directory"
            )
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{shown_path(output)}: is not a directory")
