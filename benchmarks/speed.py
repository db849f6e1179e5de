"""How fast `starencoder detect` is, and how much memory it takes, beside a peer on the same files.

    python benchmarks/speed.py --source FOLDER [--size MB] [--cold-start]

FOLDER holds real source code of many languages, for example unpacked packages
(`starencoder packages fetch`). Files are drawn from it with a fixed seed, none larger than 1 MB and
no language more than a tenth of the whole. Linux only: memory is read from /proc.
"""

import argparse
import contextlib
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from starencoder.languages import language_of

SEED = 1
MEGABYTE = 1_000_000
LARGEST_FILE = MEGABYTE
LARGEST_SHARE = 0.1
SECONDS_BETWEEN_SAMPLES = 0.2
COLD_STARTS = 10

BIN = Path(sys.executable).parent
DETECT: list[str | Path] = [BIN / "starencoder", "detect", "--format", "jsonl", "--exit-zero"]
COMMANDS: dict[str, list[str | Path]] = {
    "starencoder": DETECT,
    "starencoder --model none": [*DETECT, "--model", "none"],
    "the same, one process": [*DETECT, "--model", "none", "--jobs", "1"],
    # It would ask the providers whether what it finds is valid, and by default it reads only what
    # git tracks. It uses as many cores as we do: all.
    "detect-secrets": [BIN / "detect-secrets", "scan", "--all-files", "--no-verify"],
}


def main() -> None:
    """Print the sample, then a table of speed and memory, then cold starts if asked for."""
    parser = argparse.ArgumentParser(description="Speed of starencoder detect beside a peer.")
    parser.add_argument("--source", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--size", type=float, default=20.0, metavar="MB", help="default: 20")
    parser.add_argument("--cold-start", action="store_true", help="time short commands too")
    options = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}  {cpu_name()}  "
        f"Python {sys.version.split()[0]}  onnxruntime {version('onnxruntime')}  "
        f"starencoder {version('starencoder')}  detect-secrets {version('detect-secrets')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        megabytes = sample(options.source, tree, options.size * MEGABYTE) / MEGABYTE
        results = {}
        for name, command in COMMANDS.items():
            results[name] = measure([*command, "."], cwd=tree, output=Path(folder) / "output")
        peer = results["detect-secrets"]
        print(f"{'':24} {'seconds':>8} {'MB/s':>7} {'peer = 1':>9} {'CPU s':>7} {'peak MB':>8}")
        for name, cost in results.items():
            print(
                f"{name:24} {cost.seconds:8.1f} {megabytes / cost.seconds:7.3f} "
                f"{peer.seconds / cost.seconds:9.2f} {cost.cpu_seconds:7.1f} "
                f"{cost.peak_bytes / MEGABYTE:8.0f}"
            )
        if options.cold_start:
            small = Path(folder) / "small.py"
            small.write_text('AUTHOR = "somebody@example.org"\n')
            cold_start("--help")
            cold_start("detect", "--exit-zero", str(small))


def cpu_name() -> str:
    """The processor's model name and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown CPU'}, {os.cpu_count()} cores"


def sample(source: Path, tree: Path, size: float) -> int:
    """Copy a mixed sample of a folder's source files to a new tree; return its bytes."""
    files = sorted(source.rglob("*"))
    random.Random(SEED).shuffle(files)
    taken: dict[str, int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    for path in files:
        language = language_of(path)
        if language is None or taken[language] >= size * LARGEST_SHARE:
            continue
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        room = size * LARGEST_SHARE - taken[language]
        if not 0 < len(content) <= min(LARGEST_FILE, room, size - sum(taken.values())):
            continue
        if b"\0" in content:
            continue
        # Neither tool leaves out files with names like these.
        copy = tree / language / f"{counts[language]:05}{path.suffix}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        taken[language] += len(content)
        counts[language] += 1
    if not taken:
        sys.exit(f"{source}: no source files; expected a folder of real code in many languages")
    total = sum(taken.values())
    print(f"{total / MEGABYTE:.1f} MB in {sum(counts.values())} files: ", end="")
    print(", ".join(f"{name} {taken[name] / total:.0%}" for name in sorted(taken)))
    return total


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of a command took."""

    seconds: float
    """By the clock."""
    cpu_seconds: float
    """Of all its processes; by these, runs on a busy machine can still be compared."""
    peak_bytes: int
    """Largest sum over its processes, of memory in use at one time."""


def measure(command: list[str | Path], *, cwd: Path, output: Path) -> Cost:
    """Run a command in a folder, its output to a file."""
    peak, cpu_before, started = 0, cpu_seconds_of_children(), time.perf_counter()
    messages = output.with_suffix(".messages")
    with output.open("wb") as stdout, messages.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=cwd, stdout=stdout, stderr=stderr)
        while process.poll() is None:
            peak = max(peak, sum(map(used_bytes, process_tree(process.pid))))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_BETWEEN_SAMPLES)
    seconds = time.perf_counter() - started
    said = messages.read_text().strip()
    if process.returncode:
        sys.exit(f"{command[0]} failed with code {process.returncode}: {said}")
    if said:
        print(f"  {said.splitlines()[0]}")
    return Cost(seconds, cpu_seconds_of_children() - cpu_before, peak)


def cpu_seconds_of_children() -> float:
    """CPU time of all processes started from here that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def process_tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    pids = [pid]
    for parent in pids:
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
            pids += [
                int(child) for task in tasks for child in (task / "children").read_text().split()
            ]
        except OSError:  # it has just ended
            continue
    return pids


def used_bytes(pid: int) -> int:
    """Memory of a process; what it shares with others is divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def cold_start(*arguments: str) -> None:
    """Print the median time of a short command, each run a new process."""
    seconds = []
    for _ in range(COLD_STARTS):
        started = time.perf_counter()
        subprocess.run([BIN / "starencoder", *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    shown = "starencoder " + " ".join(Path(argument).name for argument in arguments)
    print(f"{shown}: {statistics.median(seconds):.2f} s (median of {COLD_STARTS})")


if __name__ == "__main__":
    main()
