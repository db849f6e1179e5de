"""Write an ONNX graph node by node.

Exporters trace a model and then search for subgraphs to fuse; with today's versions most of them
are not found again. A tagger's graph is short, so it is written down instead, with ONNX Runtime's
fused operators (domain com.microsoft) where they are the fastest.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from starencoder.config import EncoderConfig
from starencoder.errors import CheckpointError, ParityError

OPSET = 17
"""First with LayerNormalization. ONNX Runtime reads it from 1.13 on; this package asks for 1.20,
tested with 1.20.1 and 1.31.1. Beside it: version 1 of com.microsoft, the only one there is."""
_IR_VERSION = 8
_MICROSOFT = "com.microsoft"
_CONTRIB = frozenset(
    {
        "Attention",
        "BiasGelu",
        "DynamicQuantizeMatMul",
        "Gelu",
        "MatMulIntegerToFloat",
        "PackedAttention",
        "QAttention",
        "SkipLayerNormalization",
    }
)
_PIECES = frozenset({"Div", "Erf", "Pow", "ReduceMean", "Sqrt", "Tanh", "Transpose"})
"""What attention, layer norm and GELU fall into when they are not fused."""

_LARGEST_HALF = 65504.0

Array = npt.NDArray[np.generic]
Dims = Sequence[int | str]


class Graph:
    """Nodes and constants; values are called by name."""

    def __init__(self, *, half: bool = False) -> None:
        """Begin a graph whose float32 constants and output are stored as they are, or as float16.

        Args:
            half: Whether in float16.
        """
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._half = half

    def constant(self, name: str, array: Array) -> str:
        """Add a constant and return its name.

        Raises:
            CheckpointError: It is too large for float16.
        """
        if self._half and array.dtype == np.float32:
            largest = float(np.abs(array).max(initial=0))
            if largest > _LARGEST_HALF:
                raise CheckpointError(
                    f"{name}: a weight of {largest:.0f} does not fit float16, which ends at 65504; "
                    "export this checkpoint with --precision fp32"
                )
            array = array.astype(np.float16)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(
        self, operator: str, inputs: list[str], output: str, **attributes: float | list[int]
    ) -> str:
        """Add a node of one output and return the output's name. An input "" is left out."""
        return self.nodes(operator, inputs, [output], **attributes)[0]

    def nodes(
        self, operator: str, inputs: list[str], outputs: list[str], **attributes: float | list[int]
    ) -> list[str]:
        """Add a node of several outputs and return their names."""
        domain = _MICROSOFT if operator in _CONTRIB else ""
        self._nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))
        return outputs

    def linear(
        self,
        name: str,
        value: str,
        matrix: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
    ) -> str:
        """Multiply the last axis by `(in, out)` and add a bias `(out,)`."""
        inputs = [value, self.constant(f"{name}.weight", matrix)]
        product = self.node("MatMul", inputs, f"{name}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias", bias)], name)

    def layer_norm(
        self,
        name: str,
        value: str,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        *,
        epsilon: float,
    ) -> str:
        """Normalise the last axis.

        With Add in front of it this is SkipLayerNormalization; written as two nodes because ONNX
        Runtime's CPU kernel of the fused operator is not vectorised (1.31: 218 us against 42 us for
        128 x 256 values). For GPUs see `export.half_graph`.
        """
        inputs = [
            value,
            self.constant(f"{name}.weight", weight),
            self.constant(f"{name}.bias", bias),
        ]
        return self.node("LayerNormalization", inputs, name, epsilon=epsilon)

    def to_bytes(
        self,
        inputs: Mapping[str, Dims],
        outputs: Mapping[str, Dims],
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Serialise the graph.

        Args:
            inputs: Shapes of the int32 inputs; a name stands for a length that varies.
            outputs: Shapes of the values that it gives, in the graph's float type.
            metadata: Stored in the file.
        """
        kind = TensorProto.FLOAT16 if self._half else TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "starencoder",
            [
                helper.make_tensor_value_info(name, TensorProto.INT32, shape)
                for name, shape in inputs.items()
            ],
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
            self._constants,
        )
        model = helper.make_model(
            graph,
            producer_name="starencoder",
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(_MICROSOFT, 1)],
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, dict(metadata))
        return bytes(model.SerializeToString())


def check_operators(graph: bytes, expected: Mapping[str, int], name: str) -> None:
    """See that a serialised graph has the fused operators that its layers demand, and no pieces.

    A fusion that is lost computes the same, only slower, so that no comparison of values finds it.

    Args:
        graph: The graph.
        expected: How many of each fused operator there must be.
        name: What the error calls the graph.

    Raises:
        ParityError: One is missing or one too many, or a piece of one is there.
    """
    found = Counter(node.op_type for node in onnx.load_model_from_string(graph).graph.node)
    wrong = [
        f"{found[operator]} {operator} (expected {number})"
        for operator, number in {**dict.fromkeys(sorted(_PIECES), 0), **expected}.items()
        if found[operator] != number
    ]
    if wrong:
        raise ParityError(
            f"{name}: the graph is not fused as its layers demand: {', '.join(wrong)}; "
            "report it: the export is at fault"
        )


class TaggerWeights:
    """A tagger's float32 arrays by Hugging Face name, as the graphs need them."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.float32]], config: EncoderConfig) -> None:
        self._arrays = arrays
        self.config = config

    def array(self, name: str) -> npt.NDArray[np.float32]:
        """The array of one parameter, without the `bert.` in front."""
        return self._arrays[name if name.startswith("classifier.") else f"bert.{name}"]

    def linear(self, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """A linear layer's matrix `(in, out)`, which is torch's transposed, and its bias."""
        return self.array(f"{name}.weight").T, self.array(f"{name}.bias")

    def query_key_value(
        self, layer: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The three projections side by side: `(hidden, 3 * hidden)` and `(3 * hidden,)`."""
        prefix = f"encoder.layer.{layer}.attention.self"
        parts = [self.linear(f"{prefix}.{part}") for part in ("query", "key", "value")]
        return (
            np.concatenate([weight for weight, _ in parts], axis=1),
            np.concatenate([bias for _, bias in parts]),
        )

    def norm(self, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """A layer norm's weight and bias."""
        return self.array(f"{name}.LayerNorm.weight"), self.array(f"{name}.LayerNorm.bias")

    def positions_and_segment(self) -> npt.NDArray[np.float32]:
        """Position embeddings plus the embedding of segment A: a tagger reads one segment only."""
        segment = self.array("embeddings.token_type_embeddings.weight")[:1]
        return np.add(self.array("embeddings.position_embeddings.weight"), segment)


def add_embeddings(graph: Graph, weights: TaggerWeights, words: str) -> str:
    """From token embeddings `(batch, seq, hidden)` to what the first layer reads."""
    graph.constant("zero", np.array([0], np.int64))
    seq = graph.node("Shape", ["input_ids"], "seq", start=1, end=2)
    table = graph.constant("position_table", weights.positions_and_segment())
    positions = graph.node("Slice", [table, "zero", seq, "zero"], "positions")
    total = graph.node("Add", [words, positions], "embedding_sum")
    epsilon = weights.config.layer_norm_eps
    return graph.layer_norm("embedding", total, *weights.norm("embeddings"), epsilon=epsilon)


def add_layers(
    graph: Graph,
    weights: TaggerWeights,
    hidden: str,
    *,
    linear: Callable[[str, str], str],
    attention: Callable[[int, str], str],
) -> str:
    """The encoder's layers, from `(batch, seq, hidden)` to the same shape.

    Args:
        graph: Where the nodes go.
        weights: The tagger's.
        hidden: What the first layer reads.
        linear: Adds the linear layer of a name after a value.
        attention: Adds a layer's attention, up to its output projection, after a value.
    """
    epsilon = weights.config.layer_norm_eps
    for index in range(weights.config.num_layers):
        layer = f"encoder.layer.{index}"
        projected = linear(f"{layer}.attention.output.dense", attention(index, hidden))
        total = graph.node("Add", [projected, hidden], f"{layer}.attention.sum")
        attended = graph.layer_norm(
            f"{layer}.attention", total, *weights.norm(f"{layer}.attention.output"), epsilon=epsilon
        )
        inner = linear(f"{layer}.intermediate.dense", attended)
        # The bias is added in front: on a CPU, Gelu alone is 1.7 times as fast as BiasGelu.
        activated = graph.node("Gelu", [inner], f"{layer}.gelu")
        projected = linear(f"{layer}.output.dense", activated)
        total = graph.node("Add", [projected, attended], f"{layer}.sum")
        hidden = graph.layer_norm(layer, total, *weights.norm(f"{layer}.output"), epsilon=epsilon)
    return hidden
