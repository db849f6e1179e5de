"""An ONNX Runtime session as a predict callable. Runs on the CPU.

Chunks are run one per call: a core is as fast with one as with many, nothing is padded, and a
chunk's result cannot depend on the others.
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pii.tagger import Predict, Probs
from starencoder.config import load_tagger_config, refuse_lone_pickle
from starencoder.errors import CheckpointError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

ONNX_FILES = {
    "int8": "onnx/model_int8.onnx",
    "fp32": "onnx/model.onnx",
}
"""Where a model directory keeps each precision; on a CPU the first that exists is used."""

GPU_FILE = "onnx/model_fp16.onnx"
"""What is used on a GPU."""


def load_session(model_dir: Path, *, precision: str | None = None, threads: int = 1) -> Predict:
    """Open a model directory's ONNX file.

    Args:
        model_dir: A tagger's directory.
        precision: A key of `ONNX_FILES`; the fastest that is there when left out.
        threads: Cores one chunk is spread over. Several processes of one thread each get more done.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ConfigError: Two ONNX Runtime packages are installed, or no such precision.
        CheckpointError: The directory has no usable ONNX file, or one of another model.
    """
    check_onnxruntime()
    config = load_tagger_config(model_dir)
    path = _find_onnx_file(model_dir, precision)
    session = make_session(path, threads=threads)
    check_signature(session, len(config.id2label), path)
    return session_predict(session, config.encoder.max_positions)


def make_session(
    model: Path | bytes,
    *,
    threads: int = 1,
    optimised: bool = False,
    providers: "Sequence[str | tuple[str, dict[str, str]]]" = ("CPUExecutionProvider",),
) -> "InferenceSession":
    """Open a graph, given as a file or serialised.

    Args:
        model: The graph.
        threads: Cores one run is spread over.
        optimised: Whether ONNX Runtime rewrites it for this machine, which takes time at the start.
        providers: Of ONNX Runtime, with their options. It leaves out those it cannot use: see
            `get_providers` of the session.

    Raises:
        CheckpointError: It is not an ONNX graph that this ONNX Runtime can run.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    name = str(model) if isinstance(model, Path) else "the exported graph"
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
        return onnxruntime.InferenceSession(
            content,
            session_options(threads, optimised=optimised),
            providers=list(providers),
            enable_fallback=0,  # It would print to stdout and try the same again.
        )
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read ({error.strerror or error})") from error
    except (
        state.InvalidProtobuf,
        state.InvalidGraph,
        state.InvalidArgument,
        state.NotImplemented,
        state.RuntimeException,
        state.Fail,
        UnicodeDecodeError,  # ONNX Runtime quotes a damaged name in its message.
    ) as error:
        raise CheckpointError(
            f"{name}: not a graph that ONNX Runtime {onnxruntime.__version__} can run "
            f"({str(error).splitlines()[0]}); copy it again, or export the checkpoint again"
        ) from error


def check_signature(session: "InferenceSession", num_labels: int, path: Path) -> None:
    """Refuse a graph of another exporter or another model, which would fail only when it is run.

    Raises:
        CheckpointError: It is one.
    """
    inputs = {value.name: value.type for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    if set(inputs) | {"attention_mask"} != {"input_ids", "attention_mask"} or set(
        inputs.values()
    ) != {"tensor(int32)"}:
        found = ", ".join(f"{name} {kind}" for name, kind in inputs.items())
    elif set(outputs) != {"probabilities"}:
        found = ", ".join(outputs)
    elif outputs["probabilities"][-1] != num_labels:
        found = f"{outputs['probabilities'][-1]} tags, while config.json names {num_labels}"
    else:
        return
    raise CheckpointError(
        f"{path}: not exported from this checkpoint by this package (found {found}); "
        f"make it again with: {export_command(path)}"
    )


def session_options(threads: int = 1, *, optimised: bool = False) -> "SessionOptions":
    """Options for our own graphs. A tagger's is fused already: leave it unoptimised."""
    from onnxruntime import GraphOptimizationLevel, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    # Threads that wait sleep: another process can use the core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def session_predict(session: "InferenceSession", max_positions: int) -> Predict:
    """A session as a predict callable that takes chunks of 1 to `max_positions` tokens."""
    has_mask = any(value.name == "attention_mask" for value in session.get_inputs())

    def predict(chunks: Sequence[Sequence[int]]) -> list[Probs]:
        results = []
        for chunk in chunks:
            if not 1 <= len(chunk) <= max_positions:
                raise ValueError(f"a chunk has {len(chunk)} tokens; expected 1..{max_positions}")
            ids = np.asarray(chunk, np.int32)[None]
            feeds = {"input_ids": ids}
            if has_mask:
                feeds["attention_mask"] = np.ones_like(ids)
            results.append(session.run(["probabilities"], feeds)[0][0])
        return results

    return predict


def check_onnxruntime() -> None:
    """Make sure that exactly one ONNX Runtime is installed.

    Raises:
        MissingExtraError: None is.
        ConfigError: Both are; they overwrite each other's files.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "the model needs ONNX Runtime, which is not installed: pip install 'starencoder[cpu]'"
        ) from error
    if all(any(metadata.distributions(name=name)) for name in ("onnxruntime", "onnxruntime-gpu")):
        raise ConfigError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "keep one: pip uninstall onnxruntime onnxruntime-gpu, then "
            "pip install 'starencoder[cpu]' or 'starencoder[gpu]'"
        )


def _find_onnx_file(model_dir: Path, precision: str | None) -> Path:
    if precision is not None and precision not in ONNX_FILES:
        raise ConfigError(f"unknown precision {precision!r}; known: {', '.join(ONNX_FILES)}")
    wanted = list(ONNX_FILES) if precision is None else [precision]
    for name in wanted:
        path = model_dir / ONNX_FILES[name]
        if path.is_file():
            return path
    refuse_lone_pickle(model_dir)
    raise CheckpointError(
        f"{model_dir}: no {' or '.join(ONNX_FILES[name] for name in wanted)}; "
        f"make one with: {export_command(model_dir / ONNX_FILES[wanted[0]])}"
    )


def export_command(path: Path) -> str:
    """The command that makes a file of `ONNX_FILES` or `GPU_FILE`."""
    command = "quantize" if path.name == Path(ONNX_FILES["int8"]).name else "onnx"
    option = " --precision fp16" if path.name == Path(GPU_FILE).name else ""
    return f"starencoder export {command} {path.parent.parent}{option}"
