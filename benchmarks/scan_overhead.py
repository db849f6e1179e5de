"""What a scan costs beside the model: wall time of `starencoder scan` against detection alone.

python benchmarks/scan_overhead.py FOLDER [--chars N] [--rounds N]

FOLDER holds real source code, for example unpacked packages (`starencoder packages fetch`). Its
texts become shards of two row groups. Each round times, one after the other and each with one
thread of one process: the detector over the texts, and a scan of the shards, from reading the
footers to the manifest, less the loading of the model. Prints each round and the median ratio.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from export.row_groups import UnitScanner
from export.scan import plan_scan, scan
from export.scanner import ScanConfig
from pii.detect import load_detector
from starencoder.sources import find_source_files, read_source


def main() -> None:
    """Time both, several times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chars", type=int, default=1_500_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    texts: list[str] = []
    left_out: Counter[str] = Counter()
    for path in find_source_files(arguments.folder, left_out):
        text = read_source(path, left_out)
        if text is not None:
            texts.append(text)
        if sum(map(len, texts)) >= arguments.chars:
            break
    config = ScanConfig()
    detector = load_detector(config.model, operating_point=config.operating_point)
    scanner = UnitScanner(config)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder, "in.parquet")
        parquet.write_table(pa.table({"content": texts}), shard, row_group_size=len(texts) // 2 + 1)
        for number in range(arguments.rounds):
            started = time.perf_counter()
            for text in texts:
                detector.detect(text)
            alone = time.perf_counter() - started
            started = time.perf_counter()
            plan = plan_scan([str(shard)], config)
            scan(
                plan,
                Path(folder, f"out-{number}"),
                lambda config, units: ((unit, scanner(unit)) for unit in units),
            )
            whole = time.perf_counter() - started
            ratios.append(whole / alone)
            print(f"detection alone {alone:.2f} s, scan {whole:.2f} s: {ratios[-1]:.3f}")
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts)} texts, {size / 1e6:.1f} MB; median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
