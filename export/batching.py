"""Chunks to batches of similar length under a token budget. Pure: no device, no processes.

Every length has one shape of batch, and rows that nothing fills are left empty. So the shape that
a chunk is computed in depends on its own length only, never on what else is there, and shapes
repeat, which CUDA graphs need.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

TOKEN_BUDGET = 1 << 15
"""Tokens of a batch, padding included. Half of that fills an A100 (TensorRT's published BERT-base
times: 3 k tokens reach 89 % of the best rate); a larger GPU wants more. Not yet measured."""

_SHORTEST, _SHORT_STEP, _LONG_STEP, _LONG = 32, 64, 128, 512

Ids = npt.NDArray[np.int32]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a batch: `rows` chunks of up to `seq` tokens."""

    rows: int
    seq: int


def batch_shapes(longest: int, *, token_budget: int = TOKEN_BUDGET) -> tuple[Shape, ...]:
    """The shapes for chunks of 1 to `longest` tokens, shortest first.

    Up to 512 tokens at most 63 are padding, beyond that 127. A batch has at least one row, however
    small the budget.
    """
    seqs = [_SHORTEST]
    while seqs[-1] < longest:
        step = _SHORT_STEP if seqs[-1] < _LONG else _LONG_STEP
        seqs.append((seqs[-1] // step + 1) * step)
    seqs[-1] = longest
    return tuple(Shape(max(1, token_budget // seq), seq) for seq in seqs)


class BatchQueue(Generic[Key]):
    """Chunks that wait, and the batches they leave in."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        """Start empty.

        Args:
            shapes: From `batch_shapes`.
        """
        self._shapes = list(shapes)
        self._waiting: list[deque[tuple[int, Key]]] = [deque() for _ in shapes]
        self._arrived = 0

    def __len__(self) -> int:
        """Chunks that wait."""
        return sum(map(len, self._waiting))

    def add(self, key: Key, length: int) -> None:
        """Let a chunk wait that has 1 to as many tokens as the longest shape."""
        index = next(i for i, shape in enumerate(self._shapes) if length <= shape.seq)
        self._waiting[index].append((self._arrived, key))
        self._arrived += 1

    def take(self) -> tuple[Shape, list[Key]]:
        """The next batch: of those that can be filled the one that waits longest, else of all.

        What is not full may become so while others are computed.

        Raises:
            IndexError: Nothing waits.
        """
        lines = [i for i, line in enumerate(self._waiting) if line]
        if not lines:
            raise IndexError("no chunk waits")
        full = [i for i in lines if len(self._waiting[i]) >= self._shapes[i].rows]
        chosen = min(full or lines, key=lambda i: self._waiting[i][0][0])
        line, shape = self._waiting[chosen], self._shapes[chosen]
        return shape, [line.popleft()[1] for _ in range(min(shape.rows, len(line)))]

    def halve(self, shape: Shape, keys: Sequence[Key]) -> Shape | None:
        """Put back a batch for which the device has no memory; from now on it has half the rows.

        Args:
            shape: From `take`.
            keys: From `take`.

        Returns:
            The new shape; None if it had a single row already, and nothing is put back.
        """
        if shape.rows == 1:
            return None
        index = self._shapes.index(shape)
        self._shapes[index] = Shape(shape.rows // 2, shape.seq)
        # Before all that came later: they are the oldest of their length.
        first = self._waiting[index][0][0] if self._waiting[index] else self._arrived
        self._waiting[index].extendleft((first, key) for key in reversed(keys))
        return self._shapes[index]


def pad_batch(chunks: Sequence[Ids], shape: Shape, pad_id: int) -> tuple[Ids, Ids]:
    """Chunks as `input_ids` and `attention_mask`, both int32 `(rows, seq)`, real tokens first.

    An empty row has one token, padding: attention over none would be a division by zero.
    """
    lengths = np.zeros(shape.rows, np.int32)
    lengths[: len(chunks)] = [len(chunk) for chunk in chunks]
    real = np.arange(shape.seq, dtype=np.int32) < lengths[:, None]
    ids = np.full((shape.rows, shape.seq), pad_id, np.int32)
    ids[real] = np.concatenate(chunks)
    mask = real.astype(np.int32)
    mask[len(chunks) :, 0] = 1
    return ids, mask
