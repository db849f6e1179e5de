"""A run's directory: who writes to it, its metrics, its settings, and whether it is done.

RUN/lock            held by the process that trains; says which
RUN/config.json     all settings, and what they were run with
RUN/metrics.jsonl   one JSON object a line, each with a `kind` and a `step`
RUN/checkpoints/    see `starencoder.training_checkpoints`
RUN/model/          the finished model
RUN/DONE            there after the last step only
"""

import fcntl
import json
import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starencoder.errors import DataError, OutputError, reason_of
from starencoder.files import read_json_object, write_whole

LOCK_FILE = "lock"
CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
DONE_FILE = "DONE"
_MOST_STEPS = 1 << 53
"""More than any run has; larger ones, which are no step, cannot be drawn."""
MODEL_FOLDER = "model"

_TRIES, _SECONDS_BETWEEN = 10, 0.1

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MetricsLine:
    """One line of metrics."""

    kind: str
    """`train`, `held_out`, `checkpoint`, `bad_step`, ..."""
    step: int
    values: dict[str, object]
    """The other keys, which depend on `kind`."""

    def to_json(self) -> str:
        """The line, with its end; numbers that are not finite become null, as JSON has none."""
        values = {"kind": self.kind, "step": self.step, **self.values}
        return json.dumps(_finite(values), allow_nan=False) + "\n"


class RunDirectory:
    """A run's directory, locked for this process until `close` or its end."""

    def __init__(self, path: Path) -> None:
        """Make the directory if needed and lock it; half a line at the metrics' end is cut off.

        Raises:
            OutputError: Another process has it, or it cannot be written.
        """
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / METRICS_FILE
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / LOCK_FILE).open("a+b", buffering=0)
            # A data loader's process would go on holding the lock of a trainer that was killed.
            os.register_at_fork(after_in_child=self._lock.close)
            self._take_lock()
            self._cut_half_a_line()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({reason_of(error)})") from error

    def mark_done(self, step: int) -> None:
        """Say that the last step was done and all is written.

        Raises:
            OutputError: It cannot be written.
        """
        write_whole(self.path / DONE_FILE, f"{step}\n".encode())

    def write_config(self, values: Mapping[str, object]) -> None:
        """Write `config.json`; the settings themselves are under the key "config".

        Raises:
            OutputError: It cannot be written.
        """
        write_whole(self.path / CONFIG_FILE, (json.dumps(values, indent=2) + "\n").encode())

    def append(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Add a line of metrics.

        One that cannot be written, as on a full disk, is left out with a warning: it is no reason
        to stop training.
        """
        line = MetricsLine(kind, step, dict(values)).to_json()
        try:
            with self._metrics.open("ab", buffering=0) as file:
                size = file.tell()
                if file.write(line.encode()) != len(line):
                    file.truncate(size)
                    raise OSError("no room for a whole line")
        except OSError as error:
            _LOG.warning(
                "%s: cannot be written (%s); metrics of step %d are left out",
                self._metrics,
                reason_of(error),
                step,
            )

    def trim(self, step: int) -> None:
        """Drop the metrics of steps after `step`, from which the run goes on.

        Raises:
            OutputError: They cannot be written; they are as before.
        """
        if not self._metrics.exists():
            return
        kept = [line for line in read_metrics(self.path) if line.step <= step]
        write_whole(self._metrics, "".join(line.to_json() for line in kept).encode())

    def close(self) -> None:
        """Let another process have the directory."""
        self._lock.close()

    def _take_lock(self) -> None:
        for remaining in reversed(range(_TRIES)):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Whoever only looks whether the run is alive has the lock for a moment.
                if remaining:
                    time.sleep(_SECONDS_BETWEEN)
            else:
                self._lock.truncate(0)
                self._lock.write(f"{os.getpid()} on {socket.gethostname()}".encode())
                return
        self._lock.seek(0)
        holder = self._lock.read(200).decode(errors="replace") or "unknown"
        self._lock.close()
        raise OutputError(
            f"{self.path}: another run is writing there (process {holder}); wait for its end, or "
            f"choose another run.output"
        )

    def _cut_half_a_line(self) -> None:
        if self._metrics.exists():
            content = self._metrics.read_bytes()
            if not content.endswith(b"\n"):
                with self._metrics.open("r+b") as file:
                    file.truncate(content.rfind(b"\n") + 1)


def read_metrics(run: Path) -> list[MetricsLine]:
    """All whole lines of a run's metrics, oldest first; none if there is no such file.

    What follows the last line end is being written, or was when the process died, and is left out.
    Lines that are not metrics are left out with a warning.

    Raises:
        DataError: The file cannot be read.
    """
    path = run / METRICS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
    lines = []
    for number, text in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            values = json.loads(text)
            line = MetricsLine(values.pop("kind"), values.pop("step"), values)
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
            line = None
        if line and isinstance(line.kind, str) and _is_step(line.step):
            lines.append(line)
        else:
            _LOG.warning("%s line %d: not a line of metrics; left out", path, number)
    return lines


def _is_step(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= _MOST_STEPS


def read_config(run: Path) -> dict[str, object]:
    """The object in a run's `config.json`; empty if there is no such file.

    Raises:
        DataError: It cannot be read or is not a JSON object.
    """
    advice = "resume the run to write it again"
    try:
        return read_json_object(run / CONFIG_FILE, DataError, advice=advice)
    except FileNotFoundError:
        return {}


def read_done_step(run: Path) -> int:
    """The last step of a run that is done.

    Raises:
        DataError: It is not done, or its `DONE` cannot be read.
    """
    path = run / DONE_FILE
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not readable as a number of steps; remove it to resume"
        ) from error


def is_done(run: Path) -> bool:
    """Whether the run's last step was done."""
    return (run / DONE_FILE).exists()


def is_running(run: Path) -> bool:
    """Whether a process, on this machine or one that shares locks with it, has the directory."""
    try:
        with (run / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
