"""Runners for a server's process. Kept apart: what is imported there takes time at every start."""

import functools
import os
import signal
import time
from pathlib import Path

import numpy as np

from export import devices
from export.batching import OutOfMemory
from pii.detect import EMBEDDED_MODEL
from pii.session import load_session
from starencoder.errors import ConfigError


def echo(input_ids, attention_mask):
    """Tells every token apart, and fails if it is given padding as a token or a mask with holes."""
    length = attention_mask.sum(axis=1)
    assert (attention_mask == (np.arange(attention_mask.shape[1]) < length[:, None])).all()
    out = np.stack([input_ids, input_ids * 2, np.broadcast_to(length[:, None], input_ids.shape)], 2)
    return np.where(attention_mask[..., None] == 1, out, np.nan).astype(np.float16)


def start_echo():
    return echo


class Failing:
    """`echo`, except once for each of the files that a run takes away."""

    def __init__(self, folder, how):
        self._folder, self._how = folder, how

    def __call__(self, input_ids, attention_mask):
        for path in Path(self._folder).glob("fail-*"):
            path.unlink()
            if self._how == "raise":
                raise RuntimeError("CUDA failure 999: unknown error\nmore")
            if self._how == "hang":
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        return echo(input_ids, attention_mask)


def start_failing(folder, how, times=0):
    for index in range(times):
        (Path(folder) / f"fail-{index}").touch()
    return functools.partial(Failing, str(folder), how)


class Small:
    """`echo` on a device that has memory for some rows only."""

    def __init__(self, rows):
        self._rows = rows

    def __call__(self, input_ids, attention_mask):
        if len(input_ids) > self._rows:
            raise OutOfMemory
        return echo(input_ids, attention_mask)


def failing_start(error):
    raise error


def start_patiently(folder):
    devices._SECONDS_TO_RUN = 0.5
    return Failing(folder, "hang")


def start_once(folder):
    mark = Path(folder) / "started"
    if mark.exists():
        raise ConfigError("no such GPU")
    mark.touch()
    return Failing(folder, "kill")


class RowByRow:
    """The embedded model as a runner: one chunk per run, so that padding changes nothing."""

    def __init__(self):
        self._predict = load_session(EMBEDDED_MODEL)

    def __call__(self, input_ids, attention_mask):
        out = np.zeros((*input_ids.shape, 13), np.float16)
        for row, ids, mask in zip(out, input_ids, attention_mask, strict=True):
            if mask.sum() > 1:  # an empty row
                row[: mask.sum()] = self._predict([ids[: mask.sum()].tolist()])[0]
        return out


class RowByRowUntil(RowByRow):
    """Dies at each run while a file is there, after some that it does not."""

    def __init__(self, folder, runs):
        super().__init__()
        self._mark, self._left = Path(folder) / "broken", runs

    def __call__(self, input_ids, attention_mask):
        self._left -= 1
        if self._mark.exists() and self._left < 0:
            raise RuntimeError("CUDA failure 719: unspecified launch failure")
        return super().__call__(input_ids, attention_mask)


def open_row_by_row(folder, device):
    """In place of `open_cuda`."""
    return RowByRow()


def open_lost(folder, device):
    """A GPU that is there at the start and never again."""
    return Failing(os.environ["LOST_GPU"], "kill")
