"""A datatrove step that redacts documents as `starencoder scan` redacts rows.

Executors, readers and writers are datatrove's, and so are tasks and resuming.
"""

from collections.abc import Iterable, Iterator, Sequence

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from export.row_groups import NOT_UTF8, NULL
from export.rows import Row, row_of
from export.scanner import ScanConfig, Scanner
from export.shards import MODIFIED_COLUMN, SPANS_COLUMN, spans_to_json
from pii.detect import check_model
from pii.labels import LABELS

_MOST_DOCUMENTS = 256
_MOST_CHARACTERS = 1 << 20
"""Of documents that are read together."""


class RedactPII(PipelineStep):  # type: ignore[misc]
    """Replaces personal data and secrets in `text`; says where they were in `metadata`.

    `metadata["pii_spans"]` is what a scan's column of this name holds, with offsets into the
    original text, and `metadata["pii_modified"]` whether the text was changed. A document whose
    text cannot be read passes as it is, with None for spans. No document is dropped.
    """

    name = "PII redaction"
    type = "STARENCODER"

    def __init__(
        self,
        *,
        model: str = "tiny",
        mode: str = "redact",
        operator: str = "tag",
        operating_point: str = "thorough",
        labels: Sequence[str] = LABELS,
        min_score: float | None = None,
        disabled: Sequence[str] = (),
        include_examples: bool = False,
    ) -> None:
        """Set what to look for; see `ScanConfig`. The model is loaded by each task.

        Raises:
            ConfigError: An unknown name, or a score outside [0, 1].
        """
        super().__init__()
        check_model(model)
        self._config = ScanConfig(
            model=model,
            mode=mode,
            operator=operator,
            operating_point=operating_point,
            labels=tuple(labels),
            min_score=min_score,
            disabled=tuple(disabled),
            include_examples=include_examples,
        )

    def run(
        self, data: Iterable[Document], rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Redact documents, in their order.

        Raises:
            ConfigError, CheckpointError, MissingExtraError: See `pii.detect.load_detector`.
        """
        scanner = Scanner(self._config)
        for group in _groups(data):
            with self.track_time("group"):
                self._redact(group, scanner)
            yield from group

    def _redact(self, documents: Sequence[Document], scanner: Scanner) -> None:
        readable, rows = [], []
        for document in documents:
            self.stat_update("total")
            row = _row(document.text)
            if isinstance(row, str):
                self.stat_update(f"not scanned: {row}")
                document.metadata |= {SPANS_COLUMN: None, MODIFIED_COLUMN: False}
            else:
                readable.append(document)
                rows.append(row)
        scanner.forget()
        found = scanner.scan(rows)
        for document, scanned in zip(readable, found, strict=True):
            modified = scanned.new is not None
            if modified:
                document.text = b"".join(scanned.new).decode()
            document.metadata |= {
                SPANS_COLUMN: spans_to_json(scanned.spans),
                MODIFIED_COLUMN: modified,
            }
            self.stat_update("scanned", *(["modified"] if modified else []))
            self.stat_update(*(span.label for span in scanned.spans))
            self.update_doc_stats(document)


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    characters = 0
    for document in documents:
        group.append(document)
        characters += len(document.text or "")
        if len(group) == _MOST_DOCUMENTS or characters >= _MOST_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _row(text: str | None) -> Row | str:
    """A text as it is scanned, or why it is not."""
    if text is None:
        return NULL
    try:
        return row_of(memoryview(text.encode()))
    except UnicodeEncodeError:
        return NOT_UTF8
