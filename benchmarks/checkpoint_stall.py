"""How long a checkpoint keeps training waiting, and what it costs.

    python -m benchmarks.checkpoint_stall [--preset starencoder-125m] [--device cuda] [--folder DIR]

Saves weights and both Adam moments of a preset, in float32. "stall" is what training waits for: the
copy into host buffers, and in the row "while the last is written" also the wait for the buffers.
"writing" is done by a thread while training goes on. Each checkpoint is loaded at the end.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from starencoder.config import PRESETS
from starencoder.model import PretrainingModel
from starencoder.training_checkpoints import CheckpointWriter, load_latest

LATER_SAVES = 5


def main() -> None:
    """Print one line per kind of save."""
    parser = argparse.ArgumentParser(description="Stall of a checkpoint.")
    parser.add_argument("--preset", default="starencoder-125m", choices=PRESETS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options.preset, options.device)


def measure(folder: Path, preset: str, device: str) -> None:
    """Save some checkpoints of a preset's size into a folder."""
    with torch.device("meta"):
        shapes = PretrainingModel(PRESETS[preset]).state_dict()
    random = {name: torch.randn(tensor.shape, device=device) for name, tensor in shapes.items()}
    moments = ("exp_avg", "exp_avg_sq")
    groups = {
        "weights": random,
        "optimizer": {
            f"{moment}.{name}": torch.randn_like(tensor)
            for moment in moments
            for name, tensor in random.items()
        },
    }
    size = sum(tensor.nbytes for members in groups.values() for tensor in members.values())
    print(f"{preset} on {device}, {torch.get_num_threads()} threads: {size / 1e9:.2f} GB")
    before = _peak_memory()
    writer = CheckpointWriter(folder, keep=2)
    start = time.perf_counter()
    writer.prepare(groups)  # as the trainer does after its first step
    print(f"{'buffers made':34} {time.perf_counter() - start:6.2f} s")
    writer.save(1, groups, {}, wait=True)
    print(f"{'first save':34} {_row(writer)}")
    for step in range(2, 2 + LATER_SAVES):
        writer.save(step, groups, {}, wait=True)
        print(f"{'later save':34} {_row(writer)}", flush=True)
    writer.save(2 + LATER_SAVES, groups, {})
    writer.save(3 + LATER_SAVES, groups, {}, wait=True)
    *_, last = writer.poll()
    print(f"{'save while the last is written':34} stall {last.stall_seconds:6.3f} s")
    writer.close()
    print(f"{'host memory for the buffers':34} {(_peak_memory() - before) / 1e9:6.2f} GB")
    start = time.perf_counter()
    checkpoint = load_latest(folder)
    print(f"{'load and check':34} {time.perf_counter() - start:6.2f} s")
    for group, members in groups.items():
        for name, tensor in members.items():
            if checkpoint is None or not torch.equal(checkpoint.tensors[group][name], tensor.cpu()):
                raise SystemExit(f"{group} {name} was not read back as it was")


def _row(writer: CheckpointWriter) -> str:
    (result,) = writer.poll()
    rate = result.num_bytes / result.write_seconds / 1e9
    return (
        f"stall {result.stall_seconds:6.3f} s   writing {result.write_seconds:5.2f} s "
        f"({rate:.2f} GB/s)"
    )


def _peak_memory() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
