import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.quantize import export_int8
from export.to_onnx import export_onnx
from pii.predict import load_torch_predict
from pii.session import (
    ONNX_FILES,
    check_onnxruntime,
    export_command,
    load_session,
    make_session,
    session_predict,
)
from starencoder.checkpoint import save_tagger
from starencoder.config import EncoderConfig
from starencoder.errors import CheckpointError, ConfigError, MissingExtraError
from starencoder.model import TokenClassifier
from starencoder.tokenizer import save_tokenizer, train_tokenizer

CHUNKS = [[1, 2, 3], [4], list(range(16))]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=300,
        hidden_size=12,
        num_layers=1,
        num_heads=3,
        intermediate_size=20,
        max_positions=16,
        pad_id=296,
        initializer_range=0.5,
    )
    model = TokenClassifier(config, num_labels=3)
    save_tagger(model, directory, id2label={0: "O", 1: "B-KEY", 2: "I-KEY"}, pii={})
    text = Path(__file__).read_text(encoding="utf-8")
    save_tokenizer(train_tokenizer([text], config.vocab_size), directory)
    export_onnx(directory)
    export_int8(directory)
    return directory


@pytest.fixture
def model_dir(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "model"))


def open_graph(model_dir, precision):
    return session_predict(make_session(model_dir / ONNX_FILES[precision]), 16)


def test_every_precision_gives_rows_that_sum_to_one_in_the_order_of_the_chunks(model_dir):
    expected = load_torch_predict(model_dir)(CHUNKS)
    for precision, tolerance in (("fp32", 1e-5), ("int8", 0.1)):
        found = open_graph(model_dir, precision)(CHUNKS)
        for probs, reference in zip(found, expected, strict=True):
            assert probs.dtype == np.float32
            np.testing.assert_allclose(probs, reference, atol=tolerance)
            np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert load_session(model_dir)([]) == []


def test_the_fastest_precision_that_is_there_is_used(model_dir):
    int8 = open_graph(model_dir, "int8")(CHUNKS)[2]
    fp32 = open_graph(model_dir, "fp32")(CHUNKS)[2]
    assert int8.tobytes() != fp32.tobytes()
    assert load_session(model_dir)(CHUNKS)[2].tobytes() == int8.tobytes()
    (model_dir / "onnx" / "model_int8.onnx").unlink()
    assert load_session(model_dir)(CHUNKS)[2].tobytes() == fp32.tobytes()


def test_a_chunk_that_the_model_cannot_read_is_a_mistake_of_the_caller(model_dir):
    predict = load_session(model_dir)
    for length in (0, 17):
        with pytest.raises(ValueError, match=rf"has {length} tokens; expected 1\.\.16"):
            predict([[1] * length])


def test_missing_files_are_named_with_the_command_that_makes_them(model_dir):
    shutil.rmtree(model_dir / "onnx")
    with pytest.raises(
        CheckpointError, match=rf"model_int8\.onnx or .*: starencoder export quantize {model_dir}"
    ):
        load_session(model_dir)
    for precision, flag in (("fp32", ""), ("fp16", " --precision fp16")):
        command = export_command(model_dir / ONNX_FILES[precision])
        assert command == f"starencoder export onnx {model_dir}{flag}"
    (model_dir / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        load_session(model_dir)


def test_a_damaged_graph_is_named_with_what_to_do(model_dir, capfd):
    path = model_dir / "onnx" / "model_int8.onnx"
    whole = path.read_bytes()
    for damaged in (b"", whole[:10], whole[: len(whole) // 2], whole[:-1], b"\xff" * 500, b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model_int8\.onnx: .* copy it again") as error:
            load_session(model_dir)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_graph_of_another_model_is_refused(model_dir):
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=300,
        hidden_size=12,
        num_layers=1,
        num_heads=3,
        intermediate_size=20,
        max_positions=16,
        pad_id=296,
    )
    labels = {0: "O", 1: "B-KEY", 2: "I-KEY", 3: "B-NAME", 4: "I-NAME"}
    save_tagger(TokenClassifier(config, num_labels=5), model_dir, id2label=labels, pii={})
    with pytest.raises(CheckpointError, match=r"model_int8\.onnx: .* 3 tags, while .* names 5"):
        load_session(model_dir)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda graph: setattr(graph.output[0], "name", "logits"), "found logits"),
        (lambda graph: setattr(graph.input[0], "name", "tokens"), r"tokens tensor\(int32\)"),
        (
            lambda graph: setattr(graph.input[0].type.tensor_type, "elem_type", 7),
            r"input_ids tensor\(int64\)",
        ),
    ],
)
def test_a_graph_of_another_exporter_is_refused(model_dir, change, complaint):
    path = model_dir / "onnx" / "model_int8.onnx"
    model = onnx.load(path)
    change(model.graph)
    for node in model.graph.node:
        names = {
            "input_ids": model.graph.input[0].name,
            "probabilities": model.graph.output[0].name,
        }
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match=complaint) as error:
        load_session(model_dir)
    assert str(error.value).endswith(f": starencoder export quantize {model_dir}")
    path.rename(path.with_name("model.onnx"))
    with pytest.raises(CheckpointError, match=f": starencoder export onnx {model_dir}$"):
        load_session(model_dir)


def test_a_name_that_is_not_utf8_in_a_damaged_graph_is_no_traceback(model_dir, capfd):
    path = model_dir / "onnx" / "model_int8.onnx"
    path.write_bytes(path.read_bytes().replace(b"word_scales", b"word_\xff\xfe\xffles", 1))
    with pytest.raises(CheckpointError, match="copy it again"):
        load_session(model_dir)
    assert capfd.readouterr() == ("", "")


def test_without_onnx_runtime_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'starencoder\[cpu\]'$"):
        check_onnxruntime()


def test_two_onnx_runtimes_at_once_are_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("onnxruntime_tools-1.0", "onnxruntime-1.31.1"):
        (tmp_path / f"{name}.dist-info").mkdir()
    check_onnxruntime()
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info").mkdir()
    with pytest.raises(ConfigError, match="onnxruntime and onnxruntime-gpu are both installed"):
        check_onnxruntime()


def test_a_session_needs_neither_torch_nor_onnx(model_dir):
    command = (
        "import sys; from pathlib import Path; from pii.session import load_session; "
        "load_session(Path(sys.argv[1]))([[1, 2]]); "
        "sys.exit(bool({'torch', 'transformers', 'onnx', 'safetensors'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", command, str(model_dir)]
    assert subprocess.run(arguments, check=False).returncode == 0


def test_sessions_are_opened_without_a_search_for_fusions(model_dir, monkeypatch):
    seen = []
    original = onnxruntime.InferenceSession

    def spy(model, options, **more):
        seen.append(options)
        return original(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    load_session(model_dir, threads=2)
    (options,) = seen
    assert options.intra_op_num_threads == 2
    assert options.graph_optimization_level == (onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
