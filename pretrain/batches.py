"""Batches of packed, masked rows: the same for a step however many processes take part.

Worker processes make whole steps. A step crosses to the training process as one block of bytes in
shared memory, in small integer types, and is widened where it is used: each tensor that crosses on
its own costs a round trip to the worker.
"""

import atexit
import dataclasses
import math
import signal
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretrain.config import DataConfig
from pretrain.masking import Masker
from pretrain.rows import Documents, Row, Rows, Segment, Vocabulary

IGNORE_TARGET = -100
"""Target of a place in `Batch.targets` that is not used."""
PREFETCHED_STEPS = 8
"""Steps that each worker has ready or in the making."""

_TYPES = {
    "targets": torch.int32,
    "cls_rows": torch.int32,
    "cls_columns": torch.int32,
    "nsp_targets": torch.int32,
    "input_ids": torch.uint16,
    "position_ids": torch.int16,
    "masked_positions": torch.int16,
    "pair_ids": torch.int16,
    "segment_ids": torch.uint8,
}
_PER_PAIR = {"cls_rows", "cls_columns", "nsp_targets"}
_PER_MASKED = {"targets", "masked_positions"}
_ALIGNMENT = 16
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SWITCH_SECONDS = 2e-4
"""How soon a worker that computes lets its other thread hand a step over."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """One micro-batch. As made, its tensors are of small integer types; `to` makes them int64."""

    input_ids: Tensor
    """Masked ids `(rows, seq)`."""
    segment_ids: Tensor
    """`(rows, seq)`: 0 up to the first `<sep>` of a pair, then 1; 0 in padding."""
    position_ids: Tensor
    """`(rows, seq)`, from 0 in each pair; 0 in padding."""
    pair_ids: Tensor
    """`(rows, seq)`: which pair of its row; -1 in padding."""
    masked_positions: Tensor
    """Columns of the masked tokens `(rows, most)`; 0 where not used."""
    targets: Tensor
    """Ids that were there `(rows, most)`; `IGNORE_TARGET` where not used."""
    cls_rows: Tensor
    """Row of each pair's `<cls>`, `(pairs,)`."""
    cls_columns: Tensor
    """Column of each pair's `<cls>`, `(pairs,)`."""
    nsp_targets: Tensor
    """`(pairs,)`: 1 where the second segment is the next one, as in StarEncoder, else 0."""
    num_tokens: int
    """Positions that are not padding."""

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device, its tensors int64; a copy from pinned memory is not waited for."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True).to(torch.int64)
            for name in _TYPES
        }
        return dataclasses.replace(self, **moved)


class BatchMaker:
    """Builds and masks rows by their numbers; equal arguments give equal batches."""

    def __init__(
        self,
        documents: Documents,
        vocabulary: Vocabulary,
        masking: DataConfig,
        *,
        seq_length: int,
        seed: int,
    ) -> None:
        """Set up rows and masks.

        Raises:
            DataError: No document is long enough for a pair.
        """
        self.rows = Rows(documents, vocabulary, seq_length=seq_length, seed=seed)
        self.masker = Masker(vocabulary, share=masking.mask_share, policy=masking.mask_policy)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The rows of these numbers as one micro-batch."""
        return self.pack([numbers]).batches()[0]

    def pack(self, groups: Sequence[Sequence[int]]) -> "PackedBatches":
        """Several micro-batches in one block of memory."""
        seq = self.rows.seq_length
        made = [[self._row(number) for number in numbers] for numbers in groups]
        shapes = [
            _Shape(
                rows=len(rows),
                pairs=sum(len(row.pairs) for row, _, _ in rows),
                seq=seq,
                most=self.masker.most(seq),
                num_tokens=sum(row.num_tokens for row, _, _ in rows),
            )
            for rows in made
        ]
        block = torch.zeros(sum(_num_bytes(shape) for shape in shapes), dtype=torch.uint8)
        packed = PackedBatches(block, tuple(shapes))
        for rows, batch in zip(made, packed.batches(), strict=True):
            self._fill(batch, rows)
        return packed

    def segments(self, numbers: Iterable[int]) -> list[Segment]:
        """The tokens that rows show, to find what was wrong with a batch."""
        rows = (self.rows.row(number, self.rows.generator(number)) for number in numbers)
        return [
            segment for row in rows for pair in row.pairs for segment in (pair.first, pair.second)
        ]

    def _row(self, number: int) -> tuple[Row, np.ndarray, np.ndarray]:
        """A row, masked, with the masked positions and their targets."""
        rng = self.rows.generator(number)
        row = self.rows.row(number, rng)
        return row, *self.masker.mask(row.input_ids, rng)

    def _fill(self, batch: Batch, rows: list[tuple[Row, np.ndarray, np.ndarray]]) -> None:
        for name in ("input_ids", "segment_ids", "position_ids", "pair_ids"):
            np.stack([getattr(row, name) for row, _, _ in rows], out=getattr(batch, name).numpy())
        batch.targets.fill_(IGNORE_TARGET)
        targets, masked_positions = batch.targets.numpy(), batch.masked_positions.numpy()
        for index, (_, positions, ids) in enumerate(rows):
            masked_positions[index, : len(positions)] = positions
            targets[index, : len(ids)] = ids
        pairs = [(index, pair) for index, (row, _, _) in enumerate(rows) for pair in row.pairs]
        batch.cls_rows.numpy()[:] = [index for index, _ in pairs]
        batch.cls_columns.numpy()[:] = [pair.column for _, pair in pairs]
        batch.nsp_targets.numpy()[:] = [int(pair.is_next) for _, pair in pairs]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """What fixes where a micro-batch's tensors lie in a block."""

    rows: int
    pairs: int
    seq: int
    most: int
    num_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatches:
    """Micro-batches in one block of bytes."""

    block: Tensor
    shapes: tuple[_Shape, ...]

    def pin_memory(self) -> "PackedBatches":
        """The same in pinned memory, from where GPUs copy without waiting."""
        return PackedBatches(self.block.pin_memory(), self.shapes)

    def batches(self) -> list[Batch]:
        """The micro-batches; their tensors are views of the block."""
        batches = []
        start = 0
        for shape in self.shapes:
            tensors = {
                name: self.block[start + low : start + high].view(_TYPES[name]).view(size)
                for name, low, high, size in _layout(shape)
            }
            batches.append(Batch(num_tokens=shape.num_tokens, **tensors))
            start += _num_bytes(shape)
        return batches


def _layout(shape: _Shape) -> list[tuple[str, int, int, tuple[int, ...]]]:
    """Name, first byte, end and shape of each tensor."""
    layout = []
    start = 0
    for name, dtype in _TYPES.items():
        size: tuple[int, ...] = (shape.rows, shape.most if name in _PER_MASKED else shape.seq)
        if name in _PER_PAIR:
            size = (shape.pairs,)
        end = start + dtype.itemsize * math.prod(size)
        layout.append((name, start, end, size))
        start = end + -end % _ALIGNMENT
    return layout


def _num_bytes(shape: _Shape) -> int:
    end = _layout(shape)[-1][2]
    return end + -end % _ALIGNMENT


def rows_of_step(step: int, *, batch_rows: int, rank: int = 0, world_size: int = 1) -> range:
    """The numbers of the rows that a rank takes in a step.

    Step s has the `batch_rows` rows from `s * batch_rows` on, and each rank an equal run of them,
    so that a step's rows are the same whatever the number of ranks.
    """
    size = batch_rows // world_size
    first = step * batch_rows + rank * size
    return range(first, first + size)


def iter_steps(
    maker: BatchMaker,
    *,
    first_step: int,
    last_step: int,
    batch_rows: int,
    micro_rows: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Generator[list[Batch]]:
    """A rank's micro-batches of the steps `[first_step, last_step)`, in order.

    Worker processes leave signals to the main process. They end when the iterator is closed or
    exhausted, with the interpreter, and a few seconds after a main process that was killed.

    Args:
        maker: Builds the rows.
        first_step: As many steps are skipped, without being built.
        last_step: One past the last.
        batch_rows: Rows of a step, of all ranks together; a multiple of `world_size`.
        micro_rows: Rows of a micro-batch; a rank's last one in a step may have fewer.
        rank: Which part of each step.
        world_size: Number of parts.
        workers: Processes that build steps ahead; 0: each is built when it is asked for.
        pin_memory: Whether steps are in memory that a GPU copies from without waiting.
    """
    assert batch_rows % world_size == 0
    dataset = _Steps(
        maker,
        micro_rows,
        partial(rows_of_step, batch_rows=batch_rows, rank=rank, world_size=world_size),
    )
    loader: DataLoader[PackedBatches] = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=workers,
        worker_init_fn=_start_worker,
        prefetch_factor=PREFETCHED_STEPS if workers else None,
        pin_memory=pin_memory,
    )
    # Workers are forked here, not where the first step is asked for: from the main thread. A
    # signal to the whole process group means "save and stop" to the main process, which still
    # needs batches then: workers inherit this mask, so no moment is left in which one is hit.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        steps = (packed.batches() for packed in iter(loader))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    if not workers:
        return steps
    iterator = _read_ahead(steps)
    # At exit, multiprocessing would wait for workers that do not heed SIGTERM.
    opened = weakref.ref(iterator)
    atexit.register(lambda: _close(opened()))
    return iterator


class _Steps(Dataset[PackedBatches]):
    """Item i is step i."""

    def __init__(self, maker: BatchMaker, micro_rows: int, numbers: Callable[[int], range]) -> None:
        self._maker = maker
        self._micro_rows = micro_rows
        self._numbers = numbers

    def __getitem__(self, step: int) -> PackedBatches:
        numbers = self._numbers(step)
        size = self._micro_rows
        starts = range(0, len(numbers), size)
        return self._maker.pack([numbers[start : start + size] for start in starts])


def _read_ahead(steps: Generator[list[Batch]]) -> Generator[list[Batch]]:
    """Take the next step over while the caller is busy with one.

    It takes milliseconds: the worker that answers is in the middle of another step.
    """
    try:
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(next, steps, None)
            while (step := coming.result()) is not None:
                coming = thread.submit(next, steps, None)
                yield step
    finally:
        steps.close()


def _close(iterator: Generator[list[Batch]] | None) -> None:
    if iterator is not None:
        iterator.close()


def _start_worker(_: int) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
