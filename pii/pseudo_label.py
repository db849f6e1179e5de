"""Labels for files that nobody has annotated, from teachers: taggers and patterns.

What StarPII's authors did (bigcode-dataset, pii/ner), generalised: the probabilities of several
taggers are averaged, confidence and trigger words decide what is believed, what the patterns find
is merged in, and windows with something unsure are left out.
"""

import dataclasses
import hashlib
import json
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pii.annotations import TEXT_COLUMNS, parquet_rows
from pii.boundaries import line_before
from pii.filters import classify
from pii.labels import LABELS, check_labels
from pii.patterns import find_patterns
from pii.propagate import RepeatedValues, merge_repeated, sure_values
from pii.records import json_records
from pii.spans import Span, resolve_overlaps
from pii.teachers import Teach, load_teachers
from starencoder.errors import ConfigError, DataError, reason_of
from starencoder.files import open_whole
from starencoder.languages import language_of
from starencoder.sources import find_source_files, read_source
from starencoder.text import aligned
from starencoder.toml import from_toml, merge, read_toml

_DEFAULTS = Path(__file__).with_suffix(".toml")
_PAIR = ("KEY", "PASSWORD")
"""Labels that a tagger mixes up; the trigger word nearest to the value says which it is."""

# What happened to spans, in the order of the report.
TAGGED, BELOW, BY_PATTERN, RELABELLED, UNSURE, UNTRIGGERED, REPEATED = (
    "from taggers, all",
    "  score below low: dropped",
    "  a pattern's span instead",
    "  relabelled by the nearest trigger",
    "  score below high: unsure",
    "  no trigger: unsure",
    "  unsure, but a repeated sure value",
)
PATTERN, PROPAGATED = "from patterns", "repeated sure values"
IN_LEFT_OUT, WITH_DOUBTFUL, IN_SHORT, IN_LONG_LINE, IN_DUPLICATE = (
    "sure, but in a window left out",
    "  beside an unsure span",
    "  too short",
    "  a line too long",
    "  the same text as another",
)
WRITTEN, WRITTEN_EXAMPLE = "written", "  of kind example"
STEPS = (
    *(TAGGED, BELOW, BY_PATTERN, RELABELLED, UNSURE, UNTRIGGERED, REPEATED),
    *(PATTERN, PROPAGATED, IN_LEFT_OUT, WITH_DOUBTFUL, IN_SHORT, IN_LONG_LINE, IN_DUPLICATE),
    *(WRITTEN, WRITTEN_EXAMPLE),
)

LABELLED, CLEAN = "written with spans", "written without a span"
NOT_DRAWN, WITH_UNSURE = "left out: without a span, not drawn", "left out: a span is unsure"
SHORT, LONG_LINE = "left out: too short", "left out: a line too long"
DUPLICATE = "left out: the same text as another"
_LOST = {
    WITH_UNSURE: WITH_DOUBTFUL, SHORT: IN_SHORT, LONG_LINE: IN_LONG_LINE, DUPLICATE: IN_DUPLICATE,
}  # fmt: skip
"""What a window is left out for, and the step that counts its sure spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """What of one label is believed."""

    low: float
    """Smallest score of a span."""
    high: float
    """Smallest score of a span that is believed; between the two it is unsure."""
    triggers: tuple[str, ...] = ()
    """Words of which one must stand before a span; none: nothing is asked for."""
    min_entropy: float = 0.0
    """In bits a character; a value with as much needs no trigger. 0: each needs one."""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ConfigError(
                f"low and high must be 0 <= low <= high <= 1, got {self.low}, {self.high}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoLabelConfig:
    """How files are cut and what is believed; `pseudo_label.toml` describes each setting."""

    labels: Mapping[str, LabelRule]
    window_lines: tuple[int, ...]
    window_chars: int
    shortest_window: int
    clean_share: float
    trigger_reach: int
    seed: int

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if len(self.window_lines) != 2 or not 0 < self.window_lines[0] <= self.window_lines[1]:
            raise ConfigError("window_lines must be [fewest, most], 1 or more")
        if not 0 <= self.clean_share <= 1:
            raise ConfigError(f"clean_share must be from 0 to 1, got {self.clean_share}")


def load_config(path: Path | None = None) -> PseudoLabelConfig:
    """The default settings, with those of a file laid over them.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown or out of range.
    """
    values = read_toml(_DEFAULTS)
    if path is not None:
        values = merge(values, read_toml(path))
    return from_toml(PseudoLabelConfig, values, str(path or _DEFAULTS))


@dataclass(frozen=True, slots=True)
class Report:
    """What was labelled, and what each step did."""

    averaging: str
    """How the taggers' opinions became one."""
    files: int
    steps: Mapping[str, Counter[str]]
    """Spans by step (`STEPS`) and label."""
    windows: Mapping[str, int]
    left_out: Mapping[str, int]
    """Files and rows that were not read, by reason."""
    unreadable: Mapping[Path, str]
    """Files given by their names that could not be read, and why; counted in `left_out` too."""

    def text(self) -> str:
        """The report as tables."""
        head = ["spans", *LABELS, "all"]
        rows = [
            [step, *(str(counts[label]) for label in LABELS), str(counts.total())]
            for step in STEPS
            for counts in [self.steps[step]]
        ]
        windows = [[name, str(count)] for name, count in sorted(self.windows.items())]
        lines = [f"{self.files} files; taggers: {self.averaging}", "", *aligned([head, *rows])]
        lines += ["", *aligned([["windows", str(sum(self.windows.values()))], *windows])]
        if self.left_out:
            lines += [
                "",
                *aligned(
                    [["not read", ""], *([k, str(n)] for k, n in sorted(self.left_out.items()))]
                ),
            ]
        return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------------------------------
# What is believed


@dataclass(slots=True)
class _Judge:
    """Decides which spans of a text are believed, and counts why."""

    config: PseudoLabelConfig
    teach: Teach
    steps: Mapping[str, Counter[str]] = field(
        default_factory=lambda: {step: Counter() for step in STEPS}
    )

    def judge(self, text: str) -> tuple[list[Span], list[Span]]:
        """The spans of a text that are sure, and those that are not; each sorted and apart."""
        patterns = find_patterns(text)
        self._count(PATTERN, patterns)
        sure, unsure = list(patterns), []
        ends = [span.end for span in patterns]
        for span in self.teach(text):
            self._count(TAGGED, [span])
            at = bisect_right(ends, span.start)
            if at < len(patterns) and patterns[at].start < span.end:
                self._count(BY_PATTERN, [span])
                continue
            rule = self.config.labels[span.label]
            if span.score < rule.low:
                self._count(BELOW, [span])
            elif span.score < rule.high:
                self._count(UNSURE, [span])
                unsure.append(span)
            else:
                span = self._relabelled(text, span)
                if self._is_triggered(text, span):
                    sure.append(span)
                else:
                    self._count(UNTRIGGERED, [span])
                    unsure.append(span)
        found = classify(text, resolve_overlaps(sure))
        merged = merge_repeated(
            text, found, RepeatedValues(sure_values(text, found)).find(text, found), frozenset()
        )
        known = {(span.start, span.end) for span in found}
        self._count(PROPAGATED, [s for s in merged if (s.start, s.end) not in known])
        ends = [span.end for span in merged]
        left = []
        for span in unsure:
            at = bisect_right(ends, span.start)
            if at < len(merged) and merged[at].start < span.end:
                self._count(REPEATED, [span])
            else:
                left.append(span)
        return merged, left

    def _count(self, step: str, spans: Sequence[Span]) -> None:
        self.steps[step].update(span.label for span in spans)

    def _before(self, text: str, span: Span) -> str:
        return line_before(text, span.start, self.config.trigger_reach).lower()

    def _nearest(self, before: str, label: str) -> int:
        """Where the last trigger of a label ends; -1 where there is none."""
        triggers = self.config.labels[label].triggers
        return max((before.rfind(t) + len(t) for t in triggers if t in before), default=-1)

    def _relabelled(self, text: str, span: Span) -> Span:
        if span.label not in _PAIR:
            return span
        (other,) = (label for label in _PAIR if label != span.label)
        before = self._before(text, span)
        if self._nearest(before, other) <= self._nearest(before, span.label):
            return span
        self._count(RELABELLED, [span])
        return dataclasses.replace(span, label=other)

    def _is_triggered(self, text: str, span: Span) -> bool:
        rule = self.config.labels[span.label]
        if not rule.triggers or self._nearest(self._before(text, span), span.label) >= 0:
            return True
        return 0 < rule.min_entropy <= entropy(text[span.start : span.end])


def entropy(value: str) -> float:
    """Shannon entropy of a value's characters, in bits a character."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


# --------------------------------------------------------------------------------------------------
# Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlabelled:
    """A file or row to label."""

    package: str
    path: str
    language: str
    text: str


def iter_unlabelled(
    paths: Sequence[Path],
    *,
    column: str = "",
    left_out: Counter[str],
    unreadable: dict[Path, str],
) -> Iterator[Unlabelled]:
    """The source files below directories, the rows of JSON lines and parquet, and single files.

    Args:
        paths: Directories, `*.jsonl`, `*.parquet` and other files.
        column: The rows' column that holds the text; empty: `text` or `content`.
        left_out: Counts files and rows that are left out, by reason.
        unreadable: Gets the single files among them that are no text, such as archives, and why.

    Raises:
        ConfigError: A path does not exist.
        DataError: JSON lines or parquet that cannot be read, or their rows have no such column.
    """
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or directory")
    for path in paths:
        if path.is_dir():
            for file in find_source_files(path, left_out):
                text = read_source(file, left_out)
                if text is not None:
                    yield Unlabelled(
                        package=path.resolve().name,
                        path=file.relative_to(path).as_posix(),
                        language=language_of(file) or "",
                        text=text,
                    )
        elif path.suffix in (".jsonl", ".parquet"):
            yield from _rows(path, column, left_out)
        else:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                unreadable[path] = reason_of(error)
                left_out[reason_of(error)] += 1
                continue
            yield Unlabelled(
                package="", path=path.name, language=language_of(path) or "", text=text
            )


def _rows(path: Path, column: str, left_out: Counter[str]) -> Iterator[Unlabelled]:
    if path.suffix == ".jsonl":
        rows = json_records(path, "JSON lines with a column of text")
    else:
        rows = parquet_rows(path)
    for number, (where, row) in enumerate(rows, 1):
        name = column or next((name for name in TEXT_COLUMNS if name in row), TEXT_COLUMNS[0])
        if name not in row:
            raise DataError(
                f"{where}: no column {name}; it has {', '.join(map(repr, row))}; "
                "name the one with the text (--text-column)"
            )
        text = row[name]
        if text is None:
            left_out["null"] += 1
            continue
        if not isinstance(text, str):
            raise DataError(f"{where}: the column {name} holds {type(text).__name__}, not text")
        said = {key: value for key, value in row.items() if isinstance(value, str)}
        yield Unlabelled(
            package=said.get("package", path.name),
            path=said.get("path", f"row {number}"),
            language=said.get("language", said.get("lang", "")),
            text=text,
        )


def cut_windows(
    text: str, spans: Sequence[Span], config: PseudoLabelConfig, rng: random.Random
) -> Iterator[tuple[int, int, int]]:
    """Cut a text at line ends, one window after the other, through no span.

    Args:
        text: The document.
        spans: Sorted and apart.
        config: How many lines and characters a window has; a span may make it longer.
        rng: Draws the number of lines of each.

    Yields:
        `(start, end, line)` of each window: characters, and its first line from 1. Together they
        are the text.
    """
    lines = text.splitlines(keepends=True)
    upcoming = 0
    at = start = 0
    while at < len(lines):
        first, end = at, start
        most = rng.randint(config.window_lines[0], config.window_lines[1])
        while at < len(lines):
            inside = upcoming < len(spans) and spans[upcoming].start < end
            full = at - first >= most or end + len(lines[at]) - start > config.window_chars
            if full and at > first and not inside:
                break
            end += len(lines[at])
            at += 1
            while upcoming < len(spans) and spans[upcoming].end <= end:
                upcoming += 1
        yield start, end, first + 1
        start = end


class _Writer:
    """Writes the windows that are to be learnt from, and counts them all."""

    def __init__(self, file: BinaryIO, config: PseudoLabelConfig, judge: _Judge) -> None:
        self._file = file
        self._config = config
        self._judge = judge
        self._rng = random.Random(config.seed)
        self._seen: set[bytes] = set()
        self.windows: Counter[str] = Counter()

    def add(self, document: Unlabelled) -> None:
        sure, unsure = self._judge.judge(document.text)
        both = resolve_overlaps([*sure, *unsure])
        for start, end, line in cut_windows(document.text, both, self._config, self._rng):
            text = document.text[start:end]
            spans = [span for span in sure if start <= span.start < end]
            doubtful = any(start <= span.start < end for span in unsure)
            outcome = self._outcome(text, spans, doubtful)
            self.windows[outcome] += 1
            if outcome in (LABELLED, CLEAN):
                self._write(document, text, line, start, spans)
            elif outcome in _LOST:
                for step in (IN_LEFT_OUT, _LOST[outcome]):
                    self._judge.steps[step].update(span.label for span in spans)

    def _outcome(self, text: str, spans: Sequence[Span], doubtful: bool) -> str:
        if doubtful:
            return WITH_UNSURE
        if len(text) < self._config.shortest_window:
            return SHORT
        if max(map(len, text.splitlines()), default=0) > self._config.window_chars:
            return LONG_LINE
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
        if digest in self._seen:
            return DUPLICATE
        self._seen.add(digest)
        if spans:
            return LABELLED
        return CLEAN if self._rng.random() < self._config.clean_share else NOT_DRAWN

    def _write(
        self, document: Unlabelled, text: str, line: int, start: int, spans: Sequence[Span]
    ) -> None:
        record = {
            "id": f"{document.package}/{document.path}:{line}",
            "language": document.language,
            "package": document.package,
            "path": document.path,
            "text": text,
            "spans": [
                {
                    "start": span.start - start,
                    "end": span.end - start,
                    "label": span.label,
                    "kind": span.kind,
                    "score": round(span.score, 4),
                    "source": span.source,
                }
                for span in spans
            ],
        }
        self._file.write((json.dumps(record) + "\n").encode())
        steps = self._judge.steps
        steps[WRITTEN].update(span.label for span in spans)
        steps[WRITTEN_EXAMPLE].update(span.label for span in spans if span.kind == "example")


def pseudo_label(
    paths: Sequence[Path],
    teachers: Sequence[str],
    output: Path,
    *,
    config: PseudoLabelConfig,
    column: str = "",
    on_document: Callable[[], object] | None = None,
) -> Report:
    """Label files and write windows of them as annotated documents, with the scores.

    The whole file is judged, then cut. What the patterns find is merged in, whoever teaches.

    Args:
        paths: As in `iter_unlabelled`.
        teachers: As in `load_teachers`.
        output: JSON lines in the form of the gold set, each span with its score and source.
        config: What is believed.
        column: As in `iter_unlabelled`.
        on_document: Called after each file or row.

    Raises:
        ConfigError, CheckpointError: See `load_teachers` and `iter_unlabelled`.
        DataError: See there; or there is nothing to label. What was at `output` is left.
        OutputError: The output cannot be written.
    """
    teach, averaging = load_teachers(teachers)
    judge = _Judge(config, teach)
    left_out: Counter[str] = Counter()
    unreadable: dict[Path, str] = {}
    files = 0
    with open_whole(output) as file:
        writer = _Writer(file, config, judge)
        for document in iter_unlabelled(
            paths, column=column, left_out=left_out, unreadable=unreadable
        ):
            writer.add(document)
            files += 1
            if on_document is not None:
                on_document()
        if not files:
            reasons = "".join(f"; {count} x {why}" for why, count in sorted(left_out.items()))
            raise DataError(
                f"{', '.join(map(str, paths))}: no text to label{reasons}; expected source files, "
                f"or rows with a text"
            )
    return Report(averaging, files, judge.steps, writer.windows, left_out, unreadable)
