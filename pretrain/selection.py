"""Which documents a data set has: by language and weight, once each, and which are held out.

What happens to a document follows from its content and the seed, not from where it stands.
"""

from collections import Counter
from dataclasses import dataclass

import xxhash

from pretrain.config import PrepareConfig
from pretrain.documents import Document, Dropped, known_language
from pretrain.filters import DUPLICATE

SAMPLED_OUT = "sampled out by weight"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is kept of a document that was chosen while its text is tokenised elsewhere."""

    language: str
    digest: int
    """128 bits of its content."""
    chars: int


class Selection:
    """Chooses documents and places them in a split, one after the other, in a fixed order."""

    def __init__(self, config: PrepareConfig, *, seed: int, dropped: Dropped) -> None:
        """Start with nothing seen.

        Args:
            config: Languages, weights, what is held out.
            seed: Of sampling by weight, in [0, 2^64).
            dropped: Takes up what is left out.
        """
        self.seen: set[str] = set()
        """Languages of all documents, also of those left out."""
        self._config = config
        self._seed = seed
        self._dropped = dropped
        self._drop_duplicates = DUPLICATE not in config.disable
        self._languages = frozenset(map(known_language, config.languages))
        self._weights = {known_language(k): v for k, v in config.weights.items()}
        self._hashes: set[int] = set()
        self._held_out: set[int] = set()
        self._held_out_documents: Counter[str] = Counter()

    def choose(self, document: Document) -> Chosen | None:
        """What can be said before tokenising; None, and counted, for what is not wanted."""
        self.seen.add(document.language)
        if self._languages and document.language not in self._languages:
            self._drop("language not selected", document.language)
            return None
        if self._weights.get(document.language) == 0:
            self._drop(SAMPLED_OUT, document.language)
            return None
        digest = _digest(document)
        if self._drop_duplicates:
            short = digest & 0xFFFFFFFFFFFFFFFF
            if short in self._hashes:
                self._drop(DUPLICATE, document.language)
                return None
            self._hashes.add(short)
        if not self._may_be_held_out(digest) and not self._entries(document.language, digest):
            self._drop(SAMPLED_OUT, document.language)
            return None
        return Chosen(document.language, digest, sum(len(text) for _, text in document.parts))

    def place(self, chosen: Chosen) -> tuple[str, int] | None:
        """The split and the number of index entries; None, and counted, where there are none.

        Copies of one text have one digest, so they come to the same split: where the held-out
        places of their language are taken, all of them are in train.
        """
        digest, language = chosen.digest, chosen.language
        if self._may_be_held_out(digest):
            taken = self._held_out_documents[language]
            if digest in self._held_out or taken < self._config.held_out_documents:
                self._held_out.add(digest)
                self._held_out_documents[language] += 1
                return "held_out", 1
        entries = self._entries(language, digest)
        if not entries:
            self._drop(SAMPLED_OUT, language)
            return None
        return "train", entries

    def _drop(self, reason: str, language: str) -> None:
        self._dropped.documents[reason, language] += 1

    def _may_be_held_out(self, digest: int) -> bool:
        return (digest >> 64) < self._config.held_out * 2**64

    def _entries(self, language: str, digest: int) -> int:
        """How often a document to train on is seen per epoch; over many, the weight on average."""
        draw = xxhash.xxh3_64_intdigest(digest.to_bytes(16, "little"), seed=self._seed) / 2**64
        return int(self._weights.get(language, 1.0) + draw)


def _digest(document: Document) -> int:
    """128 bits of a document's sentinels and texts."""
    content = "\0".join(part for pair in document.parts for part in pair)
    return xxhash.xxh3_128_intdigest(content.encode("utf-8", "surrogatepass"))
