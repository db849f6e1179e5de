"""What the router costs and spares: spans kept, chunks read and speed, beside every chunk read.

    python -m benchmarks.router --source FOLDER [--size MB] [--model DIR] [--operating-point NAME]

FOLDER holds real source code that the router was not trained on. Both sides see the same files in
one process, one thread, file by file in turn. A span is kept if the same characters have the same
label with the router. Spans of kind real, which are redacted without further options, are counted
apart too.
"""

import argparse
import time
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed import MEGABYTE, cpu_name, sample
from pii.detect import ROUTER, load_detector
from pii.labels import LABELS, OPERATING_POINTS
from pii.spans import Span


def main() -> None:
    """Print a table of spans by label, and the speed of both sides."""
    parser = argparse.ArgumentParser(description="The router against reading every chunk.")
    parser.add_argument("--source", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--size", type=float, default=2.0, metavar="MB", help="default: 2")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--operating-point", choices=OPERATING_POINTS, default="balanced")
    options = parser.parse_args()
    sides = {
        name: load_detector(
            options.model, operating_point=options.operating_point, disabled=frozenset(disabled)
        )
        for name, disabled in (("every chunk", [ROUTER]), ("with the router", []))
    }
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        sample(options.source, Path(folder), options.size * MEGABYTE)
        texts = [
            path.read_bytes().decode("utf-8", "replace")
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        ]
    seconds = dict.fromkeys(sides, 0.0)
    found: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    added = 0
    for text in texts:
        spans = {}
        for name, detector in sides.items():
            started = time.process_time()
            spans[name] = {key(span): span.kind for span in detector.detect(text)}
            seconds[name] += time.process_time() - started
        everything, routed = spans.values()
        for span, kind in everything.items():
            counted = [span[2], "all", *(["kind real"] if kind == "real" else [])]
            found.update(counted)
            kept.update(counted if span in routed else [])
        added += len(routed.keys() - everything.keys())
    megabytes = sum(map(len, texts)) / MEGABYTE
    print(f"{cpu_name()}; {megabytes:.1f} million characters in {len(texts)} files")
    for name in (*LABELS, "all", "kind real"):
        left, of = kept[name], found[name]
        print(f"{name:12} {left:6} of {of:6} spans kept  {left / of if of else 1:.2%}")
    print(f"{added} spans that are found with the router only")
    full, routed_seconds = (seconds[name] for name in sides)
    for name in sides:
        print(f"{name:16} {seconds[name] / megabytes:6.2f} s of CPU per million characters")
    print(f"with the router {full / routed_seconds:.2f} times as fast")


def key(span: Span) -> tuple[int, int, str]:
    """What makes a span the same on both sides."""
    return span.start, span.end, span.label


if __name__ == "__main__":
    main()
