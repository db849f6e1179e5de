"""Score a detector on annotated documents, and choose the thresholds it is shipped with."""

import json
from collections.abc import Sequence
from pathlib import Path

from pii.dataset import Document
from pii.detect import Detector, load_detector
from pii.labels import LABELS, OPERATING_POINTS
from pii.metrics import best_thresholds, count_matches, leaked_spans, total
from pii.spans import Span
from starencoder.config import CONFIG_FILE, read_config_json
from starencoder.errors import CheckpointError
from starencoder.files import open_whole, write_whole

_BETAS = dict(zip(OPERATING_POINTS, (1.0, 2.0), strict=True))
"""`balanced` maximises F1; `thorough` F2, for which a leak costs as much as four false alarms."""

_GRID = [round(0.30 + 0.02 * step, 2) for step in range(35)]


def predict(detector: Detector, documents: Sequence[Document]) -> list[list[Span]]:
    """What `detect` reports by default for each document: all kinds but `example`."""
    return [
        [span for span in detector.detect(document.text) if span.kind != "example"]
        for document in documents
    ]


def score_table(documents: Sequence[Document], predictions: Sequence[Sequence[Span]]) -> str:
    """Precision, recall and F1 by label, and the leaked share, as lines of text."""
    sums = total(
        count_matches(document.spans, predicted)
        for document, predicted in zip(documents, predictions, strict=True)
    )
    lines = [f"{'label':11} {'prec':>6} {'recall':>6} {'f1':>6} support"]
    for label in (*LABELS, "micro"):
        counts = sums[label]
        lines.append(
            f"{label:11} {counts.precision:6.3f} {counts.recall:6.3f} {counts.f_score():6.3f} "
            f"{counts.found + counts.missed:7d}"
        )
    wanted = sums["micro"].found + sums["micro"].missed
    leaked = sum(
        leaked_spans(document.spans, predicted, document.text)
        for document, predicted in zip(documents, predictions, strict=True)
    )
    lines.append(f"leaked {leaked / max(1, wanted):.3f}")
    return "\n".join(lines)


def write_predictions(
    documents: Sequence[Document], predictions: Sequence[Sequence[Span]], path: Path
) -> None:
    """Write one JSON line per document: its id and the predicted spans, without their text.

    Raises:
        OutputError: The file cannot be written.
    """
    with open_whole(path) as file:
        for document, predicted in zip(documents, predictions, strict=True):
            spans = [
                {"start": s.start, "end": s.end, "label": s.label, "score": s.score}
                for s in predicted
            ]
            file.write((json.dumps({"id": document.id, "spans": spans}) + "\n").encode())


def calibrate(model_dir: Path, documents: Sequence[Document]) -> dict[str, dict[str, float]]:
    """Choose both operating points on annotated documents and store them in `config.json`.

    Returns:
        Thresholds by operating point and label.

    Raises:
        CheckpointError: The directory does not hold a tagger with settings of ours.
        OutputError: `config.json` cannot be written.
    """
    config, path = read_config_json(model_dir), model_dir / CONFIG_FILE
    pii = config.get("pii")
    if not isinstance(pii, dict):
        raise CheckpointError(
            f"{path}: no chunk settings (pii); train it with starencoder pii train"
        )
    detector = load_detector(str(model_dir))
    tagged = [detector.tagged_spans(document.text) for document in documents]
    tables = {}
    for threshold in _GRID:
        even = dict.fromkeys(LABELS, threshold)
        found = (
            detector.combine(document.text, spans, even)
            for document, spans in zip(documents, tagged, strict=True)
        )
        tables[threshold] = total(
            count_matches(document.spans, [span for span in spans if span.kind != "example"])
            for document, spans in zip(documents, found, strict=True)
        )
    points = {point: best_thresholds(tables, beta=beta) for point, beta in _BETAS.items()}
    config["pii"] = {**pii, "operating_points": points}
    write_whole(path, (json.dumps(config, indent=2) + "\n").encode())
    return points
