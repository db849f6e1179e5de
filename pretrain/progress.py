"""How far a run is, as its checkpoints keep it, and what a run must be the same in to go on."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pretrain.config import PretrainConfig
from pretrain.run_dir import (
    CONFIG_FILE,
    DONE_FILE,
    MODEL_FOLDER,
    read_config,
    read_done_step,
)
from starencoder.errors import CheckpointError, ConfigError
from starencoder.toml import differences
from starencoder.training_checkpoints import Checkpoint

RECENT_STEPS = 100
_ENOUGH = 20
"""Fewer losses than this make no median."""

_MAY_CHANGE = frozenset(
    {
        "data.directory", "data.tokenizer", "data.workers", "data.verify", "model.init_from",
        "run.output", "run.steps", "run.micro_rows", "run.attention", "run.compile",
        "run.checkpoint_every", "run.keep_checkpoints", "run.evaluate_every", "run.evaluate_rows",
        "run.log_every", "run.trackers", "run.bad_step", "run.spike_factor", "run.saved_precision",
    }
)  # fmt: skip
"""Settings that a resumed run may have otherwise; any other would make it another run."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """What has been done. Random numbers need no place here: they follow from seed and step."""

    step: int = 0
    """Steps done, skipped ones included."""
    updates: int = 0
    """Steps that changed the weights."""
    skipped: int = 0
    """Bad steps since the last one that changed the weights."""
    tokens: int = 0
    """Real tokens read."""
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    """Of the last steps that changed the weights."""

    def reason_bad(self, loss: float, grad_norm: float, spike_factor: float) -> str:
        """Why a step must not change the weights; empty if it may."""
        if not math.isfinite(loss):
            return "the loss is not finite"
        if not math.isfinite(grad_norm):
            return "the gradients are not finite"
        if len(self.losses) >= _ENOUGH:
            median = statistics.median(self.losses)
            if loss > spike_factor * median:
                return f"the loss is {loss / median:.1f} times the median of the steps before"
        return ""

    def updated(self, loss: float) -> None:
        """Count a step that changed the weights."""
        self.updates += 1
        self.skipped = 0
        self.losses.append(loss)

    def to_json(self) -> dict[str, object]:
        """All but the step, which a checkpoint has anyway."""
        return {
            "updates": self.updates,
            "skipped": self.skipped,
            "tokens": self.tokens,
            "losses": list(self.losses),
        }

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Progress":
        """What a checkpoint keeps.

        Raises:
            CheckpointError: It was written by something else.
        """
        state = checkpoint.state.get("progress")
        try:
            if not isinstance(state, dict):
                raise TypeError
            return cls(
                step=checkpoint.step,
                updates=int(state["updates"]),
                skipped=int(state["skipped"]),
                tokens=int(state["tokens"]),
                losses=deque(map(float, state["losses"]), maxlen=RECENT_STEPS),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.directory}: its state is not that of a pretraining run"
            ) from error


def check_same_run(config: PretrainConfig, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Refuse to go on with other data or settings than the run was started with.

    Args:
        config: What is to be run.
        fingerprint: Of its data set.
        checkpoint: Of the run to go on with.

    Raises:
        ConfigError: The message names every setting that differs, or the data.
    """
    where, state = checkpoint.directory, checkpoint.state
    if state.get("data") != fingerprint:
        raise ConfigError(
            f"data.directory: {config.data.directory} is not the data set that the run in {where} "
            f"was started with; put that one back, or choose another run.output"
        )
    _check_same_settings(config, state, str(where))
    if checkpoint.step > config.run.steps:
        raise ConfigError(
            f"run.steps is {config.run.steps}, but the run in {where} has done {checkpoint.step}"
        )


def check_done_run(config: PretrainConfig) -> None:
    """Refuse to take a run that is done for one with other settings, or with more steps.

    Raises:
        ConfigError: The message says what differs.
    """
    run = Path(config.run.output)
    for name in (CONFIG_FILE, MODEL_FOLDER):
        if not (run / name).exists():
            raise ConfigError(
                f"{run}: the run is done, but {name} is missing; remove {run / DONE_FILE} and go "
                f"on with --resume to write it again"
            )
    state = read_config(run)
    _check_same_settings(config, state, str(run))
    done = read_done_step(run)
    if done != config.run.steps:
        raise ConfigError(
            f"run.steps is {config.run.steps}, but the run in {run} ended with step {done}; start "
            f"another one from its weights: model.init_from and another run.output"
        )


def _check_same_settings(config: PretrainConfig, state: Mapping[str, object], where: str) -> None:
    changed = [
        difference
        for name, difference in differences(state.get("config"), config.to_json()).items()
        if name not in _MAY_CHANGE and not name.startswith("prepare.")
    ]
    if changed:
        raise ConfigError(
            f"the run in {where} has other settings: {'; '.join(changed)}; go on with those, or "
            f"choose another run.output"
        )
