"""What a detector's scores are worth: precision and recall by threshold, and calibration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pii.annotations import Document
from pii.labels import LABELS
from pii.metrics import MICRO, Counts, count_matches, match_spans, total
from pii.spans import Span

THRESHOLDS = tuple(round(0.20 + 0.02 * step, 2) for step in range(41))
"""From the smallest probability of a tagger's spans (`pii.decode`) to one that few or none have."""

_BINS = 10

Sweep = Mapping[float, Mapping[str, Counts]]
"""Counts by label and over all of them (`micro`), by threshold."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of similar score."""

    predictions: int
    score: float
    """Their mean."""
    right: float
    """Share that match an annotated span."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far scores are the probabilities of being right."""

    bins: Sequence[Bin]
    """Of equal width in scores, rising; those without predictions are left out."""

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, "On calibration", eq. 5)."""
        predictions = sum(b.predictions for b in self.bins)
        return sum(b.predictions * abs(b.score - b.right) for b in self.bins) / max(1, predictions)


def sweep(
    documents: Sequence[Document], found_from: Callable[[float], Iterable[Sequence[Span]]]
) -> Sweep:
    """Count at each threshold; `found_from` gives the documents' spans from a score on."""
    return {
        threshold: total(
            count_matches(document.spans, spans)
            for document, spans in zip(documents, found_from(threshold), strict=True)
        )
        for threshold in THRESHOLDS
    }


def reliability(
    documents: Sequence[Document], predictions: Iterable[Sequence[Span]]
) -> dict[str, Reliability]:
    """Compare scores with the share that is right, by label and over all (`micro`).

    Args:
        documents: The annotated documents. Predictions inside spans that are not wanted are
            neither right nor wrong, and left out.
        predictions: The spans found in each, whatever their score.
    """
    scored: dict[str, list[tuple[float, bool]]] = {label: [] for label in (*LABELS, MICRO)}
    for document, predicted in zip(documents, predictions, strict=True):
        for outcome in match_spans(document.spans, predicted):
            if outcome.predicted is not None:
                point = (outcome.predicted.score, outcome.gold is not None)
                scored[outcome.predicted.label].append(point)
                scored[MICRO].append(point)
    return {label: Reliability(_bins(points)) for label, points in scored.items()}


def _bins(points: Iterable[tuple[float, bool]]) -> list[Bin]:
    groups: dict[int, list[tuple[float, bool]]] = {}
    for score, right in points:
        groups.setdefault(min(int(score * _BINS), _BINS - 1), []).append((score, right))
    return [
        Bin(
            len(group),
            sum(score for score, _ in group) / len(group),
            sum(right for _, right in group) / len(group),
        )
        for _, group in sorted(groups.items())
    ]
