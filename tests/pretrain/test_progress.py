import math

import pytest

from pretrain.progress import RECENT_STEPS, Progress
from starencoder.training_checkpoints import Checkpoint


def after(losses):
    progress = Progress()
    for loss in losses:
        progress.updated(loss)
    return progress


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_bad_from_the_first_step(value):
    assert "loss is not finite" in Progress().reason_bad(value, 1.0, 3.0)
    assert "gradients are not finite" in Progress().reason_bad(1.0, value, 3.0)
    assert not Progress().reason_bad(1.0, 1.0, 3.0)


def test_a_spike_is_measured_against_the_median_of_enough_recent_losses():
    assert not after([2.0] * 19).reason_bad(100.0, 1.0, 3.0)
    assert after([2.0] * 20).reason_bad(6.5, 1.0, 3.0).startswith("the loss is 3.2 times")
    assert not after([2.0] * 20).reason_bad(6.0, 1.0, 3.0)
    assert after([50.0] * 100 + [2.0] * RECENT_STEPS).reason_bad(6.5, 1.0, 3.0)


def test_an_update_ends_a_series_of_skipped_steps():
    progress = after([1.0])
    progress.skipped = 3
    progress.updated(2.0)
    assert (progress.updates, progress.skipped, list(progress.losses)) == (2, 0, [1.0, 2.0])


def test_progress_comes_back_from_a_checkpoint(tmp_path):
    progress = after([1.5, 0.5])
    progress.step, progress.skipped, progress.tokens = 9, 1, 12345
    state = {"progress": progress.to_json()}
    checkpoint = Checkpoint(directory=tmp_path, step=9, tensors={}, state=state)
    assert Progress.of(checkpoint) == progress
