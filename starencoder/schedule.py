"""Settings of AdamW, and the learning rate of each step. No torch: plans need it too."""

import math
from dataclasses import dataclass
from typing import Literal

from starencoder.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW and the learning rate's schedule."""

    learning_rate: float = 6e-4
    """Peak."""
    betas: tuple[float, ...] = (0.9, 0.98)
    """Decay of Adam's first and second moment, each in [0, 1)."""
    eps: float = 1e-6
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Of matrices; biases and layer norms have none."""
    clip_norm: float = 1.0
    """Longest gradient, in the 2-norm over all weights."""
    schedule: Literal["linear", "wsd"] = "linear"
    """After the warm-up: linear to 0, or stable and then decaying as 1 - sqrt (wsd)."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    decay_share: float = 0.2
    """Share of all steps that wsd decays over."""

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("betas must be two numbers in [0, 1)")
        for name in ("learning_rate", "eps", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.weight_decay < 1:
            raise ConfigError(f"weight_decay must be in [0, 1), got {self.weight_decay}")
        if not 0 < self.decay_share <= 1:
            raise ConfigError(f"decay_share must be in (0, 1], got {self.decay_share}")
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps must be 0 or more, got {self.warmup_steps}")


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
