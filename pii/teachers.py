"""Several taggers as one: their opinions of a text, averaged."""

import dataclasses
import functools
import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from pii.decode import decode_spans
from pii.detect import check_model, model_folder
from pii.labels import TAGS
from pii.metrics import matches
from pii.session import load_session
from pii.spans import Span, resolve_overlaps
from pii.tagger import Tagger, load_tagger, tag_probabilities, tokenize_document
from starencoder.errors import ConfigError

Teach = Callable[[str], list[Span]]
"""From a text to what the taggers think of it, whatever the score; sorted and apart."""

_TOKENIZER = "tokenizer.json"


def load_teachers(models: Sequence[str]) -> tuple[Teach, str]:
    """Load taggers whose opinions are averaged.

    Taggers with the same tokenizer: the probabilities of each token are averaged. Groups of
    different tokenizers: each group's spans of one label that cover 80 % of each other are one
    span with the mean score, 0 counting for a group that has none; its limits are those of the
    likeliest.

    Args:
        models: `tiny` (the embedded model), model directories, or `none` (no tagger: patterns are
            merged in anyway).

    Returns:
        The teacher, and how it averages.

    Raises:
        ConfigError: An unknown model, or one that is named twice.
        CheckpointError: A model directory that cannot be loaded.
    """
    groups: dict[bytes, list[Tagger]] = {}
    if len(set(models)) < len(models):
        raise ConfigError("a teacher is named twice; it would count double")
    for model in models:
        check_model(model)
        if model == "none":
            continue
        directory = model_folder(model)
        tagger = load_tagger(directory, load_session(directory))
        digest = hashlib.sha256((directory / _TOKENIZER).read_bytes()).digest()
        groups.setdefault(digest, []).append(tagger)
    teachers = [functools.partial(_teach, group) for group in groups.values()]
    counts = [len(group) for group in groups.values()]
    if not teachers:
        return lambda text: [], "none, patterns alone"
    if len(teachers) == 1:
        how = "one" if counts == [1] else f"{counts[0]}, averaged by token"
        return teachers[0], how
    how = f"{sum(counts)} with {len(counts)} tokenizers, averaged by span"
    return lambda text: average_spans([teach(text) for teach in teachers]), how


def _teach(taggers: Sequence["Tagger"], text: str) -> list[Span]:
    ids, offsets = tokenize_document(text, taggers[0].tokenizer)
    if not len(ids):
        return []
    mean = np.zeros((len(ids), len(TAGS)), np.float32)
    for tagger in taggers:
        mean += np.concatenate(list(tag_probabilities(ids, tagger))) / len(taggers)
    return decode_spans(text, offsets, [mean])


def average_spans(opinions: Sequence[Sequence[Span]]) -> list[Span]:
    """Average several taggers' spans (each list sorted and apart) as `load_teachers` says."""
    ends = [[span.end for span in spans] for spans in opinions]
    taken: set[tuple[int, int]] = set()
    averaged = []
    everything = [(which, at) for which, spans in enumerate(opinions) for at in range(len(spans))]
    everything.sort(key=lambda place: -opinions[place[0]][place[1]].score)
    for which, at in everything:
        if (which, at) in taken:
            continue
        span = opinions[which][at]
        score = span.score
        for other, spans in enumerate(opinions):
            if other == which:
                continue
            first = bisect_right(ends[other], span.start)
            for candidate in range(first, len(spans)):
                if spans[candidate].start >= span.end:
                    break
                if (other, candidate) not in taken and matches(span, spans[candidate]):
                    taken.add((other, candidate))
                    score += spans[candidate].score
                    break
        averaged.append(dataclasses.replace(span, score=score / len(opinions)))
    return resolve_overlaps(averaged)
