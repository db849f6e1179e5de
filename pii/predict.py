"""A torch checkpoint as a predict callable; its sibling without torch is `session.py`."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pii.tagger import Predict, Probs
from starencoder.checkpoint import load_tagger
from starencoder.model import TokenClassifier

_BATCH_TOKENS = 4096
"""Padded tokens run at once: enough to fill a core, little memory."""


def load_torch_predict(model_dir: Path) -> Predict:
    """Load a tagger's safetensors in float32.

    Raises:
        CheckpointError: The directory does not hold a tagger that can be loaded.
    """
    return torch_predict(load_tagger(model_dir)[0])


def torch_predict(model: TokenClassifier) -> Predict:
    """A model, on whatever device it is, as a predict callable; it is put in evaluation mode.

    Chunks of similar length share a padded batch; padding is masked, so a chunk's result is the
    same in any company, up to float32 rounding.
    """
    device = next(model.parameters()).device
    model.eval()

    def predict(chunks: Sequence[Sequence[int]]) -> list[Probs]:
        results: list[Probs | None] = [None] * len(chunks)
        with torch.inference_mode():
            for batch in _batches([len(chunk) for chunk in chunks]):
                longest = len(chunks[batch[-1]])
                ids = torch.full((len(batch), longest), model.config.pad_id)
                for row, index in zip(ids, batch, strict=True):
                    row[: len(chunks[index])] = torch.as_tensor(chunks[index])
                lengths = torch.tensor([len(chunks[index]) for index in batch])
                mask = torch.arange(longest) < lengths[:, None]
                logits = model(ids.to(device), mask.to(device))
                probs = logits.float().softmax(dim=-1).cpu().numpy()
                for row, index in zip(probs, batch, strict=True):
                    results[index] = row[: len(chunks[index])].copy()
        return [result for result in results if result is not None]

    return predict


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices grouped by rising length; a group, padded to its longest, has `_BATCH_TOKENS`."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or (len(batches[-1]) + 1) * lengths[index] > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(index)
    return batches
