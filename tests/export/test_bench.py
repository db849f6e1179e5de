import functools
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import cli
import export.bench
from export import cuda
from export.batching import batch_predict, packed_feeds
from export.bench import (
    Bench,
    ModelRate,
    TextRate,
    bench_text,
    load_pipeline,
    providers_there,
    run_bench,
)
from export.half_graph import build_half_graph
from export.interpret import interpreter
from export.to_onnx import tagger_weights
from pii.detect import EMBEDDED_MODEL
from pii.predict import load_torch_predict
from pii.session import ONNX_FILES, PROVIDERS, make_session
from pii.tagger import chunk_tokens, iter_chunks, load_tagger, tokenize_document
from starencoder.checkpoint import load_tagger as load_checkpoint
from starencoder.errors import CheckpointError, ConfigError, MissingExtraError

TEXTS = ["# by Zbigniew Brzozowski\nlimit = 7\n" * 20, "x = 1\n", "def f():\n    return 8\n" * 9]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(export.bench, "_SECONDS", 0.0)
    monkeypatch.setattr(export.bench, "BATCHES", (1, 2))
    monkeypatch.setattr(export.bench, "LENGTHS", (8, 9999))
    monkeypatch.setattr(export.bench, "PEER_BATCHES", (2,))
    monkeypatch.setattr(export.bench, "ROUNDS", 1)


def test_rates_count_the_real_tokens_of_the_text_and_nothing_else():
    bench = run_bench(EMBEDDED_MODEL, TEXTS, providers=["cpu"], against=["transformers"])
    tokenizer = load_tagger(EMBEDDED_MODEL, list).tokenizer
    tokens = sum(len(tokenize_document(text, tokenizer)[0]) for text in TEXTS)
    assert (bench.documents, bench.tokens) == (3, tokens)
    assert bench.megabytes == pytest.approx(sum(map(len, TEXTS)) / 1e6)
    for rate in bench.text:
        assert rate.tokens_per_second == pytest.approx(tokens / rate.seconds)
        assert rate.megabytes_per_second == pytest.approx(bench.megabytes / rate.seconds)
        assert rate.cpu_seconds > 0
    engines = [(rate.engine, rate.provider, rate.precision) for rate in bench.text]
    assert engines == [
        ("starencoder", "cpu", "int8"),
        ("starencoder, balanced", "cpu", "int8"),
        ("starencoder, thorough", "cpu", "int8"),
        ("starencoder", "cpu", "fp32"),
        ("starencoder, balanced", "cpu", "fp32"),
        ("starencoder, thorough", "cpu", "fp32"),
        ("transformers, batch 2", "cpu", "fp32"),
    ]
    # Both sides read the same text with the same weights.
    assert min(rate.spans for rate in bench.text) >= 20

    shapes = [(rate.precision, rate.batch, rate.length) for rate in bench.model]
    assert shapes == [("int8", 1, 8), ("fp32", 1, 8), ("fp32", 2, 8)]
    for each in bench.model:
        assert each.tokens_per_second > 0
        ratio = bench.megabytes / bench.tokens
        assert each.megabytes_per_second == pytest.approx(each.tokens_per_second * ratio)
    if sys.platform == "linux":
        # The graph in float32 holds 26 MB of weights, that in int8 a quarter of it.
        memory = {rate.precision: rate.memory for rate in bench.model}
        assert memory["fp32"] > 26
        assert 0 < memory["int8"] < memory["fp32"]


def test_the_files_of_the_directory_are_measured_where_they_are_there(tmp_path, monkeypatch):
    directory = Path(shutil.copytree(EMBEDDED_MODEL, tmp_path / "model"))
    (directory / "model.safetensors").unlink()
    bench = run_bench(directory, TEXTS[1:], providers=["cpu"])
    assert {rate.precision for rate in bench.text} == {"int8"}
    with pytest.raises(CheckpointError, match=r"no model\.safetensors, which transformers reads"):
        run_bench(directory, TEXTS[1:], providers=["cpu"], against=["transformers"])
    (directory / ONNX_FILES["int8"]).unlink()
    with pytest.raises(CheckpointError, match=r"no graph for cpu and no model\.safetensors"):
        run_bench(directory, TEXTS[1:], providers=["cpu"])


def test_transformers_reads_the_same_chunks_as_we_do():
    peer = load_pipeline(EMBEDDED_MODEL, "cpu")
    tagger = load_tagger(EMBEDDED_MODEL, list)
    ids, _ = tokenize_document(TEXTS[0], tagger.tokenizer)
    ours = list(iter_chunks(chunk_tokens(ids, tagger), tagger))
    theirs = [
        part["input_ids"][0][part["attention_mask"][0] == 1].tolist()
        for part in peer.preprocess(TEXTS[0], **peer._preprocess_params)
    ]
    assert len(ours) > 3
    assert theirs == [chunk[1:-1] for chunk in ours]  # our tokenizer.json adds no cls and sep


def test_on_a_gpu_fp16_goes_the_way_of_a_scan_and_finds_what_a_cpu_finds(monkeypatch):
    opened = []

    def open_on_cpu(folder, device):
        opened.append(device)
        return cuda.BoundRunner(make_session(folder / ONNX_FILES["fp16"]), "cpu", 0)

    small = functools.partial(cuda.batch_plan, token_budget=256)
    monkeypatch.setattr(cuda, "check_cuda", lambda: None)
    monkeypatch.setattr(cuda, "open_cuda", open_on_cpu)
    monkeypatch.setattr(cuda, "batch_plan", lambda folder, token_budget: small(folder))
    monkeypatch.setattr(export.bench, "batch_plan", small)
    monkeypatch.setattr(
        export.bench, "make_session", lambda path, threads, providers: make_session(path)
    )
    monkeypatch.setattr(export.bench, "_model_rates", lambda *_: [])
    # The packed graph has no kernel here.
    monkeypatch.setattr(export.bench, "precisions_on", lambda provider: ["fp32", "fp16"])
    bench = run_bench(EMBEDDED_MODEL, TEXTS, providers=["cuda"])
    assert [(rate.engine, rate.precision) for rate in bench.text] == [
        ("starencoder", "fp32"),
        ("starencoder", "fp16"),
    ]
    assert opened == [0]
    fp32, fp16 = (rate.spans for rate in bench.text)
    assert fp32 == fp16 >= 20


def test_packed_chunks_go_to_a_gpu_in_batches_and_keep_their_order(tmp_path, monkeypatch):
    sizes = []

    def run_packed(graph):
        run = interpreter(graph)
        return lambda feeds: sizes.append(len(feeds["token_offset"])) or run(feeds)

    monkeypatch.setattr(export.bench, "make_session", lambda path, **_: path.read_bytes())
    monkeypatch.setattr(export.bench, "session_run", run_packed)
    monkeypatch.setattr(
        export.bench, "batch_plan", functools.partial(cuda.batch_plan, token_budget=256)
    )
    path = export.bench._graph(EMBEDDED_MODEL, "packed", tmp_path)
    chunks = [[5, 6, 7, 8], [9], list(range(100, 160)), [3], [5, 6]]
    found = export.bench._predict(path, "cuda", "packed", 1)(chunks)
    assert sizes == [2, 2, 1]
    for probs, wanted in zip(found, load_torch_predict(EMBEDDED_MODEL)(chunks), strict=True):
        np.testing.assert_allclose(probs, wanted, atol=1e-2)


def test_packed_batches_get_what_each_chunk_alone_gets():
    model, config = load_checkpoint(EMBEDDED_MODEL)
    graph = build_half_graph(tagger_weights(model), packed=True)
    predict = batch_predict(interpreter(graph), packed=True, pad_id=config.encoder.pad_id)
    chunks = [[5, 6, 7, 8], [9], list(range(100, 160))]
    for chunk, probs in zip(chunks, predict(chunks), strict=True):
        assert probs.dtype == np.float32
        assert probs.shape == (len(chunk), 13)
        np.testing.assert_allclose(probs, predict([chunk])[0], atol=2e-3)


def test_packed_inputs_are_those_of_the_operators_schema():
    # The example in the schema of PackedAttention: chunks of 1, 2 and 4 tokens.
    feeds = packed_feeds([[10], [11, 12], [13, 14, 15, 16]])
    assert feeds["input_ids"].tolist() == [10, 11, 12, 13, 14, 15, 16]
    assert feeds["token_offset"].ravel().tolist() == [0, 4, 5, 8, 9, 10, 11, 1, 2, 3, 6, 7]
    assert feeds["token_offset"].shape == (3, 4)
    assert feeds["cumulative_sequence_length"].tolist() == [0, 1, 1 + 2, 1 + 2 + 4]
    assert feeds["positions"].tolist() == [0, 0, 1, 0, 1, 2, 3]
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int32)}


def test_a_provider_that_is_not_there_is_refused_by_name():
    graph = EMBEDDED_MODEL / ONNX_FILES["int8"]
    with pytest.raises(ConfigError, match=r"unknown provider 'cdua' \(did you mean cuda\?\)"):
        make_session(graph, providers=["cdua"])
    with pytest.raises(MissingExtraError, match=r"provider cuda: not in this .*starencoder\[gpu\]"):
        make_session(graph, providers=["cuda"])


def test_a_provider_that_is_installed_but_does_not_start_is_left_out_with_the_reason(monkeypatch):
    import onnxruntime

    names = [PROVIDERS["cpu"][0], PROVIDERS["cuda"][0]]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    real = onnxruntime.InferenceSession

    def without_libraries(content, options, *, providers, enable_fallback):
        # As ONNX Runtime does where CUDA's libraries are missing: a line in the log.
        usable = [pair for pair in providers if pair[0] == names[0]] or [PROVIDERS["cpu"]]
        return real(content, options, providers=usable, enable_fallback=enable_fallback)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_libraries)
    there, (reason,) = providers_there()
    assert there == ["cpu"]
    assert "provider cuda: " in reason
    assert "could not start it" in reason


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_memory_on_a_gpu_is_what_its_own_tool_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert export.bench._memory("cuda") is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = --query-gpu=memory.used ] && echo 1234\n')
    tool.chmod(0o755)
    assert export.bench._memory("cuda") == 1234


def rate(engine, precision, seconds, cpu_seconds):
    return TextRate(
        engine=engine,
        provider="cpu",
        precision=precision,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        tokens_per_second=1000 / seconds,
        megabytes_per_second=0.003 / seconds,
        spans=5,
    )


def test_the_table_compares_with_the_best_of_the_peer():
    model = ModelRate(
        provider="cpu",
        precision="fp32",
        batch=8,
        length=64,
        tokens_per_second=2000,
        megabytes_per_second=0.006,
        memory=None,
    )
    bench = Bench(
        machine="a machine",
        versions={"python": "3.99"},
        threads=1,
        documents=2,
        megabytes=0.003,
        tokens=1000,
        model=[model],
        text=[
            rate("starencoder", "fp32", 1.0, 0.5),
            rate("transformers, batch 1", "fp32", 5.0, 4.0),
            rate("transformers, batch 8", "fp32", 4.0, 3.0),
        ],
    )
    rows = [line.split() for line in bench_text(bench).splitlines()]
    assert rows[0][:2] == ["a", "machine,"]
    assert rows[4] == ["starencoder", "cpu", "fp32", *"1000 0.003 0.50 5 4.00 6.00".split()]
    assert rows[5][-2:] == ["0.80", "0.75"]
    assert rows[6][-2:] == ["1.00", "1.00"]
    assert rows[9] == ["cpu", "fp32", "8", "64", "2000", "0.006", "-"]


def test_bench_prints_its_tables_and_writes_them_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text(TEXTS[0])
    Path("b.py").write_text(TEXTS[2])
    arguments = ["export", "bench", "tiny", "--providers", "cpu", "--text", "a.py", "b.py"]
    assert cli.main([*arguments, "--json", "out.json"]) == 0
    out = capsys.readouterr().out
    assert "text to spans" in out
    assert "model alone" in out
    values = json.loads(Path("out.json").read_text())
    assert values["documents"] == 2
    assert values["text"][0]["engine"] == "starencoder"
    assert set(values["model"][0]) == set(ModelRate.__dataclass_fields__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tinny"], "unknown model 'tinny' (did you mean tiny?)"),
        (["none"], "nothing to measure"),
        (["tiny", "--providers", "cuda"], "provider cuda: not in this ONNX Runtime"),
        (["tiny", "--text", "missing.py"], "missing.py: cannot be read"),
        (["tiny", "--text", "empty.py"], "empty.py: no text"),
        (["tiny", "--size", "0"], "--size must be above 0"),
        (["tiny", "--size", "nan"], "--size must be above 0, got nan"),
        (["tiny", "--threads", "-1"], "--threads must be above 0"),
        (["tiny", "--text", "a.py", "--json", "a.py"], "a.py: is the input a.py too"),
    ],
)
def test_bench_refuses_what_it_cannot_measure(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty.py").touch()
    Path("a.py").write_text("x = 1\n")
    assert cli.main(["export", "bench", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert Path("a.py").read_text() == "x = 1\n"
