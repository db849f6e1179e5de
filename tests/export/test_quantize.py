import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cli
import export.quantize
from export.graph import TaggerWeights
from export.parity import compare, probe_chunks
from export.quantize import ACTIVATIONS, calibrate, export_int8, quantise_columns
from export.to_onnx import tagger_weights
from pii.predict import load_torch_predict, torch_predict
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
    predict = load_session(tagger)
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
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_int8_stays_near_torch(changes, activations, tmp_path):
    directory = make_tagger(tmp_path, **changes)
    done = export_int8(directory, activations=activations)
    assert done.path == directory / "onnx" / "model_int8.onnx"
    stated = done.variants[activations].difference
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


@pytest.mark.parametrize(
    "parameter", ["bert.encoder.layer.0.output.dense.weight", "classifier.weight"]
)
def test_a_graph_that_is_plainly_wrong_is_not_written(parameter, tmp_path, monkeypatch):
    directory = make_tagger(tmp_path)

    def wrong_weights(model):
        arrays = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
        arrays[parameter] = arrays[parameter][::-1].copy()
        return TaggerWeights(arrays, model.config)

    monkeypatch.setattr(export.quantize, "tagger_weights", wrong_weights)
    with pytest.raises(ParityError, match=r"model_int8\.onnx \(.*\): .* on average .* not written"):
        export_int8(directory)
    assert not (directory / "onnx").exists()


def test_static_scales_are_fixed_in_the_graph(tmp_path):
    directory = make_tagger(tmp_path)
    export_int8(directory, activations="static")
    graph = onnx.load(directory / "onnx" / "model_int8.onnx").graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["QuantizeLinear"] == 4 * 2
    assert operators["MatMulIntegerToFloat"] == 3 * 2
    assert operators["DynamicQuantizeLinear"] == operators["DynamicQuantizeMatMul"] == 0


def test_calibration_finds_the_range_of_every_activation(tagger):
    model, config = load_tagger(tagger)
    weights = tagger_weights(model)
    chunks = probe_chunks(config.encoder)
    ranges = calibrate(weights, chunks)
    assert len(ranges) == 4 * config.encoder.num_layers

    # What torch's own modules give out, by hooks, is within these ranges and reaches their ends.
    seen = {}

    def watch(name):
        def hook(module, inputs):
            seen.setdefault(name, []).append(inputs[0].detach().numpy().copy())

        return hook

    for index, layer in enumerate(model.bert.encoder.layer):
        prefix = f"encoder.layer.{index}"
        layer.attention.output.dense.register_forward_pre_hook(watch(f"{prefix}.context"))
        layer.intermediate.dense.register_forward_pre_hook(watch(f"{prefix}.attention"))
        layer.output.dense.register_forward_pre_hook(watch(f"{prefix}.gelu"))
    predict = torch_predict(model)
    for chunk in chunks:
        predict([chunk])
    for name, values in seen.items():
        flat = np.concatenate([value.ravel() for value in values])
        assert ranges[name] == pytest.approx((min(flat.min(), 0), max(flat.max(), 0)), abs=1e-4)


@pytest.mark.parametrize(("activations", "other"), [("dynamic", "static"), ("static", "dynamic")])
def test_a_graph_that_lost_a_fusion_is_refused(activations, other, tmp_path, monkeypatch):
    directory = make_tagger(tmp_path)
    expected = export.quantize.expected_int8_operators

    def one_more(config, *, static):
        counts = expected(config, static=static)
        name = "MatMulIntegerToFloat" if static else "DynamicQuantizeMatMul"
        changed = static == (activations == "static")
        return {**counts, name: counts[name] + 1} if changed else counts

    monkeypatch.setattr(export.quantize, "expected_int8_operators", one_more)
    with pytest.raises(ParityError, match=rf"\({activations}\), not written: .* 6 .*expected 7"):
        export_int8(directory)
    assert not (directory / "onnx").exists()


def test_both_forms_are_compared_whichever_is_written(tagger):
    done = export_int8(tagger)
    assert list(done.variants) == ["float32", *ACTIVATIONS]
    assert done.activations == "dynamic"
    assert done.variants["dynamic"].size == done.path.stat().st_size
    assert done.variants["float32"].size > 2 * done.variants["static"].size
    assert all(each.rate > 0 and each.f1 is None for each in done.variants.values())
    assert done.variants["float32"].difference.largest < 1e-4


def gold_file(folder):
    record = {"id": "d", "language": "", "package": "", "path": "", "text": "x", "spans": []}
    path = folder / "gold.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return str(path)


@pytest.fixture
def made_up_scores(monkeypatch):
    """F1 by label of float32, dynamic and static, which are measured in this order."""
    scores = iter(
        [{"NAME": 0.9, "KEY": 0.5}, {"NAME": 0.85, "KEY": 0.5}, {"NAME": 0.896, "KEY": 0.51}]
    )

    def next_scores(directory, predict, documents):
        assert [document.id for document in documents] == ["d"]
        return next(scores)

    monkeypatch.setattr(export.quantize, "f1_by_label", next_scores)


def test_quantize_prints_what_int8_costs_by_label_on_annotated_documents(
    tagger, tmp_path, made_up_scores, capsys
):
    arguments = ["export", "quantize", str(tagger), "--annotated", gold_file(tmp_path)]
    assert cli.main([*arguments, "--max-loss", "5.1"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[1:4]] == ["float32", "dynamic", "static"]
    assert rows[5:8] == [
        ["F1", "float32", "dynamic", "points", "static", "points"],
        ["NAME", "0.900", "0.850", "-5.00", "0.896", "-0.40"],
        ["KEY", "0.500", "0.500", "+0.00", "0.510", "+1.00"],
    ]
    assert rows[-1] == [f"{tagger / 'onnx' / 'model_int8.onnx'}:", "dynamic"]


def test_what_loses_more_than_stated_is_not_written(tmp_path, made_up_scores, capsys):
    directory = make_tagger(tmp_path / "model")
    arguments = ["export", "quantize", str(directory), "--annotated", gold_file(tmp_path)]
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert "F1 of NAME falls by 5.00 points" in said.err
    assert "(limit 0.5 points); not written" in said.err
    assert said.out == ""
    assert not (directory / "onnx").exists()


def test_the_limit_holds_for_the_form_that_is_written(tmp_path, made_up_scores, capsys):
    directory = make_tagger(tmp_path / "model")
    arguments = ["export", "quantize", str(directory), "--annotated", gold_file(tmp_path)]
    assert cli.main([*arguments, "--activations", "static"]) == 0
    operators = [
        node.op_type for node in onnx.load(directory / "onnx" / "model_int8.onnx").graph.node
    ]
    assert "MatMulIntegerToFloat" in operators


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-loss", "1"], "--max-loss needs --annotated"),
        (["--annotated", "empty.jsonl", "--max-loss", "nan"], "--max-loss must be 0 or more"),
        (["--annotated", "empty.jsonl", "--max-loss", "-100"], "must be 0 or more, got -100"),
        (["--annotated", "missing.jsonl"], "missing.jsonl"),
        (["--calibration", "missing.py"], "missing.py: cannot be read"),
        (["--annotated", "empty.jsonl"], "empty.jsonl"),
        (["--calibration", "empty.jsonl"], "empty.jsonl: no text"),
    ],
)
def test_quantize_refuses_what_it_cannot_use_and_writes_nothing(
    flags, message, tmp_path, monkeypatch, capsys
):
    directory = make_tagger(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    assert cli.main(["export", "quantize", str(directory), *flags]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (directory / "onnx").exists()
