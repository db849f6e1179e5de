"""What a run tells while it trains: speed, losses, waiting, time left."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from accelerate import Accelerator

from pretrain.config import PretrainConfig
from pretrain.plan import flops_per_token, peak_flops
from pretrain.run_dir import RunDirectory
from starencoder.config import EncoderConfig
from starencoder.text import duration

_LOG = logging.getLogger(__name__)

_Item = TypeVar("_Item")


class Meter:
    """Averages over the steps since the last line, and the last learning rate and gradient norm.

    Only the rank with a run directory writes.
    """

    def __init__(
        self,
        config: PretrainConfig,
        encoder: EncoderConfig,
        accelerator: Accelerator,
        directory: RunDirectory | None,
    ) -> None:
        """Measure a run of `config`; the clock starts with the first step."""
        self._config, self._encoder = config, encoder
        self._accelerator, self._directory = accelerator, directory
        device = accelerator.device
        self._peak = (
            peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        )
        self._clear()

    def timed(self, steps: Iterable[_Item]) -> Iterator[_Item]:
        """Pass on what a data loader gives, and measure how long it takes to give it."""
        self._clear()
        iterator = iter(steps)
        while True:
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - began
            yield item

    def add(
        self,
        *,
        mlm_loss: float,
        nsp_loss: float,
        learning_rate: float,
        grad_norm: float,
        tokens: int,
        squares: int,
    ) -> None:
        """Count one step; `squares` is the sum of the squared lengths of its pairs."""
        self._steps += 1
        self._mlm_loss += mlm_loss
        self._nsp_loss += nsp_loss
        self._tokens += tokens
        self._squares += squares
        self._learning_rate, self._grad_norm = learning_rate, grad_norm

    def stalled(self, seconds: float) -> None:
        """Count what a checkpoint kept the training waiting."""
        self._stall += seconds

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on training, such as an evaluation."""
        self._paused += seconds

    def log(self, step: int, tokens: int) -> None:
        """Write a line of metrics and one of progress, and begin anew.

        Args:
            step: Steps done.
            tokens: Trained on in all.
        """
        seconds = max(1e-9, time.perf_counter() - self._began - self._paused)
        rate, wait = self._tokens / seconds, self._waited / seconds
        mlm_loss, nsp_loss = self._mlm_loss / self._steps, self._nsp_loss / self._steps
        mfu = self._mfu(seconds)
        left = (self._config.run.steps - step) * seconds / self._steps
        values = {
            "loss": mlm_loss + nsp_loss,
            "mlm_loss": mlm_loss,
            "nsp_loss": nsp_loss,
            "learning_rate": self._learning_rate,
            "grad_norm": self._grad_norm,
            "tokens": tokens,
            "tokens_per_second": rate,
            "mfu": mfu,
            "data_wait": wait,
            "checkpoint_stall": self._stall,
            "time": time.time(),
        }
        if self._directory is not None:
            self._directory.append("train", step, values)
            _LOG.info(
                "step %d/%d  loss %.4f (MLM %.4f, NSP %.4f)  lr %.2e  %s tokens/s%s  wait %.1f %%"
                "  %s left",
                step,
                self._config.run.steps,
                mlm_loss + nsp_loss,
                mlm_loss,
                nsp_loss,
                self._learning_rate,
                f"{rate:,.0f}",
                "" if mfu is None else f"  MFU {mfu:.1%}",
                100 * wait,
                duration(left),
            )
        if self._config.run.trackers:
            self._accelerator.log(
                {key: value for key, value in values.items() if value is not None}, step=step
            )
        self._clear()

    def _mfu(self, seconds: float) -> float | None:
        """Share of the devices' peak that went into useful work; None where no peak is known."""
        if self._peak is None or not self._tokens:
            return None
        flops: float = flops_per_token(
            self._encoder, self._squares / self._tokens, self._config.data.mask_share
        ).total
        peak = self._peak * int(self._accelerator.num_processes)
        return flops * self._tokens / seconds / peak

    def _clear(self) -> None:
        self._began = time.perf_counter()
        self._steps = self._tokens = self._squares = 0
        self._mlm_loss = self._nsp_loss = self._waited = self._stall = self._paused = 0.0
        self._learning_rate = self._grad_norm = 0.0
