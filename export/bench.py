"""How fast a tagger is: the model alone, and from text to spans, beside transformers' pipeline.

Tokens are real ones of the text: neither padding nor cls and sep nor what chunks share is counted.
All engines of a table see the same text in one process, in turn, and the best of the rounds counts;
on a machine that does other work compare by the time of the CPU.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.batching import (
    Feeds,
    batch_predict,
    batched_predict,
    packed_feeds,
    padded_feeds,
    session_run,
)
from export.cuda import CUDA, batch_plan, cuda_predict
from export.parity import iter_texts
from pii.detect import EMBEDDED_MODEL, Detector
from pii.labels import OPERATING_POINTS
from pii.session import (
    ONNX_FILES,
    installed_providers,
    make_session,
    precisions_on,
    session_predict,
)
from pii.tagger import Predict, Probs, Tagger, load_tagger, tokenize_document
from starencoder.config import CONFIG_FILE, WEIGHTS_FILE, EncoderConfig, load_tagger_config
from starencoder.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from transformers import TokenClassificationPipeline

PEERS = ("transformers",)

BATCHES = (1, 8, 32)
LENGTHS = (64, 128, 512, 1024)
"""Tokens of a chunk, cls and sep included; those that the model reads."""

PEER_BATCHES = (1, 8, 32)
"""The peer's batch sizes: one is its default, the best of them is the one to beat."""

ROUNDS = 2

_SECONDS = 0.5
"""Spent on one row of the model's table."""

_GPU = 0
"""The one that is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRate:
    """The model alone on full chunks."""

    provider: str
    precision: str
    batch: int
    """Chunks run at once; the int8 graph takes one."""
    length: int
    """Tokens of a chunk, cls and sep included."""
    tokens_per_second: float
    megabytes_per_second: float
    """Of the text that these tokens are, if chunks did not overlap."""
    memory: float | None
    """Peak in MB of a process of its own, less what it had before the graph was opened; on a GPU,
    that of the device. None where the system does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRate:
    """From text to spans."""

    engine: str
    provider: str
    precision: str
    seconds: float
    cpu_seconds: float
    tokens_per_second: float
    megabytes_per_second: float
    spans: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What was measured, and on what."""

    machine: str
    versions: Mapping[str, str]
    threads: int
    documents: int
    megabytes: float
    tokens: int
    model: Sequence[ModelRate]
    text: Sequence[TextRate]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON knows it."""
        return asdict(self)


def providers_there() -> tuple[list[str], list[str]]:
    """Keys of `pii.session.PROVIDERS` that start, and why others that are installed do not."""
    there, reasons = [], []
    for name in installed_providers():
        try:
            make_session(EMBEDDED_MODEL / ONNX_FILES["int8"], providers=(name,))
            there.append(name)
        except ConfigError as error:
            reasons.append(str(error))
    return there, reasons


def read_texts(paths: Sequence[Path], size: float) -> list[str]:
    """Whole files, in the order given, until they hold `size` MB (above 0); the last may go over.

    Raises:
        DataError: A file cannot be read, or all are empty.
    """
    texts: list[str] = []
    total = 0
    for text in iter_texts(paths):
        texts.append(text)
        total += len(text.encode())
        if total >= size * 1e6:
            break
    return texts


def run_bench(
    directory: Path,
    texts: Sequence[str],
    *,
    providers: Sequence[str],
    against: Sequence[str] = (),
    threads: int = 1,
) -> Bench:
    """Measure a tagger.

    Graphs that its directory lacks are made from the checkpoint, if that is there.

    Args:
        directory: A tagger's.
        texts: Documents of real code, one each.
        providers: Keys of `pii.session.PROVIDERS`.
        against: Of `PEERS`, which read the checkpoint.
        threads: Of one call, and of the peer's too.

    Raises:
        MissingExtraError, ConfigError: A provider is not there, or does not start.
        CheckpointError: There is neither a graph nor a checkpoint to make one from.
    """
    config = load_tagger_config(directory).encoder
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        graphs = _graphs(directory, providers, Path(folder))
        engines = _our_engines(directory, graphs, threads)
        tokenizer = load_tagger(directory, _nothing).tokenizer
        ids = np.concatenate([tokenize_document(text, tokenizer)[0] for text in texts])
        if "transformers" in against:
            for provider in [name for name in providers if name != "tensorrt"]:
                engines |= _pipelines(directory, provider, threads)
        text_rates = _text_rates(engines, texts, len(ids), megabytes)
        engines.clear()
        model_rates = [
            rate
            for (provider, precision), path in graphs.items()
            for rate in _model_rates(
                path, provider, precision, ids, config, threads, megabytes / len(ids)
            )
        ]
    return Bench(
        machine=_machine(),
        versions=_versions(),
        threads=threads,
        documents=len(texts),
        megabytes=megabytes,
        tokens=len(ids),
        model=model_rates,
        text=text_rates,
    )


def _nothing(chunks: Sequence[Sequence[int]]) -> list[Any]:
    raise AssertionError("only the tokenizer is used")


def _graphs(directory: Path, providers: Sequence[str], folder: Path) -> dict[tuple[str, str], Path]:
    """The files of all providers and precisions; those that the directory lacks go to `folder`."""
    graphs = {
        (provider, precision): path
        for provider in providers
        for precision in precisions_on(provider)
        if (path := _graph(directory, precision, folder)) is not None
    }
    if not graphs:
        raise CheckpointError(
            f"{directory}: no graph for {', '.join(providers)} and no {WEIGHTS_FILE} to make "
            f"one from; make one with: starencoder export onnx {directory}"
        )
    return graphs


def _graph(directory: Path, precision: str, folder: Path) -> Path | None:
    path = directory / ONNX_FILES[precision]
    if path.is_file():
        return path
    made = folder / ONNX_FILES[precision]
    if made.is_file():  # of another provider
        return made
    if not (directory / WEIGHTS_FILE).is_file():
        return None
    from export.half_graph import build_half_graph
    from export.quantize import build_int8_graph
    from export.to_onnx import build_float_graph, tagger_weights
    from starencoder.checkpoint import load_tagger as load_checkpoint

    weights = tagger_weights(load_checkpoint(directory)[0])
    if precision in ("fp32", "int8"):
        graph = (build_float_graph if precision == "fp32" else build_int8_graph)(weights)
    else:
        graph = build_half_graph(weights, packed=precision == "packed")
    # A tagger's directory too, as far as a graph needs it.
    made.parent.mkdir(exist_ok=True)
    shutil.copy(directory / CONFIG_FILE, folder)
    made.write_bytes(graph)
    return made


def _with_rest(provider: str) -> tuple[str, ...]:
    """A provider, and one for what it lacks: TensorRT has no operator of com.microsoft."""
    return (provider, "cuda") if provider == "tensorrt" else (provider,)


# --------------------------------------------------------------------------------------------------
# From text to spans

_Engines = dict[tuple[str, str, str], Callable[[Sequence[str]], int]]
"""From (engine, provider, precision) to what finds spans in texts and returns their number."""


def _our_engines(directory: Path, graphs: Mapping[tuple[str, str], Path], threads: int) -> _Engines:
    # Whatever provider does not start is told before anything is measured.
    predicts = {key: _predict(path, *key, threads) for key, path in graphs.items()}
    engines: _Engines = {}
    for (provider, precision), predict in predicts.items():
        tagger = load_tagger(directory, predict)
        engines["starencoder", provider, precision] = _finder(tagger)
        if provider == "cpu":
            for point in OPERATING_POINTS:
                routed = load_tagger(directory, predict, routed_for=point, threads=threads)
                if routed.router is not None:
                    engines[f"starencoder, {point}", provider, precision] = _finder(routed)
    return engines


def _predict(path: Path, provider: str, precision: str, threads: int) -> Predict:
    """As `detect` or `scan` calls a graph, if they use it; else batched alike."""
    model_dir = path.parent.parent
    if (provider, precision) == (CUDA, "fp16"):
        return cuda_predict(model_dir, _GPU)
    plan = batch_plan(model_dir)
    session = make_session(path, threads=threads, providers=_with_rest(provider))
    if provider == "cpu":
        return session_predict(session, plan.shapes[-1].seq)
    run = session_run(session)
    if precision != "packed":
        return batched_predict(
            lambda ids, mask: run({"input_ids": ids, "attention_mask": mask}), plan
        )
    whole = batch_predict(run, packed=True, pad_id=plan.pad_id)
    rows = plan.shapes[-1].rows

    def predict(chunks: Sequence[Sequence[int]]) -> list[Probs]:
        firsts = range(0, len(chunks), rows)
        return [probs for first in firsts for probs in whole(chunks[first : first + rows])]

    return predict


def _finder(tagger: Tagger) -> Callable[[Sequence[str]], int]:
    smallest = tagger.operating_points["balanced"]
    detector = Detector(tagger, thresholds=smallest)

    def find(texts: Sequence[str]) -> int:
        return sum(
            span.score >= smallest[span.label]
            for spans in detector.iter_tagged(texts)
            for span in spans
        )

    return find


def load_pipeline(directory: Path, device: str) -> "TokenClassificationPipeline":
    """Transformers' pipeline with the model's own chunks and overlap; on a GPU in float16.

    Args:
        directory: A tagger's, with its checkpoint.
        device: `cpu` or, of a GPU, what torch calls it.

    Raises:
        CheckpointError: There is no checkpoint for it to read.
        ImportError: Transformers is not installed.
    """
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline
    from transformers.utils import logging

    if not (directory / WEIGHTS_FILE).is_file():
        raise CheckpointError(
            f"{directory}: no {WEIGHTS_FILE}, which transformers reads; leave the peer out"
        )
    logging.disable_progress_bar()
    chunks = load_tagger(directory, _nothing).chunks
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.model_max_length = chunks.max_tokens + tokenizer.num_special_tokens_to_add()
    if tokenizer.pad_token is None:
        pad_id = load_tagger_config(directory).encoder.pad_id
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    dtype = torch.float32 if device == "cpu" else torch.float16
    return pipeline(
        "token-classification",
        model=AutoModelForTokenClassification.from_pretrained(directory, dtype=dtype),
        tokenizer=tokenizer,
        device=device,
        aggregation_strategy="simple",
        stride=chunks.max_tokens - chunks.stride,  # its word for the overlap
    )


def _pipelines(directory: Path, provider: str, threads: int) -> _Engines:
    """The peer, one engine per batch size."""
    import torch

    torch.set_num_threads(threads)
    peer = load_pipeline(directory, f"cuda:{_GPU}" if provider == CUDA else "cpu")

    def finder(batch: int) -> Callable[[Sequence[str]], int]:
        return lambda texts: sum(map(len, peer(list(texts), batch_size=batch)))

    precision = "fp16" if provider == CUDA else "fp32"
    return {
        (f"transformers, batch {batch}", provider, precision): finder(batch)
        for batch in PEER_BATCHES
    }


def _text_rates(
    engines: _Engines, texts: Sequence[str], tokens: int, megabytes: float
) -> list[TextRate]:
    best = dict.fromkeys(engines, (float("inf"), float("inf"), 0))
    for find in engines.values():
        find(texts[:1])
    for _ in range(ROUNDS):
        for key, find in engines.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            spans = find(texts)
            cpu_seconds = min(best[key][1], time.process_time() - cpu_started)
            best[key] = min(best[key][0], time.perf_counter() - started), cpu_seconds, spans
    return [
        TextRate(
            engine=engine,
            provider=provider,
            precision=precision,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            tokens_per_second=tokens / seconds,
            megabytes_per_second=megabytes / seconds,
            spans=spans,
        )
        for (engine, provider, precision), (seconds, cpu_seconds, spans) in best.items()
    ]


# --------------------------------------------------------------------------------------------------
# The model alone


def _model_rates(
    path: Path,
    provider: str,
    precision: str,
    ids: "np.typing.NDArray[np.int32]",
    config: EncoderConfig,
    threads: int,
    megabytes_per_token: float,
) -> list[ModelRate]:
    lengths = [length for length in LENGTHS if length <= config.max_positions]
    batches = (1,) if precision == "int8" else BATCHES
    # A process of its own for each, for its memory.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        rates = []
        for length in lengths or [config.max_positions]:
            for batch in batches:
                # The text over and over, if it is short.
                chunks = np.resize(ids, (batch, length)).tolist()
                seconds, memory = pool.submit(
                    _measure_model, path, provider, precision, chunks, config.pad_id, threads
                ).result()
                rate = batch * length / seconds
                rates.append(
                    ModelRate(
                        provider=provider,
                        precision=precision,
                        batch=batch,
                        length=length,
                        tokens_per_second=rate,
                        megabytes_per_second=rate * megabytes_per_token,
                        memory=memory,
                    )
                )
    return rates


def _measure_model(
    path: Path,
    provider: str,
    precision: str,
    chunks: Sequence[Sequence[int]],
    pad_id: int,
    threads: int,
) -> tuple[float, float | None]:
    """Seconds of one run, the best of some, and MB; inputs and outputs are bound to the device."""
    import onnxruntime  # noqa: F401  # its own memory is none of the graph's

    before = _memory(provider)
    session = make_session(path, threads=threads, providers=_with_rest(provider))
    feeds: Feeds = packed_feeds(chunks) if precision == "packed" else padded_feeds(chunks, pad_id)
    binding = session.io_binding()
    for value in session.get_inputs():
        binding.bind_cpu_input(value.name, feeds[value.name])
    binding.bind_output("probabilities", "cpu" if provider == "cpu" else "cuda")
    best = float("inf")
    end = time.perf_counter() + _SECONDS
    while best == float("inf") or time.perf_counter() < end:
        started = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        best = min(best, time.perf_counter() - started)
    after = _memory(provider)
    return best, None if before is None or after is None else after - before


def _memory(provider: str) -> float | None:
    """MB: the peak of this process, or what is in use on the first GPU."""
    if provider == "cpu":
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return None  # not Linux
        (peak,) = (line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={_GPU}"]
    done = subprocess.run([command, *query], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


# --------------------------------------------------------------------------------------------------
# What it ran on, and tables


def _machine() -> str:
    names = []
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown CPU'}, {os.cpu_count()} cores"


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for name in ("onnxruntime", "onnxruntime-gpu", "tokenizers", "torch", "transformers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def bench_text(bench: Bench) -> str:
    """The tables, as `export bench` prints them.

    `times` is how many times as fast a line is as the best of the peer on the same provider, by the
    clock and by the time of the CPU.
    """
    lines = [
        f"{bench.machine}, {bench.threads} thread(s); "
        + ", ".join(f"{name} {number}" for name, number in bench.versions.items()),
        f"{bench.documents} documents, {bench.megabytes:.2f} MB, {bench.tokens} tokens",
        "",
        f"{'text to spans':26} {'on':8} {'':7} {'tokens/s':>9} {'MB/s':>7} {'CPU s':>7} "
        f"{'spans':>6} {'times':>6} {'(CPU)':>6}",
    ]
    for rate in bench.text:
        peers = [
            each
            for each in bench.text
            if each.provider == rate.provider and each.engine.startswith(PEERS)
        ]
        times = ""
        if peers:
            clock = min(peer.seconds for peer in peers) / rate.seconds
            cpu = min(peer.cpu_seconds for peer in peers) / rate.cpu_seconds
            times = f" {clock:6.2f} {cpu:6.2f}"
        lines.append(
            f"{rate.engine:26} {rate.provider:8} {rate.precision:7} {rate.tokens_per_second:9.0f} "
            f"{rate.megabytes_per_second:7.3f} {rate.cpu_seconds:7.2f} {rate.spans:6}{times}"
        )
    lines += [
        "",
        f"{'model alone, on':26} {'':8} {'batch':>5} {'length':>6} {'tokens/s':>9} {'MB/s':>7} "
        f"{'MB':>6}",
    ]
    for each in bench.model:
        memory = "-" if each.memory is None else f"{each.memory:.0f}"
        lines.append(
            f"{each.provider:26} {each.precision:8} {each.batch:5} {each.length:6} "
            f"{each.tokens_per_second:9.0f} {each.megabytes_per_second:7.3f} {memory:>6}"
        )
    return "\n".join(lines) + "\n"
