"""Compare two ways of computing a tagger's probabilities: over the same chunks, and by their F1."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pii.annotations import Document
from pii.detect import Detector
from pii.evaluate import predict
from pii.metrics import MICRO, count_matches, total
from pii.tagger import Predict, load_tagger
from starencoder.config import EncoderConfig
from starencoder.errors import CheckpointError, DataError, ParityError, reason_of
from starencoder.tokenizer import load_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far the probabilities of two predict callables lie apart."""

    largest: float
    """Largest absolute difference of one probability."""
    chunk: int
    """Chunk and token of the largest difference, both counted from 0."""
    token: int
    mean: float
    """Mean absolute difference over all probabilities."""
    changed_tags: float
    """Share of tokens whose likeliest tag differs, in [0, 1]."""


def compare(reference: Predict, candidate: Predict, chunks: Sequence[Sequence[int]]) -> Difference:
    """Run both over `chunks`, which are at least one.

    Raises:
        ParityError: An array of the candidate has another shape or a value that is not finite.
    """
    largest, where, total, values, changed, tokens = -1.0, (0, 0), 0.0, 0, 0, 0
    pairs = zip(reference(chunks), candidate(chunks), strict=True)
    for index, (wanted, found) in enumerate(pairs):
        if found.shape != wanted.shape:
            raise ParityError(
                f"chunk {index}: the shape of the probabilities is {found.shape}, "
                f"expected {wanted.shape}"
            )
        if not np.isfinite(found).all():
            token = int(np.argwhere(~np.isfinite(found))[0][0])
            raise ParityError(f"chunk {index}, token {token}: a probability is not finite")
        gap = np.abs(found - wanted)
        if gap.max() > largest:
            largest, where = float(gap.max()), (index, int(gap.max(axis=1).argmax()))
        total += float(gap.sum())
        values += gap.size
        changed += int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
        tokens += len(gap)
    return Difference(
        largest=largest,
        chunk=where[0],
        token=where[1],
        mean=total / values,
        changed_tags=changed / tokens,
    )


def check_parity(
    reference: Predict,
    candidate: Predict,
    chunks: Sequence[Sequence[int]],
    *,
    limit: float,
    mean_limit: float = math.inf,
    name: str,
) -> Difference:
    """Compare, and refuse a candidate that differs by more than `limit` anywhere.

    Args:
        reference: What is right.
        candidate: What is checked.
        chunks: Token ids, cls and sep included, of at least one chunk.
        limit: Largest absolute difference of one probability that is accepted.
        mean_limit: Largest mean absolute difference that is accepted.
        name: What the error calls the candidate.

    Raises:
        ParityError: The difference that is too large, and the chunk and token of the largest.
    """
    difference = compare(reference, candidate, chunks)
    for found, most, kind in (
        (difference.largest, limit, ""),
        (difference.mean, mean_limit, " on average, most"),
    ):
        if found > most:
            raise ParityError(
                f"{name}: probabilities differ from the checkpoint by {found:.1e} "
                f"(limit {most:.0e}){kind} at chunk {difference.chunk}, token {difference.token}; "
                "report it with the versions of torch and onnxruntime: the export is at fault"
            )
    return difference


def probe_chunks(config: EncoderConfig, *, seed: int = 0) -> list[list[int]]:
    """Chunks of random token ids, from the shortest to the longest that the encoder reads."""
    generator = np.random.default_rng(seed)
    longest = config.max_positions
    lengths = {1, 2, 3, 17, 64, 127, 128, 129, longest // 2, longest - 1, longest}
    return [
        generator.integers(0, config.vocab_size, length).tolist()
        for length in sorted(lengths)
        if 1 <= length <= longest
    ]


def text_chunks(
    directory: Path, config: EncoderConfig, *, paths: Sequence[Path] = (), count: int = 12
) -> list[list[int]]:
    """Chunks of real source text by a model's own tokenizer, with cls and sep, of mixed lengths.

    Args:
        directory: Of the model.
        config: The model's.
        paths: Text files, read in this order; without any, this package's own sources.
        count: How many chunks, at most.

    Raises:
        CheckpointError: The tokenizer is missing, or has more tokens than the model.
        DataError: A file cannot be read, or they hold no text.
    """
    tokenizer = load_tokenizer(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{config.vocab_size}; put the tokenizer beside it that it was trained with"
        )
    longest = config.max_positions - 2
    # From a few tokens to whole chunks, neighbours far apart, so that batches hold much padding.
    lengths = [max(1, longest * share // 8) for share in (8, 1, 5, 8, 2, 7, 0, 4)]
    chunks: list[list[int]] = []
    for text in iter_texts(paths or own_sources()):
        ids = tokenizer.encode(text).ids.tolist()
        start = 0
        # A few of each file: many files, not the first one's beginning to end.
        for _ in range(max(1, count // 8)):
            length = lengths[len(chunks) % len(lengths)]
            if len(chunks) == count or start >= len(ids):
                break
            chunks.append([tokenizer.cls_id, *ids[start : start + length], tokenizer.sep_id])
            start += length
    return chunks


def iter_texts(paths: Sequence[Path]) -> Iterator[str]:
    """Whole files, but the empty ones.

    Raises:
        DataError: A file cannot be read, or all are empty.
    """
    any_text = False
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
        if text:
            any_text = True
            yield text
    if not any_text:
        raise DataError(f"{', '.join(map(str, paths))}: no text; expected source files")


def own_sources() -> list[Path]:
    """This package's own source files: real code that is always there."""
    root = Path(__file__).parent.parent
    return [
        path
        for name in ("export", "pii", "starencoder")
        for path in sorted(root.glob(f"{name}/*.py"))
    ]


def f1_by_label(
    directory: Path, candidate: Predict, documents: Sequence[Document]
) -> dict[str, float]:
    """F1 (80 % overlap), by label and over all as `micro`, of what `detect` reports by default.

    Labels that are annotated nowhere have none.

    Args:
        directory: A tagger's; its tokenizer, chunks and thresholds are used.
        candidate: Computes the probabilities, from the same checkpoint.
        documents: The annotated documents.
    """
    tagger = load_tagger(directory, candidate)
    found = predict(Detector(tagger, thresholds=tagger.operating_points["balanced"]), documents)
    counts = total(
        count_matches(document.spans, spans)
        for document, spans in zip(documents, found, strict=True)
    )
    return {
        label: count.f_score()
        for label, count in counts.items()
        if count.found + count.missed or label == MICRO
    }
