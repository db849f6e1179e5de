"""How long training waits for its data: rows packed, masked and handed over by worker processes.

    python -m benchmarks.pretrain_data [--data DIRECTORY] [--workers N] [--steps N]

A consumer takes a micro-batch of 64 rows of 1,024 tokens and sleeps for as long as a step would
take at 700,000 tokens/s, as a GPU leaves its host idle. Without token shards the documents are
random ids, as long as source files are. Load by other programs shows in the waiting, so it is
printed before and after.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from pretrain.batches import BatchMaker, iter_steps
from pretrain.config import DataConfig
from pretrain.rows import Documents, Vocabulary
from pretrain.shards import open_shards

SEQ_LENGTH = 1024
ROWS = 64
TOKENS_PER_SECOND = 700_000
STEP_SECONDS = ROWS * SEQ_LENGTH / TOKENS_PER_SECOND
NUM_DOCUMENTS = 100_000
WARM_UP = 10


class GeneratedDocuments:
    """Random ids in documents whose lengths are log-normal, 700 tokens on average."""

    vocabulary = Vocabulary(
        size=49_156,
        pad_id=49_152,
        sep_id=49_153,
        cls_id=49_154,
        mask_id=49_155,
        special_ids=(49_152, 49_153, 49_154, 49_155),
        line_ends=np.arange(49_156) % 12 == 0,
    )

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        spread = 1.2
        lengths = rng.lognormal(np.log(700) - spread**2 / 2, spread, count)
        self.lengths = np.maximum(lengths, 16).astype(np.int64)
        self._ends = np.cumsum(self.lengths)
        self._ids = rng.integers(0, 49_152, int(self._ends[-1]), dtype=np.uint16)

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens(self, document: int, start: int, stop: int) -> np.ndarray:
        """Ids `[start, stop)` of a document."""
        first = int(self._ends[document] - self.lengths[document])
        return self._ids[first + start : first + stop]


def main() -> None:
    """Print packing, the rate of one process, and the waiting with workers."""
    parser = argparse.ArgumentParser(description="How long training waits for its data.")
    parser.add_argument("--data", type=Path, metavar="DIRECTORY", help="token shards")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--steps", type=int, default=200, metavar="N")
    options = parser.parse_args()
    maker = make(options.data)
    print(f"{os.cpu_count()} cores, load {load()}, {maker.rows.rows_per_epoch:,} rows per epoch")
    print_packing(maker, options.steps)
    for workers in options.workers:
        print_rate(maker, workers, options.steps)
    for workers in options.workers:
        print_waiting(maker, workers, options.steps)
    print(f"load {load()}")


def make(data: Path | None) -> BatchMaker:
    """Open token shards, or generate documents."""
    documents: Documents
    if data is None:
        documents = GeneratedDocuments(NUM_DOCUMENTS)
        vocabulary = GeneratedDocuments.vocabulary
    else:
        shards = open_shards(data)
        documents, vocabulary = shards.split("train"), Vocabulary.of(shards)
    return BatchMaker(documents, vocabulary, DataConfig(), seq_length=SEQ_LENGTH, seed=1)


def print_packing(maker: BatchMaker, steps: int) -> None:
    """Print the share of real tokens, and what one process makes per second of CPU time."""
    count = min(steps * ROWS, maker.rows.rows_per_epoch)
    tokens = 0
    start = time.process_time()
    for first in range(0, count, ROWS):
        tokens += maker.batch(range(first, min(first + ROWS, count))).num_tokens
    seconds = time.process_time() - start
    print(
        f"packing: {tokens / count / SEQ_LENGTH:.2%} of {count:,} rows' positions are real tokens\n"
        f"one process: {count / seconds:,.0f} rows, {tokens / seconds:,.0f} tokens per CPU second"
    )


def print_rate(maker: BatchMaker, workers: int, steps: int) -> None:
    """Print what a consumer that never sleeps gets."""
    batches = iter_steps(
        maker, first_step=0, last_step=steps, batch_rows=ROWS, micro_rows=ROWS, workers=workers
    )
    next(batches)
    start = time.perf_counter()
    tokens = sum(step[0].num_tokens for step in batches)
    rate = tokens / (time.perf_counter() - start)
    print(f"{workers} workers: {rate:,.0f} tokens/s, {rate / SEQ_LENGTH:,.0f} rows/s")


def print_waiting(maker: BatchMaker, workers: int, steps: int) -> None:
    """Print how long a consumer of 700,000 tokens/s waits."""
    last = WARM_UP + steps
    batches = iter_steps(
        maker, first_step=0, last_step=last, batch_rows=ROWS, micro_rows=ROWS, workers=workers
    )
    waits = []
    for _ in range(last):
        start = time.perf_counter()
        # Kept through the step, as training does; freeing it is no part of the waiting.
        step = next(batches)
        waits.append(time.perf_counter() - start)
        time.sleep(STEP_SECONDS)
    del step
    waited = 1000 * np.array(waits[WARM_UP:])
    share = waited / (1000 * STEP_SECONDS)
    print(
        f"{workers} workers, steps of {1000 * STEP_SECONDS:.1f} ms: waiting takes "
        f"{share.mean():.2%} of a step (median {np.median(share):.2%}, p99 "
        f"{np.percentile(share, 99):.2%}); {waited.mean():.2f} ms on average"
    )


def load() -> str:
    """Running processes on average over the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
