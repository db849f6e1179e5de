"""Start of a run on one process or many: process group, device, precision, signals."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from types import FrameType

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from pretrain.config import RunConfig, check_batch
from starencoder.errors import ConfigError

_LOG = logging.getLogger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Preemption: schedulers send one of them some time before they kill."""


_PATIENCE = timedelta(hours=1)
"""How long ranks wait for one that checks its data or writes; 10 minutes are too few for that."""


def start(run: RunConfig) -> Accelerator:
    """Join the process group that torchrun described, if it did, and take a device.

    Raises:
        ConfigError: The ranks do not divide the batch, a tracker is not installed, or accelerate
            refuses the precision or how the processes were started.
    """
    _warn_of_stale_addresses()
    for tracker in run.trackers:  # accelerate would go on without it
        if find_spec(tracker) is None:
            raise ConfigError(f"run.trackers: {tracker} is not installed; pip install {tracker}")
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if run.precision == "bf16" else "no",
            log_with=list(run.trackers) or None,
            project_dir=run.output,
            kwargs_handlers=[
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
                InitProcessGroupKwargs(timeout=_PATIENCE),
            ],
        )
    except ValueError as error:
        raise ConfigError(f"process group or run.precision: {error}") from error
    check_batch(run, accelerator.num_processes)
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if visible > 1 and accelerator.num_processes == 1:
        _LOG.warning(
            "%d GPUs are visible and 1 is used; for all of them: torchrun --nproc-per-node %d "
            "--no-python starencoder pretrain run ...",
            visible,
            visible,
        )
    return accelerator


def _warn_of_stale_addresses() -> None:
    """A restarted rank may read, in a store that torchrun kept, where a dead one listened."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if restarts and kept and os.environ.get("RANK") == "0":
        _LOG.warning(
            "torchrun may fail to restart: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where it is "
            "started, so that each restart gets a new store"
        )


class StopRequest:
    """Whether SIGTERM or SIGUSR1 arrived."""

    def __init__(self) -> None:
        self.signal_name = ""

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Note those signals, rather than die of them, while the body runs."""
        previous = {number: signal.signal(number, self._note) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
