"""Leakage: texts of training data that the evaluation data hold too, whole or for a good part.

Exact duplicates are texts that are the same but for white space. Near duplicates are told by
shingles, runs of `SHINGLE_WORDS` words: the share of the distinct shingles of the text that has
fewer which the other text has too (containment). Jaccard similarity would miss a window that lies
in a file. Nothing is sampled or hashed, so the result is exact and the same in every run.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pii.annotations import Document

SHINGLE_WORDS = 5
"""As The Stack's near-deduplication has it (bigcode-dataset: near_deduplication)."""
MIN_SHINGLES = 10
"""A text with fewer is too short to say that it is nearly another; exact duplicates are found."""
NEAR_SHARE = 0.5

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A document of the data that is, or nearly is, one of those held out."""

    id: str
    against: str
    """The id of the document held out."""
    share: float
    """Share of the shingles of the one with fewer that the other has too, in [0, 1]."""
    exact: bool
    """Whether the two are the same but for white space."""


class LeakageCheck:
    """Looks for documents in a set that is held out."""

    def __init__(self, held_out: Sequence[Document], *, near_share: float = NEAR_SHARE) -> None:
        """Index the documents held out.

        Args:
            held_out: What to look for.
            near_share: Containment from which two texts are near duplicates, in (0, 1].
        """
        self._near_share = near_share
        self._ids = [document.id for document in held_out]
        self._whole: dict[str, list[int]] = {}
        self._by_shingle: dict[str, list[int]] = {}
        self._sizes = []
        for index, document in enumerate(held_out):
            self._whole.setdefault(_normal(document.text), []).append(index)
            shingles = _shingles(document.text)
            self._sizes.append(len(shingles))
            for shingle in shingles:
                self._by_shingle.setdefault(shingle, []).append(index)

    def find(self, documents: Iterable[Document]) -> Iterator[Leak]:
        """The leaks, in the order of the documents, for each first the exact ones."""
        for document in documents:
            exact = self._whole.get(_normal(document.text), [])
            for index in exact:
                yield Leak(id=document.id, against=self._ids[index], share=1.0, exact=True)
            shingles = _shingles(document.text)
            common = Counter(
                index for shingle in shingles for index in self._by_shingle.get(shingle, ())
            )
            for index, count in sorted(common.items()):
                size = min(len(shingles), self._sizes[index])
                share = count / size
                if size >= MIN_SHINGLES and share >= self._near_share and index not in exact:
                    yield Leak(
                        id=document.id, against=self._ids[index], share=round(share, 3), exact=False
                    )


def _normal(text: str) -> str:
    return " ".join(text.split())


def _shingles(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {
        " ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)
    }
