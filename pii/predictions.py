"""Predictions in a file: a JSON line per document with its id and spans, without their text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pii.annotations import Document
from pii.records import field, id_of, json_records, objects, span_of
from pii.spans import Span
from starencoder.errors import DataError
from starencoder.files import open_whole


def write_predictions(
    documents: Sequence[Document], predictions: Sequence[Sequence[Span]], path: Path
) -> None:
    """Write one JSON line per document: its id and the predicted spans, without their text.

    Raises:
        DataError: Two documents have the same id, so that the file could not be read again.
        OutputError: The file cannot be written.
    """
    check_ids(documents)
    with open_whole(path) as file:
        for document, predicted in zip(documents, predictions, strict=True):
            spans = [
                {"start": s.start, "end": s.end, "label": s.label, "score": s.score}
                for s in predicted
            ]
            file.write((json.dumps({"id": document.id, "spans": spans}) + "\n").encode())


def check_ids(documents: Sequence[Document]) -> None:
    """Check that each document has an id of its own.

    Raises:
        DataError: One has that of an earlier one.
    """
    repeated = len(documents) - len({document.id for document in documents})
    if repeated:
        raise DataError(
            f"{repeated} of {len(documents)} annotated documents have the id of an earlier one; "
            "predictions are told apart by it, expected one of its own for each"
        )


def read_predictions(path: Path, documents: Sequence[Document]) -> list[list[Span]]:
    """Read what `write_predictions` writes: the spans of each document, in their order.

    A score that is not given is 1. Lines of other documents are an error: they would mean that
    the predictions are of another set.

    Raises:
        DataError: Two documents have the same id, the file cannot be read, a line is not a record,
            or a document has none.
    """
    check_ids(documents)
    texts = {document.id: document.text for document in documents}
    found: dict[str, list[Span]] = {}
    for where, record in json_records(path, "predictions"):
        name = id_of(record, where)
        if name not in texts:
            raise DataError(f"{where}: an id that is not among the annotated documents")
        if name in found:
            raise DataError(f"{where}: a document's second line; expected one")
        found[name] = [
            _span(span, len(texts[name]), place) for place, span in objects(record, "spans", where)
        ]
    missing = texts.keys() - found.keys()
    if missing:
        raise DataError(
            f"{path}: no line for {len(missing)} of {len(texts)} documents; expected one for each, "
            "with an empty list of spans where nothing was found"
        )
    return [found[document.id] for document in documents]


def _span(record: Mapping[str, object], num_chars: int, where: str) -> Span:
    span = span_of(record, num_chars, where)
    score = field(record, "score", float, where, 1.0)
    if not 0 <= score <= 1:
        raise DataError(f"{where}: the score is outside 0..1; expected a probability")
    return replace(span, score=float(score))
