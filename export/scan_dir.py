"""A scan's output directory: who writes to it, what is done, and the manifest.

OUTPUT/**.parquet              the finished shards
OUTPUT/_scan/lock              held by the process that scans; says which
OUTPUT/_scan/run.json          what the output depends on: settings, model, versions, inputs
OUTPUT/_scan/journal.jsonl     one JSON object a line: what was done, when, and what came of it
OUTPUT/_scan/parts/            row groups of shards that are not finished
OUTPUT/_scan/manifest.json     the account at the end of a run; the same however often it was killed

A row group is done when the journal says so and its part is there; a shard, when the journal says
so and its file is there. Whatever is half done is done again, with the same result.
"""

import hashlib
import json
import mmap
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import parquet

from export.shards import ARROW_SCHEMA, SPANS_COLUMN, Shard
from export.tally import Tally
from starencoder.errors import ConfigError, DataError, OutputError, reason_of
from starencoder.files import open_whole, read_json_object, write_whole

SCAN_FOLDER = "_scan"
RUN_FILE, JOURNAL_FILE, MANIFEST_FILE = "run.json", "journal.jsonl", "manifest.json"
LOCK_FILE = "lock"
_PARTS_FOLDER = "parts"
_COMPRESSION, _LEVEL = "zstd", 3
_PAGE_BYTES = 1 << 20
_TRIES, _SECONDS_BETWEEN = 10, 0.1
_FAR = 1 << 30
"""Beyond the end of any lock file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the journal; what its kind does not have is empty."""

    kind: str
    """`start` of a run, `unit` (a row group is done), `shard` (one is finished), `problem`."""
    time: float
    """In seconds since 1970."""
    shard: str = ""
    group: int = 0
    seconds: float = 0.0
    """Of work on a row group."""
    part_bytes: int = 0
    sha256: str = ""
    output_bytes: int = 0
    problem: str = ""
    tally: Tally = field(default_factory=Tally)


_ENTRY_FIELDS = {own.name for own in fields(Entry)}


@dataclass(frozen=True, slots=True)
class DoneUnit:
    """A row group whose part is written."""

    tally: Tally
    part_bytes: int


@dataclass(frozen=True, slots=True)
class DoneShard:
    """A shard whose output is written."""

    tally: Tally
    sha256: str
    """Of the input."""
    output_bytes: int


class ScanDirectory:
    """A scan's output directory, locked for this process until `close` or its end."""

    def __init__(self, path: Path) -> None:
        """Make the directory if needed and lock it.

        Raises:
            ConfigError: It holds other files.
            OutputError: Another process has it, or it cannot be written.
        """
        self.path = path
        self._folder = path / SCAN_FOLDER
        try:
            if path.exists() and not self._folder.exists() and any(path.iterdir()):
                raise ConfigError(f"{path}: is not empty and no scan's output; give another output")
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self._folder / LOCK_FILE).open("a+b", buffering=0)
            self._take_lock()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({reason_of(error)})") from error

    def _take_lock(self) -> None:
        for remaining in reversed(range(_TRIES)):
            if _try_lock(self._lock.fileno()):
                break
            # Whoever only looks whether a scan is at work has the lock for a moment.
            if remaining:
                time.sleep(_SECONDS_BETWEEN)
        else:
            holder = _read_holder(self._lock)
            self._lock.close()
            raise OutputError(
                f"{self.path}: another scan writes there ({holder}); "
                "wait for it, or give another output"
            )
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()

    def begin(self, run: Mapping[str, object]) -> None:
        """Start, or go on with what was started with the same settings and inputs.

        Args:
            run: What the output depends on, as JSON objects.

        Raises:
            ConfigError: The directory holds another run's output.
            OutputError: It cannot be written.
        """
        path = self._folder / RUN_FILE
        try:
            before = read_json_object(path, DataError, advice="give another output")
        except FileNotFoundError:
            write_whole(path, _dumped(run))
            return
        now = json.loads(_dumped(run))
        differing_input = _differing_input(before.get("inputs"), now["inputs"])
        if differing_input:
            raise ConfigError(
                f"{self.path}: the inputs are not those of the scan that began there "
                f"({differing_input}); give another output"
            )
        differing = _differences({**before, "inputs": None}, {**now, "inputs": None})
        if differing:
            raise ConfigError(
                f"{self.path}: holds the output of a scan with another {', '.join(differing)}; "
                "results are not mixed: use the same as before, or give another output"
            )
        if before != now:  # a shard can be read that could not
            write_whole(path, _dumped(run))

    def done(
        self, shards: Mapping[str, Shard]
    ) -> tuple[dict[tuple[str, int], DoneUnit], dict[str, DoneShard]]:
        """Row groups and shards that need not be scanned again.

        Half a line at the journal's end, of a process that was killed, is cut off.
        """
        return find_done(self.path, shards, self._entries())

    def _entries(self) -> Iterator[Entry]:
        path = self._folder / JOURNAL_FILE
        whole = 0
        for entry, end in _iter_journal(path):
            whole = end
            yield entry
        if _size_of(path) > whole:
            os.truncate(path, whole)

    def append(self, kind: str, **values: object) -> None:
        """Add a line to the journal.

        Raises:
            OutputError: It cannot be written.
        """
        path = self._folder / JOURNAL_FILE
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **values}).encode() + b"\n"
        try:
            with path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError("no room for a whole line")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({reason_of(error)})") from error

    def output(self, relative: str) -> Path:
        """Where a shard's output goes."""
        return self.path / relative

    def part(self, relative: str, group: int) -> Path:
        """Where a shard's row group's part goes."""
        return part_path(self.path, relative, group)

    def remove_parts(self, relative: str) -> None:
        """Delete a shard's parts."""
        shutil.rmtree(self.part(relative, 0).parent, ignore_errors=True)

    def write_manifest(self, values: Mapping[str, object]) -> Path:
        """Write the account of a run.

        Raises:
            OutputError: It cannot be written.
        """
        path = self._folder / MANIFEST_FILE
        write_whole(path, _dumped(values))
        return path


def is_scan(path: Path) -> bool:
    """Whether a directory is a scan's output."""
    return (path / SCAN_FOLDER).is_dir()


def lock_holder(path: Path) -> str | None:
    """Which process scans into a directory, in words; None: none does, as far as can be seen."""
    try:
        with (path / SCAN_FOLDER / LOCK_FILE).open("rb") as file:
            return None if _try_lock(file.fileno(), shared=True) else _read_holder(file)
    except OSError:
        return None


def read_run(path: Path) -> Mapping[str, object]:
    """What a scan's output depends on; empty where none has begun.

    Raises:
        DataError: It cannot be read.
    """
    return _read_object(path, RUN_FILE)


def read_manifest(path: Path) -> Mapping[str, object]:
    """The account of a scan; empty where none came to its end.

    Raises:
        DataError: It cannot be read.
    """
    return _read_object(path, MANIFEST_FILE)


def _read_object(path: Path, name: str) -> Mapping[str, object]:
    try:
        return read_json_object(path / SCAN_FOLDER / name, DataError)
    except FileNotFoundError:
        return {}


def read_journal(path: Path) -> Iterator[Entry]:
    """What was done in a scan's directory, in order; half a line at the end is left out.

    Raises:
        DataError: It cannot be read.
    """
    for entry, _ in _iter_journal(path / SCAN_FOLDER / JOURNAL_FILE):
        yield entry


def _iter_journal(path: Path) -> Iterator[tuple[Entry, int]]:
    """Each whole line, and where it ends."""
    end = 0
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                yield _read_entry(line), end
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read; it is needed to go on: give another output"
        ) from error


def _read_entry(line: bytes) -> Entry:
    values = {key: value for key, value in json.loads(line).items() if key in _ENTRY_FIELDS}
    if "tally" in values:
        values["tally"] = Tally.from_json(values["tally"])
    return Entry(**values)


def find_done(
    path: Path, relatives: Collection[str], entries: Iterable[Entry]
) -> tuple[dict[tuple[str, int], DoneUnit], dict[str, DoneShard]]:
    """Row groups and shards that are done: the journal says so and their files are there.

    Args:
        path: A scan's directory.
        relatives: The shards' places in it.
        entries: The journal.
    """
    units: dict[str, dict[int, DoneUnit]] = {}
    finished: dict[str, DoneShard] = {}
    for entry in entries:
        if entry.shard not in relatives:
            continue
        if entry.kind == "unit":
            units.setdefault(entry.shard, {})[entry.group] = DoneUnit(entry.tally, entry.part_bytes)
        elif entry.kind == "shard":
            finished[entry.shard] = DoneShard(entry.tally, entry.sha256, entry.output_bytes)
            units.pop(entry.shard, None)  # its parts are removed
    finished = {
        relative: shard
        for relative, shard in finished.items()
        if _size_of(path / relative) == shard.output_bytes
    }
    open_units = {
        (relative, group): unit
        for relative, own in units.items()
        if relative not in finished
        for group, unit in own.items()
        if _size_of(part_path(path, relative, group)) == unit.part_bytes
    }
    return open_units, finished


def part_path(path: Path, relative: str, group: int) -> Path:
    """Where a shard's row group's part goes in a scan's directory."""
    # Not by the shard's number: one that cannot be read in this run has none.
    folder = hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
    return path / SCAN_FOLDER / _PARTS_FOLDER / folder / f"{group}.arrow"


def _read_holder(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(200).decode("utf-8", "replace").strip() or "unknown process"


def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock a file for this process; False if another has it.

    Shared locks, which only look, do not keep each other out where the system has such.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        # From the current position on; locked bytes cannot be read by others.
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _dumped(values: Mapping[str, object]) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Keys whose values differ; those of inner objects with a dot."""
    names = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{key}.{inner}" for inner in _differences(old, new)]
        else:
            names.append(key)
    return names


def _differing_input(before: object, now: Sequence[Mapping[str, object]]) -> str:
    """Which input differs, and how; empty: none, apart from those that could not be read before."""
    old = {entry["shard"]: entry for entry in before} if isinstance(before, list) else {}
    new = {entry["shard"]: entry for entry in now}
    for shard, entry in new.items():
        if shard not in old:
            return f"{shard} is new"
        if old[shard]["footer"] is not None:
            if entry["footer"] is None:
                return f"{shard} can no longer be read"
            if old[shard] != entry:
                return f"{shard} has changed"
    gone = sorted(set(old) - set(new))
    if gone:
        return f"{gone[0]} is gone"
    known = [shard for shard, entry in old.items() if entry["footer"] is not None]
    same_order = known == [shard for shard in new if shard in set(known)]
    return "" if same_order else "in another order"


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def write_shard(parts: Sequence[Path], output: Path, text_column: str) -> int:
    """Join one or more parts to a parquet shard, a row group each; return its size in bytes.

    The file appears whole, and is on the disk before it does.

    Raises:
        OutputError: It cannot be written, or a part cannot be read.
    """
    with open_whole(output) as file:
        try:
            _write_row_groups(parts, file, text_column)
        except pa.ArrowException as error:
            raise OutputError(f"{output}: cannot be written ({type(error).__name__})") from error
        file.flush()
        os.fsync(file.fileno())
    return output.stat().st_size


def _write_row_groups(parts: Sequence[Path], file: BinaryIO, text_column: str) -> None:
    schema = _mapped_table(parts[0]).schema
    # Statistics would repeat texts, and values, at their full length.
    names = [name for name in schema.names if name not in (text_column, SPANS_COLUMN)]
    with parquet.ParquetWriter(
        file,
        schema,
        compression=_COMPRESSION,
        compression_level=_LEVEL,
        use_dictionary=names,
        write_statistics=names,
        data_page_size=_PAGE_BYTES,
        write_page_checksum=True,
        store_schema=ARROW_SCHEMA not in (schema.metadata or {}),
    ) as writer:
        for part in parts:
            table = _mapped_table(part)
            if table.num_rows:
                writer.write_table(table, row_group_size=table.num_rows)
        if ARROW_SCHEMA in (schema.metadata or {}):  # none is written then but what is added
            writer.add_key_value_metadata(schema.metadata)


def _mapped_table(path: Path) -> pa.Table:
    """A part's rows, which stay on the disk until they are used."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()
