import pickle
from pathlib import Path

import pytest
import torch

from export.convert import convert_pickle
from starencoder.checkpoint import load_pretraining, load_tagger, save_pretraining, save_tagger
from starencoder.config import EncoderConfig
from starencoder.errors import CheckpointError, ConfigError
from starencoder.model import PretrainingModel, TokenClassifier

CONFIG = EncoderConfig(
    vocab_size=40,
    hidden_size=12,
    num_layers=2,
    num_heads=3,
    intermediate_size=20,
    max_positions=16,
    pad_id=36,
)
LABELS = {0: "O", 1: "B-KEY", 2: "I-KEY"}


def as_pickle(directory, model):
    """What older versions of transformers published: tied copies, position ids, a pickle."""
    state = dict(model.state_dict())
    state["bert.embeddings.position_ids"] = torch.arange(16)[None]
    if "cls.predictions.bias" in state:
        state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
        state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    (directory / "model.safetensors").unlink()
    torch.save(state, directory / "pytorch_model.bin")
    (directory / "tokenizer.json").write_text("{}")
    (directory / "training_args.bin").write_bytes(b"left behind")
    return directory


@pytest.fixture
def published(tmp_path):
    model = TokenClassifier(CONFIG, num_labels=3)
    save_tagger(model, tmp_path / "published", id2label=LABELS, pii={})
    return as_pickle(tmp_path / "published", model)


def assert_same_weights(left, right):
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name]), name


def test_a_tagger_comes_out_with_the_same_weights_config_and_tokenizer(published, tmp_path):
    expected = torch.load(published / "pytorch_model.bin", weights_only=True)
    written = convert_pickle(published, tmp_path / "out")
    model, config = load_tagger(tmp_path / "out")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert (config.encoder, config.id2label) == (CONFIG, LABELS)
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_pretraining_model_comes_out_with_the_same_weights(tmp_path):
    model = PretrainingModel(CONFIG)
    save_pretraining(model, tmp_path / "in")
    convert_pickle(as_pickle(tmp_path / "in", model), tmp_path / "out")
    assert_same_weights(model, load_pretraining(tmp_path / "out"))


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_pickle_is_not_run(published, tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    path = published / "pytorch_model.bin"
    torch.save({"classifier.bias": Hostile()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="nothing of it was loaded"):
        convert_pickle(published, tmp_path / "out")
    path.write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(CheckpointError):
        convert_pickle(published, tmp_path / "out")
    assert not Path("pwned").exists()
    assert not (tmp_path / "out").exists()


def test_damaged_and_foreign_files_are_refused_by_name(published, tmp_path):
    path = published / "pytorch_model.bin"
    whole = path.read_bytes()
    for content in (b"", whole[:10], whole[:-200], b"{}", b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: "):
            convert_pickle(published, tmp_path / "out")
    for content in ([torch.zeros(1)], {"classifier.bias": 1}, {1: torch.zeros(1)}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="expected named tensors"):
            convert_pickle(published, tmp_path / "out")
    torch.save({"classifier.bias": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: .* missing tensors"):
        convert_pickle(published, tmp_path / "out")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: missing"):
        convert_pickle(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_already_there_is_not_overwritten(published, tmp_path):
    convert_pickle(published, tmp_path / "out")
    with pytest.raises(ConfigError, match="already there"):
        convert_pickle(published, tmp_path / "out")
