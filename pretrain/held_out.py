"""Loss and accuracy on held-out documents, by language, on the same masks every time."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from pretrain.batches import IGNORE_TARGET, Batch, BatchMaker
from pretrain.config import PretrainConfig
from pretrain.objective import Sums
from pretrain.rows import MIN_SEGMENT, Vocabulary
from pretrain.shards import TokenShards
from starencoder.config import EncoderConfig

Scores = dict[str, float]
"""By name, as in metrics files."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A data set's held-out rows, ready to be evaluated on."""

    batches: Sequence[tuple[str, Batch]]
    """Micro-batches, each of one language."""
    without_pairs: frozenset[str]
    """Languages with one document, in which every segment is the next: nothing is to be told."""
    likeliest_token: int
    """The most frequent token of the training documents: what a unigram model would always say."""


def make_held_out(shards: TokenShards, config: PretrainConfig, encoder: EncoderConfig) -> HeldOut:
    """Build the rows of every language that has held-out documents."""
    documents, run = shards.split("held_out"), config.run
    batches = []
    without_pairs = set()
    for number, language in enumerate(shards.manifest.languages):
        own = documents.select(number)
        if own.lengths.max(initial=0) < 2 * MIN_SEGMENT:
            continue
        if len(own) == 1:
            without_pairs.add(language)
        maker = BatchMaker(
            own,
            Vocabulary.of(shards),
            config.data,
            seq_length=config.seq_length(encoder),
            # Of pairs and masks: the same in every run, and another one for each language.
            seed=zlib.crc32(language.encode()),
        )
        rows = range(min(run.evaluate_rows, maker.rows.rows_per_epoch))
        batches += [
            (language, maker.batch(rows[start : start + run.micro_rows]))
            for start in range(0, len(rows), run.micro_rows)
        ]
    counts = shards.token_counts.copy()
    counts[list(shards.manifest.special_ids)] = 0
    return HeldOut(batches, frozenset(without_pairs), int(counts.argmax()))


@torch.no_grad()
def evaluate(
    objective: torch.nn.Module, held_out: HeldOut, accelerator: Accelerator
) -> tuple[Scores, dict[str, Scores]]:
    """Score a model; every rank takes a part of the micro-batches and gets the whole result.

    Returns:
        The scores of all rows, and those of each language: rows, tokens, masked and pairs (counts),
        mlm_loss (nats per masked token), masked_accuracy, unigram_accuracy (of always saying the
        training documents' most frequent token), nsp_accuracy and nsp_chance (of always saying the
        more frequent answer); not a number where nothing was to be told.
    """
    languages = sorted({language for language, _ in held_out.batches})
    sums = np.zeros((len(languages), len(_COLUMNS)))
    was_training = objective.training
    objective.eval()
    for index, (language, batch) in enumerate(held_out.batches):
        if index % accelerator.num_processes == accelerator.process_index:
            own = _sums(objective, batch, held_out, accelerator)
            if language in held_out.without_pairs:
                own.update(dict.fromkeys(_PAIR_COLUMNS, 0.0))
            sums[languages.index(language)] += [own[name] for name in _COLUMNS]
    objective.train(was_training)
    # Accelerate moves float64 to devices that have none; counts are exact in float32 up to 2^24.
    total = accelerator.reduce(torch.from_numpy(sums).float().to(accelerator.device), "sum")
    table = total.double().cpu().numpy()
    by_language = {name: _scores(row) for name, row in zip(languages, table, strict=True)}
    return _scores(table.sum(axis=0)), by_language


_COLUMNS = (
    "rows", "tokens", "masked", "pairs", "next", "mlm_loss", "nsp_loss", "mlm_correct",
    "nsp_correct", "unigram_correct",
)  # fmt: skip
_PAIR_COLUMNS = ("pairs", "next", "nsp_loss", "nsp_correct")


def _sums(
    objective: torch.nn.Module, batch: Batch, held_out: HeldOut, accelerator: Accelerator
) -> dict[str, float]:
    with accelerator.autocast():
        sums: Sums = objective(batch.to(accelerator.device))
    masked = batch.targets != IGNORE_TARGET
    return {
        "rows": len(batch.input_ids),
        "tokens": batch.num_tokens,
        "masked": int(masked.sum()),
        "pairs": len(batch.nsp_targets),
        "next": int(batch.nsp_targets.sum()),
        "mlm_loss": float(sums.mlm_loss),
        "nsp_loss": float(sums.nsp_loss),
        "mlm_correct": float(sums.mlm_correct),
        "nsp_correct": float(sums.nsp_correct),
        "unigram_correct": int((batch.targets == held_out.likeliest_token).sum()),
    }


def _scores(row: np.ndarray) -> Scores:
    value = dict(zip(_COLUMNS, (float(number) for number in row), strict=True))
    masked, pairs = (value[name] or math.nan for name in ("masked", "pairs"))
    return {
        "rows": int(value["rows"]),
        "tokens": int(value["tokens"]),
        "masked": int(value["masked"]),
        "pairs": int(value["pairs"]),
        "mlm_loss": value["mlm_loss"] / masked,
        "masked_accuracy": value["mlm_correct"] / masked,
        "unigram_accuracy": value["unigram_correct"] / masked,
        "nsp_loss": value["nsp_loss"] / pairs,
        "nsp_accuracy": value["nsp_correct"] / pairs,
        "nsp_chance": max(value["next"], pairs - value["next"]) / pairs,
    }
