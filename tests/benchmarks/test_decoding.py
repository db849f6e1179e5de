import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from benchmarks.decoding import constrained_tags, decoded, main, may_follow, scored_from, spans_of
from pii.annotations import Document
from pii.chunks import ChunkConfig
from pii.detect import EMBEDDED_MODEL
from pii.labels import LABELS, TAG_IDS, TAGS
from pii.spans import Span
from pii.tagger import Tagger
from starencoder.tokenizer import load_tokenizer


def is_legal(tags):
    return all(may_follow(tag, before) for before, tag in itertools.pairwise(("O", *tags)))


def random_probs(rng, length, *, tags=TAGS, certain=False):
    """Probabilities of some tags; the others have none. Certain: 1 for one, chosen at random."""
    columns = [TAG_IDS[tag] for tag in tags]
    probs = np.zeros((length, len(TAGS)), np.float32)
    rows = rng.dirichlet(np.ones(len(tags)), size=length)
    probs[:, columns] = np.eye(len(tags))[rows.argmax(axis=1)] if certain else rows
    return probs


def test_after_each_tag_come_those_that_bio_allows():
    assert may_follow("I-NAME", "B-NAME")
    assert may_follow("I-NAME", "I-NAME")
    assert not may_follow("I-NAME", "O")
    assert not may_follow("I-NAME", "B-KEY")
    assert not may_follow("I-NAME", "I-USERNAME")  # whose label ends in NAME
    assert all(may_follow(tag, before) for before in TAGS for tag in TAGS if tag[0] in "BO")


@given(length=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_the_constrained_tags_are_the_likeliest_of_all_legal_sequences(length, seed):
    tags = ("O", "B-NAME", "I-NAME", "B-USERNAME", "I-USERNAME")
    probs = random_probs(np.random.default_rng(seed), length, tags=tags)

    def likelihood(sequence):
        return np.prod([float(probs[token, TAG_IDS[tag]]) for token, tag in enumerate(sequence)])

    best = max(filter(is_legal, itertools.product(tags, repeat=length)), key=likelihood)
    found = [TAGS[tag] for tag in constrained_tags(probs)]
    assert is_legal(found)
    assert likelihood(found) == pytest.approx(likelihood(best), rel=1e-9)


@given(length=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), certain=st.booleans())
def test_constrained_tags_are_always_legal_and_the_argmax_where_that_is(length, seed, certain):
    probs = random_probs(np.random.default_rng(seed), length, certain=certain)
    found = constrained_tags(probs)
    argmax = probs.argmax(axis=1)
    assert found.shape == (length,)
    assert is_legal(TAGS[tag] for tag in found)
    if is_legal(TAGS[tag] for tag in argmax):
        np.testing.assert_array_equal(found, argmax)


@given(length=st.integers(0, 30), seed=st.integers(0, 2**32 - 1))
def test_spans_are_the_entities_that_seqeval_reads(length, seed):
    tags = np.random.default_rng(seed).integers(0, len(TAGS), length).astype(np.int8)
    offsets = np.array([(3 * token, 3 * token + 2) for token in range(length)], np.int32)
    expected = [
        (label, 3 * first, 3 * last + 2)
        for label, first, last in get_entities([TAGS[tag] for tag in tags])
    ]
    spans = spans_of(tags, offsets.reshape(-1, 2))
    assert [(span.label, span.start, span.end) for span in spans] == expected


def test_an_entity_without_characters_is_none():
    tags = np.array([TAG_IDS["B-KEY"], TAG_IDS["B-NAME"]], np.int8)
    offsets = np.array([(4, 4), (5, 9)], np.int32)
    assert spans_of(tags, offsets) == [Span(start=5, end=9, label="NAME")]


def test_each_label_has_its_own_threshold():
    spans = [Span(start=at, end=at + 1, label="NAME", score=at / 10) for at in range(5)]
    spans += [Span(start=9, end=10, label="KEY", score=0.9)]
    assert scored_from([spans], {"NAME": 0.3, "KEY": 0.91}) == [spans[3:5]]


def test_argmax_breaks_a_name_that_the_constraint_and_the_words_keep_whole():
    tokenizer = load_tokenizer(EMBEDDED_MODEL)
    text = "by Jan Zbigniew"
    document = Document(id="d", language="", package="", path="", text=text, spans=())
    pieces = len(tokenizer.encode(text).ids) - 1
    assert pieces > 1

    def predict(chunks):
        (chunk,) = chunks
        probs = np.full((len(chunk), len(TAGS)), 0.01, np.float32)
        probs[:, TAG_IDS["O"]] = 0.87
        probs[2, TAG_IDS["B-NAME"]] = 0.9
        probs[3:-1, TAG_IDS["I-NAME"]] = 0.5
        # The last piece alone looks like another label's.
        probs[-2, [TAG_IDS["I-NAME"], TAG_IDS["I-KEY"], TAG_IDS["O"]]] = 0.4, 0.5, 0.1
        probs[2:-2, TAG_IDS["O"]] = 0.1
        return [probs / probs.sum(axis=1, keepdims=True)]

    thresholds = dict.fromkeys(LABELS, 0.5)
    tagger = Tagger(
        tokenizer,
        predict,
        tuple(range(len(TAGS))),
        ChunkConfig(max_tokens=126, stride=96),
        {"balanced": thresholds, "thorough": thresholds},
    )
    offsets, found = decoded([document], tagger)
    assert len(offsets[0]) == pieces + 1
    values = {
        name: [(span.label, text[span.start : span.end]) for span in spans]
        for name, (spans,) in found.items()
    }
    assert [label for label, _ in values["argmax"]] == ["NAME", "KEY"]
    for name in ("constrained", "words from 0.5", "words, balanced", "detector, balanced"):
        assert values[name] == [("NAME", "Jan Zbigniew")], name


def test_every_way_to_decode_has_a_row_for_every_measure(tmp_path, monkeypatch, capsys):
    record = {"id": "d", "language": "", "package": "", "path": "", "text": "x = 1\n", "spans": []}
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps({**record, "id": name}) + "\n" for name in "ab"))
    monkeypatch.setattr("sys.argv", ["decoding", str(gold)])
    main()
    said = capsys.readouterr().out
    assert said.count("constrained") == said.count("detector, balanced") == 3
    assert "token (seqeval)" in said
