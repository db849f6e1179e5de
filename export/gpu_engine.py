"""A scan on the GPUs of this machine: what `--device` names, served to its processes."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence

from export.batching import BatchPlan
from export.cuda import CUDA, check_cuda, gpu_plan, open_cuda
from export.devices import ServedModel, serve_model
from export.row_groups import Unit
from export.scan import Engine, Outcome, local_engine
from export.scanner import ScanConfig
from pii.detect import model_folder
from starencoder.errors import ConfigError

CPU = "cpu"


def parse_device(text: str) -> tuple[int, ...]:
    """The numbers of the GPUs that `--device` names; none for the CPU.

    Raises:
        ConfigError: It is neither `cpu` nor `cuda` (the first GPU) nor of the form `cuda:0,1`.
    """
    if text == CPU:
        return ()
    if text == CUDA:
        return (0,)
    kind, _, numbers = text.partition(":")
    found = numbers.split(",")
    if kind != CUDA or not all(n.isascii() and n.isdigit() for n in found):
        raise ConfigError(f"--device must be cpu, cuda or cuda:0,1 (numbers of GPUs), got {text!r}")
    if len(set(map(int, found))) < len(found):
        raise ConfigError(f"--device {text} names a GPU twice; each has one server")
    return tuple(map(int, found))


def check_gpu(model: str) -> BatchPlan:
    """Make sure, as far as it costs nothing, that a model can run on GPUs; say how it is batched.

    Raises:
        MissingExtraError, ConfigError, CheckpointError: See `check_cuda`, `gpu_plan`.
    """
    check_cuda()
    return gpu_plan(model_folder(model))


@contextlib.contextmanager
def serve_cuda(
    model: str, devices: Sequence[int], *, say: Callable[[str], object]
) -> Iterator[ServedModel]:
    """Serve a model on GPUs; see `serve_model`.

    Args:
        model: `tiny` or a directory.
        devices: Numbers of the GPUs.
        say: Takes what happens.

    Raises:
        MissingExtraError, ConfigError, CheckpointError: See `check_gpu`.
        StarEncoderError: See `serve_model`.
    """
    plan = check_gpu(model)
    folder = model_folder(model)
    starts = {f"cuda:{device}": functools.partial(open_cuda, folder, device) for device in devices}
    with serve_model(starts, plan, say=say) as served:
        yield served


def cuda_engine(jobs: int, devices: Sequence[int], *, say: Callable[[str], object]) -> Engine:
    """Processes on this machine that share its GPUs.

    Args:
        jobs: The number of processes, for all GPUs together.
        devices: Numbers of the GPUs.
        say: Takes what happens to the servers.
    """

    def run(config: ScanConfig, units: Sequence[Unit]) -> Generator[Outcome, None, None]:
        with (
            serve_cuda(config.model, devices, say=say) as predict,
            contextlib.closing(local_engine(jobs, predict, say=say)(config, units)) as outcomes,
        ):
            yield from outcomes

    return run
