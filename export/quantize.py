"""A tagger's checkpoint to `onnx/model_int8.onnx`: for CPUs, small enough for the wheel.

Matrices are int8 with one scale per output column (QInt8: ONNX Runtime's fast path on VNNI and AMX;
QUInt8 takes a third of the speed), token embeddings int8 with one scale per row. Activations are
8 bits with one scale per tensor, in one of two ways:

- `dynamic`: from the values that come, anew in each call. The graph takes one chunk per call: the
  scale of a batch would make a chunk's result depend on its neighbours.
- `static`: from values seen in calibration, fixed in the graph. What lies outside is cut off.

Both are built and compared, one is written. Input `input_ids` is int32 `(1, seq)`, without padding;
output `probabilities` is float32 `(1, seq, labels)`, rows sum to 1.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.batching import padded_feeds
from export.graph import Graph, TaggerWeights, add_embeddings, add_layers, check_operators
from export.parity import Difference, compare, f1_by_label, probe_chunks, text_chunks
from export.to_onnx import build_float_graph, check_form, tagger_weights
from pii.annotations import Document
from pii.predict import torch_predict
from pii.session import ONNX_FILES, make_session, session_predict
from pii.tagger import Predict
from starencoder.checkpoint import load_tagger
from starencoder.config import EncoderConfig
from starencoder.errors import ParityError
from starencoder.files import write_whole
from starencoder.names import check_name

ACTIVATIONS = ("dynamic", "static")

MEAN_DIFFERENCE_LIMIT = 0.02
"""Mean difference of a probability from torch's float32 above which a graph is taken as broken.

It only stops what is plainly wrong; what quantisation costs is measured as F1 on annotated data.
"""

MAX_LOSS = 0.5
"""Points of F1: what int8 may cost if nothing else is said."""

CALIBRATION_CHUNKS = 256
"""At most; of a model of 128 positions about 15,000 tokens."""

_SPEED_ROUNDS = 3
_SPEED_CHUNKS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What one variant of a tagger's graph costs and computes."""

    size: int
    """In bytes."""
    rate: float
    """Tokens per second of CPU time on one thread, cls and sep counted; the best of some rounds."""
    difference: Difference
    """From torch in float32, over random and real tokens."""
    f1: Mapping[str, float] | None
    """By label, in [0, 1], on annotated documents if there were any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What `export_int8` wrote, and all variants that it weighed."""

    path: Path
    activations: str
    """Of the variant that was written."""
    variants: Mapping[str, Variant]
    """`float32` (the graph for CPUs), `dynamic` and `static`."""


def export_int8(
    directory: Path,
    *,
    activations: str = "dynamic",
    calibration: Sequence[Path] = (),
    documents: Sequence[Document] = (),
    max_loss: float = MAX_LOSS,
) -> Comparison:
    """Write a tagger directory's `onnx/model_int8.onnx` and compare it with the other variants.

    Args:
        directory: A tagger's.
        activations: One of `ACTIVATIONS`: which variant to write.
        calibration: Source files for the static scales; this package's own without any.
        documents: Annotated documents on which F1 is measured; none: it is not.
        max_loss: Largest loss of F1 that is accepted, of any label and over all, in points (0.5 is
            from 0.900 to 0.895).

    Raises:
        ConfigError: No such activations.
        CheckpointError: The directory does not hold a tagger that can be loaded.
        ParityError: A graph is plainly wrong, or the one to write loses too much; nothing is
            written.
        OutputError: The file cannot be written; what was there before is left.
    """
    check_name("form of activations", activations, ACTIVATIONS)
    model, config = load_tagger(directory)
    encoder = config.encoder
    weights = tagger_weights(model)
    path = directory / ONNX_FILES["int8"]
    text = text_chunks(directory, encoder, paths=calibration, count=CALIBRATION_CHUNKS)
    graphs = {
        "float32": build_float_graph(weights),
        "dynamic": build_int8_graph(weights),
        "static": build_int8_graph(weights, calibrate(weights, text)),
    }
    predicts: dict[str, Predict] = {}
    for name, graph in graphs.items():
        if name in ACTIVATIONS:
            shown = f"{path} ({name}), not written"
            check_operators(graph, expected_int8_operators(encoder, static=name == "static"), shown)
            check_form(graph, shown)
        predicts[name] = session_predict(make_session(graph), encoder.max_positions)
    rates = measure_rates(predicts, text[:_SPEED_CHUNKS])
    chunks = [*probe_chunks(encoder), *text[:_SPEED_CHUNKS]]
    wanted = torch_predict(model)(chunks)
    variants = {}
    for name, graph in graphs.items():
        difference = compare(lambda _: wanted, predicts[name], chunks)
        if difference.mean > MEAN_DIFFERENCE_LIMIT:
            raise ParityError(
                f"{path} ({name}): probabilities differ from the checkpoint by "
                f"{difference.mean:.1e} on average (limit {MEAN_DIFFERENCE_LIMIT:.0e}), most at "
                f"chunk {difference.chunk}, token {difference.token}; not written"
            )
        f1 = f1_by_label(directory, predicts[name], documents) if documents else None
        variants[name] = Variant(size=len(graph), rate=rates[name], difference=difference, f1=f1)
    _check_loss(
        variants["float32"].f1, variants[activations].f1, max_loss, f"{path} ({activations})"
    )
    write_whole(path, graphs[activations])
    return Comparison(path=path, activations=activations, variants=variants)


def _check_loss(
    before: Mapping[str, float] | None,
    after: Mapping[str, float] | None,
    max_loss: float,
    name: str,
) -> None:
    if before is None or after is None:
        return
    losses = {label: 100 * (f1 - after[label]) for label, f1 in before.items()}
    worst = max(losses, key=losses.__getitem__)
    if losses[worst] > max_loss:
        raise ParityError(
            f"{name}: F1 of {worst} falls by {losses[worst]:.2f} points, from {before[worst]:.4f} "
            f"in float32 to {after[worst]:.4f} (limit {max_loss:g} points); not written: try the "
            "other --activations, or accept more with --max-loss"
        )


def measure_rates(
    predicts: Mapping[str, Predict], chunks: Sequence[Sequence[int]]
) -> dict[str, float]:
    """Tokens per second of CPU time of each, the best of rounds taken in turn."""
    tokens = sum(map(len, chunks))
    best = dict.fromkeys(predicts, 0.0)
    for _ in range(_SPEED_ROUNDS):
        for name, predict in predicts.items():
            started = time.process_time()
            predict(chunks)
            best[name] = max(best[name], tokens / (time.process_time() - started))
    return best


def calibrate(
    weights: TaggerWeights, chunks: Sequence[Sequence[int]]
) -> dict[str, tuple[float, float]]:
    """The smallest and the largest value over `chunks` of all that `build_int8_graph` quantises."""
    names = [
        f"encoder.layer.{index}.{part}"
        for index in range(weights.config.num_layers)
        for part in ("context", "attention", "gelu")
    ]
    names += ["embedding", *(f"encoder.layer.{i}" for i in range(weights.config.num_layers - 1))]
    session = make_session(build_float_graph(weights, watched=names))
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for chunk in chunks:
        values = session.run(names, dict(padded_feeds([chunk], 0)))
        for name, value in zip(names, values, strict=True):
            low, high = ranges[name]
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
    return ranges


def expected_int8_operators(config: EncoderConfig, *, static: bool) -> dict[str, int]:
    """How many of each fused operator the graph of `build_int8_graph` must have."""
    layers = config.num_layers
    return {
        "QAttention": layers,
        "DynamicQuantizeMatMul": 0 if static else 3 * layers,
        "MatMulIntegerToFloat": 3 * layers if static else 0,
        "LayerNormalization": 2 * layers + 1,
        "Gelu": layers,
        "Softmax": 1,
    }


def build_int8_graph(
    weights: TaggerWeights, ranges: Mapping[str, tuple[float, float]] | None = None
) -> bytes:
    """The graph in int8, for one chunk per call.

    Args:
        weights: The tagger's.
        ranges: Smallest and largest value of each quantised activation, by its name in the graph;
            without them the scales are those of the values that come.
    """
    graph = Graph()

    def quantised(name: str, matrix: npt.NDArray[np.float32]) -> tuple[str, str, str]:
        values, scales = quantise_columns(matrix)
        return (
            graph.constant(f"{name}.weight", values),
            graph.constant(f"{name}.scale", scales),
            graph.constant(f"{name}.zero_point", np.zeros(len(scales), np.int8)),
        )

    def activation(value: str, name: str) -> tuple[str, str, str]:
        names = f"{name}.int8", f"{name}.int8.scale", f"{name}.int8.zero_point"
        if ranges is None:
            values, scale, zero_point = graph.nodes("DynamicQuantizeLinear", [value], [*names])
            return values, scale, zero_point
        low, high = ranges[value]
        # A range of nothing but zeros has no scale of its own; any will do.
        step = np.float32((high - low) / 255 or 1)
        scale = graph.constant(names[1], np.array(step))
        zero_point = graph.constant(names[2], np.array(np.rint(-low / step), np.uint8))
        return graph.node("QuantizeLinear", [value, scale, zero_point], names[0]), scale, zero_point

    def linear(name: str, value: str) -> str:
        matrix, bias = weights.linear(name)
        weight, scale, zero_point = quantised(name, matrix)
        bias_name = graph.constant(f"{name}.bias", bias)
        if ranges is None:
            inputs = [value, weight, scale, zero_point, bias_name]
            return graph.node("DynamicQuantizeMatMul", inputs, name)
        values, value_scale, value_zero_point = activation(value, name)
        inputs = [values, weight, value_scale, scale, value_zero_point, zero_point, bias_name]
        return graph.node("MatMulIntegerToFloat", inputs, name)

    def attention(layer: int, hidden: str) -> str:
        name = f"encoder.layer.{layer}"
        matrix, bias = weights.query_key_value(layer)
        weight, scale, zero_point = quantised(f"{name}.qkv", matrix)
        values, value_scale, value_zero_point = activation(hidden, name)
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
