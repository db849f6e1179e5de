"""AdamW as BERT-style encoders use it, and its state for checkpoints."""

import torch
from torch import Tensor, nn

from starencoder.errors import CheckpointError
from starencoder.schedule import OptimizerConfig


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
