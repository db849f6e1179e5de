"""What decoding is worth: a tagger's token probabilities made into spans in several ways.

    python benchmarks/decoding.py GOLD [--model tiny|DIR]

- `argmax`: the likeliest tag of each token;
- `constrained`: the likeliest sequence of tags in which I- only continues an entity of its label;
- `words`: `pii.decode`, which gives the tokens of a word one label and spans the limits of words;
  spans with a score of at least 0.5, and those that reach the model's `balanced` thresholds, which
  were chosen beside the patterns and leave to them what has a form;
- `detector`: the same with patterns, filters and repeated values, as `detect` reports it.

All but the last have no patterns and no filters: they differ in decoding alone. Each is scored as
by `starencoder pii evaluate`: F1 of spans that cover 80 % of each other, of spans with the same
limits, and of entities with the same tokens, as seqeval counts them.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pii.annotations import Document, read_annotated
from pii.decode import decode_spans
from pii.detect import Detector, model_folder
from pii.evaluate import predict
from pii.labels import LABELS, OUTSIDE, TAGS
from pii.metrics import MICRO, tag_entities
from pii.resampling import Bootstrap
from pii.scores import GroupScores, Offsets, group_scores, tally
from pii.session import load_session
from pii.spans import Span
from pii.tagger import Probs, Tagger, load_tagger, tag_probabilities, tokenize_document

Tags = npt.NDArray[np.int8]
"""Ids in `pii.labels.TAGS`, shape `(n,)`."""

THRESHOLD = 0.5


def main() -> None:
    """Print F1 by label of each way to decode, and of the whole detector."""
    parser = argparse.ArgumentParser(description="Ways to decode a tagger's probabilities.")
    parser.add_argument("gold", help="annotated documents, as for starencoder pii evaluate")
    parser.add_argument("--model", default="tiny", help="tiny or a directory; default: tiny")
    options = parser.parse_args()
    annotations = read_annotated(options.gold)
    documents = annotations.documents
    if annotations.report.left_out:
        print(f"left out: {dict(annotations.report.left_out)}")
    directory = model_folder(options.model)
    tagger = load_tagger(directory, load_session(directory))
    offsets, found = decoded(documents, tagger)
    bootstrap = Bootstrap(len(documents))
    scores = {
        name: {
            label: group_scores(counts, bootstrap)
            for label, counts in tally(documents, spans, offsets)["label"].items()
        }
        for name, spans in found.items()
    }
    print(f"{len(documents)} documents, {options.model}; F1 by label")
    for title, f1_of in _MEASURES.items():
        print(f"\n{title:22}" + "".join(f"{label:>11}" for label in (*LABELS, MICRO)))
        for name, by_label in scores.items():
            cells = "".join(f"{f1_of(by_label[label]):11.3f}" for label in (*LABELS, MICRO))
            print(f"{name:22}{cells}")


_MEASURES: Mapping[str, Callable[[GroupScores], float]] = {
    "80 % overlap": lambda scores: scores.overlap.f1,
    "exact": lambda scores: scores.exact.f1,
    "token (seqeval)": lambda scores: scores.token.f1,
}


def decoded(
    documents: Sequence[Document], tagger: Tagger
) -> tuple[list[Offsets], dict[str, list[list[Span]]]]:
    """The documents' tokens, and their spans by way to decode."""
    every_offsets: list[Offsets] = []
    argmax, constrained, words = [], [], []
    for document in documents:
        ids, offsets = tokenize_document(document.text, tagger.tokenizer)
        blocks = list(tag_probabilities(ids, tagger))
        probs = np.concatenate(blocks) if blocks else np.zeros((0, len(TAGS)), np.float32)
        every_offsets.append(offsets)
        argmax.append(spans_of(probs.argmax(axis=1).astype(np.int8), offsets))
        constrained.append(spans_of(constrained_tags(probs), offsets))
        words.append(decode_spans(document.text, offsets, blocks))
    balanced = tagger.operating_points["balanced"]
    return every_offsets, {
        "argmax": argmax,
        "constrained": constrained,
        f"words from {THRESHOLD}": scored_from(words, dict.fromkeys(LABELS, THRESHOLD)),
        "words, balanced": scored_from(words, balanced),
        "detector, balanced": predict(Detector(tagger, thresholds=balanced), documents),
    }


def scored_from(
    spans: Sequence[Sequence[Span]], thresholds: Mapping[str, float]
) -> list[list[Span]]:
    """Each document's spans that reach their label's threshold."""
    return [[span for span in found if span.score >= thresholds[span.label]] for found in spans]


def spans_of(tags: Tags, offsets: Offsets) -> list[Span]:
    """The entities of BIO tags, from their first token's start to their last one's end.

    An entity of tokens without characters, which stand for spaces, is none.
    """
    bounds = [
        (int(offsets[first, 0]), int(offsets[last, 1]), label)
        for label, first, last in tag_entities(tags)
    ]
    return [
        Span(start=start, end=end, label=label)
        for start, end, label in sorted(bounds)
        if start < end
    ]


def constrained_tags(probs: Probs) -> Tags:
    """The likeliest sequence of tags in which I- follows only B- or I- of its label (Viterbi).

    The likeliest is that with the largest product of probabilities.

    Args:
        probs: Shape `(n, len(TAGS))`; rows sum to 1.
    """
    if not len(probs):
        return np.zeros(0, np.int8)
    allowed = np.array([[may_follow(tag, before) for tag in TAGS] for before in TAGS])
    forbidden = np.where(allowed, 0.0, -np.inf)
    first = np.array([0.0 if may_follow(tag, OUTSIDE) else -np.inf for tag in TAGS])
    # A tag of probability 0 is unlikely, not impossible: no sequence would be left.
    logs = np.log(np.maximum(probs.astype(np.float64), np.finfo(np.float32).tiny))
    best = first + logs[0]
    origins = np.zeros(probs.shape, np.intp)
    for token in range(1, len(probs)):
        paths = best[:, None] + forbidden
        origins[token] = paths.argmax(axis=0)
        best = paths.max(axis=0) + logs[token]
    tags = np.zeros(len(probs), np.int8)
    tags[-1] = best.argmax()
    for token in range(len(probs) - 1, 0, -1):
        tags[token - 1] = origins[token, tags[token]]
    return tags


def may_follow(tag: str, before: str) -> bool:
    """Whether a tag may stand after another in BIO."""
    return not tag.startswith("I-") or before in (tag, f"B-{tag[2:]}")


if __name__ == "__main__":
    main()
