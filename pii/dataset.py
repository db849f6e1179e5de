"""What a token classifier learns from annotated documents: ids and targets, in chunks."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pii.annotations import Document
from pii.labels import IGNORE_TARGET, OUTSIDE, TAG_IDS
from pii.spans import Span
from pii.tagger import tokenize_document
from starencoder.tokenizer import CodeTokenizer


def align_targets(offsets: npt.NDArray[np.int32], spans: Sequence[Span]) -> npt.NDArray[np.int8]:
    """The BIO tag id of each token: B- on the first token that overlaps a span, I- on the rest.

    Args:
        offsets: Per token, its `(start, end)` in the text, shape `(n, 2)`.
        spans: Sorted, without overlaps.

    Returns:
        Tag ids, shape `(n,)`. Of two spans in one token the first counts.
    """
    targets = np.full(len(offsets), TAG_IDS[OUTSIDE], np.int8)
    for span in reversed(spans):
        first = int(np.searchsorted(offsets[:, 1], span.start, side="right"))
        last = int(np.searchsorted(offsets[:, 0], span.end, side="left"))
        targets[first:last] = TAG_IDS[f"I-{span.label}"]
        if first < last:
            targets[first] = TAG_IDS[f"B-{span.label}"]
    return targets


@dataclass(frozen=True, slots=True)
class TokenisedDocument:
    """Token ids and targets of one document, both `(n,)`."""

    ids: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int8]


def tokenise(
    documents: Iterable[Document], tokenizer: CodeTokenizer
) -> Iterator[TokenisedDocument]:
    """Tokenise and align documents."""
    for document in documents:
        ids, offsets = tokenize_document(document.text, tokenizer)
        yield TokenisedDocument(ids, align_targets(offsets, document.spans))


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded chunks: `input_ids`, `attention_mask`, `targets`, each `(batch, seq)`, int64."""

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]


def iter_batches(
    documents: Sequence[TokenisedDocument],
    tokenizer: CodeTokenizer,
    *,
    max_tokens: int,
    batch_size: int,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """One epoch of shuffled batches of chunks of similar length, at most `max_tokens`.

    Chunks do not overlap here, but where the first one ends is drawn anew for each document and
    epoch, so that every token is seen near an edge and far from it.
    """
    pieces = []
    for index in rng.permutation(len(documents)):
        length = len(documents[index].ids)
        first = int(rng.integers(1, max_tokens + 1))
        bounds = [0, *range(min(first, length), length, max_tokens), length]
        pieces += [(index, s, e) for s, e in itertools.pairwise(bounds) if s < e]
    # Sorted by length within a window of many batches: little padding, order still random.
    pool = batch_size * 50
    batches = []
    for start in range(0, len(pieces), pool):
        window = sorted(pieces[start : start + pool], key=lambda piece: piece[2] - piece[1])
        batches += [window[at : at + batch_size] for at in range(0, len(window), batch_size)]
    for position in rng.permutation(len(batches)):
        yield _pad([(documents[i], s, e) for i, s, e in batches[position]], tokenizer)


def _pad(pieces: Sequence[tuple[TokenisedDocument, int, int]], tokenizer: CodeTokenizer) -> Batch:
    # Few different widths: kernels are compiled and memory is laid out once for each.
    width = -(-(max(end - start for _, start, end in pieces) + 2) // 16) * 16
    ids = np.full((len(pieces), width), tokenizer.pad_id, np.int64)
    mask = np.zeros((len(pieces), width), np.int64)
    targets = np.full((len(pieces), width), IGNORE_TARGET, np.int64)
    for row, (document, start, end) in enumerate(pieces):
        length = end - start
        ids[row, 0] = tokenizer.cls_id
        ids[row, 1 : length + 1] = document.ids[start:end]
        ids[row, length + 1] = tokenizer.sep_id
        mask[row, : length + 2] = 1
        targets[row, 1 : length + 1] = document.targets[start:end]
    return Batch(ids, mask, targets)
