"""How fast the int8 tagger runs for several shapes.

    python -m benchmarks.shapes

Weights are random. Rates are tokens per second of one core's CPU time (best of several runs), so
that other work on the machine disturbs them little; the last column is what two processes of one
thread reach together by the clock.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
import torch

from export.quantize import build_int8_graph
from export.to_onnx import tagger_weights
from pii.labels import TAGS
from pii.session import make_session, session_predict
from starencoder.config import EncoderConfig
from starencoder.model import TokenClassifier

SHAPES = (
    (2, 256, 4, 1024),
    (3, 256, 4, 1024),
    (4, 256, 4, 1024),
    (4, 192, 3, 768),
    (2, 320, 5, 1280),
    (2, 384, 6, 1536),
)
LENGTHS = (96, 128, 192, 256)
VOCAB_SIZE = 16384
SECONDS = 5.0


def main() -> None:
    """Print one line per shape."""
    parser = argparse.ArgumentParser(description="Speed of the int8 tagger for several shapes.")
    parser.add_argument("--one", nargs=4, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.one:
        print(sustained_rate(tuple(options.one)))
        return
    columns = "".join(f"  S={length:<5}" for length in LENGTHS)
    print(f"{'shape':16} {'MB':>5}{columns}  2 processes, S=128")
    for shape in SHAPES:
        graph = int8_graph(shape)
        rates = "".join(f"  {best_rate(graph, length) / 1e3:6.1f}k" for length in LENGTHS)
        command = [sys.executable, "-m", "benchmarks.shapes", "--one", *map(str, shape)]
        pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        both = sum(float(process.communicate()[0]) for process in pair)
        print(f"{_name(shape):16} {len(graph) / 1e6:5.1f}{rates}  {both / 1e3:6.1f}k", flush=True)


def _name(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _model(shape: tuple[int, ...]) -> TokenClassifier:
    num_layers, hidden_size, num_heads, intermediate_size = shape
    config = EncoderConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        intermediate_size=intermediate_size,
        max_positions=max(LENGTHS),
        pad_id=0,
        attention_dropout=0.0,
    )
    return TokenClassifier(config, num_labels=len(TAGS))


def int8_graph(shape: tuple[int, ...]) -> bytes:
    """The graph of a tagger with (layers, hidden, heads, intermediate)."""
    return build_int8_graph(tagger_weights(_model(shape)))


def _chunk(length: int) -> list[list[int]]:
    return [np.random.default_rng(0).integers(0, VOCAB_SIZE, length).tolist()]


def best_rate(graph: bytes, length: int) -> float:
    """Tokens per second of CPU time, one chunk per call, in the fastest group of ten calls."""
    predict = session_predict(make_session(graph), max(LENGTHS))
    chunks = _chunk(length) * 10
    predict(chunks)
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.process_time()
        predict(chunks)
        best = min(best, time.process_time() - start)
    return len(chunks) * length / best


def sustained_rate(shape: tuple[int, ...]) -> float:
    """Tokens per second by the clock for chunks of 128."""
    predict = session_predict(make_session(int8_graph(shape)), max(LENGTHS))
    chunks = _chunk(128) * 10
    predict(chunks)
    start, tokens = time.perf_counter(), 0
    while time.perf_counter() < start + SECONDS:
        predict(chunks)
        tokens += len(chunks) * 128
    return tokens / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
