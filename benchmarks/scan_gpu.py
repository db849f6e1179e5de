"""What a GPU reaches: the model alone, text to spans beside transformers' pipeline, a whole scan.

    python -m benchmarks.scan_gpu --source FOLDER --model DIR [--size MB] [--device N]
                                  [--workers N] [--only model spans scan]

DIR is a tagger's directory with onnx/model_fp16.onnx (`starencoder export onnx DIR --precision
fp16`) and, for the pipeline, model.safetensors. FOLDER holds real source code. Rates are of real
tokens, never of padding. The pipeline runs in float16 on the same GPU, over texts sorted by length,
and what counts is its best batch size.

The first part also says whether a chunk's bits change with its row and its neighbours.
"""

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.speed import MEGABYTE, cpu_name, sample
from export.batching import Runner, Shape, batched_predict, pad_batch
from export.bench import load_pipeline
from export.cuda import check_cuda, gpu_plan, open_cuda
from pii.detect import load_detector
from pii.tagger import load_tagger, tokenize_document
from pii.workers import default_jobs
from starencoder.config import load_tagger_config

LENGTHS = (128, 256, 512)
BUDGETS = (1 << 13, 1 << 14, 1 << 15, 1 << 16)
PIPELINE_BATCHES = (8, 32, 128)
PIPELINE_SAMPLE = 0.1
"""Share of the text on which the pipeline's batch size is chosen."""
SECONDS = 3.0
NEIGHBOURS = 64
PARTS = ("model", "spans", "scan")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the machine, then a table for each part."""
    parser = argparse.ArgumentParser(description="What a GPU reaches.")
    parser.add_argument("--source", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--size", type=float, default=50.0, metavar="MB", help="default: 50")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--workers", type=int, default=default_jobs(), metavar="N")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args(arguments)
    check_cuda()
    print(card(options.device))
    print(cpu_name())
    packages = ("starencoder", "onnxruntime-gpu", "torch", "transformers", "tokenizers")
    print(f"Python {sys.version.split()[0]}", *(f" {name} {found(name)}" for name in packages))
    with TemporaryDirectory() as folder:
        with redirect_stdout(StringIO()):
            sample(options.source, Path(folder) / "tree", options.size * MEGABYTE)
        texts = [
            path.read_text("utf-8", "replace")
            for path in sorted((Path(folder) / "tree").rglob("*"))
            if path.is_file()
        ]
        runner = open_cuda(options.model, options.device)
        print(runner)
        if "model" in options.only:
            model_alone(runner, options.model)
        if "spans" in options.only:
            text_to_spans(runner, options.model, texts, options.device)
        del runner
        if "scan" in options.only:
            whole_scan(options.model, texts, Path(folder), options.device, options.workers)


def card(device: int) -> str:
    """The GPU's name and driver."""
    query = ["nvidia-smi", f"--id={device}", "--query-gpu=name,driver_version,memory.total"]
    try:
        result = subprocess.run([*query, "--format=csv,noheader"], capture_output=True, text=True)
    except FileNotFoundError:
        return "nvidia-smi not found"
    return result.stdout.strip() or result.stderr.strip()


def found(package: str) -> str:
    """A package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def model_alone(runner: Runner, model: Path) -> None:
    """Tokens per second by length and size of batch; whether bits depend on the neighbours."""
    config = load_tagger_config(model)
    generator = np.random.default_rng(1)
    lengths = [length for length in LENGTHS if length <= config.encoder.max_positions]
    print(f"\n{'model alone, tokens/s':24}" + "".join(f"  batch {b // 1024:3}k" for b in BUDGETS))
    for length in lengths:
        rates = []
        for budget in BUDGETS:
            shape = Shape(max(1, budget // length), length)
            ids = generator.integers(0, config.encoder.vocab_size, (shape.rows, length), np.int32)
            mask = np.ones_like(ids)
            calls, seconds = repeated(functools.partial(runner, ids, mask))
            rates.append(calls * ids.size / seconds)
        print(f"{f'S = {length}':24}" + "".join(f"  {rate / 1e3:8.0f}k" for rate in rates))

    shape = Shape(NEIGHBOURS, lengths[-1])
    chunks = [
        generator.integers(0, config.encoder.vocab_size, length, np.int32)
        for length in generator.integers(shape.seq // 2, shape.seq + 1, shape.rows)
    ]
    differing = 0
    reference = runner(*pad_batch(chunks[:1], shape, config.encoder.pad_id))[0, : len(chunks[0])]
    for row in range(shape.rows):
        others = [chunks[index] for index in generator.permutation(np.arange(1, shape.rows))]
        batch = [*others[:row], chunks[0], *others[row:]]
        probs = runner(*pad_batch(batch, shape, config.encoder.pad_id))[row, : len(chunks[0])]
        differing += not np.array_equal(probs, reference)
    print(f"a chunk's bits differ from those alone in {differing} of {shape.rows} rows")


def repeated(call: Callable[[], object]) -> tuple[int, float]:
    """Calls in some seconds, after three to warm up."""
    for _ in range(3):
        call()
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        call()
        calls += 1
    return calls, time.perf_counter() - started


def text_to_spans(runner: Runner, model: Path, texts: Sequence[str], device: int) -> None:
    """One process each, from text to spans."""
    predict = batched_predict(runner, gpu_plan(model))
    detector = load_detector(
        str(model), operating_point="thorough", disabled=frozenset(["router"]), predict=predict
    )
    tokenizer = load_tagger(model, predict).tokenizer
    tokens = sum(len(tokenize_document(text, tokenizer)[0]) for text in texts)
    megabytes = sum(len(text.encode()) for text in texts) / MEGABYTE
    detector.detect_all(texts[:20])
    started = time.perf_counter()
    detector.detect_all(texts)
    ours = time.perf_counter() - started
    print(f"\n{'text to spans':24}  {'tokens/s':>10} {'MB/s':>8} {'peer = 1':>9}")
    try:
        theirs, batch = pipeline_seconds(model, texts, device)
    except ImportError as error:
        print(f"the pipeline is left out: {error}")
        theirs, batch = float("nan"), 0
    for name, seconds in (("starencoder", ours), (f"pipeline, batch {batch}", theirs)):
        print(
            f"{name:24}  {tokens / seconds:10.0f} {megabytes / seconds:8.3f} "
            f"{theirs / seconds:9.2f}"
        )


def pipeline_seconds(model: Path, texts: Sequence[str], device: int) -> tuple[float, int]:
    """The pipeline at its best: seconds, and the size of its batches."""
    run = load_pipeline(model, f"cuda:{device}")
    in_order = sorted((text for text in texts if text.strip()), key=len)

    def seconds(some: list[str], size: int) -> float:
        started = time.perf_counter()
        run(some, batch_size=size)
        return time.perf_counter() - started

    few = in_order[:: round(1 / PIPELINE_SAMPLE)]
    seconds(few[:8], PIPELINE_BATCHES[0])
    best = min(PIPELINE_BATCHES, key=lambda size: seconds(few, size))
    return seconds(in_order, best), best


def whole_scan(model: Path, texts: Sequence[str], folder: Path, device: int, workers: int) -> None:
    """`starencoder scan`, start of the processes included."""
    (folder / "shards").mkdir()
    table = pa.table({"content": pa.array(texts, pa.large_string())})
    rows = max(1, len(texts) // (4 * workers))
    parquet.write_table(table, folder / "shards" / "0.parquet", row_group_size=rows)
    command = [sys.executable, "-c", "import cli, sys; sys.exit(cli.main(sys.argv[1:]))", "scan"]
    command += [str(folder / "shards"), "--model", str(model), "--workers", str(workers)]
    megabytes = sum(len(text.encode()) for text in texts) / MEGABYTE
    print(f"\n{f'scan, {workers} workers':24}  {'MB/s':>8}")
    for name, more in (("every chunk", ["--disable", "router"]), ("as it comes", [])):
        output = ["--output", str(folder / name), "--device", f"cuda:{device}"]
        started = time.perf_counter()
        subprocess.run([*command, *output, *more], check=True, stdout=subprocess.DEVNULL)
        print(f"{name:24}  {megabytes / (time.perf_counter() - started):8.3f}")


if __name__ == "__main__":
    main()
