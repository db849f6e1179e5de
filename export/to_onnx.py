"""A tagger's checkpoint to `onnx/model.onnx`: float32, fused, written only if it computes the same.

Inputs `input_ids` and `attention_mask` are int32 `(batch, seq)`; real tokens (1 in the mask) come
before padding (0). Output `probabilities` is float32 `(batch, seq, labels)`; rows sum to 1, and
rows of padding mean nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.graph import Graph, TaggerWeights, add_embeddings, add_layers
from export.parity import Difference, check_parity, probe_chunks
from pii.predict import torch_predict
from pii.session import ONNX_FILES, session_options
from pii.tagger import Predict
from starencoder.checkpoint import load_tagger
from starencoder.config import TaggerConfig
from starencoder.files import write_whole
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
    graph = Graph()

    def linear(name: str, value: str) -> str:
        return graph.linear(name, value, *weights.linear(name))

    def attention(layer: int, hidden: str) -> str:
        name = f"encoder.layer.{layer}"
        matrix, bias = weights.query_key_value(layer)
        inputs = [
            hidden,
            graph.constant(f"{name}.qkv.weight", matrix),
            graph.constant(f"{name}.qkv.bias", bias),
            lengths,
        ]
        heads = weights.config.num_heads
        return graph.node("Attention", inputs, f"{name}.context", num_heads=heads)

    table = graph.constant("word_table", weights.array("embeddings.word_embeddings.weight"))
    words = graph.node("Gather", [table, "input_ids"], "word_embedding")
    hidden = add_embeddings(graph, weights, words)

    # Attention takes the number of real tokens: with a two-dimensional mask its fast GPU kernels
    # are not used.
    graph.constant("seq_axis", np.array([1], np.int64))
    lengths = graph.node("ReduceSum", ["attention_mask", "seq_axis"], "lengths", keepdims=0)

    hidden = add_layers(graph, weights, hidden, linear=linear, attention=attention)
    logits = linear("classifier", hidden)
    graph.node("Softmax", [logits], "probabilities", axis=2)
    num_labels = len(weights.array("classifier.bias"))
    shape = ("batch", "seq")
    return graph.to_bytes(
        {"input_ids": shape, "attention_mask": shape}, {"probabilities": (*shape, num_labels)}
    )


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
