import numpy as np
import onnx
import pytest
import torch

import export.to_onnx
from export.graph import OPSET
from export.parity import compare, probe_chunks
from export.to_onnx import build_float_graph, export_onnx, padded_predict, tagger_weights
from pii.predict import load_torch_predict
from pii.session import load_session
from starencoder.checkpoint import save_tagger
from starencoder.config import EncoderConfig, load_tagger_config
from starencoder.errors import CheckpointError, OutputError, ParityError
from starencoder.model import TokenClassifier

CONFIGS = {
    "usual": {},
    "one layer, one head": {"num_layers": 1, "num_heads": 1, "hidden_size": 12},
    "odd heads": {"num_layers": 3, "num_heads": 7, "hidden_size": 63, "intermediate_size": 45},
    "other epsilon, one segment": {"layer_norm_eps": 1e-3, "type_vocab_size": 1},
    "odd vocabulary and positions": {"vocab_size": 101, "max_positions": 37, "pad_id": 0},
}


def make_tagger(directory, *, num_labels=13, **changes):
    values = {
        "vocab_size": 53,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 64,
        "max_positions": 40,
        "pad_id": 49,
    }
    model = TokenClassifier(EncoderConfig(**{**values, **changes}), num_labels=num_labels)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3, generator=generator)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1)
    labels = {index: f"T{index}" for index in range(num_labels)}
    save_tagger(model, directory, id2label=labels, pii={})
    return model


@pytest.fixture
def tagger(tmp_path):
    make_tagger(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("num_labels", [2, 13])
def test_the_exported_graph_computes_what_torch_computes(name, num_labels, tmp_path):
    make_tagger(tmp_path, num_labels=num_labels, **CONFIGS[name])
    path, stated = export_onnx(tmp_path)
    assert path == tmp_path / "onnx" / "model.onnx"
    assert stated.largest <= 1e-4

    config = load_tagger_config(tmp_path)
    chunks = probe_chunks(config.encoder, seed=5)
    reference = load_torch_predict(tmp_path)
    one_by_one = load_session(tmp_path, precision="fp32")
    padded = padded_predict(path.read_bytes(), config)
    assert compare(reference, one_by_one, chunks).largest <= 1e-4
    assert compare(reference, padded, chunks).largest <= 1e-4
    # What a chunk gets does not depend on its company.
    assert compare(one_by_one, padded, chunks[::-1]).largest <= 1e-5
    spread = np.concatenate(reference(chunks)).std(axis=0)
    assert (spread > 0.01).any(), "the probabilities must vary for the comparison to mean anything"


def test_the_graph_is_valid_and_keeps_the_fused_operators(tagger):
    path, _ = export_onnx(tagger)
    model = onnx.load(path)
    operators = [node.op_type for node in model.graph.node]
    assert {opset.domain: opset.version for opset in model.opset_import} == {
        "": OPSET,
        "com.microsoft": 1,
    }
    assert operators.count("Attention") == 2
    assert operators.count("Gelu") == 2
    assert operators.count("LayerNormalization") == 5
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in model.graph.output] == ["probabilities"]


@pytest.mark.parametrize(
    "spoiled",
    [
        "bert.encoder.layer.1.attention.self.key.weight",
        "bert.encoder.layer.0.attention.output.LayerNorm.bias",
        "bert.embeddings.token_type_embeddings.weight",
        "classifier.bias",
    ],
)
def test_a_graph_that_computes_something_else_is_not_written(tagger, spoiled, monkeypatch):
    def wrong_graph(weights):
        name = spoiled.removeprefix("bert.")
        weights.array(name)[:] = weights.array(name)[::-1].copy()
        return build_float_graph(weights)

    def copied_weights(model):
        weights = tagger_weights(model)
        arrays = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
        return type(weights)(arrays, model.config)

    monkeypatch.setattr(export.to_onnx, "tagger_weights", copied_weights)
    monkeypatch.setattr(export.to_onnx, "build_float_graph", wrong_graph)
    with pytest.raises(ParityError, match=r"model\.onnx, not written: .* at chunk \d+, token \d+"):
        export_onnx(tagger)
    assert not (tagger / "onnx").exists()


def test_what_was_there_before_stays_when_the_new_file_cannot_be_written(tagger, monkeypatch):
    path, _ = export_onnx(tagger)
    before = path.read_bytes()

    def full_disk(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full_disk)
    with pytest.raises(OutputError, match=r"model\.onnx: cannot be written \(No space left"):
        export_onnx(tagger)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


def test_a_directory_without_weights_is_refused(tagger):
    (tagger / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: missing"):
        export_onnx(tagger)
