from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import export.to_onnx
from export.batching import batch_predict, packed_feeds, session_run
from export.graph import OPSET, Graph, TaggerWeights
from export.interpret import interpreter
from export.parity import compare, probe_chunks, text_chunks
from export.to_onnx import PRECISIONS, build_float_graph, export_onnx, tagger_weights
from pii.predict import load_torch_predict
from pii.session import ONNX_FILES, make_session, session_predict
from starencoder.checkpoint import save_tagger
from starencoder.config import EncoderConfig, load_tagger_config
from starencoder.errors import CheckpointError, ConfigError, OutputError, ParityError
from starencoder.model import TokenClassifier
from starencoder.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

VOCAB_SIZE = 300
TOKENIZER = train_tokenizer([Path(__file__).read_text(encoding="utf-8")], VOCAB_SIZE)
HALF = 1e-2  # far below the limit of the export

CONFIGS = {
    "usual": {},
    "one layer, one head": {"num_layers": 1, "num_heads": 1, "hidden_size": 12},
    "odd heads": {"num_layers": 3, "num_heads": 7, "hidden_size": 63, "intermediate_size": 45},
    "other epsilon, one segment": {"layer_norm_eps": 1e-3, "type_vocab_size": 1},
    "odd vocabulary and positions": {
        "vocab_size": VOCAB_SIZE + 7,
        "max_positions": 37,
        "pad_id": 0,
    },
}


def make_tagger(directory, *, num_labels=13, **changes):
    values = {
        "vocab_size": VOCAB_SIZE,
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
    save_tokenizer(TOKENIZER, directory)
    return model


def run_graph(path, config, *, precision="fp32"):
    """A written graph as a predict callable whose chunks are one batch."""
    content = path.read_bytes()
    packed = precision == "packed"
    run = interpreter(content) if packed else session_run(make_session(content))
    return batch_predict(run, packed=packed, pad_id=config.encoder.pad_id)


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
    one_by_one = session_predict(make_session(path), config.encoder.max_positions)
    padded = run_graph(path, config)
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


@pytest.mark.parametrize("precision", ["fp16", "packed"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_float16_graphs_compute_what_torch_computes(name, precision, tmp_path):
    make_tagger(tmp_path, **CONFIGS[name])
    path, stated = export_onnx(tmp_path, precision)
    assert path == tmp_path / ONNX_FILES[precision]
    assert 0 < stated.largest <= HALF

    config = load_tagger_config(tmp_path)
    chunks = probe_chunks(config.encoder, seed=5)
    found = run_graph(path, config, precision=precision)
    difference = compare(load_torch_predict(tmp_path), found, chunks)
    assert difference.largest <= HALF
    assert difference.mean <= HALF / 10
    # In any order and company: alone, and with others before and behind.
    alone = [found([chunk])[0] for chunk in chunks]
    for wanted, mixed in zip(alone[::-1], found(chunks[::-1]), strict=True):
        np.testing.assert_allclose(mixed, wanted, atol=2e-3)


def test_the_float16_graph_gives_float16_and_runs_through_a_session(tagger):
    path, _ = export_onnx(tagger, "fp16")
    (output,) = onnx.load(path).graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    config = load_tagger_config(tagger).encoder
    one_by_one = session_predict(make_session(path), config.max_positions)
    found = compare(load_torch_predict(tagger), one_by_one, probe_chunks(config))
    assert found.largest <= HALF
    weights = {value.data_type for value in onnx.load(path).graph.initializer if value.dims != [1]}
    assert weights == {onnx.TensorProto.FLOAT16}


def test_the_packed_graph_has_no_slot_for_padding(tagger):
    path, _ = export_onnx(tagger, "packed")
    graph = onnx.load(path).graph
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes == {
        "input_ids": ["tokens"],
        "positions": ["tokens"],
        "token_offset": ["batch", "seq"],
        "cumulative_sequence_length": ["ends"],
        "probabilities": ["tokens", 13],
    }


def test_an_interpreted_graph_is_what_onnx_runtime_computes(tagger):
    path, _ = export_onnx(tagger, "fp16")
    config = load_tagger_config(tagger)
    chunks = probe_chunks(config.encoder, seed=9)
    ours = batch_predict(interpreter(path.read_bytes()), packed=False, pad_id=3)
    assert compare(run_graph(path, config), ours, chunks).largest <= HALF
    for probs in ours(chunks):
        assert (probs == probs.astype(np.float16)).all()


@pytest.mark.parametrize("field", ["token_offset", "cumulative_sequence_length"])
def test_packed_inputs_that_contradict_each_other_are_refused(tagger, field):
    path, _ = export_onnx(tagger, "packed")
    feeds = packed_feeds([[5, 6, 7], [8]])
    feeds[field].flat[1] += 1
    with pytest.raises(ParityError, match="name different tokens"):
        interpreter(path.read_bytes())(feeds)


FUSED = {
    "fp32": {"Attention": 2, "Gelu": 2, "LayerNormalization": 5, "Softmax": 1},
    "fp16": {"Attention": 2, "BiasGelu": 2, "SkipLayerNormalization": 5, "Softmax": 1},
    "packed": {"PackedAttention": 2, "BiasGelu": 2, "SkipLayerNormalization": 5, "Softmax": 1},
}


def without_fusion(content, operator):
    """A graph in which the first node of one fused operator is written as a piece of it."""
    model = onnx.load_model_from_string(content)
    node = next(node for node in model.graph.node if node.op_type == operator)
    node.op_type, node.domain = ("Erf", "")
    del node.input[1:]
    del node.attribute[:]
    return model.SerializeToString()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_fused_operators_are_those_that_the_layers_demand(tagger, precision):
    path, _ = export_onnx(tagger, precision)
    found = [node.op_type for node in onnx.load(path).graph.node]
    assert {name: found.count(name) for name in FUSED[precision]} == FUSED[precision]


@pytest.mark.parametrize(
    ("precision", "operator"),
    [(precision, operator) for precision, counts in FUSED.items() for operator in counts],
)
def test_a_graph_that_lost_a_fusion_is_refused_by_its_name(
    tagger, precision, operator, monkeypatch
):
    name = "build_float_graph" if precision == "fp32" else "build_half_graph"
    build = getattr(export.to_onnx, name)
    monkeypatch.setattr(
        export.to_onnx, name, lambda *args, **kw: without_fusion(build(*args, **kw), operator)
    )
    number = FUSED[precision][operator]
    counts = rf"1 Erf \(expected 0\), .*{number - 1} {operator} \(expected {number}\)"
    with pytest.raises(ParityError, match=rf"not written: .*{counts}"):
        export_onnx(tagger, precision)
    assert not (tagger / "onnx").exists()


def test_a_graph_that_is_not_valid_is_refused(tagger, monkeypatch):
    def twice(weights):
        model = onnx.load_model_from_string(build_float_graph(weights))
        model.graph.node[-1].input[0] = "nowhere"
        return model.SerializeToString()

    monkeypatch.setattr(export.to_onnx, "build_float_graph", twice)
    with pytest.raises(ParityError, match=r"model\.onnx, not written: not a valid graph"):
        export_onnx(tagger)


def test_a_weight_that_float16_cannot_hold_is_refused_by_name(tmp_path):
    model = make_tagger(tmp_path)
    with torch.no_grad():
        model.classifier.weight[0, 0] = 70_000
    save_tagger(model, tmp_path, id2label={index: f"T{index}" for index in range(13)}, pii={})
    with pytest.raises(CheckpointError, match=r"classifier\.weight: .* 70000 .* --precision fp32"):
        export_onnx(tmp_path, "fp16")
    assert export_onnx(tmp_path)[1].largest <= 1e-4


def test_an_unknown_precision_is_refused(tagger):
    with pytest.raises(ConfigError, match=r"unknown precision 'fp61' .*fp16"):
        export_onnx(tagger, "fp61")


def test_parity_is_checked_on_real_text_of_mixed_lengths(tagger):
    config = load_tagger_config(tagger).encoder
    tokenizer = load_tokenizer(tagger)
    chunks = text_chunks(tagger, config)
    lengths = [len(chunk) for chunk in chunks]
    assert max(lengths) == config.max_positions
    assert min(lengths) < config.max_positions / 4
    assert len(set(lengths)) > 4
    assert all(chunk[0] == tokenizer.cls_id and chunk[-1] == tokenizer.sep_id for chunk in chunks)
    assert len({token for chunk in chunks for token in chunk}) > 40


def test_a_tokenizer_of_a_larger_vocabulary_than_the_model_is_refused(tmp_path):
    make_tagger(tmp_path, vocab_size=VOCAB_SIZE - 1)
    message = rf"tokenizer has {VOCAB_SIZE} tokens and the model {VOCAB_SIZE - 1}"
    with pytest.raises(CheckpointError, match=message):
        export_onnx(tmp_path)


def test_half_weights_are_the_only_ones_that_are_rounded():
    whole, half = Graph(), Graph(half=True)
    value = np.array([1 + 2**-12], np.float32)
    for graph in (whole, half):
        graph.constant("value", value)
        graph.node("Identity", ["value"], "same")
    stored = [
        onnx.numpy_helper.to_array(
            onnx.load_model_from_string(graph.to_bytes({}, {"same": [1]})).graph.initializer[0]
        )
        for graph in (whole, half)
    ]
    assert stored[0].tolist() == value.tolist()
    assert stored[1].tolist() == [1.0]


@pytest.mark.parametrize(
    ("precision", "spoiled"),
    [
        ("fp32", "bert.encoder.layer.1.attention.self.key.weight"),
        ("fp32", "bert.encoder.layer.0.attention.output.LayerNorm.bias"),
        ("fp32", "bert.embeddings.token_type_embeddings.weight"),
        ("fp32", "classifier.bias"),
        ("fp16", "bert.encoder.layer.0.intermediate.dense.bias"),
        ("packed", "bert.encoder.layer.1.output.dense.bias"),
    ],
)
def test_a_graph_that_computes_something_else_is_not_written(
    tagger, spoiled, precision, monkeypatch
):
    def wrong_weights(model):
        weights = tagger_weights(model)
        arrays = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
        arrays[spoiled] = arrays[spoiled][::-1].copy()
        return TaggerWeights(arrays, weights.config)

    monkeypatch.setattr(export.to_onnx, "tagger_weights", wrong_weights)
    file = ONNX_FILES[precision].removeprefix("onnx/")
    with pytest.raises(ParityError, match=rf"{file}, not written: .* at chunk \d+, token \d+"):
        export_onnx(tagger, precision)
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
