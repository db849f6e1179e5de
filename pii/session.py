"""An ONNX Runtime session, and on a CPU the predict callable that it is.

On a CPU chunks are run one per call: a core is as fast with one as with many, nothing is padded,
and a chunk's result cannot depend on the others. `export.batching` is for graphs that take many.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pii.tagger import Predict, Probs
from starencoder.config import load_tagger_config, refuse_lone_pickle
from starencoder.errors import CheckpointError, ConfigError, MissingExtraError
from starencoder.names import check_name

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

ONNX_FILES = {
    "int8": "onnx/model_int8.onnx",
    "fp32": "onnx/model.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "packed": "onnx/model_packed.onnx",
}
"""Where a model directory keeps each precision; `packed` is fp16 without padding."""

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # Layer norms sum in float32, in a float16 graph too; float32 products are not rounded.
    "cuda": (
        "CUDAExecutionProvider",
        {"enable_skip_layer_norm_strict_mode": "1", "use_tf32": "0"},
    ),
    "tensorrt": ("TensorrtExecutionProvider", {"trt_fp16_enable": "0"}),
}
"""ONNX Runtime's name and the options of each provider, by the name it has here."""

RUNS_ON = {
    "int8": ("cpu",),
    "fp32": ("cpu", "cuda", "tensorrt"),
    "fp16": ("cuda", "tensorrt"),
    "packed": ("cuda",),
}
"""The providers that a precision is meant for; on a CPU the fastest comes first."""


def precisions_on(provider: str) -> list[str]:
    """Keys of `ONNX_FILES` that a provider runs."""
    return [precision for precision, providers in RUNS_ON.items() if provider in providers]


def load_session(model_dir: Path, *, threads: int = 1) -> Predict:
    """Open a model directory's ONNX file: the fastest on a CPU that is there.

    Args:
        model_dir: A tagger's directory.
        threads: Cores one chunk is spread over. Several processes of one thread each get more done.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ConfigError: Two ONNX Runtime packages are installed.
        CheckpointError: The directory has no usable ONNX file, or one of another model.
    """
    check_onnxruntime()
    config = load_tagger_config(model_dir)
    path = _find_onnx_file(model_dir)
    session = make_session(path, threads=threads)
    check_signature(session, len(config.id2label), path)
    return session_predict(session, config.encoder.max_positions)


def make_session(
    model: Path | bytes,
    *,
    threads: int = 1,
    optimised: bool = False,
    providers: Sequence[str] = ("cpu",),
    provider_options: Mapping[str, str] = MappingProxyType({}),
) -> "InferenceSession":
    """Open a graph, given as a file or serialised.

    Args:
        model: The graph.
        threads: Cores one run is spread over.
        optimised: Whether ONNX Runtime rewrites it for this machine, which takes time at the start.
        providers: Keys of `PROVIDERS`; each node goes to the first that can run it.
        provider_options: Added to those of each provider.

    Raises:
        ConfigError: A provider is unknown, or cannot be started.
        MissingExtraError: A provider is not installed.
        CheckpointError: It is not an ONNX graph that this ONNX Runtime can run.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    check_providers(providers)
    name = str(model) if isinstance(model, Path) else "the exported graph"
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
        session = onnxruntime.InferenceSession(
            content,
            session_options(threads, optimised=optimised),
            providers=[
                (name, {**options, **provider_options})
                for name, options in map(PROVIDERS.__getitem__, providers)
            ],
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
    # One whose libraries are missing is left out with a line in the log only.
    for provider in providers:
        if PROVIDERS[provider][0] not in session.get_providers():
            raise ConfigError(
                f"provider {provider}: ONNX Runtime {onnxruntime.__version__} could not start it; "
                "see that its driver and libraries are there, in the versions that it names"
            )
    return session


def installed_providers() -> list[str]:
    """Keys of `PROVIDERS` that the installed ONNX Runtime has; whether they start is not tried."""
    import onnxruntime

    there = onnxruntime.get_available_providers()
    return [name for name, (provider, _) in PROVIDERS.items() if provider in there]


def check_providers(names: Sequence[str]) -> None:
    """Refuse providers that are unknown or not installed.

    Raises:
        ConfigError: There is no such name.
        MissingExtraError: The ONNX Runtime that is installed is built without it.
    """
    there = installed_providers()
    for name in names:
        if check_name("provider", name, PROVIDERS) not in there:
            raise MissingExtraError(
                f"provider {name}: not in this ONNX Runtime, which has {', '.join(there)}; "
                "for GPUs: pip uninstall onnxruntime, then pip install 'starencoder[gpu]'"
            )


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
            results.append(
                session.run(["probabilities"], feeds)[0][0].astype(np.float32, copy=False)
            )
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


def _find_onnx_file(model_dir: Path) -> Path:
    files = [ONNX_FILES[precision] for precision in precisions_on("cpu")]
    for file in files:
        if (model_dir / file).is_file():
            return model_dir / file
    refuse_lone_pickle(model_dir)
    raise CheckpointError(
        f"{model_dir}: no {' or '.join(files)}; "
        f"make one with: {export_command(model_dir / files[0])}"
    )


def export_command(path: Path) -> str:
    """The command that makes a file of `ONNX_FILES`."""
    (precision,) = (name for name, file in ONNX_FILES.items() if Path(file).name == path.name)
    if precision == "int8":
        return f"starencoder export quantize {path.parent.parent}"
    flag = "" if precision == "fp32" else f" --precision {precision}"
    return f"starencoder export onnx {path.parent.parent}{flag}"
