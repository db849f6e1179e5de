import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cli
import export.parity
import export.quantize
from export.parity import compare, probe_chunks
from export.quantize import build_int8_graph, export_int8, quantise_columns
from pii.predict import load_torch_predict
from pii.session import load_session
from starencoder.checkpoint import load_tagger, save_tagger
from starencoder.config import EncoderConfig
from starencoder.errors import ParityError
from starencoder.model import TokenClassifier
from starencoder.tokenizer import save_tokenizer, train_tokenizer

VOCAB_SIZE = 1000
TOKENIZER = train_tokenizer([Path(cli.__file__).read_text(encoding="utf-8")], VOCAB_SIZE)


def make_tagger(directory, **changes):
    """A tagger whose weights have the size of trained ones."""
    values = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 256,
        "max_positions": 128,
        "pad_id": 0,
    }
    torch.manual_seed(0)
    model = TokenClassifier(EncoderConfig(**{**values, **changes}), num_labels=13)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.5 if name.startswith("classifier") else 0.1)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1)
    save_tagger(model, directory, id2label={i: f"T{i}" for i in range(13)}, pii={})
    save_tokenizer(TOKENIZER, directory)
    return directory


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    directory = make_tagger(tmp_path_factory.mktemp("tagger"))
    export_int8(directory)
    return directory


@given(
    matrix=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(-100, 100, width=32),
    )
)
def test_a_rounded_matrix_is_within_half_a_step_of_the_original(matrix):
    values, scales = quantise_columns(matrix)
    assert values.dtype == np.int8
    assert scales.shape == matrix.shape[1:]
    assert (np.abs(values.astype(np.float64) * scales - matrix) <= scales * 0.50001).all()
    assert (np.abs(values.astype(int)) <= 127).all()


def test_a_column_of_zeros_stays_zero():
    values, scales = quantise_columns(np.array([[0.0, 1.0], [0.0, -2.0]], np.float32))
    assert values[:, 0].tolist() == [0, 0]
    assert np.isfinite(scales).all()


def test_a_chunk_gets_the_same_bits_alone_in_any_batch_and_in_any_order(tagger):
    predict = load_session(tagger, precision="int8")
    config = load_tagger(tagger)[1].encoder
    chunks = [*probe_chunks(config), [5] * 128, [7]]
    alone = [predict([chunk])[0] for chunk in chunks]
    order = list(range(len(chunks)))
    for seed in range(3):
        random.Random(seed).shuffle(order)
        together = predict([chunks[index] for index in order])
        for index, probs in zip(order, together, strict=True):
            assert probs.tobytes() == alone[index].tobytes()


def test_several_threads_give_the_same_bits(tagger):
    chunks = probe_chunks(load_tagger(tagger)[1].encoder)
    one, two = load_session(tagger), load_session(tagger, threads=2)
    for left, right in zip(one(chunks), two(chunks), strict=True):
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_layers": 1, "num_heads": 1},
        {"num_layers": 3, "num_heads": 5, "hidden_size": 45, "intermediate_size": 77},
        {"max_positions": 37, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    ],
)
def test_int8_stays_near_torch(changes, tmp_path):
    directory = make_tagger(tmp_path, **changes)
    path, stated = export_int8(directory)
    assert path == directory / "onnx" / "model_int8.onnx"
    chunks = probe_chunks(load_tagger(directory)[1].encoder, seed=3)
    reference, int8 = load_torch_predict(directory), load_session(directory)
    found = compare(reference, int8, chunks)
    assert max(found.mean, stated.mean) < 0.01
    assert found.changed_tags < 0.12
    for probs in int8(chunks):
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    spread = np.concatenate(reference(chunks)).std(axis=0)
    assert (spread > 0.05).any(), "the probabilities must vary for the comparison to mean anything"


def test_matrices_and_token_embeddings_are_stored_in_eight_bits(tagger):
    model = onnx.load(tagger / "onnx" / "model_int8.onnx")
    large = {
        constant.name: constant.data_type
        for constant in model.graph.initializer
        if np.prod(constant.dims) >= 64 * 64 and constant.name != "position_table"
    }
    assert len(large) == 1 + 2 * 4
    assert set(large.values()) == {onnx.TensorProto.INT8}


def test_the_graph_takes_one_chunk_at_a_time_only(tagger):
    model = onnx.load(tagger / "onnx" / "model_int8.onnx")
    (value,) = model.graph.input
    assert value.type.tensor_type.shape.dim[0].dim_value == 1


@pytest.mark.parametrize("parameter", ["embeddings.LayerNorm.weight", "classifier.weight"])
def test_a_graph_that_is_plainly_wrong_is_not_written(parameter, tmp_path, monkeypatch):
    directory = make_tagger(tmp_path)

    def wrong_graph(weights):
        array = weights.array(parameter)
        array[:] = array[::-1].copy()
        return build_int8_graph(weights)

    def copied_weights(model):
        weights = export.to_onnx.tagger_weights(model)
        arrays = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
        return type(weights)(arrays, model.config)

    monkeypatch.setattr(export.quantize, "tagger_weights", copied_weights)
    monkeypatch.setattr(export.quantize, "build_int8_graph", wrong_graph)
    with pytest.raises(ParityError, match=r"model_int8\.onnx: .* on average .* not written"):
        export_int8(directory)
    assert not (directory / "onnx").exists()


def test_quantize_prints_what_int8_costs_by_label_on_annotated_documents(
    tagger, tmp_path, monkeypatch, capsys
):
    record = {"id": "d", "language": "", "package": "", "path": "", "text": "x", "spans": []}
    gold = tmp_path / "gold.jsonl"
    gold.write_text(json.dumps(record) + "\n")

    def made_up_scores(directory, probabilities, documents):
        assert [document.id for document in documents] == ["d"]
        return {"NAME": 0.9 if probabilities.__module__ == "pii.predict" else 0.85, "KEY": 0.5}

    monkeypatch.setattr(export.parity, "f1_by_label", made_up_scores)
    assert cli.main(["export", "quantize", str(tagger), "--gold", str(gold)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [
        ["F1", "float32", "int8", "points"],
        ["NAME", "0.900", "0.850", "-5.00"],
        ["KEY", "0.500", "0.500", "+0.00"],
    ]


def test_quantize_writes_nothing_where_the_annotated_documents_cannot_be_read(tmp_path, capsys):
    directory = make_tagger(tmp_path / "model")
    missing = str(tmp_path / "missing.jsonl")
    assert cli.main(["export", "quantize", str(directory), "--gold", missing]) == 2
    assert missing in capsys.readouterr().err
    assert not (directory / "onnx").exists()
