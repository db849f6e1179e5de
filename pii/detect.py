"""From text to spans: the one inference path, whatever computes the probabilities.

The tagger's spans that meet their threshold -> merged with the pattern detectors -> kinds set by
the filters -> values found for sure, wherever else they stand. Without a tagger neither numpy nor
anything else of the extras is needed.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from pii.filters import FILTERS, classify
from pii.labels import LABELS, OPERATING_POINTS, check_labels
from pii.patterns import RULES, find_patterns
from pii.propagate import REPEATED, RepeatedValues, merge_repeated, sure_values
from pii.spans import Span, resolve_overlaps
from pii.windows import (
    LONGEST_WINDOW,
    Text,
    Window,
    iter_windows,
    join_windows,
    spans_inside,
)
from starencoder.errors import ConfigError
from starencoder.names import check_name, closest

if TYPE_CHECKING:
    from pii.tagger import Predict, Tagger
    from starencoder.tokenizer import CodeTokenizer

EMBEDDED_MODEL = Path(__file__).parent / "models" / "tiny"

_MOST_SHARED = 50_000
"""Values that the windows of a text look for together. Of a text with more, such as a list of
addresses, each looks for its own: what finds them would take gigabytes."""

ROUTER = "router"
"""The name by which the router (`pii.router`) is switched off."""


class Detector:
    """Finds spans in texts. Build it with `load_detector`."""

    def __init__(
        self,
        tagger: "Tagger | None",
        *,
        thresholds: Mapping[str, float],
        sure: Mapping[str, float] = MappingProxyType({}),
        labels: Sequence[str] = LABELS,
        disabled: frozenset[str] = frozenset(),
    ) -> None:
        """Combine a tagger (None: patterns alone) with the patterns and filters.

        Args:
            tagger: The token classifier.
            thresholds: Smallest score of a span that the tagger reports, by label.
            sure: Smallest score of one whose value is looked for elsewhere too (`pii.propagate`).
            labels: The labels to report.
            disabled: Names of rules that are switched off; see `rule_names`.
        """
        self._tagger = tagger
        self._thresholds = thresholds
        self._sure = sure
        self._labels = frozenset(check_labels(labels))
        self._disabled = disabled

    @property
    def tokenizer(self) -> "CodeTokenizer | None":
        """The tagger's, if there is one."""
        return None if self._tagger is None else self._tagger.tokenizer

    def detect(self, text: str) -> list[Span]:
        """Find the spans of a text, of every kind, sorted and without overlaps."""
        return self.detect_all([text])[0]

    def detect_all(self, texts: Sequence[Text]) -> list[list[Span]]:
        """Find the spans of several texts, whose chunks are read together."""
        windows = [list(iter_windows(text)) for text in texts]
        parts, again = itertools.tee(
            text[window.start : window.end]
            for text, own in zip(texts, windows, strict=True)
            for window in own
        )
        found = map(self._merge, parts, self.iter_tagged(again), itertools.repeat(self._thresholds))
        return [
            self._complete(text, own, join_windows(own, list(itertools.islice(found, len(own)))))
            for text, own in zip(texts, windows, strict=True)
        ]

    def tagged_spans(self, text: str) -> list[Span]:
        """What the tagger alone finds, whatever the score."""
        return next(self.iter_tagged([text]))

    def iter_tagged(self, texts: Iterable[str]) -> Iterator[list[Span]]:
        """What the tagger alone finds in each text, whatever the score.

        Texts are read in groups, which bounds memory.
        """
        if self._tagger is None:
            yield from ([] for _ in texts)
            return
        from pii.decode import decode_spans
        from pii.tagger import chunk_tokens, iter_chunks, stitch_chunks, tokenize_document

        tagger = self._tagger
        for group in _groups(texts):
            tokens = [tokenize_document(text, tagger.tokenizer) for text in group]
            chunked = [chunk_tokens(ids, tagger) for ids, _ in tokens]
            chunks = [chunk for part in chunked for chunk in iter_chunks(part, tagger)]
            read = iter(tagger.predict(chunks) if chunks else ())
            for text, (_, offsets), part in zip(group, tokens, chunked, strict=True):
                yield decode_spans(text, offsets, stitch_chunks(part, read, tagger))

    def combine(
        self, text: str, tagged: Sequence[Span], thresholds: Mapping[str, float] | None = None
    ) -> list[Span]:
        """Merge the tagger's spans that meet their threshold with the patterns' and set the kinds.

        Args:
            text: The document.
            tagged: What `tagged_spans` found in it.
            thresholds: Used instead of all of the detector's own, for calibration.
        """
        if thresholds is None:
            found = self._merge(text, tagged, self._thresholds)
            values = self.sure_values(text, found)
        else:
            found = self._merge(text, tagged, thresholds)
            values = sure_values(text, found)
        return self._reported(self._with_repeated(text, found, RepeatedValues(values)))

    def _merge(
        self, text: str, tagged: Sequence[Span], thresholds: Mapping[str, float]
    ) -> list[Span]:
        spans = find_patterns(text, self._disabled)
        spans += [span for span in tagged if span.score >= thresholds[span.label]]
        return classify(text, resolve_overlaps(spans), self._disabled)

    def _complete(self, text: Text, windows: Sequence[Window], found: list[Span]) -> list[Span]:
        """Look in every window for what any of them is sure of."""
        values = self.sure_values(text, found)
        if not values:
            return self._reported(found)
        shared = RepeatedValues(values) if len(values) <= _MOST_SHARED else None
        completed = []
        for window in windows:
            part, inside = text[window.start : window.end], spans_inside(window, found)
            repeated = shared or RepeatedValues(self.sure_values(part, inside))
            completed.append(self._with_repeated(part, inside, repeated))
        return self._reported(join_windows(windows, completed))

    def _with_repeated(self, text: str, found: list[Span], repeated: RepeatedValues) -> list[Span]:
        if REPEATED in self._disabled:
            return found
        return merge_repeated(text, found, repeated.find(text, found), self._disabled)

    def _reported(self, found: list[Span]) -> list[Span]:
        return [span for span in found if span.label in self._labels]

    def sure_values(self, text: Text, spans: Sequence[Span]) -> dict[str, Span]:
        """Of what was found in a text, the values that are looked for in other texts too."""
        return sure_values(text, spans, self._sure)


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    """Runs of texts of about one window together, or one that is longer."""
    group: list[str] = []
    for text in texts:
        if group and sum(map(len, group)) + len(text) > LONGEST_WINDOW:
            yield group
            group = []
        group.append(text)
    if group:
        yield group


def rule_names() -> tuple[str, ...]:
    """Names of all that can be switched off: patterns, filters, `repeated-value`, `router`."""
    return (*(rule.name for rule in RULES), *(rule.name for rule in FILTERS), REPEATED, ROUTER)


def check_settings(
    *,
    operating_point: str,
    labels: Collection[str],
    min_score: float | None,
    disabled: Collection[str],
) -> None:
    """Refuse what `load_detector` would, the model apart.

    Raises:
        ConfigError: An unknown operating point, label or rule, no label, or a score outside [0, 1].
    """
    check_name("operating point", operating_point, OPERATING_POINTS)
    for label in labels:
        check_name("label", label, LABELS)
    if not labels:
        raise ConfigError(f"no label given; known: {', '.join(LABELS)}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise ConfigError(f"the smallest score must be in 0..1, got {min_score}")
    for rule in sorted(disabled):
        check_name("rule", rule, rule_names())


def check_model(model: str) -> None:
    """Refuse a model that does not exist.

    Raises:
        ConfigError: Neither `tiny` nor `none` nor a directory.
    """
    if model not in ("tiny", "none") and not Path(model).is_dir():
        hint = closest(model, ("tiny", "none"))
        raise ConfigError(f"unknown model {model!r}{hint}; expected tiny, none or a directory")


def model_folder(model: str) -> Path:
    """Where a model's files are: `tiny` or a directory."""
    return EMBEDDED_MODEL if model == "tiny" else Path(model)


def load_detector(
    model: str = "tiny",
    *,
    operating_point: str = "balanced",
    labels: Sequence[str] = LABELS,
    min_score: float | None = None,
    disabled: frozenset[str] = frozenset(),
    threads: int = 1,
    predict: "Predict | None" = None,
) -> Detector:
    """Load a detector.

    Args:
        model: `tiny` (the embedded model), `none` (patterns alone), or a model directory.
        operating_point: `balanced` (few false alarms) or `thorough` (little leaked).
        labels: The labels to report.
        min_score: Smallest score reported, in [0, 1]; it replaces the operating point's.
        disabled: Names of rules that are switched off; see `rule_names`.
        threads: Threads of one inference call.
        predict: Computes the model's probabilities; None: its ONNX file on the CPU.

    Raises:
        ConfigError: See `check_settings` and `check_model`.
        CheckpointError: A model directory that cannot be loaded.
        MissingExtraError: The packages that a model needs are not installed.
    """
    check_settings(
        operating_point=operating_point, labels=labels, min_score=min_score, disabled=disabled
    )
    check_model(model)
    thresholds: Mapping[str, float] = {}
    sure: Mapping[str, float] = {}
    tagger = None
    if model != "none":
        from pii.session import load_session
        from pii.tagger import load_tagger

        directory = model_folder(model)
        # A score of one's own may be lower than those of `balanced`.
        careful = operating_point if min_score is None else "thorough"
        tagger = load_tagger(
            directory,
            load_session(directory, threads=threads) if predict is None else predict,
            routed_for=None if ROUTER in disabled else careful,
            threads=threads,
        )
        thresholds = tagger.operating_points[operating_point]
        # What `thorough` adds is wrong too often to be looked for elsewhere.
        sure = tagger.operating_points["balanced"]
    if min_score is not None:
        thresholds = dict.fromkeys(LABELS, min_score)
    return Detector(tagger, thresholds=thresholds, sure=sure, labels=labels, disabled=disabled)
