"""What pretraining minimises: masked tokens and next segments, over packed rows."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pretrain.batches import IGNORE_TARGET, Batch
from starencoder.model import PackedRuns, PretrainingModel


class Sums(NamedTuple):
    """Sums over a micro-batch, so that any number of them can be added and then divided."""

    mlm_loss: Tensor
    """Cross-entropy of the masked tokens, in nats; scalar."""
    nsp_loss: Tensor
    """Cross-entropy of the pairs, in nats; scalar."""
    mlm_correct: Tensor
    """Masked tokens whose likeliest token is the right one; scalar."""
    nsp_correct: Tensor
    """Pairs told right; scalar."""


class Objective(nn.Module):
    """Loss sums of a micro-batch; logits are computed at masked tokens and first tokens only."""

    def __init__(self, model: PretrainingModel, *, varlen: bool = False) -> None:
        """Wrap a model; `varlen` takes the kernel for packed rows, which needs CUDA, not a mask."""
        super().__init__()
        self.model = model
        self.varlen = varlen

    def forward(self, batch: Batch) -> Sums:
        """Sum losses and hits over a micro-batch on the model's device."""
        hidden = self.model.bert.encode_packed(
            batch.input_ids,
            batch.segment_ids,
            batch.position_ids,
            packed_runs(batch) if self.varlen else same_pair(batch),
        )
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        mlm_logits = self.model.mlm_logits(hidden[rows, batch.masked_positions]).flatten(0, 1)
        nsp_logits = self.model.nsp_logits(hidden[batch.cls_rows, batch.cls_columns])
        targets = batch.targets.flatten()
        return Sums(
            functional.cross_entropy(
                mlm_logits.float(), targets, ignore_index=IGNORE_TARGET, reduction="sum"
            ),
            functional.cross_entropy(nsp_logits.float(), batch.nsp_targets, reduction="sum"),
            (mlm_logits.argmax(1) == targets).sum(),
            (nsp_logits.argmax(1) == batch.nsp_targets).sum(),
        )


def same_pair(batch: Batch) -> Tensor:
    """Bool `(rows, 1, seq, seq)`: true where two tokens are of the same pair, or both padding."""
    return batch.pair_ids[:, None, :, None] == batch.pair_ids[:, None, None, :]


def packed_runs(batch: Batch) -> PackedRuns:
    """The bounds of a batch's pairs and of its padding."""
    starts = torch.ones_like(batch.pair_ids, dtype=torch.bool)
    starts[:, 1:] = batch.pair_ids[:, 1:] != batch.pair_ids[:, :-1]
    bounds = starts.flatten().nonzero().flatten()
    end = bounds.new_full((1,), starts.numel())
    return PackedRuns(torch.cat([bounds, end]).int(), longest=starts.shape[1])
