"""Run a graph of `export.half_graph` without ONNX Runtime, operator by operator.

`PackedAttention` has a CUDA kernel only, and on a CPU ONNX Runtime computes the rest of a float16
graph in float32. Here every operator follows its schema (onnx, docs/Operators.md; onnxruntime,
docs/ContribOperators.md), with sums in float32 and each result rounded to float16, as a GPU does.
"""

from collections.abc import Callable

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from export.batching import Feeds
from pii.tagger import Probs
from starencoder.errors import ParityError


def interpreter(graph: bytes) -> Callable[[Feeds], Probs]:
    """A serialised float16 graph as a function from its inputs to its one output.

    Raises:
        ParityError: When it is run and has an operator that `export.half_graph` does not write.
    """
    content = onnx.load_model_from_string(graph).graph
    constants = {value.name: _constant(value) for value in content.initializer}
    nodes = [
        (node, {each.name: helper.get_attribute_value(each) for each in node.attribute})
        for node in content.node
    ]

    last_use = {name: index for index, (node, _) in enumerate(nodes) for name in node.input}

    def run(feeds: Feeds) -> Probs:
        values = {
            **constants,
            **{name: torch.from_numpy(array).long() for name, array in feeds.items()},
        }
        with torch.inference_mode():
            for index, (node, attributes) in enumerate(nodes):
                if node.op_type not in _OPERATORS:
                    raise ParityError(
                        f"the graph has a {node.op_type} node, which is not interpreted; expected "
                        f"one of: {', '.join(sorted(_OPERATORS))}"
                    )
                operator = _OPERATORS[node.op_type]
                result = operator(*(values[name] for name in node.input), **attributes)
                if result.is_floating_point():
                    result = result.half().float()
                # All values of a large model at once would take gigabytes.
                for name in set(node.input):
                    if last_use[name] == index:
                        del values[name]
                values[node.output[0]] = result
        probs: Probs = values[content.output[0].name].numpy()
        return probs

    return run


def _constant(value: TensorProto) -> Tensor:
    tensor = torch.from_numpy(numpy_helper.to_array(value).copy())
    return tensor.float() if tensor.is_floating_point() else tensor


def _shape(value: Tensor, *, start: int, end: int) -> Tensor:
    return torch.tensor(value.shape[start:end])


def _slice(value: Tensor, starts: Tensor, ends: Tensor, axes: Tensor) -> Tensor:
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
        value = value.narrow(axis, start, end - start)
    return value


def _skip_norm(
    value: Tensor,
    skip: Tensor,
    weight: Tensor,
    shift: Tensor,
    bias: Tensor | None = None,
    *,
    epsilon: float,
) -> Tensor:
    total = value + skip if bias is None else value + bias + skip
    return functional.layer_norm(total, weight.shape, weight, shift, epsilon)


def _attention(
    value: Tensor, matrix: Tensor, bias: Tensor, lengths: Tensor, *, num_heads: int
) -> Tensor:
    """Of `(batch, seq, hidden)`, whose chunks have `lengths` tokens and then padding."""
    projected = (value @ matrix + bias).half().float()
    context = torch.zeros_like(value)
    for row, length in enumerate(lengths.tolist()):
        context[row, :length] = _attend(projected[row, :length], num_heads)
    return context


def _packed_attention(
    value: Tensor,
    matrix: Tensor,
    bias: Tensor,
    token_offset: Tensor,
    ends: Tensor,
    *,
    num_heads: int,
) -> Tensor:
    """Of `(tokens, hidden)`; chunk i has the tokens from `ends[i]` to `ends[i + 1]`.

    The kernels that unpack first find a token's chunk and position in `token_offset` alone, so both
    must say the same.
    """
    batch, seq = token_offset.shape
    where = token_offset.flatten()[: len(value)]
    lengths = ends.diff()
    chunks = torch.arange(batch).repeat_interleave(lengths)
    positions = torch.arange(len(value)) - ends[:-1].repeat_interleave(lengths)
    if (positions >= seq).any() or not torch.equal(where, chunks * seq + positions):
        raise ParityError("token_offset and cumulative_sequence_length name different tokens")
    projected = (value @ matrix + bias).half().float()
    parts = torch.split(projected, lengths.tolist())
    return torch.cat([_attend(part, num_heads) for part in parts])


def _attend(projected: Tensor, num_heads: int) -> Tensor:
    """Of one chunk, from query, key and value side by side, `(seq, 3 * hidden)`."""
    seq, width = projected.shape
    query, key, value = projected.view(seq, 3, num_heads, -1).permute(1, 2, 0, 3)
    scores = query @ key.transpose(1, 2) / (width // 3 // num_heads) ** 0.5
    context: Tensor = (scores.softmax(dim=-1) @ value).transpose(0, 1)
    return context.reshape(seq, -1)


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Attention": _attention,
    "BiasGelu": lambda value, bias: functional.gelu(value + bias),
    "Gather": lambda table, rows: table[rows],
    "MatMul": torch.matmul,
    "PackedAttention": _packed_attention,
    "ReduceSum": lambda value, axes, keepdims: value.sum(dim=axes.tolist(), keepdim=bool(keepdims)),
    "Shape": _shape,
    "SkipLayerNormalization": _skip_norm,
    "Slice": _slice,
    "Softmax": lambda value, axis: value.softmax(dim=axis),
}
