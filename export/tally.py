"""What a scan counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pii.labels import LABELS
from pii.spans import Span

SCORE_BINS = 20
"""Of the histograms of scores, from 0 to 1."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was counted in some row groups."""

    rows_in: int = 0
    rows_out: int = 0
    scanned: int = 0
    modified: int = 0
    text_bytes: int = 0
    """UTF-8 bytes of the scanned texts."""
    not_scanned: Counter[str] = field(default_factory=Counter)
    """Rows by reason; those in the output and those that were left out of it."""
    unselected: Counter[str] = field(default_factory=Counter)
    """Rows whose language was not selected, by language."""
    forms: Counter[str] = field(default_factory=Counter)
    """Scanned rows by the form of their text; see `export.forms`."""
    languages: dict[str, Counter[str]] = field(default_factory=dict)
    """By language: scanned `rows`, and spans by label."""
    scores: dict[str, list[int]] = field(default_factory=dict)
    """By label: the model's spans in each of `SCORE_BINS` equal ranges of the score."""

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        for name in ("rows_in", "rows_out", "scanned", "modified", "text_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.not_scanned.update(other.not_scanned)
        self.unselected.update(other.unselected)
        self.forms.update(other.forms)
        for language, counts in other.languages.items():
            self.languages.setdefault(language, Counter()).update(counts)
        for label, bins in other.scores.items():
            ours = self.scores.setdefault(label, [0] * SCORE_BINS)
            self.scores[label] = [a + b for a, b in zip(ours, bins, strict=True)]

    def add_spans(self, language: str, spans: Sequence[Span]) -> None:
        """Count a scanned row."""
        counts = self.languages.setdefault(language, Counter())
        counts["rows"] += 1
        for span in spans:
            counts[span.label] += 1
            if span.source == "model":
                bins = self.scores.setdefault(span.label, [0] * SCORE_BINS)
                bins[min(SCORE_BINS - 1, int(span.score * SCORE_BINS))] += 1

    def by_label(self) -> Counter[str]:
        """Spans by label, in the labels' order; those of which there are some."""
        counts: Counter[str] = Counter()
        for own in self.languages.values():
            counts.update(own)
        return Counter({label: counts[label] for label in LABELS if counts[label]})

    def to_json(self) -> dict[str, object]:
        """As JSON objects, in a fixed order."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "scanned": self.scanned,
            "modified": self.modified,
            "text_bytes": self.text_bytes,
            "not_scanned": dict(sorted(self.not_scanned.items())),
            "unselected": dict(sorted(self.unselected.items())),
            "forms": dict(sorted(self.forms.items())),
            "languages": {
                language: {key: counts[key] for key in ("rows", *LABELS) if counts[key]}
                for language, counts in sorted(self.languages.items())
            },
            "scores": {label: self.scores[label] for label in LABELS if label in self.scores},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "Tally":
        """Read what `to_json` gave."""
        tally = cls(**values)  # type: ignore[arg-type]
        for name in ("not_scanned", "unselected", "forms"):
            setattr(tally, name, Counter(getattr(tally, name)))
        tally.languages = {name: Counter(counts) for name, counts in tally.languages.items()}
        return tally
