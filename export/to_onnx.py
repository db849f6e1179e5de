"""A tagger's checkpoint to ONNX, fused, written only if it computes the same.

`fp32`, `onnx/model.onnx`: for CPUs. Inputs `input_ids` and `attention_mask` are int32
`(batch, seq)`; real tokens (1 in the mask) come before padding (0). Output `probabilities` is
float32 `(batch, seq, labels)`; rows sum to 1, and rows of padding mean nothing.

`fp16` and `packed`, `onnx/model_fp16.onnx` and `onnx/model_packed.onnx`: for GPUs, in float16, the
probabilities too; see `export.half_graph`.

All have opset 17 and version 1 of com.microsoft, and run in ONNX Runtime 1.20 to 1.31.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx

from export.batching import Feeds, batch_predict, session_run
from export.graph import Graph, TaggerWeights, add_embeddings, add_layers, check_operators
from export.half_graph import build_half_graph, expected_half_operators
from export.interpret import interpreter
from export.parity import Difference, check_parity, probe_chunks, text_chunks
from pii.predict import torch_predict
from pii.session import ONNX_FILES, make_session
from pii.tagger import Predict, Probs
from starencoder.checkpoint import load_tagger
from starencoder.config import EncoderConfig
from starencoder.errors import ParityError
from starencoder.files import write_whole
from starencoder.model import TokenClassifier
from starencoder.names import check_name

PARITY_LIMITS = {"fp32": (1e-4, 1e-5), "fp16": (3e-2, 1e-3), "packed": (3e-2, 1e-3)}
"""Largest and mean difference of a probability from torch's in float32.

float16 has 11 bits: the embedded model differs by 0.0005 at most and 9e-6 on average. With random
weights, whose probabilities turn on less, 2 layers of 64 differ by 0.003 and 1e-4, the 12 of 768
of starencoder-125m by 0.01 and 3e-4.
"""

PRECISIONS = tuple(PARITY_LIMITS)


def export_onnx(directory: Path, precision: str = "fp32") -> tuple[Path, Difference]:
    """Write a tagger directory's graph; return its path and its distance from torch.

    The comparison is over chunks of random tokens, alone of all lengths, and of real source text,
    both in batches of mixed lengths. The float32 graph runs in ONNX Runtime. float16 runs in ONNX
    Runtime, which on a CPU computes it in float32, and in `export.interpret`, which rounds as a GPU
    does; the packed graph, which no CPU runs, in `export.interpret` alone.

    Args:
        directory: A tagger's.
        precision: One of `PRECISIONS`.

    Raises:
        ConfigError: No such precision.
        CheckpointError: The directory does not hold a tagger that can be loaded and has this
            precision.
        ParityError: The graph is not valid, is not fused as it must be, or computes something else
            than the checkpoint; nothing is written.
        OutputError: The file cannot be written; what was there before is left.
    """
    check_name("precision", precision, PRECISIONS)
    model, config = load_tagger(directory)
    text = text_chunks(directory, config.encoder)
    weights = tagger_weights(model)
    path = directory / ONNX_FILES[precision]
    name = f"{path}, not written"
    packed = precision == "packed"
    if precision == "fp32":
        graph = build_float_graph(weights)
        check_operators(graph, expected_float_operators(config.encoder), name)
    else:
        graph = build_half_graph(weights, packed=packed)
        check_operators(graph, expected_half_operators(config.encoder, packed=packed), name)
    check_form(graph, name)
    runs: list[Callable[[Feeds], Probs]] = []
    if not packed:
        runs.append(session_run(make_session(graph, threads=os.cpu_count() or 1)))
    if precision != "fp32":
        runs.append(interpreter(graph))
    # In each batch short chunks and long ones.
    batches = [
        chunks[first::3] for chunks in (probe_chunks(config.encoder), text) for first in range(3)
    ]
    batches = [batch for batch in batches if batch]
    chunks = [chunk for batch in batches for chunk in batch]
    wanted = torch_predict(model)(chunks)
    limit, mean_limit = PARITY_LIMITS[precision]
    differences = [
        check_parity(
            lambda _: wanted,
            _by_batches(batches, run, packed, config.encoder.pad_id),
            chunks,
            limit=limit,
            mean_limit=mean_limit,
            name=name,
        )
        for run in runs
    ]
    write_whole(path, graph)
    return path, max(differences, key=lambda difference: difference.largest)


def _by_batches(
    batches: Sequence[Sequence[Sequence[int]]],
    run: Callable[[Feeds], Probs],
    packed: bool,
    pad_id: int,
) -> Predict:
    """A predict callable that is given all chunks of `batches` and runs one batch after another."""
    whole = batch_predict(run, packed=packed, pad_id=pad_id)

    def predict(chunks: Sequence[Sequence[int]]) -> list[Probs]:
        assert len(chunks) == sum(map(len, batches))
        return [probs for batch in batches for probs in whole(batch)]

    return predict


def check_form(graph: bytes, name: str) -> None:
    """See that a serialised graph is valid ONNX and its shapes fit together.

    Operators of com.microsoft are unknown to the checker; shapes are inferred around them.

    Raises:
        ParityError: With the checker's reason.
    """
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).splitlines()[0]
        raise ParityError(
            f"{name}: not a valid graph ({reason}); report it with the version of onnx: the export "
            "is at fault"
        ) from error


def tagger_weights(model: TokenClassifier) -> TaggerWeights:
    """A model's parameters as float32 arrays."""
    arrays = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    return TaggerWeights(arrays, model.config)


def expected_float_operators(config: EncoderConfig) -> dict[str, int]:
    """How many of each fused operator the graph of `build_float_graph` must have."""
    layers = config.num_layers
    return {
        "Attention": layers,
        "LayerNormalization": 2 * layers + 1,
        "Gelu": layers,
        "Softmax": 1,
    }


def build_float_graph(weights: TaggerWeights, *, watched: Sequence[str] = ()) -> bytes:
    """The graph in float32, for batches padded at the end.

    Args:
        weights: The tagger's.
        watched: Values inside, all `(batch, seq, ...)`, that it gives besides the probabilities.
    """
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
        {"input_ids": shape, "attention_mask": shape},
        {
            "probabilities": (*shape, num_labels),
            **{name: (*shape, f"{name}.width") for name in watched},
        },
    )
