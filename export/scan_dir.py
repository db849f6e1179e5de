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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

from export.shards import SPANS_COLUMN, Shard
from export.tally import Tally
from starencoder.errors import ConfigError, DataError, OutputError, reason_of
from starencoder.files import read_json_object, write_whole

SCAN_FOLDER = "_scan"
RUN_FILE, JOURNAL_FILE, MANIFEST_FILE = "run.json", "journal.jsonl", "manifest.json"
_LOCK_FILE, _PARTS_FOLDER = "lock", "parts"
_COMPRESSION, _LEVEL = "zstd", 3
_PAGE_BYTES = 1 << 20


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
            self._lock = (self._folder / _LOCK_FILE).open("a+b", buffering=0)
            self._take_lock()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({reason_of(error)})") from error

    def _take_lock(self) -> None:
        if not _try_lock(self._lock.fileno()):
            self._lock.seek(0)
            holder = self._lock.read(200).decode("utf-8", "replace").strip()
            self._lock.close()
            raise OutputError(
                f"{self.path}: another scan writes there ({holder or 'unknown process'}); "
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
        if before.get("inputs") != now["inputs"]:
            raise ConfigError(
                f"{self.path}: the inputs are not those of the scan that began there "
                f"({_differing_input(before['inputs'], now['inputs'])}); give another output"
            )
        differing = _differences(before, now)
        if differing:
            raise ConfigError(
                f"{self.path}: holds the output of a scan with another {', '.join(differing)}; "
                "results are not mixed: use the same as before, or give another output"
            )

    def done(
        self, shards: Mapping[str, Shard]
    ) -> tuple[dict[tuple[str, int], DoneUnit], dict[str, DoneShard]]:
        """Row groups and shards that need not be scanned again.

        Half a line at the journal's end, of a process that was killed, is cut off.
        """
        units: dict[tuple[str, int], DoneUnit] = {}
        finished: dict[str, DoneShard] = {}
        for event in self._read_journal():
            relative = str(event.get("shard"))
            if relative not in shards:
                continue
            tally = event.get("tally")
            if event["kind"] == "unit" and isinstance(tally, dict):
                size = int(event["part_bytes"])
                units[relative, int(event["group"])] = DoneUnit(Tally.from_json(tally), size)
            elif event["kind"] == "shard" and isinstance(tally, dict):
                size = int(event["output_bytes"])
                finished[relative] = DoneShard(Tally.from_json(tally), str(event["sha256"]), size)
        numbers = {relative: index for index, relative in enumerate(shards)}
        finished = {
            relative: shard
            for relative, shard in finished.items()
            if _size_of(self.output(relative)) == shard.output_bytes
        }
        units = {
            (relative, group): unit
            for (relative, group), unit in units.items()
            if relative not in finished
            and _size_of(self.part(numbers[relative], group)) == unit.part_bytes
        }
        return units, finished

    def _read_journal(self) -> Iterator[dict[str, Any]]:
        path = self._folder / JOURNAL_FILE
        whole = 0
        try:
            with path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    yield json.loads(line)
                    whole += len(line)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read; it is needed to go on: give another output"
            ) from error
        if _size_of(path) != whole:
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

    def part(self, shard: int, group: int) -> Path:
        """Where a row group's part goes, by its shard's number."""
        return self._folder / _PARTS_FOLDER / str(shard) / f"{group}.arrow"

    def remove_parts(self, shard: int) -> None:
        """Delete a shard's parts."""
        shutil.rmtree(self.part(shard, 0).parent, ignore_errors=True)

    def write_manifest(self, values: Mapping[str, object]) -> Path:
        """Write the account of a run.

        Raises:
            OutputError: It cannot be written.
        """
        path = self._folder / MANIFEST_FILE
        write_whole(path, _dumped(values))
        return path


def _try_lock(descriptor: int) -> bool:
    """Lock a file for this process; False if another has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
    """Which input differs, and how."""
    old = {entry["shard"]: entry for entry in before} if isinstance(before, list) else {}
    for entry in now:
        if entry["shard"] not in old:
            return f"{entry['shard']} is new"
        if old[entry["shard"]] != entry:
            return f"{entry['shard']} has changed"
    gone = sorted(set(old) - {entry["shard"] for entry in now})
    return f"{gone[0]} is gone" if gone else "in another order"


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
    partial = output.with_name(output.name + ".partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            _write_row_groups(parts, file, text_column)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(output)
        return output.stat().st_size
    except (OSError, pa.ArrowException) as error:
        partial.unlink(missing_ok=True)
        reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
        raise OutputError(f"{output}: cannot be written ({reason})") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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
    ) as writer:
        for part in parts:
            table = _mapped_table(part)
            if table.num_rows:
                writer.write_table(table, row_group_size=table.num_rows)


def _mapped_table(path: Path) -> pa.Table:
    """A part's rows, which stay on the disk until they are used."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()


def hash_json(values: Mapping[str, object]) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def hash_files(folder: Path, names: Sequence[str]) -> str:
    """SHA-256 over files of a folder, by name and content; those that are missing are left out."""
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        if path.is_file():
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
