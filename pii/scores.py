"""Scores of a set of predictions: by label, language, length and kind, with their intervals.

What a document adds to each score is a row of counts; scores are made from sums of rows, so that
they can be taken of any group of documents and of any resample.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pii.annotations import Document
from pii.dataset import align_targets
from pii.labels import KINDS, LABELS
from pii.metrics import (
    MATCH_SHARE,
    MICRO,
    Outcome,
    count_tags,
    covered_characters,
    leaked_spans,
    match_spans,
)
from pii.resampling import Array, Bootstrap, interval
from pii.spans import Span

CountArray = npt.NDArray[np.int64]
"""One row per document, or one row alone; columns as in `_COLUMNS`."""

Offsets = npt.NDArray[np.int32]
"""Per token, its `(start, end)` in the text, shape `(n, 2)`."""

_MATCHES = ("overlap", "exact", "token")
_COLUMNS = (
    *(f"{name} {count}" for name in _MATCHES for count in ("found", "extra", "missed")),
    *("leaked", "excess", "characters", "clean", "flagged"),
)
_COLUMN = {name: index for index, name in enumerate(_COLUMNS)}

_SHARES = {"overlap": MATCH_SHARE, "exact": 1.0}

_SPAN_LENGTHS = (5, 10, 20, 40)
_DOCUMENT_LENGTHS = (500, 1000, 2000, 4000, 8000)


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F1; 0 where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """The scores of one group of documents or spans.

    Intervals are 95 % over resamples of the documents; those with nothing to score are left out.
    """

    overlap: Score
    """A prediction is right when it and a wanted span each cover 80 % of the other."""
    exact: Score
    """It is right when it has the very limits of a wanted span."""
    token: Score
    """It is right when it has the very tokens of a wanted span (seqeval)."""
    f1_interval: tuple[float, float]
    support: int
    """Wanted spans."""
    found_or_extra: int
    """Predictions that were counted."""
    leaked: float
    """Share of the wanted spans of which some prediction does not hide every character."""
    leaked_interval: tuple[float, float]
    excess: float
    """Predicted characters outside every annotated span, per 1,000 characters."""
    excess_interval: tuple[float, float]
    clean_flagged: float
    """Share of the documents without any annotated span that got a prediction."""
    clean_flagged_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tally:
    """CountArray of the documents of one group."""

    rows: npt.NDArray[np.intp]
    """The documents' numbers."""
    counts: CountArray
    """Shape `(len(rows), columns)`."""


def tally(
    documents: Sequence[Document],
    predictions: Sequence[Sequence[Span]],
    offsets: Sequence[Offsets],
) -> dict[str, dict[str, Tally]]:
    """CountArray by dimension (`label`, `language`, ...) and group; `label` holds `micro` too.

    Args:
        documents: The annotated documents.
        predictions: The spans found in each.
        offsets: The tokens of each, for the scores by token.
    """
    everywhere = np.arange(len(documents))

    def no_counts() -> CountArray:
        return np.zeros((len(documents), len(_COLUMNS)), np.int64)

    by_label = {label: no_counts() for label in (*LABELS, MICRO)}
    by_length = {name: no_counts() for name in _length_groups(_SPAN_LENGTHS)}
    by_kind = {kind: no_counts() for kind in KINDS}
    for row, (document, predicted, tokens) in enumerate(
        zip(documents, predictions, offsets, strict=True)
    ):
        label_rows = {label: counts[row] for label, counts in by_label.items()}
        length_rows = {name: counts[row] for name, counts in by_length.items()}
        _count_spans(label_rows, length_rows, document, predicted)
        _count_tokens(label_rows, document, predicted, tokens)
        _count_characters(label_rows, document, predicted)
        for kind, counts in by_kind.items():
            _count_kind(counts[row], document, predicted, kind)
    languages = [document.language or "unknown" for document in documents]
    lengths = [_length_group(len(document.text), _DOCUMENT_LENGTHS) for document in documents]
    micro = by_label[MICRO]
    return {
        "label": {name: Tally(everywhere, counts) for name, counts in by_label.items()},
        "language": _by_document(micro, languages, sorted(set(languages))),
        "document length": _by_document(micro, lengths, _length_groups(_DOCUMENT_LENGTHS)),
        "span length": {name: Tally(everywhere, c) for name, c in by_length.items() if c.any()},
        "kind": {name: Tally(everywhere, c) for name, c in by_kind.items() if c.any()},
    }


def _outcome_column(name: str, outcome: Outcome) -> int:
    if outcome.gold is None:
        return _COLUMN[f"{name} extra"]
    return _COLUMN[f"{name} missed" if outcome.predicted is None else f"{name} found"]


def _count_spans(
    by_label: Mapping[str, CountArray],
    by_length: Mapping[str, CountArray],
    document: Document,
    predicted: Sequence[Span],
) -> None:
    counted = [
        (outcome.span, _outcome_column(name, outcome))
        for name, share in _SHARES.items()
        for outcome in match_spans(document.spans, predicted, share=share)
    ]
    leaked = leaked_spans(document.spans, predicted, document.text)
    counted += [(span, _COLUMN["leaked"]) for span in leaked]
    for span, column in counted:
        length = _length_group(span.end - span.start, _SPAN_LENGTHS)
        for line in (by_label[span.label], by_label[MICRO], by_length[length]):
            line[column] += 1


def _count_tokens(
    by_label: Mapping[str, CountArray],
    document: Document,
    predicted: Sequence[Span],
    offsets: Offsets,
) -> None:
    """Entities by their tokens; the tokens of spans that are not wanted are outside of any."""
    wanted = [span for span in document.spans if span.kind == "real"]
    unwanted = [span for span in document.spans if span.kind != "real"]
    gold = align_targets(offsets, wanted)
    found = align_targets(offsets, sorted(predicted, key=lambda span: (span.start, span.end)))
    found[(align_targets(offsets, unwanted) != 0) & (gold == 0)] = 0
    first = _COLUMN["token found"]
    for label, counts in count_tags(gold, found).items():
        for line in (by_label[label], by_label[MICRO]):
            line[first : first + 3] += (counts.found, counts.extra, counts.missed)


def _count_characters(
    by_label: Mapping[str, CountArray], document: Document, predicted: Sequence[Span]
) -> None:
    known = covered_characters(document.spans)
    for label, line in by_label.items():
        spans = [span for span in predicted if label in (span.label, MICRO)]
        line[_COLUMN["excess"]] = len(covered_characters(spans) - known)
        line[_COLUMN["characters"]] = len(document.text)
        line[_COLUMN["clean"]] = not document.spans
        line[_COLUMN["flagged"]] = not document.spans and bool(spans)


def _count_kind(line: CountArray, document: Document, predicted: Sequence[Span], kind: str) -> None:
    """How much of the spans of one kind is reported, wanted or not."""
    spans = [dataclasses.replace(span, kind="real") for span in document.spans if span.kind == kind]
    for name, share in _SHARES.items():
        for outcome in match_spans(spans, predicted, share=share):
            if outcome.gold is not None:
                line[_outcome_column(name, outcome)] += 1
    line[_COLUMN["leaked"]] += len(leaked_spans(spans, predicted, document.text))


def _by_document(
    counts: CountArray, groups: Sequence[str], names: Iterable[str]
) -> dict[str, Tally]:
    rows = {name: np.flatnonzero([group == name for group in groups]) for name in names}
    return {name: Tally(where, counts[where]) for name, where in rows.items() if len(where)}


def _length_groups(limits: Sequence[int]) -> list[str]:
    starts = [1, *(limit + 1 for limit in limits)]
    return [f"{a} to {b}" for a, b in zip(starts, limits, strict=False)] + [f"over {limits[-1]}"]


def _length_group(length: int, limits: Sequence[int]) -> str:
    return _length_groups(limits)[sum(length > limit for limit in limits)]


def f1_of(sums: Array, *, nothing: float = 0.0) -> Array:
    """F1 (80 % overlap) from sums of a tally's counts; `nothing`: where no span is in them."""
    counted = sums[..., [_COLUMN[f"overlap {count}"] for count in ("found", "extra", "missed")]]
    return np.where(counted.any(axis=-1), _score(sums, "overlap")[2], nothing)


def group_scores(group: Tally, bootstrap: Bootstrap) -> GroupScores:
    """The scores of a group and their intervals."""
    sums = group.counts.sum(axis=0).astype(np.float64)
    resampled = bootstrap.sums(group.counts, group.rows)
    rates = {name: float(_rate(sums, name)) for name in _RATES}
    intervals = {name: interval(_rate(resampled, name, nothing=np.nan)) for name in _RATES}
    scores = {name: Score(*map(float, _score(sums, name))) for name in _MATCHES}
    return GroupScores(
        overlap=scores["overlap"],
        exact=scores["exact"],
        token=scores["token"],
        f1_interval=interval(f1_of(resampled, nothing=np.nan)),
        support=int(sums[_COLUMN["overlap found"]] + sums[_COLUMN["overlap missed"]]),
        found_or_extra=int(sums[_COLUMN["overlap found"]] + sums[_COLUMN["overlap extra"]]),
        leaked=rates["leaked"],
        leaked_interval=intervals["leaked"],
        excess=rates["excess"],
        excess_interval=intervals["excess"],
        clean_flagged=rates["flagged"],
        clean_flagged_interval=intervals["flagged"],
    )


_RATES: Mapping[str, tuple[int, Sequence[str]]] = {
    "leaked": (1, ("overlap found", "overlap missed")),
    "excess": (1000, ("characters",)),
    "flagged": (1, ("clean",)),
}
"""By column: a factor and the columns whose sum it is divided by."""


def _rate(sums: Array, name: str, *, nothing: float = 0.0) -> Array:
    factor, below = _RATES[name]
    whole = sum((sums[..., _COLUMN[column]] for column in below), np.float64(0))
    rate = factor * sums[..., _COLUMN[name]] / np.maximum(1, whole)
    return np.where(whole > 0, rate, nothing)


def _score(sums: Array, name: str) -> tuple[Array, Array, Array]:
    """Precision, recall and F1, in the operations of the gold set's scorer, to the last bit."""
    found, extra, missed = (
        sums[..., _COLUMN[f"{name} {count}"]] for count in ("found", "extra", "missed")
    )
    precision, recall = _ratio(found, found + extra), _ratio(found, found + missed)
    return precision, recall, _ratio(2 * precision * recall, precision + recall)


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=below > 0)
