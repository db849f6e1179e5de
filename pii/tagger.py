"""The tagger: from text to tag probabilities, given any `predict` callable.

text -> tokens with character offsets -> overlapping chunks -> `predict` -> one row of label
probabilities per token, which `pii.decode` turns into spans.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pii.chunks import ChunkConfig, chunk_starts, iter_stitched
from pii.labels import LABELS, OPERATING_POINTS, OUTSIDE, TAG_IDS, TAGS, tag_columns
from pii.router import Router, load_router
from starencoder.config import load_tagger_config
from starencoder.errors import CheckpointError
from starencoder.tokenizer import CodeTokenizer, load_tokenizer

Probs = npt.NDArray[np.float32]

Predict = Callable[[Sequence[Sequence[int]]], list[Probs]]
"""Chunks of token ids (cls and sep included, lengths differ) to label probabilities.

One array `(chunk_len, num_tags)` per chunk; rows sum to 1; columns in the order of the
checkpoint's own `id2label`.
"""

_CHUNKS_PER_CALL = 64

_LONGEST_BLOCK = 8192
"""Rows given out at once where nothing was read; it bounds memory."""

_SPARED_TRUST = 1e-6
"""Of a chunk that was not read, beside one that was and overlaps it."""

_WIDE_LINE_END = re.compile("\r\n")

_SEGMENT_CHARS = 1 << 18
"""Longest piece of text tokenised at once; it bounds the tokenizer's memory on 50 MB lines."""


@dataclass(frozen=True, slots=True)
class Tagger:
    """A token classifier ready to run: tokenizer, probabilities, and how to read them."""

    tokenizer: CodeTokenizer
    predict: Predict
    columns: tuple[int | None, ...]
    """For each column of the probabilities, its index in `pii.labels.TAGS`, or None."""
    chunks: ChunkConfig
    operating_points: Mapping[str, Mapping[str, float]]
    """Span score from which a label is reported, by operating point."""
    router: Router | None = None
    """Decides which chunks are read; without it, all are."""


def tokenize_document(
    text: str, tokenizer: CodeTokenizer
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Token ids `(n,)` and their character offsets `(n, 2)` for a text of any length.

    Every line end is read as a line feed, as in the texts that taggers are trained on; offsets are
    those of the text as it is.
    """
    ids, offsets = [], []
    for start, end in itertools.pairwise(_segment_bounds(text)):
        segment = text[start:end]
        encoded = tokenizer.encode(segment.replace("\r\n", "\n").replace("\r", "\n"))
        ids.append(encoded.ids)
        offsets.append(_widened(encoded.offsets, segment) + start)
    if not ids:
        return np.zeros(0, np.int32), np.zeros((0, 2), np.int32)
    return np.concatenate(ids), np.concatenate(offsets)


def _widened(offsets: npt.NDArray[np.int32], text: str) -> npt.NDArray[np.int32]:
    """Offsets in a text from those in the same text with each line end as one character."""
    wide = [match.start() for match in _WIDE_LINE_END.finditer(text)]
    if not wide:
        return offsets
    # Where they stand once each is one character.
    narrow = np.array(wide, np.int32) - np.arange(len(wide), dtype=np.int32)
    return (offsets + np.searchsorted(narrow, offsets)).astype(np.int32)


def _segment_bounds(text: str) -> Iterator[int]:
    """Where a text is cut for tokenising: after a line end if there is one, else anywhere."""
    start = 0
    yield start
    while start < len(text):
        end = start + _SEGMENT_CHARS
        if end < len(text):
            end = max(text.rfind("\n", start, end) + 1, 0) or end
        start = min(end, len(text))
        yield start


@dataclass(frozen=True, slots=True)
class Chunked:
    """A document's tokens, cut into chunks."""

    ids: npt.NDArray[np.int32]
    """Shape `(n,)`."""
    starts: range
    """Positions of the chunks' first tokens."""
    wanted: npt.NDArray[np.bool_]
    """Which chunks are read, shape `(len(starts),)`."""


def chunk_tokens(ids: npt.NDArray[np.int32], tagger: Tagger) -> Chunked:
    """Cut a document's tokens `(n,)` into chunks and choose those that are read."""
    starts = chunk_starts(len(ids), tagger.chunks)
    wanted = np.ones(len(starts), np.bool_)
    if tagger.router is not None and starts:
        wanted = tagger.router.wanted(ids, starts, tagger.chunks.max_tokens)
    return Chunked(ids, starts, wanted)


def iter_chunks(chunked: Chunked, tagger: Tagger) -> Iterator[list[int]]:
    """The chunks that are read, as `predict` takes them."""
    cls_id, sep_id = tagger.tokenizer.cls_id, tagger.tokenizer.sep_id
    for index in np.flatnonzero(chunked.wanted).tolist():
        start = chunked.starts[index]
        end = start + tagger.chunks.max_tokens
        yield [cls_id, *chunked.ids[start:end].tolist(), sep_id]


def tag_probabilities(
    ids: npt.NDArray[np.int32], tagger: Tagger
) -> Iterator[npt.NDArray[np.float32]]:
    """Stitched tag probabilities, blocks of `(n, len(TAGS))` in token order.

    Tokens of chunks that the router spares are outside for sure.
    """
    chunked = chunk_tokens(ids, tagger)
    chunks = iter_chunks(chunked, tagger)

    def read() -> Iterator[Probs]:
        while group := list(itertools.islice(chunks, _CHUNKS_PER_CALL)):
            yield from tagger.predict(group)

    yield from stitch_chunks(chunked, read(), tagger)


def stitch_chunks(
    chunked: Chunked, read: Iterator[Probs], tagger: Tagger
) -> Iterator[npt.NDArray[np.float32]]:
    """Stitched tag probabilities, blocks of `(n, len(TAGS))` in token order.

    Args:
        chunked: A document's chunks.
        read: What `predict` gives for those of them that are read; no more than those is taken.
        tagger: Its columns and chunks.
    """
    ids, starts, wanted = chunked.ids, chunked.starts, chunked.wanted
    if not starts:
        return
    length = tagger.chunks.max_tokens
    trust = np.where(wanted, 1, _SPARED_TRUST).tolist()
    # What overlaps no chunk that is read is outside, and there is nothing to stitch.
    near = wanted.copy()
    for distance in range(1, 1 + (length - 1) // tagger.chunks.stride):
        near[distance:] |= wanted[:-distance]
        near[:-distance] |= wanted[distance:]
    outside = np.zeros((min(_LONGEST_BLOCK, len(ids)), len(TAGS)), np.float32)
    outside[:, TAG_IDS[OUTSIDE]] = 1
    outside.setflags(write=False)  # given out again and again
    turns = (np.flatnonzero(near[1:] != near[:-1]) + 1).tolist()
    for first, last in itertools.pairwise([0, *turns, len(starts)]):
        end = starts[last] if last < len(starts) else len(ids)
        if near[first]:
            run = slice(first, last)
            probs = _chunk_probs(len(ids), starts[run], wanted[run], read, tagger)
            blocks = iter_stitched(probs, starts[run], trust[run])
            for start, block in zip(starts[run], blocks, strict=True):
                yield block[: end - start]
        else:
            for start in range(starts[first], end, _LONGEST_BLOCK):
                yield outside[: end - start]


def _chunk_probs(
    num_tokens: int,
    starts: range,
    wanted: npt.NDArray[np.bool_],
    read: Iterator[Probs],
    tagger: Tagger,
) -> Iterator[Probs]:
    """Tag probabilities of each chunk that begins at one of `starts`; outside if not wanted."""
    length = tagger.chunks.max_tokens
    known = [index for index, column in enumerate(tagger.columns) if column is not None]
    target = [column for column in tagger.columns if column is not None]
    for start, is_wanted in zip(starts, wanted.tolist(), strict=True):
        ours = np.zeros((min(length, num_tokens - start), len(TAGS)), np.float32)
        if is_wanted:
            ours[:, target] = next(read)[1:-1, known]
        else:
            ours[:, TAG_IDS[OUTSIDE]] = 1
        yield ours


def load_tagger(
    directory: Path, predict: Predict, *, routed_for: str | None = None, threads: int = 1
) -> Tagger:
    """Read a model directory's tokenizer and settings around a `predict` of the same model.

    `config.json` may hold, under `pii`, what a plain Hugging Face checkpoint does not have:
    `max_tokens` and `stride` of the chunks and the `operating_points`. Without it chunks fill the
    context (at most 512) with a quarter of overlap and spans are reported from 0.5 on.

    Args:
        directory: The model's.
        predict: Of the same model.
        routed_for: The operating point for which its router, if it has one, spares chunks; None:
            every chunk is read.
        threads: Of the router.

    Raises:
        CheckpointError: `config.json` has no tags or unusable settings, or the router is another
            model's.
    """
    config = load_tagger_config(directory)
    try:
        columns = tag_columns(config.id2label)
        if not config.pii:
            longest = min(512, config.encoder.max_positions) - 2
            chunks = ChunkConfig(max_tokens=longest, stride=longest * 3 // 4)
            points = dict.fromkeys(OPERATING_POINTS, dict.fromkeys(LABELS, 0.5))
        else:
            settings: Any = config.pii
            chunks = ChunkConfig(max_tokens=settings["max_tokens"], stride=settings["stride"])
            points = {
                point: {
                    label: float(settings["operating_points"][point][label]) for label in LABELS
                }
                for point in OPERATING_POINTS
            }
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{directory / 'config.json'}: not the configuration of a tagger of ours ({error}); "
            "expected known tags in id2label and, if there is pii, its max_tokens, stride and "
            "operating_points"
        ) from error
    tokenizer = load_tokenizer(directory)
    router = None
    if routed_for is not None:
        router = load_router(directory, tokenizer, routed_for, threads=threads)
    return Tagger(tokenizer, predict, columns, chunks, points, router)
