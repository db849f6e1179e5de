"""Fine-tune a token classifier on annotated documents, in stages, as one recipe says.

For each seed, the stages before the last are trained once. The last one is trained once for each
fold of its documents without that fold, which tells how many steps are enough and, from what is
found in documents that were not seen, the thresholds; then once more on all of them.

What a step sees follows from the seed, the phase and its number, so that a run that was
interrupted goes on to the same weights.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
import math
import random
import shutil
import statistics
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional

from pii.annotations import Document, load_label_map, read_annotated
from pii.chunks import ChunkConfig
from pii.curves import sweep
from pii.dataset import Batch, TokenisedDocument, iter_batches, tokenise
from pii.detect import Detector
from pii.folds import package_folds
from pii.harvest import harvest_words
from pii.labels import IGNORE_TARGET, LABELS, OPERATING_POINTS, OUTSIDE, TAG_IDS, TAGS
from pii.metrics import MICRO, count_matches, operating_points, total
from pii.predict import torch_predict
from pii.recipe import StageConfig, TrainConfig, TrainData
from pii.spans import Span, without_examples
from pii.synthesize import revalue
from pii.tagger import Tagger
from pii.values import ValueMaker
from starencoder.checkpoint import load_encoder_weights, resolve_encoder, save_tagger
from starencoder.config import CONFIG_FILE, PRESETS, WEIGHTS_FILE, EncoderConfig, load_config
from starencoder.errors import CheckpointError, ConfigError, DataError, reason_of
from starencoder.files import check_outputs, read_json_object, write_whole
from starencoder.model import TokenClassifier, flushed_denormals
from starencoder.optim import load_moments, make_optimizer, moments
from starencoder.schedule import learning_rate
from starencoder.text import aligned, duration
from starencoder.tokenizer import TOKENIZER_FILE, CodeTokenizer, copy_tokenizer, load_tokenizer
from starencoder.toml import differences
from starencoder.training_checkpoints import CheckpointWriter, load_latest

_LOG = logging.getLogger(__name__)

REPORT_FILE = "training.json"
_WORK = "checkpoints"
_RUN_FILE = "run.json"
"""In the folder of checkpoints: the recipe, and the hashes of all that was read."""
_MAY_CHANGE = frozenset({"save_every"})
_EVEN = 0.5
"""Threshold of every label where none was chosen."""

Weights = Mapping[str, Tensor]
_Copies = list[tuple[Document, list[TokenisedDocument]]]
"""Documents of a stage, each with all its copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What one seed has given."""

    seed: int
    weights: Weights
    steps: int
    """Of the last stage."""
    f1: dict[str, float]
    """By label and as `micro`, over the folds' documents, each found by a model that was not
    trained on its package; the thresholds are chosen on them too. Empty without folds."""
    points: Mapping[str, Mapping[str, float]]
    """Thresholds by operating point and label."""


@flushed_denormals()
def train(
    config: TrainConfig, output: Path, *, resume: bool = False, threads: int = 0
) -> list[Trained]:
    """Train a tagger and write its directory: config, averaged weights, tokenizer, report.

    Args:
        config: The recipe.
        output: The tagger's directory; checkpoints are in it until all is done.
        resume: Whether to go on from what an interrupted run has left there; recipe and data must
            be its own, but for `save_every`.
        threads: Of torch; 0: as many as it takes.

    Returns:
        What each seed has given, in their order. The best one was written.

    Raises:
        ConfigError: The chunks are too long for the model, the output is an input or holds a
            tagger already, there is a run to resume that was not asked for or that had another
            recipe or other data, or the loss is not finite.
        CheckpointError: The tokenizer or the encoder to start from cannot be loaded.
        DataError: Data are not of the stated form, there is no text in any, or no package of the
            last stage can be held out.
        OutputError: The directory cannot be written.
    """
    work = output / _WORK
    read = [data.path for stage in config.stages for data in stage.data]
    read += [name for name in (config.encoder, config.tokenizer) if name]
    check_outputs([output], map(Path, read), folders=True)
    started = _check_folder(config, output, resume=resume)
    if threads:
        torch.set_num_threads(threads)
    encoder = resolve_encoder(config.encoder) if config.encoder else None
    tokenizer_dir = Path(config.tokenizer) if config.tokenizer else encoder
    assert tokenizer_dir is not None  # the recipe was checked
    tokenizer = load_tokenizer(tokenizer_dir)
    architecture = _architecture(config, encoder, tokenizer)
    loaded = [tokenizer_dir / TOKENIZER_FILE]
    loaded += [encoder / name for name in (CONFIG_FILE, WEIGHTS_FILE)] if encoder else []
    inputs = {str(path): _hash_of(path) for path in loaded}
    stages = [_read(stage, tokenizer, config.seeds[0], inputs) for stage in config.stages]
    last = [document for document, _ in stages[-1]]
    if config.folds and len(set(package_folds(last, config.folds))) < 2:
        raise DataError(
            "the documents of the last stage are of one package, of which no part can be held out; "
            "expected several packages, or folds = 0"
        )
    if started:
        _check_inputs(started.get("inputs"), inputs, work)
    else:
        described = {"recipe": dataclasses.asdict(config), "inputs": inputs}
        write_whole(work / _RUN_FILE, (json.dumps(described, indent=2) + "\n").encode())
    results = []
    for seed in config.seeds:
        trainer = _Trainer(config, architecture, encoder, tokenizer, seed, work / f"seed-{seed}")
        results.append(trainer.run(stages))
        _LOG.info("seed %d: done", seed)
    best = max(results, key=lambda result: result.f1.get(MICRO, 0.0))
    _write(config, architecture, best, results, tokenizer_dir, output)
    shutil.rmtree(work)
    return results


def train_text(results: Sequence[Trained]) -> str:
    """F1 over the folds by label: of each seed and, of several, their mean and deviation."""
    measured = [result for result in results if result.f1]
    if not measured:
        return "no folds: thresholds are 0.5, nothing was measured\n"
    rows = [["F1 over folds", *(f"seed {result.seed}" for result in measured), "mean", "deviation"]]
    for name in (*LABELS, MICRO):
        values = [result.f1[name] for result in measured]
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        cells = [*values, statistics.fmean(values), deviation]
        rows.append([name, *("-" if math.isnan(cell) else f"{cell:.4f}" for cell in cells)])
    rows.append(["steps", *(str(result.steps) for result in measured), "", ""])
    return "\n".join(aligned(rows)) + "\n"


class _Trainer:
    """Trains with one seed."""

    def __init__(
        self,
        config: TrainConfig,
        architecture: EncoderConfig,
        encoder: Path | None,
        tokenizer: CodeTokenizer,
        seed: int,
        work: Path,
    ) -> None:
        self.config, self.seed, self.work, self.tokenizer = config, seed, work, tokenizer
        self.chunks = ChunkConfig(max_tokens=config.max_tokens, stride=config.stride)
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if config.precision == "bf16" else "no",
        )
        torch.manual_seed(seed)
        self.model = TokenClassifier(architecture, num_labels=len(TAGS))
        if encoder is not None:
            load_encoder_weights(self.model.bert, encoder)
        self.model.to(self.accelerator.device)

    def run(self, stages: Sequence[_Copies]) -> Trained:
        """All stages, the last one by folds first."""
        config = self.config
        weights: Weights = _copied(self.model.state_dict())
        for number, copies in enumerate(stages[:-1], start=1):
            stage = config.stages[number - 1]
            weights, _ = self._phase(f"stage-{number}", weights, copies, stage, stage.steps)
        copies, stage = stages[-1], config.stages[-1]
        steps = stage.steps
        f1: dict[str, float] = {}
        points: Mapping[str, Mapping[str, float]] = dict.fromkeys(
            OPERATING_POINTS, dict.fromkeys(LABELS, _EVEN)
        )
        if config.folds:
            steps, f1, points = self._by_folds(weights, copies, stage)
        weights, _ = self._phase("last-stage", weights, copies, stage, steps)
        return Trained(seed=self.seed, weights=weights, steps=steps, f1=f1, points=points)

    def _by_folds(
        self, start: Weights, copies: _Copies, stage: StageConfig
    ) -> tuple[int, dict[str, float], dict[str, dict[str, float]]]:
        """Steps, F1 and thresholds, by models each of which has not seen a part of the packages."""
        fold_of = package_folds([document for document, _ in copies], self.config.folds)
        documents: list[Document] = []
        tagged: list[list[Span]] = []
        steps = []
        for fold in sorted(set(fold_of)):
            pairs = list(zip(fold_of, copies, strict=True))
            held_out = [document for own, (document, _) in pairs if own == fold]
            others = [copy for own, copy in pairs if own != fold]
            weights, last = self._phase(f"fold-{fold}", start, others, stage, stage.steps, held_out)
            steps.append(last)
            documents += held_out
            self.model.load_state_dict(weights)
            detector = self._detector()
            tagged += [detector.tagged_spans(document.text) for document in held_out]
        detector = self._detector()

        def found(thresholds: Mapping[str, float]) -> Iterator[list[Span]]:
            for document, spans in zip(documents, tagged, strict=True):
                combined = detector.combine(document.text, spans, thresholds)
                yield without_examples(combined)

        tables = sweep(documents, lambda score: found(dict.fromkeys(LABELS, score)))
        points = operating_points(tables, sum(not document.spans for document in documents))
        sums = total(
            count_matches(document.spans, spans)
            for document, spans in zip(documents, found(points[OPERATING_POINTS[0]]), strict=True)
        )
        f1 = {name: round(counts.f_score(), 4) for name, counts in sums.items()}
        return round(statistics.median(steps)), f1, points

    def _detector(self) -> Detector:
        """The model as it is now, with the patterns."""
        tagger = Tagger(
            self.tokenizer,
            torch_predict(self.model),
            tuple(range(len(TAGS))),
            self.chunks,
            operating_points={},
        )
        return Detector(tagger, thresholds=dict.fromkeys(LABELS, _EVEN))

    def _f1(self, weights: Weights, documents: Sequence[Document]) -> float:
        own = _copied(self.model.state_dict())
        self.model.load_state_dict(weights)
        detector = self._detector()
        sums = total(
            count_matches(document.spans, without_examples(detector.detect(document.text)))
            for document in documents
        )
        self.model.load_state_dict(own)
        self.model.train()
        return sums[MICRO].f_score()

    def _phase(
        self,
        name: str,
        start: Weights,
        copies: _Copies,
        stage: StageConfig,
        steps: int,
        held_out: Sequence[Document] = (),
    ) -> tuple[Weights, int]:
        """Train from `start`; return averaged weights and the number of steps that made them.

        With documents that are held out, those of the best evaluation; else the last ones. What is
        done already is read from its checkpoint.
        """
        config, folder = self.config, self.work / name
        checkpoint = load_latest(folder) if folder.exists() else None
        progress = _PhaseProgress()
        self.model.load_state_dict(start)
        optimizer = make_optimizer(self.model, stage.optimizer)
        average = _copied(start)
        best = average
        if checkpoint is not None:
            progress = _PhaseProgress(**checkpoint.state)  # type: ignore[arg-type]
            tensors = checkpoint.tensors
            best = tensors["best"]
            if progress.done:
                return best, progress.best_step
            self.model.load_state_dict(tensors["weights"])
            load_moments(self.model, optimizer, tensors["optimizer"], updates=progress.step)
            average = _copied(tensors["average"])
            _LOG.info("%s: resumed after step %d", name, progress.step)
        writer = CheckpointWriter(folder, keep=1)
        self.model.train()
        batches = self._batches(name, copies, stage)
        log = _Log(name, steps, progress.step)
        for batch in itertools.islice(batches, progress.step, None):
            if progress.step >= steps or progress.stale >= config.patience:
                break
            loss = self._step(name, progress.step, batch, stage, optimizer)
            progress.step += 1
            # A decay that grows with the steps, so that the random start is forgotten.
            decay = min(config.average_decay, (1 + progress.step) / (10 + progress.step))
            with torch.no_grad():
                for key, weight in self.model.state_dict().items():
                    average[key].lerp_(weight, 1 - decay)
            log.add(loss, int(batch.attention_mask.sum()))
            if held_out and (progress.step % config.evaluate_every == 0 or progress.step == steps):
                f1 = self._f1(average, held_out)
                _LOG.info("%s: step %d  micro F1 %.4f", name, progress.step, f1)
                if f1 > progress.best_f1:
                    progress.best_f1, progress.best_step, progress.stale = f1, progress.step, 0
                    best = _copied(average)
                else:
                    progress.stale += 1
            if progress.step % config.save_every == 0:
                groups = {
                    "weights": self.model.state_dict(),
                    "optimizer": moments(self.model, optimizer),
                    "average": average,
                    "best": best,
                }
                writer.save(progress.step, groups, dataclasses.asdict(progress))
        if not held_out:
            best, progress.best_step = average, progress.step
        progress.done = True
        # One more than the last, so that it does not replace the one before.
        writer.save(progress.step + 1, {"best": best}, dataclasses.asdict(progress), wait=True)
        writer.close()
        return best, progress.best_step

    def _step(
        self,
        name: str,
        step: int,
        batch: Batch,
        stage: StageConfig,
        optimizer: torch.optim.AdamW,
    ) -> float:
        """One update of the weights; the loss before it."""
        device = self.accelerator.device
        # Dropout, too, follows from the step.
        torch.manual_seed(int(_generator(self.seed, name, step).integers(2**63)))
        rate = learning_rate(step, stage.steps, stage.optimizer)
        for group in optimizer.param_groups:
            group["lr"] = rate
        weight = torch.ones(len(TAGS), device=device)
        weight[TAG_IDS[OUTSIDE]] = stage.outside_weight
        with self.accelerator.autocast():
            logits = self.model(
                torch.from_numpy(batch.input_ids).to(device),
                torch.from_numpy(batch.attention_mask).to(device),
            )
        loss = functional.cross_entropy(
            logits.float().flatten(0, 1),
            torch.from_numpy(batch.targets).to(device).flatten(),
            weight=weight,
            ignore_index=IGNORE_TARGET,
        )
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), stage.optimizer.clip_norm)
        value = loss.item()
        if not math.isfinite(value):
            raise ConfigError(
                f"{name}, step {step + 1}: the loss is not finite; lower optimizer.learning_rate"
            )
        optimizer.step()
        return value

    def _batches(self, name: str, copies: _Copies, stage: StageConfig) -> Iterator[Batch]:
        """Epoch after epoch; the same for the same seed and phase."""
        documents = [copy for _, all_copies in copies for copy in all_copies]
        for epoch in itertools.count():
            yield from iter_batches(
                documents,
                self.tokenizer,
                max_tokens=self.config.train_tokens,
                batch_size=stage.batch_size,
                rng=_generator(self.seed, name, epoch),
            )


@dataclass(slots=True)
class _PhaseProgress:
    """How far a phase is, as its checkpoints keep it."""

    step: int = 0
    best_step: int = 0
    best_f1: float = -1.0
    stale: int = 0
    """Evaluations since the best one."""
    done: bool = False


class _Log:
    """A line every 100 steps."""

    def __init__(self, name: str, steps: int, step: int) -> None:
        self._name, self._steps, self._step = name, steps, step
        self._clear()

    def add(self, loss: float, tokens: int) -> None:
        """Count a step."""
        self._step += 1
        self._losses.append(loss)
        self._tokens += tokens
        if self._step % 100 == 0:
            seconds = time.monotonic() - self._began
            left = seconds / len(self._losses) * (self._steps - self._step)
            _LOG.info(
                "%s: step %d/%d  loss %.4f  %s tokens/s  %s left",
                self._name,
                self._step,
                self._steps,
                statistics.fmean(self._losses),
                f"{self._tokens / seconds:,.0f}",
                duration(left),
            )
            self._clear()

    def _clear(self) -> None:
        self._began, self._tokens = time.monotonic(), 0
        self._losses: list[float] = []


def _generator(seed: int, name: str, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode()), number])


def _copied(weights: Weights) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _architecture(
    config: TrainConfig, encoder: Path | None, tokenizer: CodeTokenizer
) -> EncoderConfig:
    if encoder is not None:
        found = load_config(encoder)
    else:
        found = dataclasses.replace(
            PRESETS[config.preset], vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id
        )
    if config.train_tokens + 2 > found.max_positions:
        raise ConfigError(
            f"train_tokens must be at most {found.max_positions - 2}: the model reads "
            f"{found.max_positions} tokens, cls and sep included; got {config.train_tokens}"
        )
    return dataclasses.replace(found, hidden_dropout=config.dropout)


def _check_folder(config: TrainConfig, output: Path, *, resume: bool) -> dict[str, object]:
    """What the run to go on with was started with; empty where one is to be started.

    Raises:
        ConfigError: There is a finished tagger, or an interrupted run that is not to be gone on
            with, or was started with another recipe.
    """
    work = output / _WORK
    if not work.exists():
        # Graphs of another tagger would be taken for this one's.
        for path in (output / WEIGHTS_FILE, output / "onnx"):
            if path.exists():
                raise ConfigError(
                    f"{path}: already there; give another output directory, or remove it"
                )
        return {}
    if not resume:
        raise ConfigError(
            f"{work}: left by a run that was interrupted; go on with it with --resume, or remove it"
        )
    path = work / _RUN_FILE
    advice = f"remove {work} and start again"
    try:
        started = read_json_object(path, ConfigError, advice=advice)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: missing, so that nothing tells whether the run that was interrupted had this "
            f"recipe and these data (earlier versions did not write it); {advice}"
        ) from error
    changed = differences(started.get("recipe"), dataclasses.asdict(config))
    changed = {name: text for name, text in changed.items() if name not in _MAY_CHANGE}
    if changed:
        raise ConfigError(
            f"the run in {work} has other settings: {'; '.join(changed.values())}; go on with "
            f"those, or choose another output directory"
        )
    return started


def _check_inputs(before: object, now: Mapping[str, str], work: Path) -> None:
    """Refuse to go on with other data than the run was started with."""
    changed = differences(before, now)
    if changed:
        raise ConfigError(
            f"the run in {work} was started with another content of {', '.join(changed)}; put that "
            f"back, or choose another output directory"
        )


def _hash_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({reason_of(error)})") from error


def _read(
    stage: StageConfig, tokenizer: CodeTokenizer, seed: int, hashes: dict[str, str]
) -> _Copies:
    """A stage's documents with all their copies, tokenised; hashes of the documents are added."""
    files = [(data, _read_one(data)) for data in stage.data]
    for data, documents in files:
        # Of what was read, not of the file: a hub has none, and a map of labels counts too.
        content = "\n".join(map(repr, documents))
        name = data.path if not data.label_map else f"{data.path} by {data.label_map}"
        hashes[name] = hashlib.sha256(content.encode()).hexdigest()
    rng = random.Random(seed)
    values = ValueMaker(rng, harvest_words(d.text for _, documents in files for d in documents))
    copies: _Copies = []
    for data, documents in files:
        tokens = 0
        for document in documents:
            others = [
                revalue(document, values, rng) if data.revalue else document
                for _ in range(data.copies - 1)
            ]
            tokenised = list(tokenise([document, *others], tokenizer))
            tokens += sum(len(copy.ids) for copy in tokenised)
            copies.append((document, tokenised))
        _LOG.info("%s: %d documents, %d tokens", data.path, len(documents) * data.copies, tokens)
    if not any(len(copy.ids) for _, all_copies in copies for copy in all_copies):
        raise DataError(f"{files[0][0].path}: the data hold no text; expected annotated documents")
    return copies


def _read_one(data: TrainData) -> Sequence[Document]:
    names = load_label_map(Path(data.label_map) if data.label_map else None)
    read = read_annotated(data.path, format=data.format, label_map=names)
    for reason, count in read.report.left_out.items():
        _LOG.info("%s: left out: %d x %s", data.path, count, reason)
    return read.documents


def _write(
    config: TrainConfig,
    architecture: EncoderConfig,
    best: Trained,
    results: Sequence[Trained],
    tokenizer_dir: Path,
    output: Path,
) -> None:
    model = TokenClassifier(architecture, num_labels=len(TAGS))
    model.load_state_dict(best.weights)
    settings = {
        "max_tokens": config.max_tokens,
        "stride": config.stride,
        "operating_points": best.points,
    }
    save_tagger(model, output, id2label=dict(enumerate(TAGS)), pii=settings, dtype=torch.float16)
    copy_tokenizer(tokenizer_dir, output)
    seeds = {result.seed: {"steps": result.steps, "f1_over_folds": result.f1} for result in results}
    report = {"recipe": dataclasses.asdict(config), "seeds": seeds, "written": best.seed}
    write_whole(output / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
