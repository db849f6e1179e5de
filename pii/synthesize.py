"""Labelled examples from real code and made-up values.

A window of a real file is taken; the values at its sites (`pii.sites`: addresses, author and
copyright lines, home folders, assignments to a password) are replaced by made-up ones, and lines
of the mix (`pii.templates`) are written between its own. What was put in is labelled, the rest is
not.
"""

import json
import random
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from pii.annotations import Document
from pii.harvest import harvest_prose, harvest_words
from pii.people import Person
from pii.sites import REPOSITORY_URL, find_sites, names_left
from pii.spans import Span
from pii.synthesis_report import Synthesis
from pii.templates import LineMaker, Mix, Piece, stands
from pii.values import ValueMaker
from starencoder.errors import DataError
from starencoder.files import open_whole
from starencoder.languages import language_of
from starencoder.sources import find_source_files, read_source

_WINDOW_LINES = (18, 45)
_WINDOW_CHARS = 2000
_MIN_CHARS = 150
_LONGEST_LINE = 500
_HEAD_SHARE = 0.15
"""Of windows that begin with the file, where headers stand."""
_PER_PERSON = ("NAME", "USERNAME", "EMAIL")
_OPEN_ENDS = (";", "{", "}", ",", ":", "[", "(", ">", "*/")
"""After a line that ends so, another one may stand."""
_COMMENTED = re.compile(r"[ \t]*(?://|#|\*|--|;|%|/\*|<!--|dnl )")
# Languages whose lines are written inside of others, and the mark or quotes around each.
_DIFF, _NOTEBOOK = "Diff", "Jupyter"
_IN_DIFF = ("C", "Python", "JavaScript", "YAML", "Shell", "Config", "Text")
_MOST_FAILURES = 1000
"""Windows left out for one written."""
_IN_NOTEBOOK = ("Python", "Python", "Markdown")


@dataclass(frozen=True, slots=True)
class Source:
    """A real file."""

    package: str
    path: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled window; `templates` says for each span where its value was put."""

    language: str
    package: str
    path: str
    text: str
    spans: tuple[Span, ...]
    templates: tuple[str, ...]
    negatives: tuple[str, ...]
    """Tables of the lines without an entity that were written into it."""


class Synthesizer:
    """Makes labelled windows; the same seed and sources give the same windows."""

    def __init__(self, rng: random.Random, values: ValueMaker, lines: LineMaker, mix: Mix) -> None:
        """Keep what all randomness and all lines come from."""
        self._rng = rng
        self._values = values
        self._lines = lines
        self._shares = mix.shares
        self._sites: dict[str, list[Span]] = {}

    def example(self, source: Source, left_out: Counter[str]) -> Example | None:
        """One labelled window of a file, or None, counted by reason in `left_out`."""
        if source.path not in self._sites:
            self._sites[source.path] = find_sites(source.text)
        sites = self._sites[source.path]
        start, end = self._window(source.text, sites)
        if end - start < _MIN_CHARS:
            left_out["window too short"] += 1
            return None
        window = source.text[start:end]
        inside = [
            replace(site, start=max(site.start, start) - start, end=min(site.end, end) - start)
            for site in sites
            if site.start < end and start < site.end
        ]
        if names_left(window, inside):
            left_out["a name may be left"] += 1
            return None
        pieces = self._replace_sites(window, inside)
        negatives = []
        counts = self._shares.lines
        for _ in range(int(self._rng.choices(list(counts), list(counts.values()))[0])):
            pieces, negative = self._insert_line(pieces, source.language)
            if negative:
                negatives.append(negative)
        text, spans, templates = "", [], []
        for piece in pieces:
            if piece.label is not None:
                limits = len(text), len(text) + len(piece.text)
                spans.append(
                    Span(start=limits[0], end=limits[1], label=piece.label, kind=piece.kind)
                )
                templates.append(piece.template)
            text += piece.text
        return Example(
            source.language, source.package, source.path, text, tuple(spans), tuple(templates),
            tuple(negatives),
        )  # fmt: skip

    def _window(self, text: str, sites: Sequence[Span]) -> tuple[int, int]:
        """Limits of a run of whole lines: around a site, at the head of the file, or anywhere."""
        rng = self._rng
        lines = text.splitlines(keepends=True)
        starts = [0, *accumulate(map(len, lines))]
        count = rng.randint(*_WINDOW_LINES)
        last = max(0, len(lines) - count)
        if sites and rng.random() < self._shares.near_site:
            # Each label alike, or a file of addresses would give nothing else.
            label = rng.choice(sorted({site.label for site in sites}))
            site = rng.choice([site for site in sites if site.label == label])
            line = bisect_left(starts, site.start + 1) - 1
            first = max(0, min(last, line - rng.randint(0, count - 1)))
        else:
            first = 0 if rng.random() < _HEAD_SHARE else rng.randint(0, last)
        end = first
        while end < min(len(lines), first + count):
            too_long = len(lines[end]) > _LONGEST_LINE
            if too_long or starts[end + 1] - starts[first] > _WINDOW_CHARS:
                break
            end += 1
        return starts[first], starts[end]

    def _replace_sites(self, window: str, sites: Sequence[Span]) -> list[Piece]:
        pieces: list[Piece] = []
        position = 0
        surrogates: dict[tuple[str, str], Piece] = {}
        person, given = self._values.person(), set[str]()
        for site in sites:
            pieces.append(Piece(window[position : site.start]))
            position = site.end
            old = window[site.start : site.end]
            key = (site.label, old)
            if key not in surrogates:
                if site.label in _PER_PERSON:
                    # A name and the address beside it are one person's.
                    if site.label in given:
                        person, given = self._values.person(), set()
                    given.add(site.label)
                around = window[: site.start], window[site.end :]
                surrogates[key] = self._surrogate(site, old, person, around)
            pieces.append(surrogates[key])
        pieces.append(Piece(window[position:]))
        return pieces

    def _surrogate(self, site: Span, old: str, person: Person, around: tuple[str, str]) -> Piece:
        rng = self._rng
        kept = "\n" in old or rng.random() < self._shares.kept_key
        if site.label == "KEY" and kept:
            return Piece(old, "KEY", "real", site.source)
        if site.source == REPOSITORY_URL and rng.random() < self._shares.organisation:
            return Piece(self._lines.plain("org_handle", ""), template=site.source)
        kind = "example" if rng.random() < self._shares.example else "real"
        value = self._values.make(site.label, kind, person).text
        while not stands(value, site.label, *around):
            value = self._values.make(site.label, kind).text
        return Piece(value, site.label, kind, site.source)

    def _insert_line(self, pieces: list[Piece], language: str) -> tuple[list[Piece], str | None]:
        """Write one line of the mix after a line end outside labelled text.

        Returns:
            The pieces, and the line's table if it holds no entity.
        """
        rng = self._rng
        inner = language
        if language == _DIFF:
            inner = rng.choice(_IN_DIFF)
        elif language == _NOTEBOOK:
            inner = rng.choice(_IN_NOTEBOOK)
        template = self._lines.draw(inner)
        if template is None:
            return pieces, None
        new = list(self._lines.fill(template, inner))
        place = self._place(pieces, bool(_COMMENTED.match("".join(p.text for p in new))))
        if place is None:
            return pieces, None
        index, at = place
        before, after = pieces[index].text[:at], pieces[index].text[at:]
        indent = re.match(r"[ \t]*", after)
        margin = indent[0] if indent else ""
        if language == _NOTEBOOK:
            escaped = [json.dumps(piece.text, ensure_ascii=False)[1:-1] for piece in new]
            new = [replace(piece, text=text) for piece, text in zip(new, escaped, strict=True)]
            new = [
                Piece('"', template=template.table),
                *new,
                Piece('\\n",', template=template.table),
            ]
        elif language == _DIFF:
            margin = rng.choice("++-")
        new = [replace(piece, text=piece.text.replace("\n", "\n" + margin)) for piece in new]
        pieces = [
            *pieces[:index], Piece(before + margin), *new, Piece("\n"), Piece(after),
            *pieces[index + 1 :],
        ]  # fmt: skip
        return pieces, None if template.labels else template.table

    def _place(self, pieces: Sequence[Piece], is_comment: bool) -> tuple[int, int] | None:
        """A line end, as (piece, offset in it): where a line may stand rather than within one."""
        places, better = [], []
        for index, piece in enumerate(pieces):
            if piece.template:
                continue
            for match in re.finditer(r"\n", piece.text):
                at = match.end()
                before = piece.text[piece.text.rfind("\n", 0, at - 1) + 1 : at - 1]
                after = piece.text[at : piece.text.find("\n", at) + 1 or None]
                places.append((index, at))
                beside_comment = bool(_COMMENTED.match(before))
                ends = not before.strip() or before.rstrip().endswith(_OPEN_ENDS)
                if (beside_comment if is_comment else not beside_comment) and (
                    ends or is_comment or not after.strip()
                ):
                    better.append((index, at))
        if better and self._rng.random() < 0.9:
            places = better
        return self._rng.choice(places) if places else None


def revalue(document: Document, values: ValueMaker, rng: random.Random) -> Document:
    """The same annotated document with fresh values in most of its spans.

    A value that stands several times gets one new value. Long values, values over several lines,
    and most values of kind `example`, whose form says that they are examples, are kept.
    """
    text, spans, position = "", [], 0
    fresh: dict[tuple[str, str], str] = {}
    for span in document.spans:
        old = document.text[span.start : span.end]
        key = (span.label, old)
        if key not in fresh:
            keep = 0.75 if span.kind == "example" else 0.15
            if rng.random() < keep or "\n" in old or len(old) > 100:
                fresh[key] = old
            else:
                fresh[key] = values.make(span.label, span.kind).text
        text += document.text[position : span.start]
        start = len(text)
        text += fresh[key]
        spans.append(replace(span, start=start, end=len(text)))
        position = span.end
    return replace(document, text=text + document.text[position:], spans=tuple(spans))


def load_sources(
    folder: Path, *, num_chars: int, seed: int, left_out: Counter[str]
) -> list[Source]:
    """Draw real files from a folder that holds one unpacked package per subfolder.

    A language gets a share of the characters that grows with the square root of its number of
    files, and no package more than a quarter of a language. Vendored, minified and very large or
    small files, and those that are not UTF-8, are left out and counted by reason in `left_out`.

    Raises:
        DataError: There is no such folder, or it holds no source file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that holds unpacked packages")
    rng = random.Random(seed)
    by_language: dict[str, list[Path]] = defaultdict(list)
    for path in find_source_files(folder, left_out):
        by_language[language_of(path) or ""].append(path)
    shares = {language: len(paths) ** 0.5 for language, paths in by_language.items()}
    sources: list[Source] = []
    for language, paths in sorted(by_language.items()):
        wanted = num_chars * shares[language] / sum(shares.values())
        by_package: Counter[str] = Counter()
        rng.shuffle(paths)
        for path in paths:
            relative = path.relative_to(folder)
            if by_package.total() > wanted:
                break
            if by_package[relative.parts[0]] > wanted / 4:
                continue
            text = read_source(path, left_out)
            if text is None:
                continue
            by_package[relative.parts[0]] += len(text)
            sources.append(Source(relative.parts[0], str(relative), language, text))
    if not sources:
        links = sum(path.is_symlink() for path in folder.iterdir())
        raise DataError(
            f"{folder}: no source files; expected one unpacked package per subfolder"
            + (f" ({links} links in it are not followed)" if links else "")
        )
    return sources


def write_examples(
    sources: Sequence[Source], output: Path, mix: Mix, *, count: int, seed: int
) -> Synthesis:
    """Write `count` labelled windows as JSON lines.

    Returns:
        What was written, counted, with samples.

    Raises:
        DataError: Hardly any window of the sources can be used.
        OutputError: `output` cannot be written.
    """
    rng = random.Random(seed)
    values = ValueMaker(rng, harvest_words(source.text for source in sources))
    lines = LineMaker(mix, rng, values, harvest_prose(source.text for source in sources))
    synthesizer = Synthesizer(rng, values, lines, mix)
    # Every language alike up to the square root of its share, or C and Python would be all.
    sizes = Counter(source.language for source in sources)
    weights = list(accumulate(sizes[source.language] ** -0.5 for source in sources))
    synthesis = Synthesis()
    with open_whole(output) as file:
        written = 0
        while written < count:
            source = rng.choices(sources, cum_weights=weights)[0]
            example = synthesizer.example(source, synthesis.left_out)
            if example is None:
                if synthesis.left_out.total() > _MOST_FAILURES * (written + 1):
                    raise DataError(
                        f"{synthesis.left_out.total()} windows left out for {written} written: "
                        "expected files of some length; look at the folder of packages"
                    )
                continue
            record = {
                "id": f"synthetic-{written:06d}",
                "language": example.language,
                "package": example.package,
                "path": example.path,
                "text": example.text,
                "spans": [
                    {"start": span.start, "end": span.end, "label": span.label, "kind": span.kind}
                    for span in example.spans
                ],
            }
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
            written += 1
            synthesis.add(
                example.language, example.path, example.text, example.spans, example.templates,
                example.negatives,
            )  # fmt: skip
    return synthesis
