"""Predictions in a file: a JSON line per document with its id and spans, without their text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pii.annotations import Document
from pii.labels import LABELS
from pii.spans import Span
from starencoder.errors import DataError, reason_of
from starencoder.files import open_whole


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


def read_predictions(path: Path, documents: Sequence[Document]) -> list[list[Span]]:
    """Read what `write_predictions` writes: the spans of each document, in their order.

    A score that is not given is 1. Lines of other documents are an error: they would mean that
    the predictions are of another set.

    Raises:
        DataError: The file cannot be read, a line is not a record, or a document has none.
    """
    texts = {document.id: document.text for document in documents}
    found: dict[str, list[Span]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    name, spans = _prediction(line, texts, f"{path}:{number}")
                    if name in found:
                        raise DataError(f"{path}:{number}: a document's second line; expected one")
                    found[name] = spans
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {reason_of(error)}; expected predictions") from error
    missing = texts.keys() - found.keys()
    if missing:
        raise DataError(
            f"{path}: no line for {len(missing)} of {len(texts)} documents; expected one for each, "
            "with an empty list of spans where nothing was found"
        )
    return [found[document.id] for document in documents]


def _prediction(line: str, texts: Mapping[str, str], where: str) -> tuple[str, list[Span]]:
    try:
        record = json.loads(line)
        name = str(record["id"])
        spans = [
            Span(
                start=span["start"],
                end=span["end"],
                label=span["label"],
                score=float(span.get("score", 1.0)),
            )
            for span in record["spans"]
        ]
        if not all(type(at) is int for span in spans for at in (span.start, span.end)):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: {type(error).__name__}; expected an object with id and spans of start, "
            "end, label and perhaps score"
        ) from error
    if name not in texts:
        raise DataError(f"{where}: an id that is not among the annotated documents")
    for span in spans:
        if span.label not in LABELS:
            raise DataError(
                f"{where}: the label of the span {span.start}..{span.end} is unknown; "
                f"known: {', '.join(LABELS)}"
            )
        if not 0 <= span.start < span.end <= len(texts[name]) or not 0 <= span.score <= 1:
            raise DataError(
                f"{where}: span {span.start}..{span.end} is empty, leaves the text of "
                f"{len(texts[name])} characters or has a score outside 0..1"
            )
    return name, spans
