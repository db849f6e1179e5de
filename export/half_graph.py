"""The tagger's graph for GPUs: float16 weights and activations, fused for ONNX Runtime's CUDA.

Two forms. Padded: `input_ids` and `attention_mask`, int32 `(batch, seq)`, padding at the end, to
`probabilities` `(batch, seq, labels)`. Packed: the tokens of all chunks one after the other and no
padding from the embedding to the softmax, `input_ids` and `positions` int32 `(tokens,)`,
`token_offset` int32 `(batch, seq)` and `cumulative_sequence_length` int32 `(batch + 1,)`, to
`probabilities` `(tokens, labels)`; `export.batching.packed_feeds` makes these inputs.

What is fused, by the schemas of com.microsoft 1 (onnxruntime, docs/ContribOperators.md):
`Attention` or `PackedAttention` (projection to query, key and value with its bias, and attention),
`SkipLayerNormalization` (bias of the linear layer before, residual, layer norm) and `BiasGelu`.
`PackedAttention` has a CUDA kernel only. The embedding's sum and norm are a
`SkipLayerNormalization` as well: the float16 kernel of `EmbedLayerNormalization` sums in float16
and rounds an epsilon of 1e-12 to zero (onnxruntime, embed_layer_norm_impl.cu in
contrib_ops/cuda/bert). So does `SkipLayerNormalization` unless the provider's
`enable_skip_layer_norm_strict_mode` is set, as `pii.session` does; then, as in softmax and
attention, sums are float32.
"""

import numpy as np

from export.graph import Graph, TaggerWeights
from starencoder.config import EncoderConfig


def expected_half_operators(config: EncoderConfig, *, packed: bool) -> dict[str, int]:
    """How many of each fused operator the graph of `build_half_graph` must have."""
    layers = config.num_layers
    return {
        "Attention": 0 if packed else layers,
        "PackedAttention": layers if packed else 0,
        "SkipLayerNormalization": 2 * layers + 1,
        "LayerNormalization": 0,
        "BiasGelu": layers,
        "Gelu": 0,
        "Softmax": 1,
    }


def build_half_graph(weights: TaggerWeights, *, packed: bool) -> bytes:
    """The graph in float16.

    Raises:
        CheckpointError: A weight does not fit float16.
    """
    graph = Graph(half=True)
    words, positions = _embeddings(graph, weights, packed=packed)
    if packed:
        operator, lengths = "PackedAttention", ["token_offset", "cumulative_sequence_length"]
    else:
        graph.constant("seq_axis", np.array([1], np.int64))
        # Attention takes the number of real tokens, as in `export.to_onnx`.
        operator = "Attention"
        lengths = [graph.node("ReduceSum", ["attention_mask", "seq_axis"], "lengths", keepdims=0)]
    hidden = _skip_norm(graph, weights, "embedding", words, positions, norm="embeddings")
    for index in range(weights.config.num_layers):
        attended = _attention(graph, weights, index, hidden, operator=operator, lengths=lengths)
        hidden = _feed_forward(graph, weights, index, attended)
    logits = graph.linear("classifier", hidden, *weights.linear("classifier"))
    graph.node("Softmax", [logits], "probabilities", axis=-1)
    num_labels = len(weights.array("classifier.bias"))
    if packed:
        return graph.to_bytes(
            {
                "input_ids": ["tokens"],
                "positions": ["tokens"],
                "token_offset": ["batch", "seq"],
                "cumulative_sequence_length": ["ends"],
            },
            {"probabilities": ["tokens", num_labels]},
        )
    shape = ("batch", "seq")
    return graph.to_bytes(
        {"input_ids": shape, "attention_mask": shape}, {"probabilities": (*shape, num_labels)}
    )


def _embeddings(graph: Graph, weights: TaggerWeights, *, packed: bool) -> tuple[str, str]:
    """Of the tokens, and of their positions with segment A's in it."""
    words = graph.constant("word_table", weights.array("embeddings.word_embeddings.weight"))
    embedded = graph.node("Gather", [words, "input_ids"], "word_embedding")
    table = graph.constant("position_table", weights.positions_and_segment())
    if packed:
        return embedded, graph.node("Gather", [table, "positions"], "position_embedding")
    graph.constant("zero", np.array([0], np.int64))
    seq = graph.node("Shape", ["input_ids"], "seq", start=1, end=2)
    return embedded, graph.node("Slice", [table, "zero", seq, "zero"], "position_embedding")


def _attention(
    graph: Graph,
    weights: TaggerWeights,
    index: int,
    hidden: str,
    *,
    operator: str,
    lengths: list[str],
) -> str:
    layer = f"encoder.layer.{index}"
    matrix, bias = weights.query_key_value(index)
    inputs = [
        hidden,
        graph.constant(f"{layer}.qkv.weight", matrix),
        graph.constant(f"{layer}.qkv.bias", bias),
        *lengths,
    ]
    heads = weights.config.num_heads
    context = graph.node(operator, inputs, f"{layer}.context", num_heads=heads)
    output = f"{layer}.attention.output"
    projected = _product(graph, weights, f"{output}.dense", context)
    return _skip_norm(
        graph,
        weights,
        f"{layer}.attention",
        projected,
        hidden,
        norm=output,
        bias=f"{output}.dense",
    )


def _feed_forward(graph: Graph, weights: TaggerWeights, index: int, attended: str) -> str:
    layer = f"encoder.layer.{index}"
    name = f"{layer}.intermediate.dense"
    inner = _product(graph, weights, name, attended)
    shift = graph.constant(f"{name}.bias", weights.linear(name)[1])
    activated = graph.node("BiasGelu", [inner, shift], f"{layer}.gelu")
    output = f"{layer}.output"
    projected = _product(graph, weights, f"{output}.dense", activated)
    return _skip_norm(
        graph, weights, layer, projected, attended, norm=output, bias=f"{output}.dense"
    )


def _product(graph: Graph, weights: TaggerWeights, name: str, value: str) -> str:
    """A linear layer without its bias, which is fused with what comes after."""
    matrix = graph.constant(f"{name}.weight", weights.linear(name)[0])
    return graph.node("MatMul", [value, matrix], f"{name}.product")


def _skip_norm(
    graph: Graph,
    weights: TaggerWeights,
    name: str,
    value: str,
    skip: str,
    *,
    norm: str,
    bias: str | None = None,
) -> str:
    """The layer norm of the name `norm`, of `value + skip` and the bias of the linear layer."""
    weight, shift = weights.norm(norm)
    inputs = [
        value,
        skip,
        graph.constant(f"{name}.norm.weight", weight),
        graph.constant(f"{name}.norm.bias", shift),
    ]
    if bias is not None:
        inputs.append(graph.constant(f"{bias}.bias", weights.linear(bias)[1]))
    epsilon = weights.config.layer_norm_eps
    return graph.node("SkipLayerNormalization", inputs, name, epsilon=epsilon)
