"""Scores of predicted spans against annotated ones, per label, and the thresholds they suggest.

A prediction matches a gold span of its label when each covers at least 80 % of the other (the rule
of bigcode-dataset's `evaluate_pii_ds`), one to one. Gold spans of kind `real` are wanted; those of
any other kind (placeholders, attribution) are neither wanted nor punished: a prediction at least
half of which lies in them is left out of the count.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pii.labels import LABELS, OPERATING_POINTS, TAGS
from pii.spans import Span, overlap

MICRO = "micro"
"""Beside the labels, the counts and scores over all of them."""

MATCH_SHARE = 0.8
"""How much of each of two spans must lie in the other."""


@dataclass(frozen=True, slots=True)
class Counts:
    """True positives, false positives and false negatives of one label."""

    found: int = 0
    extra: int = 0
    missed: int = 0
    alarms: int = 0
    """Documents without any annotated span in which one was found."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.found + other.found,
            self.extra + other.extra,
            self.missed + other.missed,
            self.alarms + other.alarms,
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """A wanted span and the prediction that goes with it, or one of them alone."""

    gold: Span | None
    predicted: Span | None

    @property
    def span(self) -> Span:
        """The annotated span; the prediction where nothing is annotated."""
        span = self.gold or self.predicted
        assert span is not None
        return span


def matches(gold: Span, predicted: Span, share: float = MATCH_SHARE) -> bool:
    """Whether the two have one label and each covers at least `share` of the other."""
    common = overlap(gold, predicted)
    return (
        gold.label == predicted.label
        and common >= share * (gold.end - gold.start)
        and common >= share * (predicted.end - predicted.start)
    )


def match_spans(
    gold: Sequence[Span], predicted: Sequence[Span], *, share: float = MATCH_SHARE
) -> list[Outcome]:
    """Pair the wanted spans of one document with predictions, one to one.

    Args:
        gold: The annotated spans.
        predicted: The predicted ones; they may overlap.
        share: How much of each must lie in the other; 1 asks for the very same limits.

    Returns:
        First every wanted span, with its match if it has one, then the predictions left over.
    """
    others = [span for span in gold if span.kind != "real"]
    outcomes = []
    free = dict(enumerate(predicted))
    for span in gold:
        if span.kind != "real":
            continue
        candidates = [(overlap(span, p), -i) for i, p in free.items() if matches(span, p, share)]
        outcomes.append(Outcome(span, free.pop(-max(candidates)[1]) if candidates else None))
    return outcomes + [
        Outcome(None, span)
        for span in free.values()
        if 2 * sum(overlap(span, other) for other in others) < span.end - span.start
    ]


def pair_errors(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The errors among outcomes; a missed span and the extra one that overlaps it most are one."""
    wrong = [o for o in outcomes if o.gold is None or o.predicted is None]
    missed = [o.gold for o in wrong if o.gold is not None]
    extra = [o.predicted for o in wrong if o.predicted is not None]
    shared = [
        (-common, m, e)
        for m, gold in enumerate(missed)
        for e, predicted in enumerate(extra)
        if (common := overlap(gold, predicted))
    ]
    partner: dict[int, int] = {}
    for _, m, e in sorted(shared):
        if m not in partner and e not in partner.values():
            partner[m] = e
    taken = set(partner.values())
    errors = [
        Outcome(gold, extra[partner[m]] if m in partner else None) for m, gold in enumerate(missed)
    ]
    errors += [Outcome(None, span) for e, span in enumerate(extra) if e not in taken]
    return sorted(errors, key=lambda error: error.span.start)


def count_outcomes(outcomes: Iterable[Outcome]) -> dict[str, Counts]:
    """Counts by label."""
    counts = dict.fromkeys(LABELS, Counts())
    for outcome in outcomes:
        counts[outcome.span.label] += Counts(
            found=int(outcome.gold is not None and outcome.predicted is not None),
            extra=int(outcome.gold is None),
            missed=int(outcome.predicted is None),
        )
    return counts


def count_matches(gold: Sequence[Span], predicted: Sequence[Span]) -> dict[str, Counts]:
    """Counts by label for one document."""
    counts = count_outcomes(match_spans(gold, predicted))
    if gold:
        return counts
    return {label: replace(count, alarms=int(count.extra > 0)) for label, count in counts.items()}


def leaked_spans(gold: Sequence[Span], predicted: Sequence[Span], text: str) -> list[Span]:
    """The wanted spans with a non-space character outside every prediction."""
    covered = covered_characters(predicted)
    return [
        span
        for span in gold
        if span.kind == "real"
        and any(at not in covered and not text[at].isspace() for at in range(span.start, span.end))
    ]


def covered_characters(spans: Iterable[Span]) -> set[int]:
    """Positions of the characters that lie in a span."""
    return {at for span in spans for at in range(span.start, span.end)}


def tag_entities(tags: npt.NDArray[np.int8]) -> set[tuple[str, int, int]]:
    """Label, first and last token of each entity in BIO tags, read as conlleval does.

    An I- that follows no tag of its label begins an entity too (seqeval's default mode).

    Args:
        tags: Ids in `pii.labels.TAGS`, shape `(n,)`.
    """
    entities: dict[tuple[str, int], int] = {}
    first, before, label = 0, -2, ""
    for token in np.flatnonzero(tags).tolist():
        prefix, _, name = TAGS[tags[token]].partition("-")
        if prefix == "B" or token != before + 1 or name != label:
            first, label = token, name
        entities[label, first] = before = token
    return {(label, first, last) for (label, first), last in entities.items()}


def count_tags(gold: npt.NDArray[np.int8], predicted: npt.NDArray[np.int8]) -> dict[str, Counts]:
    """Counts by label of entities that have the same tokens, both tags of shape `(n,)`."""
    wanted, found = tag_entities(gold), tag_entities(predicted)
    counts = dict.fromkeys(LABELS, Counts())
    for label, _, _ in wanted & found:
        counts[label] += Counts(found=1)
    for label, _, _ in found - wanted:
        counts[label] += Counts(extra=1)
    for label, _, _ in wanted - found:
        counts[label] += Counts(missed=1)
    return counts


def total(per_document: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """Counts by label over documents, and over all labels as `micro`."""
    sums = dict.fromkeys((*LABELS, MICRO), Counts())
    for counts in per_document:
        for label, count in counts.items():
            sums[label] += count
            sums[MICRO] += count
    return sums


_SMOOTHING = (1, 2, 3, 2, 1)
"""Weights of a threshold's score and its neighbours'."""


_CHOSEN_BY = dict(zip(OPERATING_POINTS, ((1.0, 0.01), (5.0, 0.05)), strict=True))
"""The F-score that each maximises, and the share of the documents without any span in which a label
may be found. For F5 a leak costs as much as 25 false alarms."""


def operating_points(
    tables: Mapping[float, Mapping[str, Counts]], clean: int
) -> dict[str, dict[str, float]]:
    """Thresholds by operating point and label.

    Args:
        tables: As in `best_thresholds`.
        clean: How many of the documents have no annotated span.
    """
    return {
        point: best_thresholds(tables, beta=beta, most_alarms=most_alarms * clean)
        for point, (beta, most_alarms) in _CHOSEN_BY.items()
    }


def best_thresholds(
    tables: Mapping[float, Mapping[str, Counts]], *, beta: float, most_alarms: float = math.inf
) -> dict[str, float]:
    """Choose the score from which each label is reported.

    Args:
        tables: Counts by label for each threshold that was tried.
        beta: The F-score to maximise; above 1 it prefers recall.
        most_alarms: Of a label; thresholds with more are left out, but for the strictest. F1
            changes little over a wide range of thresholds, while alarms do.
    """
    chosen = {}
    grid = sorted(tables)
    for label in LABELS:
        scores = [tables[threshold][label].f_score(beta) for threshold in grid]
        # A peak of one threshold is luck; the middle of a hill generalises.
        reach = len(_SMOOTHING) // 2
        padded = [scores[0]] * reach + scores + [scores[-1]] * reach
        smooth = [sum(map(operator.mul, _SMOOTHING, padded[at:])) for at in range(len(scores))]
        # Of even ground the strictest: where the tagger adds little to the patterns it may add
        # little.
        _, chosen[label] = max(
            (round(score, 6), threshold)
            for threshold, score in zip(grid, smooth, strict=True)
            if tables[threshold][label].alarms <= most_alarms or threshold == grid[-1]
        )
    return chosen
