"""Chunks to batches of similar length under a token budget, and back to rows of each chunk.

What computes a batch is a function, a `Runner`. Every length has one shape of batch, and rows that
nothing fills are left empty. So the shape that a chunk is computed in depends on its own length
only, never on what else is there, and shapes repeat, which CUDA graphs need.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pii.tagger import Predict, Probs
from starencoder.errors import DeviceError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOKEN_BUDGET = 1 << 15
"""Tokens of a batch, padding included. Half of that fills an A100 (TensorRT's published BERT-base
times: 3 k tokens reach 89 % of the best rate); a larger GPU wants more; see docs/gpu.md."""

_SHORTEST, _SHORT_STEP, _LONG_STEP, _LONG = 32, 64, 128, 512

Ids = npt.NDArray[np.int32]
Key = TypeVar("Key", bound=Hashable)

Runner = Callable[[Ids, Ids], npt.NDArray[np.floating]]
"""`input_ids` and `attention_mask`, int32 `(rows, seq)`, to probabilities `(rows, seq, tags)`.

Only rows and tokens with a 1 in the mask count. The result is the caller's.
"""


class OutOfMemory(Exception):  # noqa: N818 - an answer rather than an error: a smaller batch follows
    """A runner's device has no memory for a batch of this size."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a batch: `rows` chunks of up to `seq` tokens."""

    rows: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """How chunks become batches for a runner."""

    shapes: tuple[Shape, ...]
    pad_id: int
    num_tags: int


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


@dataclass(slots=True, eq=False)
class Request:
    """The chunks of one call, and the rows that come back."""

    ids: Ids
    """Of all chunks, one after the other."""
    bounds: npt.NDArray[np.int64]
    """Where each begins in them, and where the last ends."""
    probs: npt.NDArray[np.float16]
    """Of all tokens, shape `(len(ids), num_tags)`."""
    left: int
    """Chunks whose rows are not there yet."""
    done: threading.Event = field(default_factory=threading.Event)

    def chunk(self, index: int) -> Ids:
        """A chunk's ids."""
        return self.ids[self.bounds[index] : self.bounds[index + 1]]

    def take(self, index: int, rows: npt.NDArray[np.floating]) -> None:
        """Keep a chunk's rows, which may be followed by those of padding."""
        start, end = self.bounds[index], self.bounds[index + 1]
        self.probs[start:end] = rows[: end - start]
        self.left -= 1
        if not self.left:
            self.done.set()


def make_request(lengths: npt.NDArray[np.int32], ids: Ids, num_tags: int) -> Request:
    """A request with nothing computed yet; see `flatten`."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return Request(ids, bounds, np.empty((len(ids), num_tags), np.float16), len(lengths))


Waiting = BatchQueue[tuple[Request, int]]


def run_batch(
    runner: Runner,
    plan: BatchPlan,
    waiting: Waiting,
    lock: contextlib.AbstractContextManager[object],
) -> Callable[[], None] | None:
    """Compute the next batch; what comes back hands its rows out. None: it was too large.

    Args:
        runner: Computes it.
        plan: Of `waiting`.
        waiting: Not empty.
        lock: Held while `waiting` is changed.

    Raises:
        DeviceError: The device has no memory for a single chunk, or gives something else.
    """
    with lock:
        shape, keys = waiting.take()
    chunks = [request.chunk(index) for request, index in keys]
    try:
        probs = runner(*pad_batch(chunks, shape, plan.pad_id))
    except OutOfMemory:
        with lock:
            smaller = waiting.halve(shape, keys)
        if smaller is None:
            raise DeviceError(
                f"the device has no memory left for one chunk of {shape.seq} tokens; "
                "something else may use it"
            ) from None
        return None
    wanted = (shape.rows, shape.seq, plan.num_tags)
    if probs.shape != wanted:
        raise DeviceError(f"the model's output has the shape {probs.shape}, expected {wanted}")

    def hand_out() -> None:
        for (request, index), rows in zip(keys, probs, strict=False):  # the rest is empty
            request.take(index, rows)

    return hand_out


def batched_predict(runner: Runner, plan: BatchPlan) -> Predict:
    """A runner as a predict callable that batches the chunks of each call by themselves."""

    def predict(chunks: Sequence[Sequence[int]]) -> list[Probs]:
        lengths, ids = flatten(chunks, plan.shapes[-1].seq)
        request = make_request(lengths, ids, plan.num_tags)
        waiting: Waiting = BatchQueue(plan.shapes)
        for index, length in enumerate(lengths.tolist()):
            waiting.add((request, index), length)
        while len(waiting):
            if hand_out := run_batch(runner, plan, waiting, contextlib.nullcontext()):
                hand_out()
        return unflatten(request.probs, lengths)

    return predict


def flatten(chunks: Sequence[Sequence[int]], longest: int) -> tuple[npt.NDArray[np.int32], Ids]:
    """Lengths of chunks, of 1 to `longest` tokens each, and their ids one after the other."""
    lengths = np.array([len(chunk) for chunk in chunks], np.int32)
    wrong = lengths[(lengths < 1) | (lengths > longest)]
    if len(wrong):
        raise ValueError(f"a chunk has {wrong[0]} tokens; expected 1..{longest}")
    ids = [np.asarray(chunk, np.int32) for chunk in chunks]
    return lengths, np.concatenate(ids) if ids else np.zeros(0, np.int32)


def unflatten(probs: npt.NDArray[np.float16], lengths: npt.NDArray[np.int32]) -> list[Probs]:
    """The rows of each chunk, given those of all.

    Raises:
        DeviceError: They are no probabilities.
    """
    whole = probs.astype(np.float32)
    if not np.isfinite(whole).all():  # they would pass for "nothing found"
        raise DeviceError(
            "the model gives values that are not finite on this device; nothing is written of "
            "them: check the GPU, and export the model again"
        )
    return np.split(whole, np.cumsum(lengths)[:-1]) if len(lengths) else []


# --------------------------------------------------------------------------------------------------
# whole batches for a graph, without shapes that repeat

Feeds = Mapping[str, npt.NDArray[np.int32]]
"""A graph's inputs, by name."""


def session_run(session: "InferenceSession") -> Callable[[Feeds], Probs]:
    """A tagger's session as a function from its inputs to its probabilities."""

    def run(feeds: Feeds) -> Probs:
        probs: Probs = session.run(["probabilities"], dict(feeds))[0]
        return probs

    return run


def batch_predict(run: Callable[[Feeds], Probs], *, packed: bool, pad_id: int) -> Predict:
    """A graph that takes many chunks as a predict callable; all it is given is one batch.

    Args:
        run: From the graph's inputs to its probabilities.
        packed: Whether the graph takes no padding (`model_packed.onnx`).
        pad_id: The token of padding.
    """

    def predict(chunks: Sequence[Sequence[int]]) -> list[Probs]:
        lengths = [len(chunk) for chunk in chunks]
        probs = run(packed_feeds(chunks) if packed else padded_feeds(chunks, pad_id))
        probs = probs.astype(np.float32, copy=False)
        if packed:
            return np.split(probs, np.cumsum(lengths[:-1]))
        return [row[:length] for row, length in zip(probs, lengths, strict=True)]

    return predict


def padded_feeds(chunks: Sequence[Sequence[int]], pad_id: int) -> Feeds:
    """Inputs of the fp32 and fp16 graphs for a batch of chunks, padded at the end."""
    arrays = [np.asarray(chunk, np.int32) for chunk in chunks]
    shape = Shape(len(arrays), max(map(len, arrays)))
    ids, mask = pad_batch(arrays, shape, pad_id)
    return {"input_ids": ids, "attention_mask": mask}


def packed_feeds(chunks: Sequence[Sequence[int]]) -> Feeds:
    """Inputs of the packed graph for a batch of chunks.

    `token_offset` is how PackedAttention finds its chunks: as in a batch padded to the longest, the
    places of all real tokens and then those of all padding.
    """
    lengths = np.array([len(chunk) for chunk in chunks])
    real = np.arange(lengths.max()) < lengths[:, None]
    places = np.arange(real.size, dtype=np.int32).reshape(real.shape)
    return {
        "input_ids": np.concatenate([np.asarray(chunk, np.int32) for chunk in chunks]),
        "positions": np.nonzero(real)[1].astype(np.int32),
        "token_offset": np.concatenate([places[real], places[~real]]).reshape(real.shape),
        "cumulative_sequence_length": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
    }
