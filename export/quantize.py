"""A tagger's checkpoint to `onnx/model_int8.onnx`: for CPUs, small enough for the wheel.

Matrices are int8 with one scale per output column (QInt8: ONNX Runtime's fast path on VNNI and AMX;
QUInt8 takes a third of the speed), token embeddings int8 with one scale per row. Activations are
quantised to 8 bits as they come, with one scale per tensor, so the graph takes one chunk per call:
the scale of a batch would make a chunk's result depend on its neighbours.

Input `input_ids` is int32 `(1, seq)`, without padding; output `probabilities` is float32
`(1, seq, labels)`, rows sum to 1.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.graph import Graph, TaggerWeights, add_embeddings, add_layers
from export.parity import Difference, compare, probe_chunks
from export.to_onnx import tagger_weights
from pii.predict import torch_predict
from pii.session import ONNX_FILES, make_session, session_predict
from starencoder.checkpoint import load_tagger
from starencoder.errors import ParityError
from starencoder.files import write_whole

MEAN_DIFFERENCE_LIMIT = 0.02
"""Mean difference of a probability from torch's float32 above which the graph is taken as broken.

It only stops what is plainly wrong; what quantisation costs is measured as F1 on annotated data.
"""


def export_int8(directory: Path) -> tuple[Path, Difference]:
    """Write a tagger directory's `onnx/model_int8.onnx`; return its path and distance from torch.

    Raises:
        CheckpointError: The directory does not hold a tagger that can be loaded.
        ParityError: The graph is plainly wrong; nothing is written.
        OutputError: The file cannot be written; what was there before is left.
    """
    model, config = load_tagger(directory)
    graph = build_int8_graph(tagger_weights(model))
    path = directory / ONNX_FILES["int8"]
    difference = compare(
        torch_predict(model),
        session_predict(make_session(graph), config.encoder.max_positions),
        probe_chunks(config.encoder),
    )
    if difference.mean > MEAN_DIFFERENCE_LIMIT:
        raise ParityError(
            f"{path}: probabilities differ from the checkpoint by {difference.mean:.1e} on average "
            f"(limit {MEAN_DIFFERENCE_LIMIT:.0e}), most at chunk {difference.chunk}, "
            f"token {difference.token}; not written"
        )
    write_whole(path, graph)
    return path, difference


def build_int8_graph(weights: TaggerWeights) -> bytes:
    """The graph in int8, for one chunk per call."""
    graph = Graph()

    def quantised(name: str, matrix: npt.NDArray[np.float32]) -> tuple[str, str, str]:
        values, scales = quantise_columns(matrix)
        return (
            graph.constant(f"{name}.weight", values),
            graph.constant(f"{name}.scale", scales),
            graph.constant(f"{name}.zero_point", np.zeros(len(scales), np.int8)),
        )

    def linear(name: str, value: str) -> str:
        matrix, bias = weights.linear(name)
        inputs = [value, *quantised(name, matrix), graph.constant(f"{name}.bias", bias)]
        return graph.node("DynamicQuantizeMatMul", inputs, name)

    def attention(layer: int, hidden: str) -> str:
        name = f"encoder.layer.{layer}"
        matrix, bias = weights.query_key_value(layer)
        weight, scale, zero_point = quantised(f"{name}.qkv", matrix)
        values, value_scale, value_zero_point = graph.nodes(
            "DynamicQuantizeLinear",
            [hidden],
            [f"{name}.int8", f"{name}.int8.scale", f"{name}.int8.zero_point"],
        )
        inputs = [
            values,
            weight,
            graph.constant(f"{name}.qkv.bias", bias),
            value_scale,
            scale,
            "",  # No mask: a chunk comes alone and without padding.
            value_zero_point,
            zero_point,
        ]
        heads = weights.config.num_heads
        return graph.node("QAttention", inputs, f"{name}.context", num_heads=heads)

    # Rows of the embedding are quantised like columns of a matrix: one scale for each token.
    table, scales = quantise_columns(weights.array("embeddings.word_embeddings.weight").T)
    rows = graph.node("Gather", [graph.constant("word_table", table.T), "input_ids"], "words_int8")
    row_scales = graph.node(
        "Gather", [graph.constant("word_scales", scales[:, None]), "input_ids"], "words_scale"
    )
    floats = graph.node("Cast", [rows], "words_float", to=1)
    words = graph.node("Mul", [floats, row_scales], "word_embedding")
    hidden = add_embeddings(graph, weights, words)
    hidden = add_layers(graph, weights, hidden, linear=linear, attention=attention)

    # The last layer is small and decides the scores: it stays in float32.
    matrix, bias = weights.linear("classifier")
    logits = graph.linear("classifier", hidden, matrix, bias)
    graph.node("Softmax", [logits], "probabilities", axis=2)
    return graph.to_bytes({"input_ids": [1, "seq"]}, {"probabilities": [1, "seq", len(bias)]})


def quantise_columns(
    matrix: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round each column of `(in, out)` to int8 with its own scale, `(out,)`.

    `values * scales` differs from `matrix` by at most half a scale anywhere.
    """
    scales = np.abs(matrix).max(axis=0) / 127
    # A column of zeros has no scale of its own; any will do.
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales
