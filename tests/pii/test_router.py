"""The router: scores in blocks, chunks that are read, and what becomes of those that are not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pii.tagger
from pii.chunks import ChunkConfig, chunk_starts, iter_stitched
from pii.detect import EMBEDDED_MODEL, load_detector
from pii.labels import LABELS, OUTSIDE, TAG_IDS, TAGS
from pii.router import REACH, Router, load_router
from pii.tagger import Tagger, tag_probabilities
from starencoder.errors import CheckpointError
from starencoder.tokenizer import load_tokenizer


def around(ids):
    """A score that depends on all tokens within reach, and on where the text ends."""
    padded = np.pad(ids.astype(np.float32), REACH)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1)
    return (windows * np.arange(1, 2 * REACH + 2, dtype=np.float32)).sum(1).astype(np.float32)


@pytest.mark.parametrize("length", [0, 1, REACH, 8191, 8192, 8193, 20_000])
def test_scores_do_not_depend_on_the_blocks_a_document_is_cut_into(length):
    ids = np.random.default_rng(length).integers(0, 9, length).astype(np.int32)

    scores = Router(around, 0.0).scores(ids)

    np.testing.assert_array_equal(scores, around(ids) if length else [])


@given(
    scores=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 2.0]), max_size=60),
    threshold=st.sampled_from([-1.0, 0.0, 2.0]),
    max_tokens=st.integers(1, 20),
    data=st.data(),
)
def test_a_chunk_is_read_if_one_of_its_tokens_reaches_the_threshold(
    scores, threshold, max_tokens, data
):
    config = ChunkConfig(max_tokens=max_tokens, stride=data.draw(st.integers(1, max_tokens)))
    starts = chunk_starts(len(scores), config)
    router = Router(lambda ids: np.array(scores, np.float32)[: len(ids)], threshold)

    wanted = router.wanted(np.zeros(len(scores), np.int32), starts, max_tokens)

    expected = [max(scores[start : start + max_tokens]) >= threshold for start in starts]
    assert wanted.tolist() == expected


def tagger_with(router, calls):
    """Its probabilities tell a token's id; `calls` gets the chunks that were read."""

    def predict(chunks):
        calls.extend(tuple(chunk[1:-1]) for chunk in chunks)
        result = []
        for chunk in chunks:
            probs = np.full((len(chunk), len(TAGS)), 0.01, np.float32)
            probs[np.arange(len(chunk)), np.asarray(chunk) % len(TAGS)] = 1
            result.append(probs / probs.sum(1, keepdims=True))
        return result

    return Tagger(
        tokenizer=load_tokenizer(EMBEDDED_MODEL),
        predict=predict,
        columns=tuple(range(len(TAGS))),
        chunks=ChunkConfig(max_tokens=10, stride=7),
        operating_points={"balanced": dict.fromkeys(LABELS, 0.5)},
        router=router,
    )


@given(hot=st.sets(st.integers(0, 79)), length=st.integers(0, 80))
def test_tokens_of_chunks_that_are_read_are_as_without_a_router_and_the_others_outside(hot, length):
    ids = np.arange(100, 100 + length, dtype=np.int32)
    scores = np.where(np.isin(np.arange(80), list(hot)), 1.0, -1.0).astype(np.float32)
    everything, some = [], []
    full = list(tag_probabilities(ids, tagger_with(None, everything)))
    spared = list(
        tag_probabilities(ids, tagger_with(Router(lambda ids: scores[: len(ids)], 0.0), some))
    )

    read = [range(s, min(s + 10, length)) for s in range(0, length, 7)]
    read = [chunk for chunk in read if hot.intersection(chunk)]
    assert set(some) <= set(everything)
    assert sum(map(len, full)) == sum(map(len, spared)) == length
    if length:
        joined, expected = np.concatenate(spared), np.concatenate(full)
        for token in range(length):
            if token in hot:
                np.testing.assert_allclose(joined[token], expected[token], atol=1e-5)
            elif not any(token in chunk for chunk in read):
                assert joined[token, TAG_IDS[OUTSIDE]] > 0.99 or token >= length - 10


@given(
    hot=st.sets(st.integers(0, 79), max_size=3),
    length=st.integers(0, 80),
    stride=st.integers(1, 10),
    longest_block=st.integers(1, 30),
)
def test_what_is_not_stitched_is_as_if_all_chunks_were(hot, length, stride, longest_block):
    ids = np.arange(100, 100 + length, dtype=np.int32)
    scores = np.where(np.isin(np.arange(80), list(hot)), 1.0, -1.0).astype(np.float32)
    config = ChunkConfig(max_tokens=10, stride=stride)
    router = Router(lambda ids: scores[: len(ids)], 0.0)
    tagger = dataclasses.replace(tagger_with(router, []), chunks=config)
    starts = chunk_starts(length, config)
    wanted = router.wanted(ids, starts, 10)
    chunks = []
    for start, is_wanted in zip(starts, wanted, strict=True):
        chunk = ids[start : start + 10].tolist()
        probs = tagger.predict([[0, *chunk, 0]])[0][1:-1]
        chunks.append(probs if is_wanted else np.eye(len(TAGS), dtype=np.float32)[[0] * len(chunk)])
    expected = list(iter_stitched(chunks, starts, np.where(wanted, 1, 1e-6).tolist()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pii.tagger, "_LONGEST_BLOCK", longest_block)
        blocks = list(tag_probabilities(ids, tagger))

    none = np.zeros((0, len(TAGS)), np.float32)
    np.testing.assert_allclose(
        np.concatenate([none, *blocks]), np.concatenate([none, *expected]), rtol=1e-6
    )


def test_a_document_without_a_hot_token_is_never_given_to_the_tagger():
    calls = []
    tagger = tagger_with(Router(lambda ids: np.full(len(ids), -1, np.float32), 0.0), calls)

    (*blocks,) = tag_probabilities(np.arange(50, dtype=np.int32), tagger)

    assert calls == []
    assert (np.concatenate(blocks).argmax(1) == TAG_IDS[OUTSIDE]).all()


def test_the_embedded_router_can_be_switched_off_and_then_every_chunk_is_read():
    routed = load_detector("tiny")._tagger
    full = load_detector("tiny", disabled=frozenset({"router"}))._tagger

    assert routed.router is not None
    assert full.router is None


def test_the_thorough_router_reads_whatever_the_balanced_one_reads():
    tokenizer = load_tokenizer(EMBEDDED_MODEL)
    ids = np.random.default_rng(3).integers(10, 16_000, 5000).astype(np.int32)
    starts = range(0, 5000, 100)
    read = {
        point: load_router(EMBEDDED_MODEL, tokenizer, point).wanted(ids, starts, 126)
        for point in ("balanced", "thorough")
    }

    assert not (read["balanced"] & ~read["thorough"]).any()
    assert load_detector("tiny", min_score=0.3)._tagger.router._threshold == (
        load_router(EMBEDDED_MODEL, tokenizer, "thorough")._threshold
    )


def test_a_router_of_another_tokenizer_or_none_at_all_is_refused(tmp_path):
    tokenizer = load_tokenizer(EMBEDDED_MODEL)
    assert load_router(tmp_path, tokenizer, "balanced") is None

    (tmp_path / "onnx").mkdir()
    path = tmp_path / "onnx" / "router.onnx"
    for content in (
        Path(EMBEDDED_MODEL, "onnx", "model_int8.onnx").read_bytes(),
        b"not a graph",
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"router\.onnx: not"):
            load_router(tmp_path, tokenizer, "balanced")
