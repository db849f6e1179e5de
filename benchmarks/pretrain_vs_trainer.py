"""How fast pretraining is beside Hugging Face's Trainer with BertForPreTraining, in real tokens.

    python -m benchmarks.pretrain_vs_trainer [--data DIRECTORY] [--device cuda] [--steps N]

Both sides train the same model from the same weights, with as many rows in a step, on the same
documents: token shards, or random ids in documents as long as source files are. Ours is the whole
trainer, checkpoints aside. Trainer's side is what people write with it: a file to a row, cut to the
row's length, split into a pair, padded to the batch's longest, masked by the library's collator,
with logits at every position. Padding counts on neither side.

On a CPU Trainer is tuned: SDPA, fused AdamW, worker processes. On a GPU tuned adds bf16,
`torch.compile` and TF32, and `as StarEncoder` is how the original was trained: eager attention and
gradient checkpointing. GPU numbers are not yet measured.

Every trial is a process of its own. Sides take turns, in the opposite order each time.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.pretrain_data import GeneratedDocuments
from benchmarks.speed import cpu_name
from pretrain.config import PretrainConfig, load_config
from pretrain.plan import flops_per_token, peak_flops
from pretrain.rows import MIN_SEGMENT
from pretrain.shards import Manifest, ShardWriter, open_shards, tokenizer_sha256, write_manifest
from pretrain.trainer import pretrain
from starencoder.checkpoint import save_pretraining
from starencoder.config import PRESETS
from starencoder.config import load_config as load_encoder_config
from starencoder.model import PretrainingModel
from starencoder.tokenizer import TOKENIZER_FILE, copy_tokenizer

SEED = 1
PEER = "Trainer, tuned"
REPEATS = 3
NUM_DOCUMENTS = 20_000
PRESET = {"cpu": "tiny", "cuda": "starencoder-125m"}
STEPS = {"cpu": 30, "cuda": 60}
WARM_UP = {"cpu": 5, "cuda": 20}
"""Steps before the clock starts; `torch.compile` works in them."""
WORKERS = {"cpu": 1, "cuda": 4}
"""Processes that make batches, on either side."""
PAD_TO_MULTIPLE = {"cpu": None, "cuda": 8}
SPECIAL = ("<pad>", "<sep>", "<cls>", "<mask>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What both sides are given."""

    config: PretrainConfig
    device: str
    steps: int
    """That are timed."""
    warm_up: int

    @property
    def seq_length(self) -> int:
        """Tokens in a row."""
        return self.config.data.seq_length or PRESETS[self.config.model.architecture].max_positions


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a trial gave."""

    tokens_per_second: float
    """Real ones."""
    tokens_per_step: float
    first_loss: float
    """MLM and NSP, of the first step."""
    mfu: float | None
    """None on a CPU."""
    threads: int


Side = Callable[[Trial], Result]
Attention = Literal["auto", "dense", "varlen"]


def main() -> None:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description="Pretraining beside Hugging Face's Trainer.")
    parser.add_argument("--data", type=Path, metavar="DIRECTORY", help="token shards")
    parser.add_argument("--device", choices=sorted(PRESET), default="cpu")
    parser.add_argument("--preset", metavar="NAME", help="default: tiny, on a GPU starencoder-125m")
    parser.add_argument("--steps", type=int, metavar="N", help="timed ones; default: 30, GPU 60")
    parser.add_argument("--rows", type=int, metavar="N", help="in a step; default: the preset's")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N")
    options = parser.parse_args()
    device = options.device
    if torch.cuda.is_available() != (device == "cuda"):
        parser.error("both sides use a GPU where there is one: --device cuda there, cpu elsewhere")
    with tempfile.TemporaryDirectory() as folder:
        preset = options.preset or PRESET[device]
        data, weights = options.data or Path(folder, "data"), Path(folder, "weights")
        if options.data is None:
            generate(data, PRESETS[load_config(preset).model.architecture].vocab_size)
        trial = Trial(
            config=configure(preset, data, weights, workers=WORKERS[device], rows=options.rows),
            device=device,
            steps=options.steps or STEPS[device],
            warm_up=WARM_UP[device],
        )
        make_weights(trial.config, data, weights)
        print_setting(trial, options.data)
        run_and_print(trial, sides(device), options.repeats)


def sides(device: str) -> dict[str, Side]:
    """What is compared."""
    if device == "cpu":
        return {"ours": run_ours, PEER: partial(run_trainer, tuned=True)}
    return {
        "ours, varlen, compiled": partial(run_ours, attention="varlen", compiled=True),
        "ours, dense, compiled": partial(run_ours, attention="dense", compiled=True),
        "ours, varlen": partial(run_ours, attention="varlen"),
        "ours, dense": partial(run_ours, attention="dense"),
        PEER: partial(run_trainer, tuned=True),
        "Trainer, as StarEncoder": partial(run_trainer, tuned=False),
    }


def run_and_print(trial: Trial, compared: Mapping[str, Side], repeats: int) -> None:
    """Let the sides take turns, then print their medians."""
    results: dict[str, list[Result]] = {name: [] for name in compared}
    spawn = multiprocessing.get_context("spawn")
    for repeat in range(repeats):
        for name in list(compared)[:: -1 if repeat % 2 else 1]:
            with ProcessPoolExecutor(1, spawn) as process:
                results[name].append(process.submit(compared[name], trial).result())
    positions = trial.config.run.batch_rows * trial.seq_length
    peer = median(results[PEER])
    threads = results[PEER][0].threads
    print(f"{threads} threads; median of {repeats} (lowest to highest)")
    print(
        f"{'':24} {'real tokens/s':>14} {'':>20} {'peer = 1':>9} {'filled':>7} "
        f"{'first loss':>11} {'MFU':>6}"
    )
    for name, found in results.items():
        rates = [result.tokens_per_second for result in found]
        shares = [result.mfu for result in found if result.mfu is not None]
        mfu = f"{statistics.median(shares):.1%}" if shares else "-"
        print(
            f"{name:24} {median(found):14,.0f} {f'({min(rates):,.0f} to {max(rates):,.0f})':>20} "
            f"{median(found) / peer:9.2f} {found[0].tokens_per_step / positions:7.1%} "
            f"{found[0].first_loss:11.4f} {mfu:>6}"
        )
    print("filled: real tokens among rows x the most tokens in a row")


def median(found: Sequence[Result]) -> float:
    """Real tokens per second."""
    return statistics.median(result.tokens_per_second for result in found)


# ----------------------------------------------------------------------------------- both sides


def configure(
    preset: str, data: Path, weights: Path, *, workers: int, rows: int | None
) -> PretrainConfig:
    """A preset that trains from given weights."""
    config = load_config(preset)
    micro_rows = rows or config.run.micro_rows
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, directory=str(data), workers=workers),
        model=dataclasses.replace(config.model, init_from=str(weights)),
        # Rows that one device takes at once: neither side accumulates gradients.
        run=dataclasses.replace(
            config.run, batch_rows=micro_rows, micro_rows=micro_rows, evaluate_rows=0, log_every=1
        ),
    )


def make_weights(config: PretrainConfig, data: Path, weights: Path) -> None:
    """Write what both sides start from: random, dropout and shape as the preset says."""
    manifest = open_shards(data).manifest
    torch.manual_seed(SEED)
    encoder = config.model.encoder(vocab_size=manifest.vocab_size, pad_id=manifest.pad_id)
    save_pretraining(PretrainingModel(encoder), weights)
    copy_tokenizer(data, weights)


def generate(directory: Path, vocab_size: int) -> None:
    """Write token shards of random ids in documents as long as source files."""
    directory.mkdir()
    words = [f"w{i}" if i % 12 else f"w{i}\n" for i in range(vocab_size - len(SPECIAL))]
    ids = {word: i for i, word in enumerate([*words, *SPECIAL])}
    Tokenizer(WordLevel(ids, unk_token="<pad>")).save(str(directory / TOKENIZER_FILE))
    lengths = GeneratedDocuments(NUM_DOCUMENTS).lengths
    rng = np.random.default_rng(SEED)
    counts = np.zeros(vocab_size, np.int64)
    with ShardWriter(directory, "train", int(lengths.sum())) as writer:
        for length in lengths:
            document = rng.integers(0, len(words), length).astype(np.uint16)
            counts += np.bincount(document, minlength=vocab_size)
            writer.add(document, 0)
        shards = writer.close()
    manifest = Manifest(
        tokenizer_sha256=tokenizer_sha256(directory),
        vocab_size=vocab_size,
        pad_id=ids["<pad>"],
        sep_id=ids["<sep>"],
        cls_id=ids["<cls>"],
        mask_id=ids["<mask>"],
        special_ids=tuple(ids[token] for token in SPECIAL),
        languages=("generated",),
        splits={"train": shards, "held_out": ()},
        counts={},
        left_out={},
        prepare={},
    )
    write_manifest(directory, manifest, counts)


def print_setting(trial: Trial, data: Path | None) -> None:
    """Print the machine, the versions and what is trained."""
    on = torch.cuda.get_device_name() if trial.device == "cuda" else cpu_name()
    packages = ("starencoder", "torch", "transformers", "accelerate")
    run = trial.config.run
    lengths = open_shards(Path(trial.config.data.directory)).split("train").lengths
    print(
        f"{datetime.now(UTC):%Y-%m-%d}  {on}, load {os.getloadavg()[0]:.1f}  "
        f"{'  '.join(f'{name} {version(name)}' for name in packages)}\n"
        f"{trial.config.model.architecture}, {run.precision}, {run.batch_rows} rows of "
        f"{trial.seq_length}; {trial.steps} steps after {trial.warm_up}\n"
        f"{len(lengths):,} {'generated documents' if data is None else 'documents'}, "
        f"{lengths.mean():,.0f} tokens on average, half below {np.median(lengths):,.0f}"
    )


# ----------------------------------------------------------------------------------------- ours


def run_ours(trial: Trial, *, attention: Attention = "auto", compiled: bool = False) -> Result:
    """Run the trainer to the end, and read its metrics."""
    last = trial.warm_up + trial.steps
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(
            trial.config.run, output=folder, steps=last, attention=attention, compile=compiled,
            # The one that ends a run comes after the last line of metrics.
            checkpoint_every=last + 1, evaluate_every=last + 1,
        )  # fmt: skip
        optimizer = dataclasses.replace(trial.config.optimizer, warmup_steps=trial.warm_up)
        pretrain(dataclasses.replace(trial.config, run=run, optimizer=optimizer), resume=False)
        text = Path(folder, "metrics.jsonl").read_text()
    lines = [line for line in map(json.loads, text.splitlines()) if line["kind"] == "train"]
    first, timed = lines[trial.warm_up - 1], lines[trial.warm_up :]
    tokens = timed[-1]["tokens"] - first["tokens"]
    shares = [line["mfu"] for line in timed]
    return Result(
        tokens_per_second=tokens / (timed[-1]["time"] - first["time"]),
        tokens_per_step=tokens / trial.steps,
        first_loss=lines[0]["loss"],
        mfu=None if None in shares else statistics.mean(shares),
        threads=torch.get_num_threads(),
    )


# --------------------------------------------------------------------------------- Hugging Face


class FilePairs(Dataset[dict[str, object]]):
    """A row per document: its first tokens, as `<cls> A <sep> B <sep>`, B from elsewhere or not."""

    def __init__(self, directory: Path, seq_length: int) -> None:
        shards = open_shards(directory)
        self.manifest, self.documents = shards.manifest, shards.split("train")
        self.room = seq_length - 3
        self.long_enough = np.flatnonzero(self.documents.lengths >= 2 * MIN_SEGMENT)

    def __len__(self) -> int:
        return len(self.long_enough)

    def __getitem__(self, index: int) -> dict[str, object]:
        rng = random.Random(index)
        tokens = self.documents.tokens(int(self.long_enough[index]), 0, self.room).tolist()
        cut = round(len(tokens) * rng.uniform(0.25, 0.75))
        first, second = tokens[:cut], tokens[cut:]
        is_random = rng.random() < 0.5
        if is_random:
            other = int(self.long_enough[rng.randrange(len(self))])
            second = self.documents.tokens(other, 0, len(second)).tolist()
        cls, sep = self.manifest.cls_id, self.manifest.sep_id
        return {
            "input_ids": [cls, *first, sep, *second, sep],
            "token_type_ids": [0] * (len(first) + 2) + [1] * (len(second) + 1),
            "special_tokens_mask": [1, *[0] * len(first), 1, *[0] * len(second), 1],
            "next_sentence_label": int(is_random),
        }


def run_trainer(trial: Trial, *, tuned: bool) -> Result:
    """Train with Hugging Face's Trainer as long, and count."""
    # Here, because our own side shall not need them.
    from transformers import (
        BertForPreTraining,
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerFast,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config, is_cuda = trial.config, trial.device == "cuda"
    data, weights = Path(config.data.directory), Path(config.model.init_from)
    documents = FilePairs(data, trial.seq_length)
    tokenizer = Tokenizer.from_file(str(data / TOKENIZER_FILE))
    names = {
        f"{role}_token": tokenizer.id_to_token(getattr(documents.manifest, f"{role}_id"))
        for role in ("pad", "sep", "cls", "mask")
    }
    clock: list[float] = []
    losses: list[Tensor] = []
    lengths: list[Tensor] = []

    class CountingTrainer(Trainer):  # type: ignore[misc] # transformers has no types
        def training_step(
            self, model: nn.Module, inputs: dict[str, Tensor], *rest: object
        ) -> Tensor:
            if len(lengths) in (trial.warm_up, trial.warm_up + trial.steps):
                if is_cuda:
                    torch.cuda.synchronize()
                clock.append(time.perf_counter())
            lengths.append(inputs["attention_mask"].sum(1))
            loss: Tensor = super().training_step(model, inputs, *rest)
            losses.append(loss)
            return loss

    optimizer = config.optimizer
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            # The clock stops where one more step would start.
            max_steps=trial.warm_up + trial.steps + 1,
            per_device_train_batch_size=config.run.batch_rows,
            learning_rate=optimizer.learning_rate,
            warmup_steps=trial.warm_up,
            weight_decay=optimizer.weight_decay,
            adam_beta1=optimizer.betas[0],
            adam_beta2=optimizer.betas[1],
            adam_epsilon=optimizer.eps,
            max_grad_norm=optimizer.clip_norm,
            optim="adamw_torch_fused" if tuned else "adamw_torch",
            bf16=config.run.precision == "bf16",
            tf32=True if tuned and is_cuda else None,
            torch_compile=tuned and is_cuda,
            gradient_checkpointing=None if tuned else True,
            dataloader_num_workers=config.data.workers,
            dataloader_pin_memory=is_cuda,
            remove_unused_columns=False,
            use_cpu=not is_cuda,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=SEED,
        )
        trainer = CountingTrainer(
            model=BertForPreTraining.from_pretrained(
                weights, attn_implementation="sdpa" if tuned else "eager"
            ),
            args=arguments,
            train_dataset=documents,
            data_collator=DataCollatorForLanguageModeling(
                tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names),
                mlm_probability=config.data.mask_share,
                pad_to_multiple_of=PAD_TO_MULTIPLE[trial.device],
            ),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    counted = torch.cat(lengths[trial.warm_up : -1]).double().cpu()
    tokens = float(counted.sum())
    rate = tokens / (clock[1] - clock[0])
    peak = peak_flops(torch.cuda.get_device_name()) if trial.device == "cuda" else None
    flops = flops_per_token(
        load_encoder_config(weights), float((counted**2).sum()) / tokens, config.data.mask_share
    )
    return Result(
        tokens_per_second=rate,
        tokens_per_step=tokens / trial.steps,
        first_loss=losses[0].item(),
        mfu=None if peak is None else rate * flops.total / peak,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
