"""A tagger's file for GPUs as a runner: ONNX Runtime with buffers that stay on the GPU.

What it shares with a CPU (bound buffers, shapes, errors) is tested there; what was measured on GPUs
stands in docs/gpu.md.
"""

import contextlib
import ctypes
import mmap
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from export.batching import (
    TOKEN_BUDGET,
    BatchPlan,
    Ids,
    OutOfMemory,
    Shape,
    batch_shapes,
    batched_predict,
    pad_batch,
)
from pii.detect import EMBEDDED_MODEL
from pii.session import (
    ONNX_FILES,
    check_onnxruntime,
    check_providers,
    check_signature,
    export_command,
    make_session,
)
from pii.tagger import Predict
from starencoder.config import load_tagger_config
from starencoder.errors import CheckpointError, ConfigError, DeviceError, MissingExtraError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding, OrtValue

CUDA = "cuda"


def check_cuda() -> None:
    """Make sure that ONNX Runtime can use GPUs; whether there is one, opening the model shows.

    Raises:
        MissingExtraError: It is missing, or the one for CPUs.
        ConfigError: Both are installed.
    """
    check_onnxruntime()
    check_providers([CUDA])


def gpu_plan(model_dir: Path, *, token_budget: int = TOKEN_BUDGET) -> BatchPlan:
    """How a model's chunks are batched on a GPU.

    Raises:
        CheckpointError: The directory has no file for GPUs, or no usable configuration.
    """
    path = model_dir / ONNX_FILES["fp16"]
    if not path.is_file():
        embedded = "the embedded model comes without it: " if model_dir == EMBEDDED_MODEL else ""
        raise CheckpointError(
            f"{path}: not found, and a GPU needs it; {embedded}make it from the checkpoint with: "
            f"{export_command(path)}"
        )
    return batch_plan(model_dir, token_budget=token_budget)


def batch_plan(model_dir: Path, *, token_budget: int = TOKEN_BUDGET) -> BatchPlan:
    """How chunks are batched for whatever computes a model.

    Raises:
        CheckpointError: The directory has no usable configuration.
    """
    config = load_tagger_config(model_dir)
    return BatchPlan(
        shapes=batch_shapes(config.encoder.max_positions, token_budget=token_budget),
        pad_id=config.encoder.pad_id,
        num_tags=len(config.id2label),
    )


def cuda_predict(model_dir: Path, device: int) -> Predict:
    """Open a model's file for GPUs in this process, as a predict callable.

    It batches the chunks of each call by themselves: give it many.

    Args:
        model_dir: A tagger's directory.
        device: Number of the GPU, among those this process may see.

    Raises:
        MissingExtraError, ConfigError: See `check_cuda`; or the GPU cannot be used.
        CheckpointError: See `gpu_plan`.
    """
    check_cuda()
    plan = gpu_plan(model_dir)
    return batched_predict(open_cuda(model_dir, device), plan)


def open_cuda(model_dir: Path, device: int) -> "BoundRunner":
    """Open a model's file for GPUs; with CUDA graphs if this graph and ONNX Runtime allow them.

    Raises:
        ConfigError: The GPU cannot be used.
        CheckpointError: The file is not a graph of this model.
        DeviceError: The GPU has no memory left for it.
    """
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21: those that pip installed
        onnxruntime.preload_dlls()
    path = model_dir / ONNX_FILES["fp16"]
    config = load_tagger_config(model_dir)
    unusable = (
        f"cuda:{device} cannot be used by ONNX Runtime {onnxruntime.__version__}: expected a GPU, "
        "its driver, and CUDA and cuDNN of the versions it is built for; compare nvidia-smi, and "
        "see pip install 'onnxruntime-gpu[cuda,cudnn]'"
    )

    def tried(*, without_graphs: str = "") -> BoundRunner:
        graphs = not without_graphs
        options = {"device_id": str(device), "enable_cuda_graph": str(int(graphs))}
        try:
            session = make_session(path, providers=[CUDA], provider_options=options)
        except CheckpointError as error:
            if "CUDA failure" in str(error):
                raise ConfigError(f"{unusable} ({error})") from error
            raise
        check_signature(session, len(config.id2label), path)
        if len(session.get_inputs()) < 2:
            raise CheckpointError(
                f"{path}: takes no attention_mask, and without it no padded batches; "
                f"make it again with: {export_command(path)}"
            )
        runner = BoundRunner(session, CUDA, device, without_graphs=without_graphs)
        # A graph is recorded in the first run: if that cannot be done, it fails here.
        longest = config.encoder.max_positions
        chunk = np.full(longest, config.encoder.pad_id, np.int32)
        runner(*pad_batch([chunk], Shape(1, longest), config.encoder.pad_id))
        return runner

    try:
        return tried()
    except OutOfMemory as error:
        raise DeviceError(f"no memory left on the device for {path}") from error
    except (ConfigError, MissingExtraError):
        raise
    except Exception as error:  # nodes that run on the CPU, an older ONNX Runtime: of many kinds
        return tried(without_graphs=str(error).partition("\n")[0] or type(error).__name__)


class BoundRunner:
    """A session with buffers on its device, bound once for each shape. For one thread."""

    def __init__(
        self,
        session: "InferenceSession",
        device_type: str,
        device: int,
        *,
        without_graphs: str = "not on this device",
    ) -> None:
        """Allocate nothing yet.

        Args:
            session: Takes `input_ids` and perhaps `attention_mask`, gives `probabilities`.
            device_type: As ONNX Runtime has it: cuda, or cpu.
            device: Its number.
            without_graphs: Why no shape is recorded as a CUDA graph; empty: each is, and the
                session allows it.
        """
        self._session = session
        self._device = (device_type, device)
        self._without_graphs = without_graphs
        (output,) = session.get_outputs()
        self._num_tags = int(output.shape[-1])
        self._dtype = np.float16 if output.type == "tensor(float16)" else np.float32
        self._names = [value.name for value in session.get_inputs()]
        self._bound: dict[Shape, _Bound] = {}
        self._recorded = 0
        self._cudart = _open_cudart(device) if device_type == CUDA else None

    def __str__(self) -> str:
        """How it runs, for the log."""
        reason = self._without_graphs
        graphs = f"without CUDA graphs ({reason})" if reason else "with CUDA graphs"
        return f"{graphs}, output through {'pinned' if self._cudart else 'pageable'} memory"

    def __call__(self, input_ids: Ids, attention_mask: Ids) -> npt.NDArray[np.floating]:
        """Run a batch.

        Raises:
            OutOfMemory: The device has too little.
            Exception: ONNX Runtime's own, for whatever else fails.
        """
        shape = Shape(*input_ids.shape)
        values = {"input_ids": input_ids, "attention_mask": attention_mask}
        try:
            bound = self._bound.get(shape) or self._bind(shape)
            for name in self._names:
                bound.inputs[name].update_inplace(values[name])
            self._session.run_with_iobinding(bound.binding, bound.options)
            # An output on the CPU is a view of the buffer that the next batch is written to.
            return np.array(
                bound.pinned.read(bound.output) if bound.pinned else bound.output.numpy()
            )
        except Exception as error:  # ONNX Runtime's own have no base but this
            self._bound.pop(shape, None)
            if _is_out_of_memory(str(error)):
                raise OutOfMemory from error
            raise

    def _bind(self, shape: Shape) -> "_Bound":
        from onnxruntime import OrtValue, RunOptions

        make = OrtValue.ortvalue_from_shape_and_type
        inputs = {
            name: make((shape.rows, shape.seq), np.int32, *self._device) for name in self._names
        }
        size = (shape.rows, shape.seq, self._num_tags)
        output = make(size, self._dtype, *self._device)
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("probabilities", output)
        options = RunOptions()
        if not self._without_graphs:
            # A recorded graph keeps its buffers' addresses: a shape bound anew gets a new number.
            self._recorded += 1
            options.add_run_config_entry("gpu_graph_id", str(self._recorded))
        pinned = _PinnedBuffer(self._cudart, size, self._dtype) if self._cudart else None
        bound = _Bound(inputs, output, binding, options, pinned)
        self._bound[shape] = bound
        return bound


def _is_out_of_memory(message: str) -> bool:
    text = message.lower()
    return any(
        known in text
        for known in ("failed to allocate memory", "out of memory", "status_alloc_failed")
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    inputs: "dict[str, OrtValue]"
    output: "OrtValue"
    binding: "IOBinding"
    options: object
    pinned: "_PinnedBuffer | None"


def _open_cudart(device: int) -> ctypes.CDLL | None:
    """CUDA's runtime library, the one that ONNX Runtime has loaded."""
    for major in (13, 12, 11):
        with contextlib.suppress(OSError, AttributeError):
            cudart = ctypes.CDLL(f"libcudart.so.{major}", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            cudart.cudaMemcpy.argtypes = [
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_int,
            ]
            cudart.cudaHostRegister.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
            cudart.cudaHostUnregister.argtypes = [ctypes.c_void_p]
            if cudart.cudaSetDevice(device) == 0:
                return cudart
    return None


class _PinnedBuffer:
    """Memory that a GPU copies to without the driver's own copy between."""

    _DEVICE_TO_HOST = 2

    def __init__(
        self, cudart: ctypes.CDLL, shape: tuple[int, ...], dtype: type[np.floating]
    ) -> None:
        self._cudart = cudart
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._array = np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)  # whole pages
        address = self._array.ctypes.data
        self._check(cudart.cudaHostRegister(address, size, 0), "cudaHostRegister")
        weakref.finalize(self, cudart.cudaHostUnregister, address)

    def read(self, value: "OrtValue") -> npt.NDArray[np.floating]:
        """A value on the GPU; the array is overwritten by the next."""
        array = self._array
        code = self._cudart.cudaMemcpy(
            array.ctypes.data, value.data_ptr(), array.nbytes, self._DEVICE_TO_HOST
        )
        self._check(code, "cudaMemcpy")
        return array

    def _check(self, code: int, call: str) -> None:
        if code:
            raise RuntimeError(f"{call} failed: CUDA error {code}")
