import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from starencoder.checkpoint import (
    load_encoder_weights,
    load_pretraining,
    load_tagger,
    save_pretraining,
    save_tagger,
)
from starencoder.config import EncoderConfig
from starencoder.errors import CheckpointError, OutputError
from starencoder.model import Encoder, PretrainingModel, TokenClassifier

CONFIG = EncoderConfig(
    vocab_size=40,
    hidden_size=12,
    num_layers=2,
    num_heads=3,
    intermediate_size=20,
    max_positions=16,
    pad_id=36,
)
TAGS = {0: "O", 1: "B-KEY", 2: "I-KEY"}
WORDS = "bert.embeddings.word_embeddings.weight"


def randomised(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def assert_same_weights(left, right):
    expected, found = left.state_dict(), right.state_dict()
    assert list(expected) == list(found)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


@pytest.fixture
def pretraining(tmp_path):
    model = randomised(PretrainingModel(CONFIG))
    save_pretraining(model, tmp_path / "pretraining")
    return model, tmp_path / "pretraining"


def edit_weights(directory, change):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@given(num_labels=st.integers(1, 15), seed=st.integers(0, 1000), layers=st.integers(1, 3))
def test_a_tagger_survives_its_directory(tmp_path_factory, num_labels, seed, layers):
    directory = tmp_path_factory.mktemp("tagger")
    model = randomised(
        TokenClassifier(replace(CONFIG, num_layers=layers), num_labels=num_labels), seed
    )
    id2label = {index: f"T{index}" for index in range(num_labels)}
    pii = {"chunk": {"max_tokens": 126}, "operating_points": {"balanced": {"KEY": 0.5}}}

    save_tagger(model, directory, id2label=id2label, pii=pii)
    loaded, config = load_tagger(directory)

    assert_same_weights(model, loaded)
    assert not loaded.training
    assert (config.encoder, config.id2label, config.pii) == (model.config, id2label, pii)
    stated = json.loads((directory / "config.json").read_text())
    assert stated["architectures"] == ["BertForTokenClassification"]
    assert stated["label2id"] == {label: index for index, label in id2label.items()}


def test_a_pretraining_model_survives_its_directory(pretraining):
    model, directory = pretraining
    assert_same_weights(model, load_pretraining(directory))
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors"]


def test_the_weights_may_be_read_by_whoever_may_read_the_config(pretraining):
    _, directory = pretraining
    modes = {path.stat().st_mode for path in directory.iterdir()}
    assert len(modes) == 1


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    model = randomised(TokenClassifier(CONFIG, num_labels=3))
    save_tagger(model, tmp_path / "whole", id2label=TAGS, pii={})
    save_tagger(model, tmp_path / "half", id2label=TAGS, pii={}, dtype=torch.float16)
    loaded, _ = load_tagger(tmp_path / "half")
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.8 * sizes[1]


def test_a_weight_that_half_precision_cannot_hold_is_not_stored_as_infinity(tmp_path):
    model = randomised(TokenClassifier(CONFIG, num_labels=3))
    with torch.no_grad():
        model.classifier.bias[1] = 70_000.0
    with pytest.raises(CheckpointError, match=r"classifier\.bias.*float16"):
        save_tagger(model, tmp_path / "half", id2label=TAGS, pii={}, dtype=torch.float16)
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize("pooler", [True, False])
def test_an_encoder_starts_from_a_pretraining_checkpoint(pretraining, pooler):
    model, directory = pretraining
    encoder = randomised(Encoder(CONFIG, pooler=pooler), seed=9)
    load_encoder_weights(encoder, directory)
    expected = model.bert.state_dict()
    found = encoder.state_dict()
    assert set(expected) - set(found) == (
        set() if pooler else {"pooler.dense.weight", "pooler.dense.bias"}
    )
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def test_an_encoder_starts_from_a_taggers_checkpoint_but_not_its_pooler(tmp_path):
    tagger = randomised(TokenClassifier(CONFIG, num_labels=3))
    save_tagger(tagger, tmp_path, id2label=TAGS, pii={})
    encoder = Encoder(CONFIG, pooler=False)
    load_encoder_weights(encoder, tmp_path)
    assert_same_weights(tagger.bert, encoder)
    with pytest.raises(CheckpointError, match=r"missing tensors: bert\.pooler\.dense\.weight"):
        load_encoder_weights(Encoder(CONFIG), tmp_path)


@pytest.mark.parametrize(
    "change", [{"num_heads": 4}, {"num_layers": 1}, {"hidden_size": 24}, {"vocab_size": 41}]
)
def test_an_encoder_of_another_shape_does_not_start_from_it(pretraining, change):
    _, directory = pretraining
    encoder = Encoder(replace(CONFIG, **change), pooler=False)
    with pytest.raises(CheckpointError, match=f"{next(iter(change))} is"):
        load_encoder_weights(encoder, directory)


def test_copies_that_other_writers_store_are_accepted_if_they_are_copies(pretraining):
    model, directory = pretraining

    def add_copies(tensors):
        tensors["cls.predictions.decoder.weight"] = tensors[WORDS].clone()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
        tensors["bert.embeddings.position_ids"] = torch.arange(16)[None]

    edit_weights(directory, add_copies)
    assert_same_weights(model, load_pretraining(directory))
    edit_weights(directory, lambda tensors: tensors["cls.predictions.decoder.weight"].add_(1))
    with pytest.raises(CheckpointError, match=r"cls\.predictions\.decoder\.weight differs from"):
        load_pretraining(directory)


def test_position_ids_that_count_otherwise_are_not_ignored(pretraining):
    _, directory = pretraining
    edit_weights(
        directory,
        lambda tensors: tensors.update({"bert.embeddings.position_ids": torch.arange(16).flip(0)}),
    )
    with pytest.raises(
        CheckpointError, match=r"unexpected tensors: bert\.embeddings\.position_ids"
    ):
        load_pretraining(directory)


def test_missing_unexpected_misshapen_and_integer_tensors_are_all_listed(pretraining):
    _, directory = pretraining

    def spoil(tensors):
        del tensors["bert.pooler.dense.bias"]
        tensors["bert.surprise"] = torch.zeros(1)
        tensors["cls.predictions.bias"] = torch.zeros(39)
        tensors["cls.seq_relationship.bias"] = torch.zeros(2, dtype=torch.int64)

    edit_weights(directory, spoil)
    with pytest.raises(CheckpointError) as error:
        load_pretraining(directory)
    message = str(error.value)
    assert message.startswith(str(directory / "model.safetensors"))
    for part in (
        "missing tensors: bert.pooler.dense.bias",
        "unexpected tensors: bert.surprise",
        "cls.predictions.bias (39,) instead of (40,)",
        "cls.seq_relationship.bias (torch.int64)",
    ):
        assert part in message


def test_a_long_list_of_tensors_is_cut_but_counted(pretraining):
    _, directory = pretraining
    edit_weights(
        directory,
        lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layer.1." in name],
    )
    with pytest.raises(CheckpointError, match=r"and 8 more$"):
        load_pretraining(directory)


def test_a_pretraining_checkpoint_is_not_taken_for_a_tagger(pretraining):
    _, directory = pretraining
    with pytest.raises(CheckpointError, match="id2label is missing"):
        load_tagger(directory)


def test_a_damaged_weights_file_is_named_with_what_to_do(pretraining):
    _, directory = pretraining
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[:4], whole[:100], whole[:-1], b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors.*copy or download it again"):
            load_pretraining(directory)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: missing"):
        load_pretraining(directory)
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        load_pretraining(directory)


def test_a_directory_with_only_a_pickle_names_the_command_that_converts_it(pretraining):
    _, directory = pretraining
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(CheckpointError, match=f"starencoder export convert {directory} OUT") as e:
        load_pretraining(directory)
    assert e.value.exit_code == 2


def test_a_pickle_beside_safetensors_is_ignored(pretraining):
    model, directory = pretraining
    (directory / "pytorch_model.bin").write_bytes(b"never read")
    assert_same_weights(model, load_pretraining(directory))


def test_an_output_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        save_pretraining(PretrainingModel(CONFIG), tmp_path / "file" / "model")


def test_labels_that_do_not_fit_the_model_are_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="3 outputs"):
        save_tagger(TokenClassifier(CONFIG, num_labels=3), tmp_path, id2label={0: "O"}, pii={})
