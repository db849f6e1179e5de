"""The training loop: step, evaluate, log, save, resume.

What a step does follows from the settings and the step's number alone: its rows, masks and dropout
are drawn from (seed, step, rank), its learning rate is a function of the step. A checkpoint is
therefore the weights, Adam's moments and the step, and a run that was interrupted at any moment
ends with the same bits as one that was not, on the same number of processes.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Generator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from pretrain.attention import choose_varlen
from pretrain.batches import IGNORE_TARGET, Batch, BatchMaker, iter_steps, rows_of_step
from pretrain.config import PretrainConfig, largest_divisor
from pretrain.held_out import evaluate, make_held_out
from pretrain.launch import StopRequest, start
from pretrain.meter import Meter
from pretrain.objective import Objective
from pretrain.plan import disk_bytes
from pretrain.progress import Progress, check_done_run, check_same_run
from pretrain.rows import Vocabulary
from pretrain.run_dir import MODEL_FOLDER, RunDirectory, is_done
from pretrain.shards import TokenShards, open_shards, tokenizer_sha256
from starencoder.checkpoint import load_pretraining, save_pretraining
from starencoder.config import EncoderConfig
from starencoder.errors import ConfigError, StarEncoderError
from starencoder.model import PretrainingModel, flushed_denormals
from starencoder.optim import load_moments, make_optimizer, moments
from starencoder.schedule import learning_rate
from starencoder.text import amount
from starencoder.tokenizer import copy_tokenizer
from starencoder.toml import flatten
from starencoder.training_checkpoints import (
    Checkpoint,
    CheckpointWriter,
    has_checkpoints,
    load_checkpoint,
    load_latest,
)

_LOG = logging.getLogger(__name__)

_MOST_SKIPPED = 10
"""Bad steps in a row that are skipped; more are no accident."""
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_PACKAGES = ("starencoder", "torch", "accelerate", "numpy", "safetensors")


class BadStepError(StarEncoderError):
    """A step whose loss or gradients are not finite, or whose loss is a spike."""

    exit_code = 4


class Stopped(StarEncoderError):  # noqa: N818
    """A signal stopped the run after it had saved."""

    exit_code = 4


@flushed_denormals()
def pretrain(config: PretrainConfig, *, resume: bool) -> Path:
    """Train, from the start or from the last checkpoint, to the last step; return the model.

    Under torchrun every process calls this with the same arguments; all see the same files.
    Accelerate keeps the precision of a process's first run: another one needs another process.

    Args:
        config: The run.
        resume: Go on from the newest whole checkpoint; start where there is none. Without it, an
            output directory that has one is refused.

    Raises:
        ConfigError: Settings do not fit each other, the data, the machine or the run to resume.
        DataError: The token shards are missing, empty or damaged.
        CheckpointError: There are checkpoints, but none is whole.
        OutputError: The output directory is in use, or its last checkpoint cannot be written.
        BadStepError: A step was bad and `run.bad_step` is "stop".
        Stopped: SIGTERM or SIGUSR1 came; the run was saved and can be resumed.
    """
    stop = StopRequest()
    accelerator = start(config.run)
    directory = _open_run_directory(config, accelerator, resume=resume)
    try:
        if is_done(Path(config.run.output)):
            check_done_run(config)
            _LOG.info("%s: this run is done", config.run.output)
            return Path(config.run.output, MODEL_FOLDER)
        with stop.on_signals():
            return _Trainer(config, accelerator, directory, stop, resume=resume).run()
    except torch.cuda.OutOfMemoryError as error:
        raise _out_of_memory(config, accelerator.num_processes) from error
    finally:
        if directory is not None:
            directory.close()
        accelerator.end_training()


class _Trainer:
    def __init__(
        self,
        config: PretrainConfig,
        accelerator: Accelerator,
        directory: RunDirectory | None,
        stop: StopRequest,
        *,
        resume: bool,
    ) -> None:
        self.config, self.accelerator, self.directory = config, accelerator, directory
        self.shards = _open_data(config, accelerator)
        manifest = self.shards.manifest
        self.encoder = config.model.encoder(vocab_size=manifest.vocab_size, pad_id=manifest.pad_id)
        self.maker = BatchMaker(
            self.shards.split("train"),
            Vocabulary.of(self.shards),
            config.data,
            seq_length=config.seq_length(self.encoder),
            seed=config.run.seed,
        )
        self.held_out = make_held_out(self.shards, config, self.encoder)
        self.model = _make_model(config, self.encoder, manifest.tokenizer_sha256).to(
            accelerator.device
        )
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.progress = Progress()
        self.meter = Meter(config, self.encoder, accelerator, directory)
        self.stop = stop
        self.stop_agreed = False
        checkpoint = self._load_checkpoint() if resume else None
        self.varlen = choose_varlen(
            config,
            self.model,
            accelerator,
            before=None if checkpoint is None else bool(checkpoint.state["varlen"]),
            batch=self.maker.batch(self._rows(accelerator.process_index)[: config.run.micro_rows]),
        )
        if config.run.compile:
            for layer in self.model.bert.encoder.layer:
                layer.compile()
        self.objective = accelerator.prepare(Objective(self.model, varlen=self.varlen))
        self.objective.train()
        self.writer: CheckpointWriter | None = None
        if directory is not None:
            self.writer = CheckpointWriter(directory.checkpoints, keep=config.run.keep_checkpoints)
            directory.trim(self.progress.step)
            _warn_of_full_disk(directory, disk_bytes(self.encoder, config.run.keep_checkpoints))
            directory.write_config(self._described())
        if config.run.trackers:
            # Trackers take numbers and strings, no lists and no None.
            settings = {name: str(value) for name, value in flatten(config.to_json()).items()}
            accelerator.init_trackers("starencoder", config=settings)

    def run(self) -> Path:
        """Train to the last step."""
        steps = self._steps()
        try:
            for number, micro_batches in enumerate(self.meter.timed(steps)):
                self._step(micro_batches)
                if number == 0 and self.writer is not None:
                    # Now that there are moments: the first checkpoint shall not be slow.
                    self.writer.prepare(self._tensors())
                self._after_step()
        finally:
            steps.close()
        return self._finish()

    def _rows(self, rank: int) -> range:
        """The numbers of the rows of a rank in the step that is next."""
        return rows_of_step(
            self.progress.step,
            batch_rows=self.config.run.batch_rows,
            rank=rank,
            world_size=self.accelerator.num_processes,
        )

    def _steps(self) -> Generator[list[Batch]]:
        """This rank's micro-batches of the steps to do."""
        run, accelerator = self.config.run, self.accelerator
        return iter_steps(
            self.maker,
            first_step=self.progress.step,
            last_step=run.steps,
            batch_rows=run.batch_rows,
            micro_rows=run.micro_rows,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            workers=self.config.data.workers,
            pin_memory=accelerator.device.type == "cuda",
        )

    def _step(self, micro_batches: list[Batch]) -> None:
        """One update of the weights."""
        config, accelerator, step = self.config, self.accelerator, self.progress.step
        counts = self._counts(micro_batches)
        # A step of very short rows may have no pair.
        masked, pairs = counts[:2].clamp(min=1).float()
        rate = learning_rate(step, config.run.steps, config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = torch.zeros(2, device=accelerator.device)
        for number, batch in enumerate(micro_batches):
            _seed_dropout(config.run.seed, step, accelerator.process_index, number)
            last = number == len(micro_batches) - 1
            with nullcontext() if last else accelerator.no_sync(self.objective):
                sums = self.objective(batch.to(accelerator.device))
                mlm, nsp = sums.mlm_loss / masked, sums.nsp_loss / pairs
                # DDP takes the mean over ranks; the loss is already divided by what all have.
                accelerator.backward((mlm + nsp) * accelerator.num_processes)
            losses += torch.stack([mlm, nsp]).detach()
        grad_norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), config.optimizer.clip_norm
        )
        total = accelerator.reduce(losses, "sum")
        # All at once: reading a number from a GPU waits for all that it was told to do.
        values = torch.cat([total.double(), grad_norm[None].double(), counts[2:]]).tolist()
        mlm_loss, nsp_loss, norm, tokens, squares, stops = values
        loss = mlm_loss + nsp_loss
        reason = self.progress.reason_bad(loss, norm, config.run.spike_factor)
        if reason:
            self._bad_step(reason, loss, losses)
        else:
            self.optimizer.step()
            self.progress.updated(loss)
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += int(tokens)
        self.meter.add(
            mlm_loss=mlm_loss,
            nsp_loss=nsp_loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens=int(tokens),
            squares=int(squares),
        )
        self.stop_agreed = stops > 0

    def _counts(self, micro_batches: list[Batch]) -> Tensor:
        """Over all ranks: masked tokens, pairs, real tokens, squared lengths, stop requests."""
        own = [
            sum(int((batch.targets != IGNORE_TARGET).sum()) for batch in micro_batches),
            sum(len(batch.nsp_targets) for batch in micro_batches),
            sum(batch.num_tokens for batch in micro_batches),
            sum(_sum_of_squares(batch) for batch in micro_batches),
            int(bool(self.stop)),
        ]
        # Float64 holds them exactly, and so do sums of them.
        here = torch.tensor(own, dtype=torch.float64).to(self.accelerator.device)
        total: Tensor = self.accelerator.reduce(here, "sum")
        return total

    def _bad_step(self, reason: str, loss: float, losses: Tensor) -> None:
        """Say which documents it was, then stop, or go on without this step's update."""
        config, step = self.config, self.progress.step
        by_rank = gather_object([losses.sum().item()])
        # The one whose loss is not finite or, of a spike, that has the most of it.
        worst = max(range(len(by_rank)), key=lambda rank: _badness(by_rank[rank]))
        where = self.shards.split("train").where
        documents = [
            f"{where(segment.document)}, tokens {segment.start} to {segment.stop}"
            for segment in self.maker.segments(self._rows(worst))
        ]
        self.progress.skipped += 1
        action = config.run.bad_step if self.progress.skipped <= _MOST_SKIPPED else "stop"
        if self.directory is not None:
            line = {"reason": reason, "action": action, "loss": loss, "rank": worst}
            self.directory.append("bad_step", step + 1, {**line, "documents": documents})
        message = (
            f"step {step + 1}: {reason}; most of it is rank {worst}'s, whose {len(documents)} "
            f"segments are named in {config.run.output}/metrics.jsonl"
        )
        if action == "stop":
            if self.progress.skipped > 1:
                message = f"{self.progress.skipped} bad steps in a row; {message}"
            skip = "" if config.run.bad_step == "skip" else "set run.bad_step to skip, or "
            raise BadStepError(f"{message}; {skip}start again with a lower optimizer.learning_rate")
        if self.accelerator.is_main_process:
            _LOG.warning("%s; skipped", message)

    def _after_step(self) -> None:
        run, step = self.config.run, self.progress.step
        is_last = step == run.steps
        if step % run.log_every == 0 or is_last:
            self.meter.log(step, self.progress.tokens)
        if step % run.evaluate_every == 0 or is_last:
            self._evaluate()
        self._log_saves()
        if is_last:
            return
        if self.stop_agreed:
            self._save(wait=True)
            # A rank that left would make torchrun end the one that is still writing.
            self.accelerator.wait_for_everyone()
            raise Stopped(
                f"{self.stop.signal_name or 'a signal to another rank'}: saved after step "
                f"{step}; go on with --resume"
            )
        if step % run.checkpoint_every == 0:
            self._save()

    def _evaluate(self) -> None:
        if not self.held_out.batches:
            return
        began = time.perf_counter()
        overall, by_language = evaluate(
            self.accelerator.unwrap_model(self.objective), self.held_out, self.accelerator
        )
        self.meter.pause(time.perf_counter() - began)
        if self.directory is not None:
            self.directory.append(
                "held_out", self.progress.step, {"all": overall, "languages": by_language}
            )
            _LOG.info(
                "held out: MLM loss {mlm_loss:.4f}, masked accuracy {masked_accuracy:.4f} "
                "(unigram {unigram_accuracy:.4f}), NSP accuracy {nsp_accuracy:.4f} "
                "(chance {nsp_chance:.4f})".format(**overall)
            )
        if self.config.run.trackers:
            self.accelerator.log(
                {f"held_out/{name}": value for name, value in overall.items()},
                step=self.progress.step,
            )

    # ------------------------------------------------------------------------------ checkpoints

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        return {
            "weights": self.model.state_dict(),
            "optimizer": moments(self.model, self.optimizer),
        }

    def _save(self, *, wait: bool = False) -> None:
        if self.writer is None:
            return
        state = {"progress": self.progress.to_json(), **self._described()}
        self.meter.stalled(self.writer.save(self.progress.step, self._tensors(), state, wait=wait))

    def _load_checkpoint(self) -> Checkpoint | None:
        """Go back to the newest whole checkpoint, if there is one."""
        # One rank chooses: another one, with a read error, might choose differently.
        checkpoint: Checkpoint | None = None
        if self.directory is not None:
            checkpoint = load_latest(self.directory.checkpoints)
        chosen = [None if checkpoint is None else checkpoint.directory]
        broadcast_object_list(chosen)
        if chosen[0] is None:
            return None
        checkpoint = checkpoint or load_checkpoint(chosen[0])
        check_same_run(self.config, self.shards.fingerprint, checkpoint)
        self.progress = Progress.of(checkpoint)
        self.model.load_state_dict(checkpoint.tensors["weights"])
        if self.progress.updates:
            load_moments(
                self.model,
                self.optimizer,
                checkpoint.tensors["optimizer"],
                updates=self.progress.updates,
            )
        if self.accelerator.is_main_process:
            _LOG.info("resumed after step %d (%s)", checkpoint.step, checkpoint.directory)
        return checkpoint

    def _log_saves(self) -> None:
        if self.writer is None or self.directory is None:
            return
        for result in self.writer.poll():
            values = {
                "seconds": result.write_seconds,
                "stall": result.stall_seconds,
                "bytes": result.num_bytes,
                "error": None if result.error is None else str(result.error),
            }
            self.directory.append("checkpoint", result.step, values)

    def _finish(self) -> Path:
        """Write the model, then say that the run is done."""
        output = Path(self.config.run.output, MODEL_FOLDER)
        if self.writer is not None and self.directory is not None:
            # The model first: it may fit where a checkpoint does not.
            dtype = _DTYPES[self.config.run.saved_precision]
            save_pretraining(self.model, output, dtype=dtype)
            copy_tokenizer(self.shards.directory, output)
            self._save()
            try:
                self.writer.close()
            finally:
                self._log_saves()
            self.directory.mark_done(self.progress.step)
        self.accelerator.wait_for_everyone()
        return output

    # ------------------------------------------------------------------------------ descriptions

    def _described(self) -> dict[str, object]:
        """What the run is made from, for people and for a run that goes on with it."""
        return {
            "config": self.config.to_json(),
            "encoder": self.encoder.to_json(),
            "data": self.shards.fingerprint,
            "world_size": self.accelerator.num_processes,
            "device": self.accelerator.device.type,
            "varlen": self.varlen,
            "versions": {name: version(name) for name in _PACKAGES},
        }


def _open_run_directory(
    config: PretrainConfig, accelerator: Accelerator, *, resume: bool
) -> RunDirectory | None:
    """Lock the output directory; None on ranks that write nothing."""
    if not accelerator.is_main_process:
        return None
    directory = RunDirectory(Path(config.run.output))
    if not resume and (is_done(directory.path) or has_checkpoints(directory.checkpoints)):
        directory.close()
        raise ConfigError(
            f"{directory.path}: holds a run already; go on with it with --resume, or choose "
            f"another run.output"
        )
    return directory


def _warn_of_full_disk(directory: RunDirectory, needed: int) -> None:
    """Say so now, not hours later, if the checkpoints will not all fit."""
    there = sum(path.stat().st_size for path in directory.checkpoints.rglob("*") if path.is_file())
    free = shutil.disk_usage(directory.path).free
    if there + free < needed:
        _LOG.warning(
            "%s: checkpoints will take up to %s and only %s are free; lower "
            "run.keep_checkpoints or make room",
            directory.path,
            amount(needed, "B"),
            amount(there + free, "B"),
        )


def _open_data(config: PretrainConfig, accelerator: Accelerator) -> TokenShards:
    shards = open_shards(Path(config.data.directory))
    if config.data.tokenizer:
        given = tokenizer_sha256(Path(config.data.tokenizer))
        if given != shards.manifest.tokenizer_sha256:
            raise ConfigError(
                f"data.tokenizer: {config.data.tokenizer} is not the tokenizer that "
                f"{config.data.directory} was made with; leave the setting out, or prepare the "
                f"data with it"
            )
    fingerprints = gather_object([shards.fingerprint])
    other = next((rank for rank, own in enumerate(fingerprints) if own != fingerprints[0]), 0)
    if other:
        raise ConfigError(
            f"data.directory: {config.data.directory} is another data set on rank {other} than on "
            f"rank 0; copy the same one to every machine"
        )
    if config.data.verify:
        # A machine may have a copy of its own, and its ranks share the work.
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        shards.verify(part=accelerator.local_process_index, parts=here)
    accelerator.wait_for_everyone()
    return shards


def _make_model(config: PretrainConfig, encoder: EncoderConfig, tokenizer: str) -> PretrainingModel:
    """Random weights that follow from the seed, or those of a checkpoint."""
    if not config.model.init_from:
        torch.manual_seed(config.run.seed)
        return PretrainingModel(encoder)
    directory = Path(config.model.init_from)
    if tokenizer_sha256(directory) != tokenizer:
        raise ConfigError(
            f"model.init_from: {directory} has another tokenizer than {config.data.directory}; its "
            f"embeddings would belong to other tokens: prepare the data with that tokenizer"
        )
    loaded = load_pretraining(directory)
    for name in (
        "vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size",
        "max_positions", "nsp_is_next_index",
    ):  # fmt: skip
        if getattr(loaded.config, name) != getattr(encoder, name):
            raise ConfigError(
                f"model.init_from: {directory} has {name} {getattr(loaded.config, name)}, the run "
                f"{getattr(encoder, name)}"
            )
    model = PretrainingModel(encoder)
    model.load_state_dict(loaded.state_dict())
    return model


def _seed_dropout(seed: int, step: int, rank: int, micro_batch: int) -> None:
    sequence = np.random.SeedSequence([seed, step, rank, micro_batch])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def _sum_of_squares(batch: Batch) -> int:
    """Of the pairs' lengths; the positions of a pair of n tokens add up to n (n - 1) / 2."""
    return 2 * int(batch.position_ids.sum()) + batch.num_tokens


def _out_of_memory(config: PretrainConfig, world_size: int) -> ConfigError:
    run = config.run
    if run.micro_rows == 1:
        return ConfigError(
            "GPU out of memory with run.micro_rows = 1; lower data.seq_length, or choose a smaller "
            "model or a larger GPU"
        )
    lower = largest_divisor(run.batch_rows // world_size, run.micro_rows // 2)
    return ConfigError(
        f"GPU out of memory with run.micro_rows = {run.micro_rows}; set it to {lower}: steps stay "
        f"the same, in more micro-batches"
    )


def _badness(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
