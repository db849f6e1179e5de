"""AdamW as BERT-style encoders use it, and the learning rate of each step."""

import math

import torch
from torch import Tensor, nn

from pretrain.config import OptimizerConfig
from starencoder.errors import CheckpointError


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, none on biases and layer norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    first, second = config.betas
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(first, second), eps=config.eps, fused=True
    )


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Learning rate of step `step` in 0..steps-1.

    It rises linearly over the warm-up; `linear` then falls to 0 at the end (Devlin et al. 2018,
    A.2), `wsd` stays until the last `decay_share` of the steps and falls as 1 - sqrt (Hägele et
    al. 2024, 3).
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "linear":
        left = (steps - step) / max(1, steps - config.warmup_steps)
    else:
        decay_steps = max(1, round(steps * config.decay_share))
        done = max(0, step - (steps - decay_steps)) / decay_steps
        left = 1 - math.sqrt(done)
    return config.learning_rate * left


def moments(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Adam's two moments of every parameter, as `exp_avg.NAME` and `exp_avg_sq.NAME`."""
    return {
        f"{kind}.{name}": optimizer.state[parameter][kind]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for kind in ("exp_avg", "exp_avg_sq")
    }


def load_moments(
    model: nn.Module, optimizer: torch.optim.AdamW, tensors: dict[str, Tensor], *, updates: int
) -> None:
    """Put back what `moments` gave; `updates` is the number of steps the optimiser had taken.

    Raises:
        CheckpointError: A moment is missing or has another shape.
    """
    for name, parameter in model.named_parameters():
        state: dict[str, Tensor] = {
            # On the parameter's device, as the fused kernel wants it.
            "step": torch.tensor(float(updates), device=parameter.device)
        }
        for kind in ("exp_avg", "exp_avg_sq"):
            tensor = tensors.get(f"{kind}.{name}")
            if tensor is None or tensor.shape != parameter.shape:
                found = "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
                raise CheckpointError(
                    f"optimizer.safetensors: {kind}.{name}: found {found}, "
                    f"expected shape {tuple(parameter.shape)}"
                )
            state[kind] = tensor.to(parameter.device).clone()
        optimizer.state[parameter] = state
