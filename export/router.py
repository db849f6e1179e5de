"""A trained router as an ONNX graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from export.graph import Graph
from pii.router import KERNEL, ROUTER_FILE, THRESHOLD, VOCABULARY
from pii.train_router import RouterWeights
from starencoder.files import write_whole


def export_router(weights: RouterWeights, directory: Path) -> Path:
    """Write a router beside its tagger and return the file.

    Raises:
        OutputError: It cannot be written.
    """
    path = directory / ROUTER_FILE
    write_whole(path, build_router_graph(weights))
    return path


def write_thresholds(thresholds: Mapping[str, float], directory: Path) -> Path:
    """Write other thresholds into a tagger's router and return the file; its graph stays.

    Raises:
        OutputError: It cannot be written.
    """
    path = directory / ROUTER_FILE
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, metadata | _written(thresholds))
    write_whole(path, model.SerializeToString())
    return path


def build_router_graph(weights: RouterWeights) -> bytes:
    """The graph from `input_ids` `(n,)` to `scores` `(n,)`, serialised.

    The table of embeddings, which is most of the file, is in float16; all else is float32.
    """
    graph = Graph()
    table = graph.constant("embeddings", weights.embeddings.astype(np.float16))
    rows = graph.node("Gather", [table, "input_ids"], "rows")
    rows = graph.node("Cast", [rows], "rows_float32", to=1)
    columns = graph.node("Transpose", [rows], "columns", perm=[1, 0])
    # As an image of one line: ONNX Runtime has fast convolutions for two dimensions only.
    graph.constant("new_axes", np.array([0, 2], np.int64))
    hidden = graph.node("Unsqueeze", [columns, "new_axes"], "hidden")  # (1, width, 1, n)
    for index, (kernel, bias) in enumerate(weights.convolutions):
        inputs = [
            hidden,
            graph.constant(f"convolution.{index}.weight", kernel[:, :, None]),
            graph.constant(f"convolution.{index}.bias", bias),
        ]
        margin = KERNEL // 2
        hidden = graph.node("Conv", inputs, f"convolution.{index}", pads=[0, margin, 0, margin])
        hidden = graph.node("Relu", [hidden], f"hidden.{index}")
    kernel = weights.output[None, :, None, None]
    inputs = [
        hidden,
        graph.constant("output.weight", kernel),
        graph.constant("output.bias", weights.output_bias),
    ]
    scores = graph.node("Conv", inputs, "output")
    graph.constant("flat", np.array([-1], np.int64))
    graph.node("Reshape", [scores, "flat"], "scores")
    return graph.to_bytes(
        {"input_ids": ["tokens"]},
        {"scores": ["tokens"]},
        metadata={VOCABULARY: str(len(weights.embeddings)), **_written(weights.thresholds)},
    )


def _written(thresholds: Mapping[str, float]) -> dict[str, str]:
    """Thresholds as metadata."""
    return {
        THRESHOLD.format(point=point): f"{threshold:.4f}" for point, threshold in thresholds.items()
    }
