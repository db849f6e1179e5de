"""Spans of a document and their geometry."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Characters `[start, end)` of a document, in code points, that hold one entity."""

    start: int
    end: int
    label: str
    """One of `pii.labels.LABELS`."""
    kind: str = "real"
    """`real`, `example` (placeholder, loopback, documentation value) or `licence` (attribution)."""
    score: float = 1.0
    """In [0, 1]; a tagger's is about the probability that the span is right."""
    source: str = "model"
    """`model`, or `pattern:<rule name>`."""


def overlap(a: Span, b: Span) -> int:
    """Number of characters that lie in both spans."""
    return max(0, min(a.end, b.end) - max(a.start, b.start))


def without_examples(spans: Iterable[Span]) -> list[Span]:
    """What is reported by default: spans of all kinds but `example`."""
    return [span for span in spans if span.kind != "example"]


def resolve_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Keep a set of spans of which no two overlap, in order of their start.

    Patterns know their form and win over the model; then the longer span wins, so that no part of
    a value is left standing; then the higher score; then the earlier start.
    """
    kept: list[Span] = []
    cluster: list[Span] = []
    reach = 0
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if span.start >= reach:  # nothing before overlaps anything from here on
            kept += _best(cluster)
            cluster = []
        cluster.append(span)
        reach = max(reach, span.end)
    return kept + _best(cluster)


def _best(cluster: list[Span]) -> list[Span]:
    if len(cluster) < 2:
        return cluster
    ranked = sorted(
        cluster,
        key=lambda s: (s.source == "model", -(s.end - s.start), -s.score, s.start, s.label),
    )
    kept: list[Span] = []
    starts: list[int] = []
    for span in ranked:
        at = bisect_left(starts, span.start)
        free_before = at == 0 or kept[at - 1].end <= span.start
        free_after = at == len(kept) or span.end <= kept[at].start
        if free_before and free_after:
            kept.insert(at, span)
            starts.insert(at, span.start)
    return kept
