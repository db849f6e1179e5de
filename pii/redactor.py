"""The public Python API: find and redact personal data and secrets in a text.

>>> from pii.redactor import Redactor
>>> Redactor(model="none").redact("mail to: jo@corp-mail.net").text
'mail to: <EMAIL>'
"""

from collections.abc import Iterable, Sequence

from pii.detect import load_detector
from pii.labels import LABELS
from pii.redact import OPERATORS, Redaction, redact
from pii.spans import Span, without_examples
from starencoder.names import check_name


class Redactor:
    """Detects and redacts texts with one model, one after the other.

    It opens no files but the model's, and holds one session: use one `Redactor` per process.
    """

    def __init__(
        self,
        model: str = "tiny",
        *,
        operator: str = "tag",
        operating_point: str = "thorough",
        labels: Sequence[str] = LABELS,
        include_examples: bool = False,
        min_score: float | None = None,
        disabled: Iterable[str] = (),
        threads: int = 1,
    ) -> None:
        """Load a model.

        Args:
            model: `tiny` (the embedded model), `none` (patterns alone), or a model directory.
            operator: What stands in place of a value: `tag` or `starcoder`.
            operating_point: `thorough` (little leaked) or `balanced` (few false alarms).
            labels: The labels to look for.
            include_examples: Report and redact placeholders and documentation values too.
            min_score: Smallest score of the model's spans, in [0, 1]; it replaces the operating
                point's.
            disabled: Names of rules that are switched off; see `pii.detect.rule_names`.
            threads: Threads of one inference call.

        Raises:
            ConfigError: An unknown model, operator, operating point, label or rule.
            CheckpointError: A model directory that cannot be loaded.
            MissingExtraError: What a model needs is not installed.
        """
        self._operator = OPERATORS[check_name("operator", operator, OPERATORS)]
        self._include_examples = include_examples
        self._detector = load_detector(
            model,
            operating_point=operating_point,
            labels=labels,
            min_score=min_score,
            disabled=frozenset(disabled),
            threads=threads,
        )

    def detect(self, text: str) -> list[Span]:
        """Find the spans of a text, sorted and without overlaps."""
        spans = self._detector.detect(text)
        return spans if self._include_examples else without_examples(spans)

    def sure_values(self, text: str, spans: Sequence[Span]) -> dict[str, Span]:
        """Of what `detect` found in a text, the values that are worth looking for in others too."""
        return self._detector.sure_values(text, spans)

    def redact(self, text: str) -> Redaction:
        """Replace what `detect` finds in a text."""
        return self.apply(text, self.detect(text))

    def apply(self, text: str, spans: Sequence[Span]) -> Redaction:
        """Replace the values of spans that are already known.

        Raises:
            ValueError: The spans are not sorted, overlap, or do not lie in the text.
        """
        return redact(text, spans, self._operator)
