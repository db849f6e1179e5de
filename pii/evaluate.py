"""Score detectors on annotated documents, and choose the thresholds they are shipped with."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from pii.annotations import Document
from pii.curves import Reliability, Sweep, reliability, sweep
from pii.detect import ROUTER, Detector, load_detector
from pii.labels import LABELS
from pii.metrics import MICRO, match_spans, operating_points, pair_errors
from pii.predictions import read_predictions
from pii.resampling import Bootstrap, interval, randomisation_test
from pii.scores import GroupScores, Offsets, Tally, f1_of, group_scores, tally
from pii.spans import Span, without_examples
from pii.tagger import tokenize_document
from starencoder.config import CONFIG_FILE, read_config_json
from starencoder.errors import CheckpointError, DataError
from starencoder.files import check_outputs, write_whole

if TYPE_CHECKING:
    from starencoder.tokenizer import CodeTokenizer

_WORD = re.compile(r"\w+|[^\w\s]")

NO_ENTITY = "none"
"""In the confusion of labels, in place of a label: nothing annotated, or nothing found."""

NO_MODEL = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What one detector found in the documents."""

    name: str
    spans: Sequence[Sequence[Span]]
    """Of each document, at the thresholds in use."""
    sweep: Sweep
    """Empty where it was not asked for."""
    reliability: Mapping[str, Reliability]
    """Of the tagger's spans, whatever their score; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A detector's predictions and their scores."""

    predictions: Predictions
    tallies: Mapping[str, Mapping[str, Tally]]
    groups: Mapping[str, Mapping[str, GroupScores]]
    """By dimension and group, as `pii.scores.tally` has them."""

    @property
    def name(self) -> str:
        """The detector's."""
        return self.predictions.name

    @property
    def labels(self) -> Mapping[str, GroupScores]:
        """Scores by label, and over all labels as `micro`."""
        return self.groups["label"]


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much one F1 is above another."""

    value: float
    interval: tuple[float, float]
    """95 %, paired bootstrap over documents."""
    p: float
    """Two-sided, approximate randomisation over documents."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two detectors over the same documents."""

    first: str
    second: str
    labels: Mapping[str, Difference]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Detectors over the same documents, the one in question first."""

    documents: Sequence[Document]
    tokens: str
    """What the tokens of the scores by token are."""
    scored: Sequence[Scored]
    comparisons: Sequence[Comparison]


def evaluate(
    documents: Sequence[Document],
    models: Sequence[str],
    *,
    operating_point: str = "balanced",
    disabled: frozenset[str] = frozenset(),
    files: Sequence[Path] = (),
    curves: bool = False,
) -> Evaluation:
    """Score models, prediction files and, always, the patterns alone (`none`).

    Args:
        documents: The annotated documents.
        models: As in `load_detector`.
        operating_point: Of the models.
        disabled: Names of rules that are switched off, to see what they are worth.
        files: Predictions as `write_predictions` writes them. The first model is compared with
            each; without a model the first file with each other one.
        curves: Whether to count at every threshold, and the calibration, too.

    Raises:
        ConfigError: An unknown model or operating point.
        CheckpointError: A model directory that cannot be loaded.
        DataError: Predictions that do not fit the documents.
    """
    # First what can be wrong at once.
    filed = [
        _from_file(str(path), documents, read_predictions(path, documents), curves)
        for path in files
    ]
    asked = [
        (name, load_detector(name, operating_point=operating_point, disabled=disabled))
        for name in dict.fromkeys(models)
    ]
    patterns = (
        [] if NO_MODEL in models else [(NO_MODEL, load_detector(NO_MODEL, disabled=disabled))]
    )
    found = [_from_detector(name, documents, detector, curves) for name, detector in asked]
    found += filed
    found += [_from_detector(name, documents, detector, curves) for name, detector in patterns]

    named = [(name, detector.tokenizer) for name, detector in asked if detector.tokenizer]
    tokens, tokenizer = named[0] if named else ("", None)
    offsets = [_token_offsets(document.text, tokenizer) for document in documents]
    bootstrap = Bootstrap(len(documents))
    scored = [_score(documents, predictions, offsets, bootstrap) for predictions in found]
    others = scored[len(asked) :][: len(filed)]
    return Evaluation(
        documents=documents,
        tokens=f"tokenizer of {tokens}" if tokens else "words and symbols",
        scored=scored,
        comparisons=[
            _compare(scored[0], other, bootstrap) for other in others if other is not scored[0]
        ],
    )


def predict(detector: Detector, documents: Sequence[Document]) -> list[list[Span]]:
    """What `detect` reports by default for each document."""
    return [without_examples(detector.detect(document.text)) for document in documents]


def _from_detector(
    name: str, documents: Sequence[Document], detector: Detector, curves: bool
) -> Predictions:
    # A bar on a terminal only: that is what `disable=None` means.
    bar = tqdm(documents, desc=name, unit="", leave=False, disable=None)
    tagged = [detector.tagged_spans(document.text) for document in bar]

    def found_from(score: float | None) -> Iterator[list[Span]]:
        return _found_from(score, documents, detector, tagged)

    by_tagger = (
        [[span for span in spans if span.source == "model"] for spans in found_from(0.0)]
        if curves and detector.tokenizer is not None
        else None
    )
    return Predictions(
        name=name,
        spans=list(found_from(None)),
        sweep=sweep(documents, found_from) if curves else {},
        reliability={} if by_tagger is None else reliability(documents, by_tagger),
    )


def _found_from(
    score: float | None,
    documents: Sequence[Document],
    detector: Detector,
    tagged: Sequence[Sequence[Span]],
) -> Iterator[list[Span]]:
    """What is reported of each document from a score on; None: from the detector's own."""
    thresholds = None if score is None else dict.fromkeys(LABELS, score)
    for document, spans in zip(documents, tagged, strict=True):
        yield without_examples(detector.combine(document.text, spans, thresholds))


def _from_file(
    name: str, documents: Sequence[Document], spans: Sequence[Sequence[Span]], curves: bool
) -> Predictions:
    def found_from(score: float) -> Iterator[list[Span]]:
        for of_document in spans:
            yield [span for span in of_document if span.score >= score]

    counts = sweep(documents, found_from) if curves else {}
    return Predictions(name=name, spans=spans, sweep=counts, reliability={})


def _token_offsets(text: str, tokenizer: "CodeTokenizer | None") -> Offsets:
    if tokenizer is not None:
        return tokenize_document(text, tokenizer)[1]
    words = [word.span() for word in _WORD.finditer(text)]
    return np.array(words, np.int32).reshape(-1, 2)


def _score(
    documents: Sequence[Document],
    predictions: Predictions,
    offsets: Sequence[Offsets],
    bootstrap: Bootstrap,
) -> Scored:
    tallies = tally(documents, predictions.spans, offsets)
    groups = {
        dimension: {name: group_scores(counts, bootstrap) for name, counts in by_name.items()}
        for dimension, by_name in tallies.items()
    }
    return Scored(predictions, tallies, groups)


def _compare(first: Scored, second: Scored, bootstrap: Bootstrap) -> Comparison:
    labels = {}
    for label in (*LABELS, MICRO):
        one, other = first.tallies["label"][label], second.tallies["label"][label]
        resampled = [
            f1_of(bootstrap.sums(counts.counts, counts.rows), nothing=np.nan)
            for counts in (one, other)
        ]
        labels[label] = Difference(
            value=first.labels[label].overlap.f1 - second.labels[label].overlap.f1,
            interval=interval(resampled[0] - resampled[1]),
            p=randomisation_test(one.counts, other.counts, f1_of),
        )
    return Comparison(first.name, second.name, labels)


def confusion(
    documents: Sequence[Document], predictions: Sequence[Sequence[Span]]
) -> dict[tuple[str, str], int]:
    """How often a wanted span of one label is found as another, by (annotated, found) label.

    Spans that overlap at all are taken for the same; `NO_ENTITY` stands for no span.
    """
    counts: dict[tuple[str, str], int] = {}
    for document, predicted in zip(documents, predictions, strict=True):
        outcomes = match_spans(document.spans, predicted)
        right = [o for o in outcomes if o.gold is not None and o.predicted is not None]
        for outcome in (*right, *pair_errors(outcomes)):
            cell = (
                outcome.gold.label if outcome.gold else NO_ENTITY,
                outcome.predicted.label if outcome.predicted else NO_ENTITY,
            )
            counts[cell] = counts.get(cell, 0) + 1
    return counts


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds as they are stored now."""

    points: Mapping[str, Mapping[str, float]]
    """By operating point and label."""
    without_spans: Sequence[str]
    """Labels of which the documents hold no wanted span; their thresholds are as they were."""
    unmeasured: Sequence[str]
    """Labels with the same F1 at every threshold, as where few spans are all found with a high
    score, none is, or the patterns find them; their thresholds, too, are as they were."""


def calibrate(model_dir: Path, documents: Sequence[Document]) -> Calibration:
    """Choose both operating points on annotated documents and store them in `config.json`.

    Of thresholds that are equally good the strictest is chosen, so that 1.00 may well be measured:
    where the tagger is right with the highest scores only, or adds nothing but false alarms.

    Raises:
        CheckpointError: The directory does not hold a tagger with settings of ours.
        DataError: The documents hold no wanted span.
        OutputError: `config.json` cannot be written.
    """
    config, path = read_config_json(model_dir), model_dir / CONFIG_FILE
    pii = config.get("pii")
    if not isinstance(pii, dict):
        raise CheckpointError(
            f"{path}: no chunk settings (pii); train it with starencoder pii train"
        )
    # Every chunk is read: the router has thresholds of its own, for the ones that are replaced.
    detector = load_detector(str(model_dir), disabled=frozenset({ROUTER}))
    check_outputs([path])
    wanted = {s.label for document in documents for s in document.spans if s.kind == "real"}
    if not wanted:
        raise DataError(
            f"{len(documents)} documents without any wanted span: nothing to choose thresholds by; "
            "expected spans of kind real; the model is as it was"
        )
    tagged = [detector.tagged_spans(document.text) for document in documents]

    tables = sweep(documents, lambda score: _found_from(score, documents, detector, tagged))
    clean = sum(not document.spans for document in documents)
    without = [label for label in LABELS if label not in wanted]
    unmeasured = [
        label
        for label in LABELS
        if label in wanted and len({counts[label].f_score() for counts in tables.values()}) == 1
    ]
    kept = {*without, *unmeasured}
    points = {
        point: {
            label: pii["operating_points"][point][label] if label in kept else threshold
            for label, threshold in thresholds.items()
        }
        for point, thresholds in operating_points(tables, clean).items()
    }
    config["pii"] = {**pii, "operating_points": points}
    write_whole(path, (json.dumps(config, indent=2) + "\n").encode())
    return Calibration(points, without, unmeasured)
