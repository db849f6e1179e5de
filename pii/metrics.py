"""Scores of predicted spans against annotated ones, per label, and the thresholds they suggest.

A prediction matches a gold span of its label when each covers at least 80 % of the other (the rule
of bigcode-dataset's `evaluate_pii_ds`), one to one. Gold spans of kind `example` are neither
wanted nor punished: a prediction at least half of which lies in one is left out of the count.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pii.labels import LABELS
from pii.spans import Span, overlap

_MATCH_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Counts:
    """True positives, false positives and false negatives of one label."""

    found: int = 0
    extra: int = 0
    missed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.found + other.found, self.extra + other.extra, self.missed + other.missed
        )

    @property
    def precision(self) -> float:
        """Share of the predictions that are right; 0 where there are none."""
        return self.found / (self.found + self.extra) if self.found + self.extra else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold spans that were found; 0 where there are none."""
        return self.found / (self.found + self.missed) if self.found + self.missed else 0.0

    def f_score(self, beta: float = 1.0) -> float:
        """F-beta: recall weighs `beta` times as much as precision."""
        weighted = beta * beta * self.precision + self.recall
        return (1 + beta * beta) * self.precision * self.recall / weighted if weighted else 0.0


def matches(gold: Span, predicted: Span) -> bool:
    """Whether the two have one label and each covers at least 80 % of the other."""
    common = overlap(gold, predicted)
    return (
        gold.label == predicted.label
        and common >= _MATCH_SHARE * (gold.end - gold.start)
        and common >= _MATCH_SHARE * (predicted.end - predicted.start)
    )


def count_matches(gold: Sequence[Span], predicted: Sequence[Span]) -> dict[str, Counts]:
    """Counts by label for one document."""
    real = [span for span in gold if span.kind != "example"]
    examples = [span for span in gold if span.kind == "example"]
    counts = dict.fromkeys(LABELS, Counts())
    free = dict(enumerate(predicted))
    for span in real:
        candidates = [(overlap(span, p), -i) for i, p in free.items() if matches(span, p)]
        if candidates:
            del free[-max(candidates)[1]]
            counts[span.label] += Counts(found=1)
        else:
            counts[span.label] += Counts(missed=1)
    for span in free.values():
        if 2 * sum(overlap(span, example) for example in examples) < span.end - span.start:
            counts[span.label] += Counts(extra=1)
    return counts


def leaked_spans(gold: Sequence[Span], predicted: Sequence[Span], text: str) -> int:
    """Number of wanted spans with a non-space character outside every prediction."""
    covered = {at for span in predicted for at in range(span.start, span.end)}
    return sum(
        any(at not in covered and not text[at].isspace() for at in range(span.start, span.end))
        for span in gold
        if span.kind != "example"
    )


def total(per_document: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """Counts by label over documents, and over all labels as `micro`."""
    sums = dict.fromkeys((*LABELS, "micro"), Counts())
    for counts in per_document:
        for label, count in counts.items():
            sums[label] += count
            sums["micro"] += count
    return sums


_SMOOTHING = (1, 2, 3, 2, 1)
"""Weights of a threshold's score and its neighbours'."""


def best_thresholds(
    tables: Mapping[float, Mapping[str, Counts]], *, beta: float
) -> dict[str, float]:
    """Choose the score from which each label is reported.

    Args:
        tables: Counts by label for each threshold that was tried.
        beta: The F-score to maximise; above 1 it prefers recall.
    """
    chosen = {}
    grid = sorted(tables)
    for label in LABELS:
        scores = [tables[threshold][label].f_score(beta) for threshold in grid]
        # A peak of one threshold is luck; the middle of a hill generalises. Of even ground the
        # strictest: where the tagger adds nothing to the patterns it may add little.
        reach = len(_SMOOTHING) // 2
        padded = [scores[0]] * reach + scores + [scores[-1]] * reach
        smooth = [
            round(sum(map(operator.mul, _SMOOTHING, padded[at:])), 6) for at in range(len(scores))
        ]
        chosen[label] = grid[max(range(len(grid)), key=lambda at: (smooth[at], at))]
    return chosen
