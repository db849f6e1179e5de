"""Checkpoints of a training run: written in the background, whole or not at all, and checked.

    FOLDER/step-00001000/
        weights.safetensors, ...   one file per group of tensors
        state.json                 the step and whatever the trainer needs to go on
        checksums.json             size and XXH3 of each file above; written last

A folder has the suffix `.partial` until all of it is on the disk. Loading compares every checksum
and goes back to the newest checkpoint that is whole.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from starencoder.errors import CheckpointError, OutputError, reason_of
from starencoder.files import read_json_object

STATE_FILE = "state.json"
CHECKSUMS_FILE = "checksums.json"
FORMAT = "starencoder-training-checkpoint"
VERSION = 1

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by name, by group; each group becomes one file."""

_FOLDER_NAME = re.compile(r"step-(\d{8,})(\.old)?")
# A checkpoint that is saved again is `.old` between two renames, so that one of both is there.
_OLD, _PARTIAL = ".old", ".partial"
_PIECE_BYTES = 1 << 24
_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    directory: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    """By group and name, on the CPU, in memory of their own."""
    state: dict[str, object]
    """What was given to `save`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveResult:
    """How a save went."""

    step: int
    stall_seconds: float
    """How long `save` kept the training waiting."""
    write_seconds: float
    """How long the background thread wrote."""
    num_bytes: int
    error: OutputError | None
    """Why there is no such checkpoint; those before it are still there."""


class CheckpointWriter:
    """Saves checkpoints while training goes on, and keeps the last few.

    The tensors are copied into host buffers that are made once and used again; a thread writes
    them. The buffers take as much memory as one checkpoint (pinned, if tensors are on a GPU).
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Take over a folder; what an interrupted save left there is removed.

        Args:
            folder: Made if needed. No other process may write to it.
            keep: Whole checkpoints to keep, at least 1.

        Raises:
            OutputError: The folder cannot be made or read.
        """
        self._folder, self._keep = folder, keep
        self._buffers: dict[str, _HostBuffer] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[SaveResult] | None = None
        self._finished: list[SaveResult] = []
        self._last: SaveResult | None = None
        self._whole: dict[Path, bool] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob(f"step-*{_PARTIAL}")):
                _LOG.warning("%s: left by a save that was interrupted; removed", path)
                shutil.rmtree(path)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({reason_of(error)})") from error

    def prepare(self, tensors: Groups) -> None:
        """Make the host buffers, so that the first save is as quick as the later ones."""
        self._wait()
        for group, members in tensors.items():
            layout = _layout(members)
            if group not in self._buffers or self._buffers[group].layout != layout:
                self._buffers[group] = _HostBuffer(members, layout)

    def save(
        self, step: int, tensors: Groups, state: Mapping[str, object], *, wait: bool = False
    ) -> float:
        """Copy the tensors and start writing them; returns when they may be changed again.

        A save that is still being written is waited for. How it went is told by `poll`.

        Args:
            step: Steps done. A checkpoint of that step that is there already is replaced.
            tensors: On any devices. Group and tensor names become file names and keys.
            state: Anything that JSON can hold; read back equal.
            wait: Whether to return only when the checkpoint is on the disk.

        Returns:
            Seconds until the tensors might be changed.

        Raises:
            OutputError: With `wait` only: it could not be written. Older ones are still there.
        """
        start = time.perf_counter()
        state_json = json.dumps({"step": step, "state": dict(state)}, indent=1).encode()
        self.prepare(tensors)
        for group, members in tensors.items():
            self._buffers[group].fill(members)
        for device in {tensor.device for group in tensors.values() for tensor in group.values()}:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        stall = time.perf_counter() - start
        self._running = self._thread.submit(self._write, step, list(tensors), state_json, stall)
        if wait:
            self._wait()
            self._raise_if_failed()
        return stall

    def poll(self) -> list[SaveResult]:
        """The saves that ended since the last call, oldest first."""
        if self._running is not None and self._running.done():
            self._wait()
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        """Wait for the last save.

        Raises:
            OutputError: It could not be written. Older checkpoints are still there.
        """
        self._wait()
        self._thread.shutdown()
        self._raise_if_failed()

    def _wait(self) -> None:
        if self._running is not None:
            self._last = self._running.result()
            self._finished.append(self._last)
            self._running = None

    def _raise_if_failed(self) -> None:
        if self._last is not None and self._last.error is not None:
            raise self._last.error

    def _write(self, step: int, groups: list[str], state_json: bytes, stall: float) -> SaveResult:
        start = time.perf_counter()
        contents: dict[str, list[memoryview]] = {
            f"{group}.safetensors": self._buffers[group].file_parts() for group in groups
        }
        contents[STATE_FILE] = [memoryview(state_json)]
        num_bytes = sum(part.nbytes for parts in contents.values() for part in parts)
        target = self._folder / f"step-{step:08d}"
        partial = target.with_name(target.name + _PARTIAL)
        failure = None
        try:
            _write_folder(partial, contents)
            self._put_in_place(partial, target)
        except OSError as error:
            with suppress(OSError):
                shutil.rmtree(partial)
            free = _free_bytes(self._folder)
            failure = OutputError(
                f"{target}: not saved ({reason_of(error)}; it needs {num_bytes / 1e6:,.1f} MB, "
                f"{free / 1e6:,.1f} MB are free); checkpoints that are still there: "
                f"{len(_folders(self._folder))}; free space, or lower run.keep_checkpoints"
            )
            _LOG.warning("%s", failure)
        else:
            self._whole[target] = True
            self._remove_all_but_the_last(target)
        return SaveResult(
            step=step,
            stall_seconds=stall,
            write_seconds=time.perf_counter() - start,
            num_bytes=num_bytes,
            error=failure,
        )

    def _put_in_place(self, partial: Path, target: Path) -> None:
        old = target.with_name(target.name + _OLD)
        if target.exists():
            if old.exists():
                shutil.rmtree(old)
            target.rename(old)
        partial.rename(target)
        _sync_folder(self._folder)

    def _remove_all_but_the_last(self, saved: Path) -> None:
        num_whole = 1
        for path in _folders(self._folder):
            if path == saved:
                continue
            if path.name != saved.name + _OLD and num_whole < self._keep and self._is_whole(path):
                num_whole += 1
                continue
            try:
                shutil.rmtree(path)
            except OSError as error:
                _LOG.warning("%s: cannot be removed (%s)", path, reason_of(error))

    def _is_whole(self, path: Path) -> bool:
        # What this writer did not write itself is read through once.
        if path not in self._whole:
            try:
                _checked_state(path)
            except CheckpointError:
                self._whole[path] = False
            else:
                self._whole[path] = True
        return self._whole[path]


def load_latest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole; None if there is no checkpoint at all.

    Each one that is damaged is skipped with a warning.

    Raises:
        CheckpointError: There are checkpoints, but none is whole.
    """
    paths = _folders(folder)
    for path in paths:
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            _LOG.warning("%s; the checkpoint before it is tried", error)
    if paths:
        raise CheckpointError(
            f"{folder}: {len(paths)} checkpoints, none of them whole; put back a copy of one, or "
            f"start again with another run.output"
        )
    return None


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read one checkpoint and compare its checksums.

    Raises:
        CheckpointError: A file is missing, cannot be read, or is not what was written.
    """
    step, state, files = _checked_state(directory)
    tensors = {}
    for name in files:
        if name.endswith(".safetensors"):
            try:
                loaded = load_file(directory / name)
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{directory / name}: cannot be read ({error})") from error
            # What is loaded is mapped from the file; training must not hang on to that.
            copies = {key: tensor.clone() for key, tensor in loaded.items()}
            tensors[name.removesuffix(".safetensors")] = copies
    return Checkpoint(directory=directory, step=step, tensors=tensors, state=state)


def has_checkpoints(folder: Path) -> bool:
    """Whether there is a checkpoint, whole or not."""
    return bool(_folders(folder))


def _folders(folder: Path) -> list[Path]:
    """Checkpoints by their names, newest first."""
    if not folder.is_dir():
        return []
    matches = [(_FOLDER_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    named = [(int(m[1]), m[2] is None, path) for m, path in matches if m and path.is_dir()]
    return [path for *_, path in sorted(named, reverse=True)]


def _checked_state(directory: Path) -> tuple[int, dict[str, object], list[str]]:
    """Step, state and file names, after all checksums were compared."""
    path = directory / CHECKSUMS_FILE
    sums = _read_json(path)
    files = sums.get("files")
    if sums.get("format") != FORMAT or not isinstance(files, dict):
        raise CheckpointError(f"{path}: not a checkpoint's checksums")
    if sums.get("version") != VERSION:
        raise CheckpointError(f"{path}: version is not {VERSION}, the one that is read here")
    for name, expected in files.items():
        _check_file(directory / name, expected)
    path = directory / STATE_FILE
    values = _read_json(path)
    step, state = values.get("step"), values.get("state")
    if STATE_FILE not in files or not isinstance(step, int) or not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a checkpoint's state")
    named = _FOLDER_NAME.fullmatch(directory.name)
    if named and int(named[1]) != step:
        raise CheckpointError(f"{path}: step {step}, but the folder's name says {int(named[1])}")
    return step, state, list(files)


def _check_file(path: Path, expected: object) -> None:
    if not isinstance(expected, dict):
        raise CheckpointError(f"{path.with_name(CHECKSUMS_FILE)}: no size and xxh3 of {path.name}")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({reason_of(error)})") from error
    if size != expected.get("bytes"):
        raise CheckpointError(f"{path}: {size} bytes, expected {expected.get('bytes')}")
    if found != expected.get("xxh3"):
        raise CheckpointError(f"{path}: xxh3 is {found}, expected {expected.get('xxh3')}")


def _read_json(path: Path) -> dict[str, object]:
    try:
        return read_json_object(path, CheckpointError)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing") from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in a safetensors file's data."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def _layout(tensors: Mapping[str, Tensor]) -> list[_Place]:
    """One tensor after another without gaps, as the format asks; wide types first, so aligned."""
    places, start = [], 0
    for name, tensor in sorted(tensors.items(), key=_wide_first):
        stop = start + tensor.numel() * tensor.element_size()
        places.append(_Place(name, tensor.dtype, tuple(tensor.shape), start, stop))
        start = stop
    return places


def _wide_first(item: tuple[str, Tensor]) -> tuple[int, str]:
    name, tensor = item
    return -tensor.element_size(), name


class _HostBuffer:
    """The data of one safetensors file; tensors are copied into it and it is written as it is."""

    def __init__(self, tensors: Mapping[str, Tensor], layout: list[_Place]) -> None:
        self.layout = layout
        pinned = any(tensor.is_cuda for tensor in tensors.values())
        num_bytes = layout[-1].stop if layout else 0
        # Zeros touch each page now; copying into fresh pages takes several times as long.
        self._data = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned).zero_()
        self._tensors = {
            place.name: self._data[place.start : place.stop].view(place.dtype).view(place.shape)
            for place in layout
        }

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy; from a GPU only begin to."""
        for name, copy in self._tensors.items():
            copy.copy_(tensors[name].detach(), non_blocking=True)

    def file_parts(self) -> list[memoryview]:
        """The file: length of the header, header, data (safetensors' README, section "Format")."""
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        for place in self.layout:
            header[place.name] = {
                "dtype": _SAFETENSORS_DTYPES[place.dtype],
                "shape": place.shape,
                "data_offsets": [place.start, place.stop],
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return [
            memoryview(len(text).to_bytes(8, "little") + text),
            self._data.numpy().data,
        ]


def _write_folder(folder: Path, contents: Mapping[str, Iterable[memoryview]]) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    files = {name: _write_file(folder / name, parts) for name, parts in contents.items()}
    sums = {"format": FORMAT, "version": VERSION, "files": files}
    _write_file(folder / CHECKSUMS_FILE, [memoryview(json.dumps(sums, indent=1).encode())])
    _sync_folder(folder)


def _write_file(path: Path, parts: Iterable[memoryview]) -> dict[str, int | str]:
    """Write to the disk; size and checksum of what was to be written."""
    digest, size = xxhash.xxh3_128(), 0
    with path.open("wb") as file:
        for part in parts:
            for start in range(0, part.nbytes, _PIECE_BYTES):
                piece = part[start : start + _PIECE_BYTES]
                digest.update(piece)
                file.write(piece)
            size += part.nbytes
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": size, "xxh3": digest.hexdigest()}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
