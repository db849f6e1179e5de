import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pii.predict import _batches, load_torch_predict, torch_predict
from starencoder.checkpoint import save_tagger
from starencoder.config import EncoderConfig
from starencoder.errors import CheckpointError
from starencoder.model import TokenClassifier

CONFIG = EncoderConfig(
    vocab_size=40,
    hidden_size=12,
    num_layers=2,
    num_heads=3,
    intermediate_size=20,
    max_positions=64,
    pad_id=36,
    initializer_range=0.5,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return TokenClassifier(CONFIG, num_labels=5)


@given(lengths=st.lists(st.integers(1, 5000), max_size=60))
def test_every_chunk_is_in_one_batch_and_no_batch_is_too_large(lengths):
    batches = _batches(lengths)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert longest == lengths[batch[-1]]
        assert len(batch) == 1 or len(batch) * longest <= 4096


def test_chunks_come_back_in_order_and_the_same_alone_as_together(model):
    predict = torch_predict(model)
    generator = np.random.default_rng(0)
    chunks = [generator.integers(0, 40, n).tolist() for n in (64, 1, 30, 64, 2, 63, 5)]
    for chunk, probs in zip(chunks, predict(chunks), strict=True):
        (alone,) = predict([chunk])
        assert probs.shape == (len(chunk), 5)
        assert probs.dtype == np.float32
        np.testing.assert_allclose(probs, alone, atol=1e-5)
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert predict([]) == []


def test_a_directory_gives_what_its_model_gives(model, tmp_path):
    save_tagger(model, tmp_path, id2label={i: f"T{i}" for i in range(5)}, pii={})
    chunks = [[1, 2, 3], [4]]
    for left, right in zip(
        load_torch_predict(tmp_path)(chunks), torch_predict(model)(chunks), strict=True
    ):
        assert left.tobytes() == right.tobytes()
    with pytest.raises(CheckpointError, match="no such model directory"):
        load_torch_predict(tmp_path / "absent")
