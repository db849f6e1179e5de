"""How far a score may be trusted: bootstrap intervals, and tests of differences.

Documents are resampled, not spans, because those of one document are found or missed together.
"""

import random
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""From sums over documents, shape `(..., columns)`, to values of shape `(...)`."""

BOOTSTRAP_RESAMPLES = 300
"""As many, and drawn in the same way, as the gold set's `score.py`. The intervals are the same but
for rare labels: there, a resample that has nothing to score counts as 0."""

SHUFFLES = 9999
"""With the observed assignment 10,000, so that p has four decimals."""

_BLOCK = 4_000_000
"""Signs held at once."""


class Bootstrap:
    """Resamples of documents with replacement, the same for every score that is taken of them.

    Intervals are percentile intervals (Efron and Tibshirani 1993, 13.3).
    """

    def __init__(self, num_documents: int, *, seed: int = 0) -> None:
        """Draw the resamples."""
        rng = random.Random(seed)
        # How often each document is in each resample.
        self._weights = np.zeros((BOOTSTRAP_RESAMPLES, num_documents), np.float32)
        for weights in self._weights if num_documents else ():
            drawn = rng.choices(range(num_documents), k=num_documents)
            weights += np.bincount(drawn, minlength=num_documents)

    def sums(self, counts: npt.NDArray[np.int64], rows: npt.NDArray[np.intp]) -> Array:
        """Sums of counts in each resample.

        Args:
            counts: What the documents count, shape `(len(rows), columns)`.
            rows: The documents' numbers.

        Returns:
            Shape `(resamples, columns)`.
        """
        return self._weights[:, rows].astype(np.float64) @ counts


def interval(values: Array) -> tuple[float, float]:
    """The limits between which 95 % of the values lie.

    Values that are NaN, of resamples that have nothing to score, are left out: as zeros they would
    show a rare label that is always found as one that may never be. Without others both are 0.
    """
    ordered = np.sort(values[~np.isnan(values)])
    if not len(ordered):
        return 0.0, 0.0
    return (
        float(ordered[int(0.025 * len(ordered))]),
        float(ordered[int(0.975 * len(ordered)) - 1]),
    )


def randomisation_test(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    statistic: Statistic,
    *,
    seed: int = 0,
) -> float:
    """Two-sided p of the difference of a score between two systems over the same documents.

    Approximate randomisation (Noreen 1989; Yeh 2000, "More accurate tests for the statistical
    significance of result differences"): were the systems alike, which of the two gave a
    document's counts would be chance, so these are exchanged at random.

    Args:
        first: Counts of one system, shape `(documents, columns)`.
        second: Counts of the other.
        statistic: The score.
        seed: Of the exchanges.

    Returns:
        Share of the exchanges, the observed assignment among them, with at least its difference.
    """
    differing = (first != second).any(axis=1)
    total = (first + second).sum(axis=0).astype(np.float64)
    apart = (first - second)[differing].astype(np.float64)
    observed = abs(float(np.subtract(*_pair(total, apart.sum(axis=0), statistic))))
    as_large = 0
    for signs in _signs(len(apart), seed):
        differences = np.abs(np.subtract(*_pair(total, signs @ apart, statistic)))
        as_large += int((differences >= observed - 1e-12).sum())
    return (as_large + 1) / (SHUFFLES + 1)


def _pair(total: Array, apart: Array, statistic: Statistic) -> tuple[Array, Array]:
    """Both systems' scores from the sum and the difference of their counts."""
    return statistic((total + apart) / 2), statistic((total - apart) / 2)


def _signs(num_documents: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(1, num_documents))
    for start in range(0, SHUFFLES, block):
        shape = (min(block, SHUFFLES - start), num_documents)
        yield 2 * rng.integers(0, 2, shape, dtype=np.int8).astype(np.float64) - 1
