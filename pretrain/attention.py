"""Dense attention with a mask, or the varlen kernel, which is faster on some GPUs."""

import logging
import time

import torch
from accelerate import Accelerator

from pretrain.batches import Batch
from pretrain.config import PretrainConfig
from pretrain.objective import Objective
from starencoder.errors import ConfigError
from starencoder.model import PretrainingModel

_LOG = logging.getLogger(__name__)

_TIMED_PASSES = 5


def choose_varlen(
    config: PretrainConfig,
    model: PretrainingModel,
    accelerator: Accelerator,
    *,
    before: bool | None,
    batch: Batch,
) -> bool:
    """Whether to use the varlen kernel: as set, as before, or if it is faster.

    Args:
        config: The run.
        model: On the accelerator's device.
        accelerator: All ranks choose the same.
        before: What a run that goes on has used so far.
        batch: One of this rank's, to measure on.

    Raises:
        ConfigError: The varlen kernel is asked for and cannot be had.
    """
    wanted, dropout = config.run.attention, model.config.attention_dropout
    is_cuda = accelerator.device.type == "cuda"
    if wanted == "varlen":
        if not is_cuda:
            raise ConfigError("run.attention is varlen, which needs a CUDA GPU; choose auto")
        if dropout:
            raise ConfigError(
                "run.attention is varlen, which has no dropout; set model.attention_dropout to 0"
            )
    if wanted != "auto" or not is_cuda or dropout:
        return wanted == "varlen"
    if before is not None:
        return before
    batch = batch.to(accelerator.device)
    bf16 = config.run.precision == "bf16"
    own = [_seconds(model, batch, varlen=kind, bf16=bf16) for kind in (False, True)]
    model.zero_grad(set_to_none=True)
    # The ranks' mean, so that all choose the same.
    timed = torch.tensor(own, device=accelerator.device)
    dense, varlen = accelerator.reduce(timed, "mean").tolist()
    if accelerator.is_main_process:
        _LOG.info(
            "attention: dense %.1f ms, varlen %.1f ms a micro-batch", 1e3 * dense, 1e3 * varlen
        )
    return bool(varlen < dense)


def _seconds(model: PretrainingModel, batch: Batch, *, varlen: bool, bf16: bool) -> float:
    """Of a forward and backward pass on a CUDA GPU; leaves gradients behind."""
    objective = Objective(model, varlen=varlen)
    began = 0.0
    for attempt in range(_TIMED_PASSES + 1):
        if attempt == 1:  # the first one warms up
            torch.cuda.synchronize()
            began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            sums = objective(batch)
        (sums.mlm_loss + sums.nsp_loss).backward()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / _TIMED_PASSES
