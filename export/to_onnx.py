"""A tagger's checkpoint to `onnx/model.onnx`: float32, fused, written only if it computes the same.

Inputs `input_ids` and `attention_mask` are int32 `(batch, seq)`; real tokens (1 in the mask) come
before padding (0). Output `probabilities` is float32 `(batch, seq, labels)`; rows sum to 1, and
rows of padding mean nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.graph import Graph, TaggerWeights
from export.parity import Difference, check_parity, probe_chunks
from pii.predict import torch_predict
from pii.session import ONNX_FILES, session_options
from pii.tagger import Predict
from starencoder.checkpoint import load_tagger
from starencoder.config import TaggerConfig
from starencoder.errors import OutputError
from starencoder.model import TokenClassifier

PARITY_LIMIT = 1e-4
"""Largest difference of one probability from torch's, both in float32."""


def export_onnx(directory: Path) -> tuple[Path, Difference]:
    """Write a tagger directory's `onnx/model.onnx`; return its path and its distance from torch.

    Raises:
        CheckpointError: The directory does not hold a tagger that can be loaded.
        ParityError: The graph computes something else than the checkpoint; nothing is written.
        OutputError: The file cannot be written; what was there before is left.
    """
    model, config = load_tagger(directory)
    graph = build_float_graph(tagger_weights(model))
    path = directory / ONNX_FILES["fp32"]
    difference = check_parity(
        torch_predict(model),
        padded_predict(graph, config),
        probe_chunks(config.encoder),
        limit=PARITY_LIMIT,
        name=f"{path}, not written",
    )
    write_whole(path, graph)
    return path, difference


def tagger_weights(model: TokenClassifier) -> TaggerWeights:
    """A model's parameters as float32 arrays."""
    arrays = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    return TaggerWeights(arrays, model.config)


def build_float_graph(weights: TaggerWeights) -> bytes:
    """The graph in float32, for batches padded at the end."""
    config, graph = weights.config, Graph()
    epsilon = config.layer_norm_eps

    def linear(name: str, value: str) -> str:
        matrix, bias = weights.linear(name)
        product = graph.node(
            "MatMul", [value, graph.constant(f"{name}.weight", matrix)], f"{name}.product"
        )
        return graph.node("Add", [product, graph.constant(f"{name}.bias", bias)], name)

    words = graph.constant("word_table", weights.array("embeddings.word_embeddings.weight"))
    embedded = graph.node("Gather", [words, "input_ids"], "word_embedding")
    total = graph.add_positions(embedded, "input_ids", weights.positions_and_segment())
    hidden = graph.layer_norm("embedding", total, *weights.norm("embeddings"), epsilon=epsilon)

    # Attention takes the number of real tokens: with a two-dimensional mask its fast GPU kernels
    # are not used.
    graph.constant("seq_axis", np.array([1], np.int64))
    lengths = graph.node("ReduceSum", ["attention_mask", "seq_axis"], "lengths", keepdims=0)

    for index in range(config.num_layers):
        layer = f"encoder.layer.{index}"
        matrix, bias = weights.query_key_value(index)
        context = graph.node(
            "Attention",
            [
                hidden,
                graph.constant(f"{layer}.qkv.weight", matrix),
                graph.constant(f"{layer}.qkv.bias", bias),
                lengths,
            ],
            f"{layer}.context",
            num_heads=config.num_heads,
        )
        projected = linear(f"{layer}.attention.output.dense", context)
        total = graph.node("Add", [projected, hidden], f"{layer}.attention.sum")
        attended = graph.layer_norm(
            f"{layer}.attention", total, *weights.norm(f"{layer}.attention.output"), epsilon=epsilon
        )
        inner = linear(f"{layer}.intermediate.dense", attended)
        activated = graph.node("Gelu", [inner], f"{layer}.gelu")
        projected = linear(f"{layer}.output.dense", activated)
        total = graph.node("Add", [projected, attended], f"{layer}.sum")
        hidden = graph.layer_norm(layer, total, *weights.norm(f"{layer}.output"), epsilon=epsilon)
    logits = linear("classifier", hidden)
    num_labels = len(weights.array("classifier.bias"))
    shape: list[int | str] = ["batch", "seq"]
    return graph.to_bytes({"input_ids": shape, "attention_mask": shape}, num_labels, logits)


def padded_predict(graph: bytes, config: TaggerConfig) -> Predict:
    """A serialised float graph as a predict callable that runs its chunks as one padded batch."""
    session = onnxruntime.InferenceSession(
        graph, session_options(), providers=["CPUExecutionProvider"]
    )

    def predict(chunks: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        lengths = [len(chunk) for chunk in chunks]
        ids = np.full((len(chunks), max(lengths)), config.encoder.pad_id, np.int32)
        for row, chunk in zip(ids, chunks, strict=True):
            row[: len(chunk)] = chunk
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        feeds = {"input_ids": ids, "attention_mask": mask.astype(np.int32)}
        (probs,) = session.run(["probabilities"], feeds)
        return [row[:length] for row, length in zip(probs, lengths, strict=True)]

    return predict


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, its folder included.

    Raises:
        OutputError: It cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
