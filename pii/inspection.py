"""What annotated data hold, what of it a model can learn at all, and whether it leaks.

A span is out of reach where the tokenizer's boundaries or the chunks do not allow it, whatever is
learnt: that is counted here, with the targets and the decoding that training and detecting use.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pii.annotations import Annotations, Document, ReadReport
from pii.chunks import ChunkConfig, chunk_starts
from pii.dataset import align_targets
from pii.decode import decode_spans
from pii.labels import KINDS, LABELS, TAGS
from pii.leakage import (
    BOILERPLATE_PACKAGES,
    MIN_SHINGLES,
    SHINGLE_WORDS,
    Leakage,
    find_leaks,
)
from pii.metrics import MATCH_SHARE, matches
from pii.spans import Span
from pii.tagger import load_tagger, tokenize_document
from starencoder.errors import ConfigError
from starencoder.text import aligned, plain
from starencoder.tokenizer import CodeTokenizer


@dataclass(frozen=True, slots=True)
class Reach:
    """Spans of one label, and how many of them are out of reach."""

    spans: int = 0
    between_tokens: int = 0
    """A limit lies within a token, so no run of tokens is the span exactly."""
    between_tokens_80: int = 0
    """No run of tokens matches the span at 80 % mutual overlap either."""
    decoded_otherwise: int = 0
    """Decoding the tags the span's tokens are taught gives other limits or another label."""
    decoded_otherwise_80: int = 0
    """The same at 80 % mutual overlap."""
    longer_than_chunk: int = 0
    """It has more tokens than the longest chunk."""
    cut: int = 0
    """No chunk of detecting holds all of it; those longer than a chunk are among them."""

    def __add__(self, other: "Reach") -> "Reach":
        return Reach(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(Reach))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What `pii inspect` says."""

    sources: tuple[ReadReport, ...]
    repeated_ids: int
    """Documents, of all sources, with the id of an earlier one."""
    characters: int
    spans: Mapping[str, Mapping[str, int]]
    """Spans by label and kind."""
    max_tokens: int
    stride: int
    """The chunks', in tokens."""
    reach: Mapping[str, Reach]
    """By label."""
    against: tuple[ReadReport, ...]
    near_share: float
    leakage: Leakage


def inspect_data(
    data: Sequence[Annotations],
    model: Path,
    *,
    against: Sequence[Annotations] = (),
    near_share: float,
) -> Inspection:
    """Count what annotated data hold, what of it is out of reach, and what leaks.

    Args:
        data: What `read_annotated` gave for each source.
        model: A tagger's directory; its tokenizer, chunks and no weights are used.
        against: Data that must not be among `data`.
        near_share: See `pii.leakage.find_leaks`.

    Raises:
        CheckpointError: The directory does not hold a tagger.
        ConfigError: `near_share` is not in (0, 1].
    """
    if not 0 < near_share <= 1:
        raise ConfigError(f"the share of near duplicates must be in (0, 1], got {near_share}")
    tagger = load_tagger(model, _no_weights)
    documents = [document for annotations in data for document in annotations.documents]
    kinds = Counter((span.label, span.kind) for d in documents for span in d.spans)
    held_out = [document for annotations in against for document in annotations.documents]
    return Inspection(
        sources=tuple(annotations.report for annotations in data),
        repeated_ids=len(documents) - len({document.id for document in documents}),
        characters=sum(len(document.text) for document in documents),
        spans={label: {kind: kinds[label, kind] for kind in KINDS} for label in LABELS},
        max_tokens=tagger.chunks.max_tokens,
        stride=tagger.chunks.stride,
        reach=count_reach(documents, tagger.tokenizer, tagger.chunks),
        against=tuple(annotations.report for annotations in against),
        near_share=near_share,
        leakage=find_leaks(documents, held_out, near_share=near_share),
    )


def _no_weights(chunks: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
    raise NotImplementedError("nothing is predicted here")


def count_reach(
    documents: Iterable[Document], tokenizer: CodeTokenizer, chunks: ChunkConfig
) -> dict[str, Reach]:
    """How many spans are out of reach, by label, of any kind.

    Args:
        documents: Annotated documents.
        tokenizer: What makes the tokens.
        chunks: How documents are cut when detecting. Training cuts elsewhere in every epoch.
    """
    reach = dict.fromkeys(LABELS, Reach())
    for document in documents:
        if not document.spans:
            continue
        _, offsets = tokenize_document(document.text, tokenizer)
        # A tagger that has learnt its targets without fault.
        taught = np.eye(len(TAGS), dtype=np.float32)[align_targets(offsets, document.spans)]
        decoded = decode_spans(document.text, offsets, [taught])
        starts = np.asarray(chunk_starts(len(offsets), chunks))
        for span in document.spans:
            first = int(np.searchsorted(offsets[:, 1], span.start, side="right"))
            last = int(np.searchsorted(offsets[:, 0], span.end, side="left"))
            nearest = _nearest_runs(offsets[first:last], span)
            whole = (starts <= first) & (last <= starts + chunks.max_tokens)
            reach[span.label] += Reach(
                1,
                not _is_among(span, nearest, 1.0),
                not _is_among(span, nearest, MATCH_SHARE),
                not _is_among(span, decoded, 1.0),
                not _is_among(span, decoded, MATCH_SHARE),
                last - first > chunks.max_tokens,
                not whole.any(),
            )
    return reach


def _nearest_runs(offsets: npt.NDArray[np.int32], span: Span) -> list[Span]:
    """The runs of whole tokens that come nearest to a span, each limit outside or inside of it.

    Args:
        offsets: Of the tokens that touch the span, shape `(n, 2)`.
        span: The span.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]
    near_starts = {*starts[starts <= span.start][-1:], *starts[starts >= span.start][:1]}
    near_ends = {*ends[ends <= span.end][-1:], *ends[ends >= span.end][:1]}
    return [
        Span(start=int(start), end=int(end), label=span.label)
        for start in near_starts
        for end in near_ends
        if start < end
    ]


def _is_among(span: Span, found: Iterable[Span], share: float) -> bool:
    return any(matches(span, other, share) for other in found)


# --------------------------------------------------------------------------------------------------
# As text


def inspection_json(inspection: Inspection) -> str:
    """All of it, as one JSON object."""
    return json.dumps(asdict(inspection), indent=1)


def inspection_text(inspection: Inspection) -> str:
    """All of it, as lines."""
    lines = []
    for report in inspection.sources:
        lines.append(
            f"{plain(report.source)}: {report.documents} documents, {report.spans} spans "
            f"({report.format})"
        )
        lines += [f"  left out: {count} x {plain(why)}" for why, count in report.left_out.items()]
    if inspection.repeated_ids:
        lines.append(
            f"{inspection.repeated_ids} documents have the id of an earlier one; predictions for "
            "them cannot be told apart"
        )
    lines += ["", f"spans by kind, in {inspection.characters} characters"]
    rows = [["label", *KINDS]]
    rows += [[label, *map(str, counts.values())] for label, counts in inspection.spans.items()]
    lines += aligned(rows)
    lines += [
        "",
        f"out of reach, with chunks of {inspection.max_tokens} tokens, stride {inspection.stride}",
    ]
    total = sum(inspection.reach.values(), Reach())
    heads = ("spans", "token limits", "at 80 %", "decoding", "at 80 %", "over a chunk", "cut")
    rows = [["label", *heads]]
    for label, reach in (*inspection.reach.items(), ("all", total)):
        rows.append([label, *(str(getattr(reach, field.name)) for field in fields(Reach))])
    lines += aligned(rows)
    if inspection.against:
        leaks = inspection.leakage.leaks
        exact = sum(leak.exact for leak in leaks)
        lines += [
            "",
            f"against {', '.join(plain(report.source) for report in inspection.against)}: "
            f"{exact} exact duplicates, {len(leaks) - exact} near ones "
            f"({inspection.near_share:.0%} of the {SHINGLE_WORDS}-word shingles of the shorter, "
            f"{MIN_SHINGLES} or more)",
        ]
        lines += [
            f"  {plain(leak.id)} is {'' if leak.exact else 'nearly '}{plain(leak.against)} "
            f"({leak.share:.0%})"
            for leak in leaks
        ]
        if inspection.leakage.boilerplate:
            lines.append(
                f"  {inspection.leakage.boilerplate} pairs more have in common what texts of "
                f"{BOILERPLATE_PACKAGES} packages or more have, such as licence headers"
            )
    return "\n".join(lines) + "\n"
