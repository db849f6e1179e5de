"""Leakage: texts of training data that the evaluation data hold too, whole or for a good part.

Exact duplicates are texts that are the same but for white space. Near duplicates are told by
shingles, runs of `SHINGLE_WORDS` words: the share of the distinct shingles of the text that has
fewer which the other text has too (containment). Jaccard similarity would miss a window that lies
in a file. Shingles that stand in texts of `BOILERPLATE_PACKAGES` packages or more, such as those of
licence headers, say nothing about two texts and are set aside; pairs that would be near duplicates
with them are counted. Nothing is sampled or hashed: the result is exact and the same in every run.
"""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from pii.annotations import Document

SHINGLE_WORDS = 5
"""As The Stack's near-deduplication has it (bigcode-dataset: near_deduplication)."""
MIN_SHINGLES = 10
"""A text with fewer is too short to say that it is nearly another; exact duplicates are found."""
NEAR_SHARE = 0.5
BOILERPLATE_PACKAGES = 5

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


@dataclass(frozen=True, slots=True)
class Leakage:
    """What of the data held out is in the data."""

    leaks: tuple[Leak, ...] = ()
    """In the order of the data; of one document first the exact ones."""
    boilerplate: int = 0
    """Pairs that are near duplicates only with the shingles of many packages."""


def find_leaks(
    documents: Sequence[Document], held_out: Sequence[Document], *, near_share: float = NEAR_SHARE
) -> Leakage:
    """Look for documents, or good parts of them, in a set that is held out.

    Args:
        documents: The data. Documents that name no package count as one package.
        held_out: What must not be among them.
        near_share: Containment from which two texts are near duplicates, in (0, 1].
    """
    if not held_out:
        return Leakage()
    whole: dict[str, list[int]] = {}
    others = [_shingles(document.text) for document in held_out]
    by_shingle: dict[str, list[int]] = {}
    packages: dict[str, set[str]] = {}
    for index, document in enumerate(held_out):
        whole.setdefault(_normal(document.text), []).append(index)
        for shingle in others[index]:
            by_shingle.setdefault(shingle, []).append(index)
            packages.setdefault(shingle, set()).add(document.package)
    # Of each document, how many shingles it has and which of them any document held out has.
    known: list[tuple[int, set[str]]] = []
    for document in documents:
        shingles = _shingles(document.text)
        known.append((len(shingles), shingles & by_shingle.keys()))
        for shingle in known[-1][1]:
            packages[shingle].add(document.package)
    boilerplate = {
        shingle for shingle, names in packages.items() if len(names) >= BOILERPLATE_PACKAGES
    }
    leaks: list[Leak] = []
    by_boilerplate = 0
    for document, (size, common) in zip(documents, known, strict=True):
        normal = _normal(document.text)
        exact = whole.get(normal, []) if normal else []
        for index in exact:
            leaks.append(Leak(id=document.id, against=held_out[index].id, share=1.0, exact=True))
        telling = common - boilerplate
        for index in sorted({at for shingle in common for at in by_shingle[shingle]}):
            other = others[index]
            if index in exact or _share(size, common, other) < near_share:
                continue
            share = _share(size - len(common) + len(telling), telling, other - boilerplate)
            if share < near_share:
                by_boilerplate += 1
                continue
            against = held_out[index].id
            leaks.append(Leak(id=document.id, against=against, share=round(share, 3), exact=False))
    return Leakage(tuple(leaks), by_boilerplate)


def _share(size: int, common: Set[str], other: Set[str]) -> float:
    """Containment of a text in another, or the other in it; 0 where one is too short to say.

    Args:
        size: How many shingles the text has.
        common: Those of them that any text held out has.
        other: Those of the other text.
    """
    smaller = min(size, len(other))
    return len(common & other) / smaller if smaller >= MIN_SHINGLES else 0.0


def _normal(text: str) -> str:
    return " ".join(text.split())


def _shingles(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {
        " ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)
    }
