"""Distil a tagger into a router (`pii.router`).

The tagger labels real files; a convolution over token embeddings, which start as the encoder's own
reduced to a few dimensions, learns which tokens lie in a span that only the tagger finds. Packages
that it did not learn from choose the thresholds, one for each operating point: the highest that
loses no more than a given share of the spans. What is reported is measured on packages that did
neither. The thresholds of a router that is there can be chosen anew, on any packages that it did
not learn from: more of them than can be spared from teaching.
"""

import functools
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pii.annotations import read_annotated
from pii.chunks import ChunkConfig, chunk_starts
from pii.decode import decode_spans
from pii.labels import LABELS, OPERATING_POINTS
from pii.patterns import find_patterns
from pii.router import KERNEL, LAYERS, ROUTER_FILE, Router
from pii.session import load_session
from pii.spans import Span
from pii.synthesize import load_sources
from pii.tagger import Tagger, load_tagger, tag_probabilities, tokenize_document
from pii.workers import Crash, run_ordered
from starencoder.checkpoint import read_weights
from starencoder.errors import CheckpointError, ConfigError, DataError

_LOG = logging.getLogger(__name__)

_PIECE = 128
"""Tokens of a training row."""
_BATCH = 32
TEACHES, CHOOSES, REPORTS = "teaches", "chooses", "reports"
_PARTS = (CHOOSES, REPORTS, TEACHES, TEACHES, CHOOSES, TEACHES, TEACHES, TEACHES)
"""What packages are for, in turn: to teach, to choose the thresholds, or to report on."""
_NEGATIVES = 6
"""Rows without a span per row with one, in an epoch."""
_POSITIVE_WEIGHT = 5.0
_DROPOUT = 0.2
_RATE, _EMBEDDING_RATE = 2e-3, 5e-4
_ROUNDING = 1e-3
"""Scores of another runtime differ by less."""
_SHARES_LOST = (0.0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02)
_DOCUMENTS_PER_MESSAGE = 1000


@dataclass(frozen=True, slots=True)
class RouterWeights:
    """A trained router's arrays, float32."""

    embeddings: npt.NDArray[np.float32]
    """`(vocabulary, width)`"""
    convolutions: tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], ...]
    """Per layer its kernel `(out, in, KERNEL)` and bias `(out,)`."""
    output: npt.NDArray[np.float32]
    """`(width,)`"""
    output_bias: npt.NDArray[np.float32]
    """`(1,)`"""
    thresholds: Mapping[str, float]
    """By operating point: the score from which on a token is of interest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """How a router is trained."""

    width: int
    epochs: int
    lost: float
    """Share of the spans that may be lost at each operating point, of packages that choose."""
    chars: int
    """Of the files that are labelled."""
    seed: int

    def __post_init__(self) -> None:
        _check_positive(width=self.width, epochs=self.epochs, chars=self.chars)
        _check_lost(self.lost)


def _check_positive(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")


def _check_lost(lost: float) -> None:
    if not 0 <= lost < 1:
        raise ConfigError(f"lost must be in [0, 1), got {lost}")


@dataclass(frozen=True, slots=True)
class PointReport:
    """What the router does at one operating point, on packages that neither taught nor chose."""

    spans: Counter[str]
    """Spans that only the tagger finds, by label."""
    kept: Counter[str]
    """Those in chunks that are read."""
    read: float
    """Share of the chunks of files as they were drawn; annotated windows are denser."""
    trade: Mapping[float, float]
    """Share of chunks read by share of spans lost: what other thresholds would do in the packages
    that choose."""


@dataclass(frozen=True, slots=True)
class RouterReport:
    """What came of it."""

    points: Mapping[str, PointReport]
    left_out: Counter[str]
    """Files that were not labelled, by reason."""

    def text(self) -> str:
        """The report in lines."""
        lines = []
        for name, point in self.points.items():
            kept, spans = point.kept.total(), point.spans.total()
            lines.append(
                f"{name}: {point.read:.1%} of chunks are read, {kept} of {spans} spans kept "
                f"({kept / max(1, spans):.2%}), in packages that did not choose"
            )
            lines += [
                f"  {label}: {point.kept[label]} of {point.spans[label]}"
                for label in LABELS
                if point.spans[label]
            ]
            lines += [
                f"  if {lost:.1%} of spans may be lost, {read:.1%} of chunks are read, where the "
                "thresholds were chosen"
                for lost, read in point.trade.items()
            ]
        lines += [f"left out: {n} files: {reason}" for reason, n in sorted(self.left_out.items())]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Document:
    """What the tagger labels."""

    text: str
    package: str
    annotated: tuple[Span, ...] | None
    """Spans of an annotated window; None: a file as it was drawn."""


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A document's tokens, how much each matters, and the tagger's spans as token ranges."""

    ids: npt.NDArray[np.int32]
    targets: npt.NDArray[np.float32]
    spans: list[tuple[int, int, str, float]]
    """First token, one past the last, label, score."""
    part: str
    """What its package is for."""
    is_file: bool


def train_router(
    directory: Path,
    packages: Path,
    annotated: Sequence[str],
    config: RouterConfig,
    *,
    jobs: int = 1,
) -> tuple[RouterWeights, RouterReport]:
    """Train a router for a tagger.

    Args:
        directory: The tagger's, with its ONNX file and safetensors.
        packages: A folder with one unpacked package per subfolder, whose files the tagger labels.
        annotated: Files of annotated documents (`pii.annotations`), whose spans are learned too.
        config: How.
        jobs: Processes that label.

    Raises:
        CheckpointError: The tagger cannot be loaded.
        DataError: There are no source files, a file of annotated documents cannot be read, or the
            tagger found nothing in the files of one of the parts.
    """
    left_out: Counter[str] = Counter()
    documents = _files(packages, config.chars, config.seed, left_out)
    documents += [
        _Document(document.text, document.package or document.id, tuple(document.spans))
        for name in annotated
        for document in read_annotated(name).documents
    ]
    labelled = _labelled(directory, documents, jobs, left_out)
    parts = {
        part: [document for document in labelled if document.part == part]
        for part in (TEACHES, CHOOSES, REPORTS)
    }
    _check_found(parts, packages)
    model = _fit(parts[TEACHES], _reduced(directory, config.width), config)
    tagger = load_tagger(directory, lambda chunks: [])  # for its settings
    router = Router(functools.partial(_score, model), 0.0)
    thresholds, points = _choose(parts, router, tagger, config.lost)
    return _weights(model, thresholds), RouterReport(points, left_out)


def calibrate_router(
    directory: Path, packages: Path, *, lost: float, chars: int, seed: int, jobs: int = 1
) -> tuple[dict[str, float], RouterReport]:
    """Choose the thresholds of a tagger's router anew.

    All packages choose but those that report.

    Args:
        directory: The tagger's, with its router.
        packages: A folder with one unpacked package per subfolder, none of which the router has
            learned from.
        lost: Share of the spans that may be lost at each operating point, of packages that choose.
        chars: Of the files that are labelled.
        seed: Of what files these are.
        jobs: Processes that label.

    Returns:
        The thresholds by operating point, and what they do.

    Raises:
        CheckpointError: The tagger cannot be loaded, or has no router.
        ConfigError: A setting is out of range.
        DataError: There are no source files, or the tagger found nothing in the files of one of
            the parts.
    """
    _check_positive(chars=chars)
    _check_lost(lost)
    # For its settings and the router's scores, which are the same at every operating point.
    tagger = load_tagger(directory, lambda chunks: [], routed_for=OPERATING_POINTS[0])
    if tagger.router is None:
        raise CheckpointError(
            f"{directory / ROUTER_FILE}: not there; make it with: starencoder pii train-router "
            f"{directory} PACKAGES"
        )
    left_out: Counter[str] = Counter()
    labelled = _labelled(directory, _files(packages, chars, seed, left_out), jobs, left_out)
    parts = {
        CHOOSES: [document for document in labelled if document.part != REPORTS],
        REPORTS: [document for document in labelled if document.part == REPORTS],
    }
    _check_found(parts, packages)
    thresholds, points = _choose(parts, tagger.router, tagger, lost)
    return thresholds, RouterReport(points, left_out)


def _check_found(parts: Mapping[str, Sequence[_Labelled]], packages: Path) -> None:
    for part, members in parts.items():
        if not any(document.spans for document in members if document.is_file):
            raise DataError(
                f"{packages}: the tagger found nothing in the packages of the part that {part}; "
                "give more of them"
            )


# --------------------------------------------------------------------------------------------------
# data


def _files(packages: Path, chars: int, seed: int, left_out: Counter[str]) -> list[_Document]:
    """Files drawn from packages."""
    sources = load_sources(packages, num_chars=chars, seed=seed, left_out=left_out)
    return [_Document(source.text, source.package, None) for source in sources]


def _labelled(
    directory: Path, documents: Sequence[_Document], jobs: int, left_out: Counter[str]
) -> list[_Labelled]:
    """What the tagger makes of documents; a crash is counted in `left_out`."""
    labelled = []
    start = functools.partial(_start_labelling, directory)
    with closing(run_ordered(start, documents, jobs=jobs)) as results:
        for number, result in enumerate(results, 1):
            if isinstance(result, Crash):
                left_out[result.reason] += 1
            else:
                labelled.append(result)
            if number % _DOCUMENTS_PER_MESSAGE == 0:
                _LOG.info("router: %d of %d documents labelled", number, len(documents))
    return labelled


def _start_labelling(directory: Path) -> Callable[[_Document], _Labelled]:
    return functools.partial(_label, load_tagger(directory, load_session(directory)))


def _label(tagger: Tagger, document: _Document) -> _Labelled:
    """Mark the tokens of spans; those that the patterns find anyway need no tagger."""
    text = document.text
    ids, offsets = tokenize_document(text, tagger.tokenizer)
    points = tagger.operating_points.values()
    smallest = {label: min(point[label] for point in points) for label in LABELS}
    covered = [(span.start, span.end) for span in find_patterns(text)]
    targets = np.zeros(len(ids), np.float32)
    ranges = []
    found = [(span, True) for span in decode_spans(text, offsets, tag_probabilities(ids, tagger))]
    found += [(span, False) for span in document.annotated or ()]
    for span, is_tagged in found:
        if any(start < span.end and span.start < end for start, end in covered):
            continue
        first = int(np.searchsorted(offsets[:, 1], span.start, side="right"))
        last = int(np.searchsorted(offsets[:, 0], span.end, side="left"))
        is_sure = span.score >= smallest[span.label]
        target = 1.0 if is_sure else span.score / 2
        targets[first:last] = np.maximum(targets[first:last], target)
        if is_sure and is_tagged:
            ranges.append((first, last, span.label, span.score))
    return _Labelled(ids, targets, ranges, part_of(document.package), document.annotated is None)


_FETCHED = re.compile(r"(?:pypi|npm|debian)-(?P<name>.+?)-\d.*")


def part_of(package: str) -> str:
    """Whether a package teaches, chooses the thresholds, or is reported on.

    Its files are in a folder such as `npm-@hapi+hapi-21.3.0`, as `packages fetch` names it, and its
    annotated windows have the name alone: both are of one package. A name is cut before its first
    hyphen and digit, where a version may begin.
    """
    fetched = _FETCHED.fullmatch(package)
    name = fetched["name"].replace("+", "/") if fetched else re.split(r"-\d", package)[0]
    return _PARTS[zlib.crc32(name.encode()) % len(_PARTS)]


# --------------------------------------------------------------------------------------------------
# model


class _Convolutions(nn.Module):
    """Token ids `(batch, seq)` to scores `(batch, seq)`."""

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        width = embeddings.shape[1]
        self.embeddings = nn.Embedding(len(embeddings), width, _weight=embeddings)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2) for _ in range(LAYERS)
        )
        self.output = nn.Conv1d(width, 1, 1)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.dropout(self.embeddings(ids)).transpose(1, 2)
        for layer in self.layers:
            hidden = self.dropout(layer(hidden).relu())
        scores: Tensor = self.output(hidden)[:, 0]
        return scores


def _reduced(directory: Path, width: int) -> Tensor:
    """The encoder's token embeddings along their `width` main directions, of unit spread."""
    _, weights = read_weights(directory)
    table = weights["bert.embeddings.word_embeddings.weight"].float()
    centred = table - table.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    reduced: Tensor = centred @ directions[:width].T
    return reduced / reduced.std()


def _fit(documents: Sequence[_Labelled], embeddings: Tensor, config: RouterConfig) -> _Convolutions:
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    ids, targets = _pieces(documents)
    has_span = targets.amax(1) > 0
    with_span, without = (np.flatnonzero(mask.numpy()) for mask in (has_span, ~has_span))
    model = _Convolutions(embeddings)
    others = [weight for name, weight in model.named_parameters() if "embeddings" not in name]
    groups = [
        {"params": [model.embeddings.weight], "lr": _EMBEDDING_RATE},
        {"params": others, "lr": _RATE},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    num_without = min(len(without), _NEGATIVES * len(with_span))
    total = config.epochs * -(-(len(with_span) + num_without) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [_EMBEDDING_RATE, _RATE], total_steps=total
    )
    for epoch in range(config.epochs):
        drawn = rng.choice(without, num_without, replace=False)
        rows = rng.permutation(np.concatenate([with_span, drawn]))
        losses = []
        for start in range(0, len(rows), _BATCH):
            batch = torch.from_numpy(rows[start : start + _BATCH])
            real = targets[batch] >= 0
            loss = binary_cross_entropy_with_logits(
                model(ids[batch])[real],
                targets[batch][real],
                pos_weight=torch.tensor(_POSITIVE_WEIGHT),
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        _LOG.info("router: epoch %d of %d, loss %.4f", epoch + 1, config.epochs, np.mean(losses))
    with torch.no_grad():  # as the graph keeps it, so that the threshold is chosen on its scores
        model.embeddings.weight.copy_(model.embeddings.weight.half())
    return model.eval()


def _pieces(documents: Sequence[_Labelled]) -> tuple[Tensor, Tensor]:
    """Rows of `_PIECE` tokens and their targets, -1 where a document has ended."""
    pairs = [
        (document.ids[at : at + _PIECE], document.targets[at : at + _PIECE])
        for document in documents
        for at in range(0, len(document.ids), _PIECE)
    ]
    ids = np.zeros((len(pairs), _PIECE), np.int32)
    targets = np.full((len(pairs), _PIECE), -1, np.float32)
    for row, (piece, marks) in enumerate(pairs):
        ids[row, : len(piece)] = piece
        targets[row, : len(piece)] = marks
    return torch.from_numpy(ids), torch.from_numpy(targets)


# --------------------------------------------------------------------------------------------------
# thresholds


@dataclass(frozen=True, slots=True)
class _Scored:
    """The router's scores for documents: each the highest of a chunk's tokens."""

    chunks: npt.NDArray[np.float32]
    """Of the chunks of files as they were drawn."""
    spans: list[tuple[float, str, float]]
    """Of each span the highest score of the chunks that it reaches into, label, tagger's score."""

    def reported(self, smallest: Mapping[str, float]) -> list[tuple[float, str]]:
        """Scores and labels of the spans that an operating point reports, rising."""
        return sorted(
            (highest, label) for highest, label, score in self.spans if score >= smallest[label]
        )

    def read(self, threshold: float) -> float:
        """Share of the chunks that are read."""
        return float((self.chunks >= threshold).mean())


def _scored(documents: Sequence[_Labelled], router: Router, chunks: ChunkConfig) -> _Scored:
    of_chunks, of_spans = [], []
    for document in documents:
        scores = router.scores(document.ids)
        starts = np.asarray(chunk_starts(len(scores), chunks))
        highest = np.array([scores[start : start + chunks.max_tokens].max() for start in starts])
        if document.is_file:
            of_chunks.append(highest)
        for first, last, label, span_score in document.spans:
            covering = (starts < last) & (starts + chunks.max_tokens > first)
            of_spans.append((float(highest[covering].max()), label, span_score))
    return _Scored(np.concatenate(of_chunks), of_spans)


def _choose(
    parts: Mapping[str, Sequence[_Labelled]],
    router: Router,
    tagger: Tagger,
    lost: float,
) -> tuple[dict[str, float], dict[str, PointReport]]:
    choosing, reporting = (
        _scored(parts[part], router, tagger.chunks) for part in (CHOOSES, REPORTS)
    )
    return _chosen(choosing, reporting, tagger.operating_points, lost)


def _chosen(
    choosing: _Scored,
    reporting: _Scored,
    operating_points: Mapping[str, Mapping[str, float]],
    lost: float,
) -> tuple[dict[str, float], dict[str, PointReport]]:
    """The highest thresholds that lose at most a share of some spans, and what they do elsewhere.

    Args:
        choosing: Of the packages that choose.
        reporting: Of others.
        operating_points: The tagger's.
        lost: Share of the spans.
    """
    thresholds, points = {}, {}
    for name, smallest in operating_points.items():
        known, new = choosing.reported(smallest), reporting.reported(smallest)
        if not known or not new:
            raise DataError(f"nothing in what is held out is found at {name}; give more files")

        def losing(share: float, known: Sequence[tuple[float, str]] = known) -> float:
            return known[int(share * len(known))][0] - _ROUNDING

        thresholds[name] = losing(lost)
        points[name] = PointReport(
            spans=Counter(label for _, label in new),
            kept=Counter(label for highest, label in new if highest >= thresholds[name]),
            read=reporting.read(thresholds[name]),
            trade={share: choosing.read(losing(share)) for share in _SHARES_LOST},
        )
    return thresholds, points


def _score(model: _Convolutions, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        scores: npt.NDArray[np.float32] = model(torch.from_numpy(ids)[None])[0].numpy()
    return scores


def _weights(model: _Convolutions, thresholds: Mapping[str, float]) -> RouterWeights:
    state = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    return RouterWeights(
        embeddings=state["embeddings.weight"],
        convolutions=tuple(
            (state[f"layers.{index}.weight"], state[f"layers.{index}.bias"])
            for index in range(LAYERS)
        ),
        output=state["output.weight"][0, :, 0],
        output_bias=state["output.bias"],
        thresholds=thresholds,
    )
