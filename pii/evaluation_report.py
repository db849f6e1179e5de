"""An evaluation to read: a table for the terminal, one JSON object, or one HTML page."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pii.annotations import Document
from pii.curves import THRESHOLDS
from pii.error_browser import ERROR_STYLE, error_browser
from pii.evaluate import NO_ENTITY, Evaluation, Scored, confusion
from pii.labels import LABELS
from pii.metrics import MICRO
from pii.resampling import BOOTSTRAP_RESAMPLES, SHUFFLES
from pii.scores import GroupScores
from starencoder.files import write_whole
from starencoder.page import escaped, page, table, unit_chart
from starencoder.text import plain

_COMPARISON_METHOD = (
    "F1, first less second; interval: 95 %, paired bootstrap over documents; p: two-sided, "
    f"approximate randomisation over documents (Yeh 2000), {SHUFFLES:,} exchanges; not corrected "
    "for the number of labels"
)

_NOTHING = "-"


def score_text(evaluation: Evaluation) -> str:
    """Scores by label of each detector, and comparisons, for a terminal."""
    characters = sum(len(document.text) for document in evaluation.documents)
    lines = [
        f"{len(evaluation.documents):,} documents, {characters:,} characters; "
        "found: a span and a prediction cover 80 % of each other;",
        f"exact: F1 of the same limits; token: F1 of the same tokens ({plain(evaluation.tokens)});",
        "95 %: of F1, over resamples of the documents with a span or prediction of the label",
    ]
    for scored in evaluation.scored:
        lines += ["", plain(scored.name), *_label_lines(scored.labels)]
    for comparison in evaluation.comparisons:
        lines += ["", f"{plain(comparison.first)} against {plain(comparison.second)}"]
        for label, difference in comparison.labels.items():
            low, high = difference.interval
            lines.append(
                f"{label:11} {difference.value:+6.3f}  {low:+.3f} to {high:+.3f}  "
                f"p {difference.p:.4f}"
            )
    if evaluation.comparisons:
        lines += ["", *textwrap.wrap(_COMPARISON_METHOD, 100)]
    return "\n".join(lines)


def _label_lines(labels: Mapping[str, GroupScores]) -> list[str]:
    lines = [
        f"{'label':11} {'prec':>6} {'recall':>6} {'f1':>6}  {'95 %':14} support "
        f"{'exact':>6} {'token':>6} {'leaked':>6}"
    ]
    for label, scores in labels.items():
        precision, recall, f1, interval, support, exact, token, leaked, *_ = _score_row(scores)
        lines.append(
            f"{label:11} {precision:>6} {recall:>6} {f1:>6}  {interval:14} {support:>7} "
            f"{exact:>6} {token:>6} {leaked:>6}"
        )
    micro = labels[MICRO]
    lines.append(
        f"leaked {micro.leaked:.3f}   excess/1000 chars {micro.excess:.2f}   "
        f"clean files with a finding {micro.clean_flagged:.3f}"
    )
    return lines


def as_json(evaluation: Evaluation) -> str:
    """Everything that was measured, as one JSON object, without any value."""
    return json.dumps(
        {
            "documents": len(evaluation.documents),
            "characters": sum(len(document.text) for document in evaluation.documents),
            "tokens": evaluation.tokens,
            "systems": [_system_json(evaluation.documents, one) for one in evaluation.scored],
            "comparison_method": _COMPARISON_METHOD,
            "comparisons": [asdict(comparison) for comparison in evaluation.comparisons],
        },
        indent=1,
    )


def _system_json(documents: Sequence[Document], scored: Scored) -> dict[str, object]:
    found = scored.predictions
    return {
        "name": scored.name,
        "scores": {
            dimension: {name: _group_json(dimension, scores) for name, scores in groups.items()}
            for dimension, groups in scored.groups.items()
        },
        "confusion": [
            {"annotated": gold, "found": predicted, "spans": spans}
            for (gold, predicted), spans in sorted(confusion(documents, found.spans).items())
        ],
        "curve": [
            {
                "threshold": threshold,
                "labels": {
                    label: {"precision": c.precision, "recall": c.recall}
                    for label, c in counts.items()
                },
            }
            for threshold, counts in found.sweep.items()
        ],
        "calibration": {
            label: {"expected_calibration_error": r.error, "bins": [asdict(b) for b in r.bins]}
            for label, r in found.reliability.items()
        },
    }


def _group_json(dimension: str, scores: GroupScores) -> dict[str, object]:
    """What means something of the group: groups of spans have no tokens or characters."""
    fields = asdict(scores)
    if dimension == "kind":
        reported = {"reported": scores.overlap.recall, "reported_exactly": scores.exact.recall}
        return reported | {name: fields[name] for name in ("support", "leaked", "leaked_interval")}
    left_out = ("token", "excess", "clean") if dimension == "span length" else ()
    return {name: field for name, field in fields.items() if not name.startswith(left_out)}


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write one page about all detectors, with the errors of the first in their context.

    The page shows values of the annotated documents.

    Raises:
        OutputError: The page cannot be written.
        MissingExtraError: The package matplotlib is not installed.
    """
    documents, first = evaluation.documents, evaluation.scored[0]
    sections = [
        *_score_sections(evaluation),
        *_comparison_sections(evaluation),
        *_curve_sections(evaluation),
        *_calibration_sections(evaluation),
        *_confusion_sections(documents, first),
        *_group_sections(evaluation),
        f"<h2>Errors of {escaped(first.name)}</h2>",
        error_browser(documents, first.predictions.spans),
    ]
    title = f"Evaluation of {first.name}"
    write_whole(path, page(title, sections, style=ERROR_STYLE).encode())


_SCORE_COLUMNS = (
    *("precision", "recall", "F1", "95 %", "wanted", "exact F1", "token F1", "leaked", "95 %"),
    *("excess per 1,000 characters", "95 %", "clean files with a finding", "95 %"),
)


def _score_sections(evaluation: Evaluation) -> Iterator[str]:
    characters = sum(len(document.text) for document in evaluation.documents)
    yield (
        f"<p>{len(evaluation.documents):,} documents, {characters:,} characters. A span is found "
        "when it and a prediction of its label cover 80 % of each other; exact: they have the "
        f"same limits; token: the same tokens ({escaped(evaluation.tokens)}), as seqeval counts. "
        "Annotated spans that are no real values are neither wanted nor punished. Leaked: a "
        "character of the span lies outside every prediction. Intervals: 95 %, percentile "
        f"bootstrap over documents, {BOOTSTRAP_RESAMPLES} resamples; those that have nothing to "
        "score, such as no span and no prediction of a rare label, are left out.</p>"
    )
    yield "<h2>Scores by label</h2>"
    for scored in evaluation.scored:
        rows = [[label, *_score_row(scores)] for label, scores in scored.labels.items()]
        yield f"<h3>{escaped(scored.name)}</h3>{table(('', *_SCORE_COLUMNS), rows)}"


def _score_row(scores: GroupScores) -> list[str]:
    counted = scores.support + scores.found_or_extra
    found = [
        f"{scores.overlap.precision:.3f}" if scores.found_or_extra else _NOTHING,
        f"{scores.overlap.recall:.3f}" if scores.support else _NOTHING,
        f"{scores.overlap.f1:.3f}" if counted else _NOTHING,
        _shown(scores.f1_interval) if counted else _NOTHING,
        str(scores.support),
        f"{scores.exact.f1:.3f}" if counted else _NOTHING,
        f"{scores.token.f1:.3f}" if counted else _NOTHING,
        f"{scores.leaked:.3f}" if scores.support else _NOTHING,
        _shown(scores.leaked_interval) if scores.support else _NOTHING,
    ]
    return [
        *found,
        f"{scores.excess:.2f}",
        _shown(scores.excess_interval, ".2f"),
        f"{scores.clean_flagged:.3f}",
        _shown(scores.clean_flagged_interval),
    ]


def _shown(interval: tuple[float, float], form: str = ".3f") -> str:
    return f"{format(interval[0], form)} to {format(interval[1], form)}"


def _comparison_sections(evaluation: Evaluation) -> Iterator[str]:
    for comparison in evaluation.comparisons:
        rows = [
            [label, f"{d.value:+.3f}", _shown(d.interval, "+.3f"), f"{d.p:.4f}"]
            for label, d in comparison.labels.items()
        ]
        names = f"{escaped(comparison.first)} against {escaped(comparison.second)}"
        shown = table(("", "difference of F1", "95 %", "p"), rows)
        yield f"<h2>{names}</h2><p>{escaped(_COMPARISON_METHOD)}.</p>{shown}"


def _curve_sections(evaluation: Evaluation) -> Iterator[str]:
    charts = []
    for label in (*LABELS, MICRO):
        curves = {}
        for number, scored in enumerate(evaluation.scored, 1):
            # Each once: the patterns' point is the same at every threshold.
            points = dict.fromkeys(
                (c.recall, c.precision)
                for counts in scored.predictions.sweep.values()
                if (c := counts[label]).found + c.extra
            )
            in_use = scored.labels[label].overlap
            if points:
                curves[f"{number}"] = list(points)
                curves[f"{number}, as scored above"] = [(in_use.recall, in_use.precision)]
        charts.append(_figure(label, unit_chart(f"curve {label}", curves, "recall", "precision")))
    names = table(
        ("", "detector"),
        [(str(number), scored.name) for number, scored in enumerate(evaluation.scored, 1)],
    )
    yield (
        "<h2>Precision and recall by threshold</h2><p>The same threshold for all labels, from "
        f"{THRESHOLDS[0]:.2f} to {THRESHOLDS[-1]:.2f}; the patterns' findings have none.</p>{names}"
        f'<div class="charts">{"".join(charts)}</div>'
    )


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{escaped(caption)}</figcaption>{svg}</figure>"


def _calibration_sections(evaluation: Evaluation) -> Iterator[str]:
    for number, scored in enumerate(evaluation.scored):
        by_label = scored.predictions.reliability
        if not by_label:
            continue
        charts, rows = [], []
        for label, reliability in by_label.items():
            if reliability.bins:
                points = [(b.score, b.right) for b in reliability.bins]
                curves = {"the ideal": [(0.0, 0.0), (1.0, 1.0)], "predictions": points}
                chart = unit_chart(f"calibration {number} {label}", curves, "score", "share right")
                charts.append(_figure(label, chart))
            predictions = sum(b.predictions for b in reliability.bins)
            rows.append([label, f"{reliability.error:.3f}", str(predictions)])
        header = ("", "expected calibration error", "predictions")
        yield (
            f"<h2>Calibration of {escaped(scored.name)}</h2><p>Spans of the tagger, whatever "
            "their score, in ten bins of score; those inside spans that are not wanted are left "
            f'out.</p>{table(header, rows)}<div class="charts">{"".join(charts)}</div>'
        )


def _confusion_sections(documents: Sequence[Document], scored: Scored) -> Iterator[str]:
    counts = confusion(documents, scored.predictions.spans)
    names = (*LABELS, NO_ENTITY)
    rows = [
        [gold, *(str(counts.get((gold, found), _NOTHING)) for found in names)] for gold in names
    ]
    yield (
        f"<h2>Confusion of labels by {escaped(scored.name)}</h2><p>Rows: annotated; columns: "
        f"found. Spans that overlap at all are taken for the same.</p>{table(('', *names), rows)}"
    )


def _group_sections(evaluation: Evaluation) -> Iterator[str]:
    yield from (
        f"<h2>By {dimension}</h2>{_NOTES.get(dimension, '')}{_group_table(evaluation, dimension)}"
        for dimension in ("language", "document length", "span length")
    )
    rows = [
        [
            *(kind, scored.name, str(scores.support), f"{scores.overlap.recall:.3f}"),
            *(f"{scores.leaked:.3f}", _shown(scores.leaked_interval)),
        ]
        for kind in evaluation.scored[0].groups["kind"]
        for scored in evaluation.scored
        for scores in [scored.groups["kind"][kind]]
    ]
    header = ("kind", "detector", "spans", "reported", "leaked", "95 %")
    yield f"<h2>By kind</h2>{_NOTES['kind']}{table(header, rows)}"


_NOTES = {
    "document length": "<p>In characters.</p>",
    "span length": "<p>In characters: of the annotated span; of an extra one, its own.</p>",
    "kind": "<p>Reported: the share that a prediction of the same label covers by 80 %. Only real "
    "values are wanted.</p>",
}


def _group_table(evaluation: Evaluation, dimension: str) -> str:
    by_document = dimension != "span length"
    columns = _SCORE_COLUMNS if by_document else _SCORE_COLUMNS[:6]
    rows = []
    names = dict.fromkeys(name for one in evaluation.scored for name in one.groups[dimension])
    for name in names:
        for scored in evaluation.scored:
            if name in scored.groups[dimension]:
                row = _score_row(scored.groups[dimension][name])
                rows.append([name, scored.name, *row[: len(columns)]])
    return table((dimension, "detector", *columns), rows)
