"""Peak memory of a scan whose shards hold very long rows, by process.

python benchmarks/scan_memory.py FOLDER --long-mb 200 --others-mb 1800 --model none

FOLDER gets the shards: rows of 10 kB made of lines of the package's own sources, and one row of
`--long-mb`, all row groups of about 100 MB. Prints the largest resident set of the driver and of
its workers, as the kernel keeps it (Linux).
"""

import argparse
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

_GROUP_BYTES = 100_000_000
_ROW_BYTES = 10_000
_EMOJI = "\U0001f600"


def main() -> None:
    """Make the shards, scan them, print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--long-mb", type=int, default=200)
    parser.add_argument("--others-mb", type=int, default=1800)
    parser.add_argument("--wide", action="store_true", help="an emoji in each line of the long row")
    parser.add_argument("--model", default="none")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    shards = arguments.folder / "in"
    _make(shards, arguments.long_mb, arguments.others_mb, wide=arguments.wide)
    flags = ["--model", arguments.model, "--workers", str(arguments.workers)]
    output = arguments.folder / f"out-{time.time_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "scan", str(shards), "--output", str(output), *flags],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    peaks: dict[str, int] = {}
    watcher = threading.Thread(target=_watch, args=(process, peaks))
    started = time.perf_counter()
    watcher.start()
    process.wait()
    watcher.join()
    print(f"{time.perf_counter() - started:.0f} s, exit code {process.returncode}")
    for name, peak in peaks.items():
        print(f"{name}: {peak / 1024:.0f} MB")


def _make(folder: Path, long_mb: int, others_mb: int, *, wide: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = itertools.cycle(_lines())
    end = f" # {_EMOJI}\n" if wide else "\n"
    with parquet.ParquetWriter(folder / "long.parquet", pa.schema({"content": pa.string()})) as out:
        row = "".join(f"{next(lines)} {number}{end}" for number in range(long_mb * 1_000_000 // 50))
        size = long_mb * 1_000_000
        texts = [_text(lines, number) for number in range(50)]
        out.write_table(pa.table({"content": [*texts, row[:size], *texts]}))
    with parquet.ParquetWriter(folder / "rest.parquet", pa.schema({"content": pa.string()})) as out:
        number = 0
        for _ in range(others_mb * 1_000_000 // _GROUP_BYTES):
            texts = []
            for _ in range(_GROUP_BYTES // _ROW_BYTES):
                number += 1
                texts.append(_text(lines, number))
            out.write_table(pa.table({"content": texts}))


def _lines() -> list[str]:
    folder = Path(__file__).parents[1]
    sources = (
        path.read_text() for name in ("pii", "export") for path in folder.glob(f"{name}/*.py")
    )
    return [line for source in sources for line in source.splitlines() if line.strip()]


def _text(lines: Iterator[str], number: int) -> str:
    text = f"# row {number}\n"
    while len(text) < _ROW_BYTES:
        text += next(lines) + "\n"
    return text


def _watch(process: "subprocess.Popen[bytes]", peaks: dict[str, int]) -> None:
    while process.poll() is None:
        for pid, name in [(process.pid, "driver"), *_children(process.pid)]:
            peaks[name] = max(peaks.get(name, 0), _peak_kb(pid))
        time.sleep(0.2)


def _children(pid: int) -> Iterator[tuple[int, str]]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                yield int(child), f"worker {child}"
    except OSError:
        return


def _peak_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
