"""Cut a document's tokens into chunks the model can read, and stitch their probabilities back."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from starencoder.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkConfig:
    """How a document longer than the model's context is cut. Lengths are in tokens."""

    max_tokens: int
    """Longest chunk, without the cls and sep that every chunk gets at its ends."""
    stride: int
    """Step from one chunk's start to the next. The overlap is `max_tokens - stride`.

    Not the `stride` of Hugging Face tokenizers, which is the overlap itself.
    """

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.max_tokens:
            raise ConfigError(
                f"chunk stride must be in 1..{self.max_tokens} (the longest chunk), "
                f"got {self.stride}: a larger stride would leave tokens unread"
            )


def chunk_starts(num_tokens: int, config: ChunkConfig) -> range:
    """Positions of the chunks' first tokens; together the chunks cover the document."""
    last = max(0, num_tokens - config.max_tokens)
    # The first start at or after `last` ends the document; a later one would see nothing new.
    return range(0, last + config.stride if num_tokens else 0, config.stride)


def iter_stitched(
    chunk_probs: Iterable[npt.NDArray[np.float32]], starts: Sequence[int], trust: Sequence[float]
) -> Iterator[npt.NDArray[np.float32]]:
    """Merge per-chunk label probabilities into one row per token, as soon as it is final.

    Where chunks overlap, each is weighted by the token's distance to that chunk's nearest edge,
    because a token at an edge was predicted with context on one side only.

    Args:
        chunk_probs: One array per chunk, shape `(chunk_len, num_labels)`; rows sum to 1.
        starts: Position in the document of each chunk's first token, rising.
        trust: Weight of each chunk beside those that it overlaps, above 0.

    Yields:
        Arrays of shape `(n, num_labels)`; rows sum to 1. Their concatenation has one row per token.
    """
    pending: npt.NDArray[np.float32] | None = None
    weights = np.zeros((0, 0), np.float32)
    base = 0
    for chunk, start, trusted in zip(chunk_probs, starts, trust, strict=True):
        weight = np.float32(trusted) * _edge_weights(*chunk.shape)
        if pending is None:
            pending, weights, base = weight * chunk, weight, start
            continue
        done = start - base
        yield pending[:done] / weights[:done]
        shared = len(pending) - done
        added = weight * chunk
        added[:shared] += pending[done:]
        weight[:shared] += weights[done:]
        pending, weights, base = added, weight, start
    if pending is not None:
        yield pending / weights


@functools.lru_cache(maxsize=8)
def _edge_weights(length: int, num_labels: int) -> npt.NDArray[np.float32]:
    """Distance to the nearest edge, the edge itself 1, in every column: `(length, num_labels)`.

    Columns that are all there multiply five times as fast as one that is broadcast.
    """
    position = np.arange(length, dtype=np.float32)
    distance = np.minimum(position, position[::-1])[:, None] + 1
    return np.repeat(distance, num_labels, axis=1)
