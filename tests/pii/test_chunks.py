import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.chunks import ChunkConfig, chunk_starts, iter_stitched
from starencoder.errors import ConfigError


@st.composite
def chunk_configs(draw):
    max_tokens = draw(st.integers(1, 20))
    return ChunkConfig(max_tokens=max_tokens, stride=draw(st.integers(1, max_tokens)))


def stitched(chunks, starts):
    return np.concatenate(list(iter_stitched(chunks, starts, [1.0] * len(starts))))


@given(config=chunk_configs(), num_tokens=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
def test_stitching_the_chunks_of_a_document_gives_the_document_back(config, num_tokens, seed):
    document = np.random.default_rng(seed).dirichlet(np.ones(3), size=num_tokens)
    document = document.astype(np.float32)
    starts = chunk_starts(num_tokens, config)
    chunks = [document[start : start + config.max_tokens] for start in starts]

    np.testing.assert_allclose(stitched(chunks, starts), document, atol=1e-5)


@given(config=chunk_configs(), num_tokens=st.integers(0, 200))
def test_chunks_cover_every_token_and_the_last_one_is_needed(config, num_tokens):
    starts = list(chunk_starts(num_tokens, config))

    covered = {at for s in starts for at in range(s, min(s + config.max_tokens, num_tokens))}
    assert covered == set(range(num_tokens))
    without_last = {at for s in starts[:-1] for at in range(s, s + config.max_tokens)}
    assert num_tokens == 0 or not covered <= without_last


def test_where_chunks_overlap_the_one_that_saw_more_context_counts_more():
    first = np.tile(np.float32([1, 0]), (5, 1))
    second = np.tile(np.float32([0, 1]), (5, 1))

    rows = stitched([first, second], [0, 2])

    np.testing.assert_allclose(rows[:, 0], [1, 1, 3 / 4, 2 / 4, 1 / 4, 0, 0])


def test_a_stride_longer_than_a_chunk_is_refused():
    with pytest.raises(ConfigError, match="unread"):
        ChunkConfig(max_tokens=10, stride=11)
