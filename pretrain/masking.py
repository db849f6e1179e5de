"""Choosing the tokens that the model has to guess, and hiding them."""

import math

import numpy as np

from pretrain.config import MaskPolicy
from pretrain.rows import Vocabulary

KEPT_SHARE = 0.1
RANDOM_SHARE = 0.1
"""Shares of the chosen tokens that stay, and that become any other token (Devlin et al. 2018, 3.1);
the rest become `<mask>`."""


class Masker:
    """Masks rows; which tokens depends on the random numbers given with each row only."""

    def __init__(self, vocabulary: Vocabulary, *, share: float, policy: MaskPolicy) -> None:
        """Set up for a vocabulary; `share` in (0, 1) is that of a row's maskable tokens."""
        self.share = share
        self.policy = policy
        self._mask_id = vocabulary.mask_id
        self._maskable = np.ones(vocabulary.size, bool)
        self._maskable[list(vocabulary.special_ids)] = False
        self._random_ids = np.flatnonzero(self._maskable).astype(np.uint16)

    def most(self, seq_length: int) -> int:
        """No row of this length has more masked tokens."""
        return math.ceil(self.share * seq_length)

    def mask(
        self, input_ids: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask a row in place; return the masked positions, ascending, and the ids that were there.

        Their number is the share of the row's tokens that are not special, rounded, but at least
        one: 0 only where all are special.
        """
        candidates = np.flatnonzero(self._maskable[input_ids])
        if not len(candidates):
            return candidates, input_ids[candidates]
        count = max(1, round(self.share * len(candidates)))
        positions = np.sort(rng.choice(candidates, count, replace=False, shuffle=False))
        targets = input_ids[positions]
        if self.policy == "mask":
            input_ids[positions] = self._mask_id
            return positions, targets
        fate = rng.random(count)
        replaced = np.where(
            fate < KEPT_SHARE + RANDOM_SHARE, rng.choice(self._random_ids, count), self._mask_id
        )
        input_ids[positions] = np.where(fate < KEPT_SHARE, targets, replaced)
        return positions, targets
