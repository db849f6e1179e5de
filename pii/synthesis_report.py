"""What `pii synthesize` wrote: counts by label, kind, language and template, and samples."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pii.labels import KINDS, LABELS
from pii.spans import Span
from starencoder.files import write_whole
from starencoder.page import escaped, page, table
from starencoder.text import aligned

_SAMPLES = 8
"""Windows of each language that are shown."""
_VALUES = 40
"""Values of each label that are shown."""
_STYLE = """
pre { background: #f6f6f6; padding: 0.6em; overflow-x: auto; font-size: 0.85em }
mark { background: #ffe08a } mark.example { background: #dde }
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A window that is shown."""

    path: str
    text: str
    spans: tuple[Span, ...]


@dataclass(slots=True)
class Synthesis:
    """Counts of what was written, and some of it."""

    windows: Counter[str] = field(default_factory=Counter)
    """By language."""
    spans: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By label, kind and language."""
    templates: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Spans by site or table of lines, and label; lines without an entity have the label `-`."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Windows that were not written, by reason."""
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    """By language."""
    values: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By label."""

    def add(
        self,
        language: str,
        path: str,
        text: str,
        spans: Sequence[Span],
        templates: Sequence[str],
        negatives: Sequence[str],
    ) -> None:
        """Count a window."""
        self.windows[language] += 1
        for span, template in zip(spans, templates, strict=True):
            self.spans[span.label, span.kind, language] += 1
            self.templates[template, span.label] += 1
            if len(self.values[span.label]) < _VALUES:
                self.values[span.label].append(text[span.start : span.end])
        self.templates.update((negative, "-") for negative in negatives)
        if len(self.samples[language]) < _SAMPLES:
            self.samples[language].append(Sample(path, text, tuple(spans)))

    def count(
        self, label: str | None = None, kind: str | None = None, language: str | None = None
    ) -> int:
        """Number of spans; None stands for any."""
        wanted = (label, kind, language)
        return sum(
            count
            for key, count in self.spans.items()
            if all(want in (None, have) for want, have in zip(wanted, key, strict=True))
        )


def _kind_rows(synthesis: Synthesis) -> list[list[str]]:
    kinds = [kind for kind in KINDS if synthesis.count(kind=kind)]
    rows = [["label", *kinds]]
    rows += [[label, *(str(synthesis.count(label, kind)) for kind in kinds)] for label in LABELS]
    return rows


def _language_rows(synthesis: Synthesis) -> list[list[str]]:
    rows = [["language", "windows", *LABELS]]
    for language, windows in sorted(synthesis.windows.items(), key=lambda item: -item[1]):
        counts = (str(synthesis.count(label, language=language)) for label in LABELS)
        rows.append([language, str(windows), *counts])
    return rows


def _template_rows(synthesis: Synthesis) -> list[list[str]]:
    columns = (*LABELS, "-")
    rows = [["template", *LABELS, "no entity"]]
    for name in sorted({name for name, _ in synthesis.templates}):
        rows.append([name, *(str(synthesis.templates[name, column]) for column in columns)])
    return rows


def synthesis_text(synthesis: Synthesis) -> str:
    """The counts, as lines."""
    lines = [f"{synthesis.windows.total()} windows, {synthesis.spans.total()} spans"]
    for rows in (_kind_rows(synthesis), _language_rows(synthesis), _template_rows(synthesis)):
        lines += ["", *aligned(rows)]
    if synthesis.left_out:
        lines += ["", "windows left out"]
        lines += aligned([[why, str(count)] for why, count in sorted(synthesis.left_out.items())])
    return "\n".join(lines) + "\n"


def write_report(synthesis: Synthesis, output: Path) -> None:
    """Write the counts, values of every label and whole windows as a page.

    Raises:
        OutputError: `output` cannot be written.
    """
    sections = []
    for title, rows in (
        ("Labels and kinds", _kind_rows(synthesis)),
        ("Languages", _language_rows(synthesis)),
        ("Sites and tables of lines", _template_rows(synthesis)),
    ):
        sections.append(f"<h2>{title}</h2>{table(rows[0], rows[1:])}")
    if synthesis.left_out:
        rows = [[why, str(count)] for why, count in sorted(synthesis.left_out.items())]
        sections.append(f"<h2>Windows left out</h2>{table(('reason', 'windows'), rows)}")
    sections.append("<h2>Values</h2>")
    sections.append(
        table(("label", "values"), [(k, " · ".join(v)) for k, v in synthesis.values.items()])
    )
    sections.append("<h2>Samples</h2><p>Values are marked; those of kind example paler.</p>")
    for language, samples in sorted(synthesis.samples.items()):
        shown = "".join(_marked(sample) for sample in samples)
        sections.append(f"<details><summary>{escaped(language)}</summary>{shown}</details>")
    content = page("Synthesised examples", sections, style=_STYLE)
    write_whole(output, content.encode())


def _marked(sample: Sample) -> str:
    parts, position = [], 0
    for span in sample.spans:
        value = _lines(sample.text[span.start : span.end])
        parts.append(_lines(sample.text[position : span.start]))
        parts.append(f'<mark class="{span.kind}" title="{span.label}">{value}</mark>')
        position = span.end
    parts.append(_lines(sample.text[position:]))
    return f"<p>{escaped(sample.path)}</p><pre>{''.join(parts)}</pre>"


def _lines(text: str) -> str:
    return "\n".join(escaped(line.replace("\t", "    ")) for line in text.split("\n"))
