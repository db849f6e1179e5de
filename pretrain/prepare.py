"""Sources to token shards: read, filter, tokenise in parallel, split, write, report."""

import dataclasses
import json
import logging
import multiprocessing
import os
import platform
import re
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
import xxhash
from tqdm import tqdm

from pretrain.config import DataConfig, PrepareConfig
from pretrain.corpus_report import Report, write_report
from pretrain.documents import (
    Document,
    Dropped,
    Input,
    iter_documents,
    known_language,
    list_inputs,
)
from pretrain.filters import check_filters, reason_to_drop
from pretrain.selection import Chosen, Selection
from pretrain.shards import (
    MANIFEST,
    MOST_LANGUAGES,
    SPLITS,
    TOKEN_DTYPE,
    Manifest,
    ShardWriter,
    check_vocabulary,
    open_shards,
    tokenizer_sha256,
    write_manifest,
)
from starencoder.errors import ConfigError, DataError, OutputError, reason_of
from starencoder.tokenizer import SENTINELS, CodeTokenizer, copy_tokenizer, load_tokenizer

_LOG = logging.getLogger(__name__)

_BATCH_CHARS = 1_000_000
_BATCH_DOCUMENTS = 256
_BATCHES_PER_WORKER = 3
_SHARD_FILE = re.compile(rf"(?:{'|'.join(SPLITS)})-\d{{5,}}\.(?:tokens|index)(?:\.partial)?")
_DATA_SET_DO = "delete it, or set data.directory to another one"


def prepare(
    config: PrepareConfig, data: DataConfig, *, seed: int, progress: bool = False
) -> Report:
    """Make the token shards in `data.directory`, and `report.html` beside them.

    The same settings, seed and input give the same bytes, whatever the number of workers. Where
    the directory has the data set already, nothing is done; leftovers of an interrupted run are
    overwritten.

    Memory: about 70 bytes per document for finding duplicates, unless that filter is off.

    Args:
        config: Sources, languages, weights, filters.
        data: Where the tokenizer is and where the shards go.
        seed: Of the order of documents and of sampling by weight.
        progress: Whether a progress bar is shown on stderr.

    Raises:
        ConfigError: A setting cannot be used, or the directory has another data set.
        CheckpointError: There is no tokenizer that can be loaded.
        DataError: A column is missing, or no document is left.
        OutputError: The directory cannot be written.
        MissingExtraError: A package that a source needs is not installed.
    """
    began = time.monotonic()
    directory, tokenizer_dir = Path(data.directory), Path(data.tokenizer)
    disabled = check_filters(config.disable)
    if not config.sources:
        raise ConfigError("prepare.sources is empty; name at least one [[prepare.sources]]")
    if not data.tokenizer:
        raise ConfigError("data.tokenizer is empty; set it to a directory with a tokenizer.json")
    tokenizer = load_tokenizer(tokenizer_dir)
    check_vocabulary(tokenizer, tokenizer_dir)
    _check_sentinels(config, tokenizer, tokenizer_dir)
    dropped = Dropped()
    inputs = list_inputs(config.sources, dropped)
    origin = _origin(config, seed, inputs)
    existing = _existing(directory, origin, tokenizer_sha256(tokenizer_dir))
    if existing is not None:
        return existing
    _clear(directory)
    copy_tokenizer(tokenizer_dir, directory)
    selection = Selection(config, seed=seed, dropped=dropped)
    job = _Job(config, directory, tokenizer.vocab_size, selection, dropped)
    documents = iter_documents(inputs, limit=config.limit, seed=seed, dropped=dropped)
    bar: tqdm[NoReturn] = tqdm(unit="char", unit_scale=True, disable=not progress)
    with bar:
        job.run(documents, _WorkerSettings(directory, config.max_chars, disabled), bar)
    if not job.counts["train"]:
        raise DataError(
            f"no document is left to train on; left out: {dropped}; see prepare.languages, "
            "prepare.weights and prepare.disable"
            if str(dropped)
            else f"no document to train on: the {len(inputs)} inputs of prepare.sources hold none"
        )
    manifest = Manifest(
        tokenizer_sha256=tokenizer_sha256(directory),
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        sep_id=tokenizer.sep_id,
        cls_id=tokenizer.cls_id,
        mask_id=tokenizer.mask_id,
        special_ids=tuple(sorted(tokenizer.special_ids.values())),
        languages=tuple(job.languages),
        splits={split: job.writers[split].close() for split in SPLITS},
        counts=job.plain_counts(),
        left_out=dropped.by_reason(),
        prepare={**origin, "unreadable": dropped.unreadable, "versions": _versions()},
    )
    write_manifest(directory, manifest, job.token_counts)
    _warn_of_unknown(config, selection.seen)
    report = Report(
        directory=directory, manifest=manifest, reused=False, seconds=time.monotonic() - began
    )
    write_report(report)
    return report


@dataclass(frozen=True, slots=True)
class _WorkerSettings:
    tokenizer_dir: Path
    max_chars: int
    disabled: frozenset[str]


class _Job:
    """The main process's part: what goes to the workers, what comes back, and the counts."""

    def __init__(
        self,
        config: PrepareConfig,
        directory: Path,
        vocab_size: int,
        selection: Selection,
        dropped: Dropped,
    ) -> None:
        self._selection, self._dropped = selection, dropped
        self.languages: dict[str, int] = {}
        self.counts: dict[str, dict[str, Counter[str]]] = {
            split: defaultdict(Counter) for split in SPLITS
        }
        self.token_counts = np.zeros(vocab_size, np.uint64)
        self.writers = {
            split: ShardWriter(directory, split, config.shard_tokens) for split in SPLITS
        }
        self._workers = config.workers or os.cpu_count() or 1

    def run(
        self, documents: Iterator[Document], settings: _WorkerSettings, bar: "tqdm[NoReturn]"
    ) -> None:
        """Send batches to workers and write what comes back, in the order of the documents."""
        waiting: deque[tuple[list[Chosen], Future[list[np.ndarray | str]]]] = deque()
        pool = ProcessPoolExecutor(
            self._workers,
            # A forked process would inherit locks of pyarrow's and the tokenizer's threads.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(settings,),
        )
        try:
            with self.writers["train"], self.writers["held_out"]:
                for batch in self._batches(documents):
                    future = pool.submit(_tokenise, [document for document, _ in batch])
                    waiting.append(([chosen for _, chosen in batch], future))
                    if len(waiting) > _BATCHES_PER_WORKER * self._workers:
                        self._write(*waiting.popleft(), bar)
                while waiting:
                    self._write(*waiting.popleft(), bar)
                for writer in self.writers.values():
                    writer.close()
        except BrokenProcessPool as error:
            raise OutputError(
                "a process that tokenises was ended from outside, most likely for want of memory; "
                "set prepare.workers lower and start again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def plain_counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Split -> language -> what is counted, as the manifest has it."""
        return {
            split: {language: dict(row) for language, row in rows.items() if row}
            for split, rows in self.counts.items()
        }

    def _batches(self, documents: Iterator[Document]) -> Iterator[list[tuple[Document, Chosen]]]:
        batch: list[tuple[Document, Chosen]] = []
        chars = 0
        for document in documents:
            chosen = self._selection.choose(document)
            if chosen is None:
                continue
            batch.append((document, chosen))
            chars += chosen.chars
            if chars >= _BATCH_CHARS or len(batch) >= _BATCH_DOCUMENTS:
                yield batch
                batch, chars = [], 0
        if batch:
            yield batch

    def _write(
        self,
        batch: Sequence[Chosen],
        future: Future[list[np.ndarray | str]],
        bar: "tqdm[NoReturn]",
    ) -> None:
        for chosen, ids in zip(batch, future.result(), strict=True):
            if isinstance(ids, str):
                self._dropped.documents[ids, chosen.language] += 1
                continue
            placed = self._selection.place(chosen)
            if placed is None:
                continue
            split, entries = placed
            language = self.languages.setdefault(chosen.language, len(self.languages))
            if language == MOST_LANGUAGES:
                raise DataError(
                    f"more than {MOST_LANGUAGES:,} languages; set the source's language_column to "
                    "the column that has them, or prepare.languages to those that are wanted"
                )
            self.writers[split].add(ids, language, entries)
            self.counts[split][chosen.language].update(
                documents=1, tokens=len(ids), characters=chosen.chars, entries=entries
            )
            if split == "train":
                np.add.at(self.token_counts, ids, np.uint64(entries))
        bar.update(sum(chosen.chars for chosen in batch))


# --- In a worker

_tokenizer: CodeTokenizer
_settings: _WorkerSettings


def _start_worker(settings: _WorkerSettings) -> None:
    global _tokenizer, _settings
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # The main process decides what Ctrl-C means; when it is gone, nobody takes the results.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _settings = settings
    _tokenizer = load_tokenizer(settings.tokenizer_dir)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _tokenise(documents: list[Document]) -> list[np.ndarray | str]:
    """The ids of each document, or the name of the filter that leaves it out."""
    reasons = [
        reason_to_drop(document, max_chars=_settings.max_chars, disabled=_settings.disabled)
        for document in documents
    ]
    kept = [d for d, reason in zip(documents, reasons, strict=True) if reason is None]
    ids = iter(token_ids(_tokenizer, kept))
    return [next(ids) if reason is None else reason for reason in reasons]


def token_ids(tokenizer: CodeTokenizer, documents: Sequence[Document]) -> list[np.ndarray]:
    """The ids of each document: uint16, its sentinels as special tokens, its texts as text."""
    texts = iter(tokenizer.encode_batch([text for d in documents for _, text in d.parts]))
    found = []
    for document in documents:
        ids: list[int] = []
        for sentinel, _ in document.parts:
            if sentinel:
                ids.append(tokenizer.special_ids[sentinel])
            ids.extend(next(texts))
        found.append(np.array(ids, dtype=TOKEN_DTYPE))
    return found


# --- The directory, and what it was made from


def _check_sentinels(config: PrepareConfig, tokenizer: CodeTokenizer, directory: Path) -> None:
    missing = [token for token in SENTINELS if token not in tokenizer.special_ids]
    kinds = {source.kind for source in config.sources} - {"code"}
    if missing and kinds:
        raise ConfigError(
            f"{directory}: the tokenizer has no special token {missing[0]}, which sources of kind "
            f"{' and '.join(sorted(kinds))} need; use one with StarCoder's sentinels"
        )


def _origin(config: PrepareConfig, seed: int, inputs: Sequence[Input]) -> dict[str, object]:
    """All that decides the bytes of a data set, beside its tokenizer."""
    settings = dataclasses.asdict(config)
    del settings["workers"]
    digest = xxhash.xxh3_64()
    for item in inputs:
        described = f"{item.name}\0{item.size}\0{item.changed}\0"
        digest.update(described.encode("utf-8", "surrogatepass"))
    origin = {"settings": settings, "seed": seed, "inputs_xxh3": digest.hexdigest()}
    return cast(dict[str, object], json.loads(json.dumps(origin)))


def _existing(directory: Path, origin: Mapping[str, object], tokenizer: str) -> Report | None:
    """The report of the data set that is there, if it is the wanted one.

    Raises:
        ConfigError: It is another one.
    """
    if not (directory / MANIFEST).exists():
        return None
    try:
        manifest = open_shards(directory).manifest
    except DataError as error:
        raise ConfigError(
            f"{directory}: has a data set that cannot be used ({error}); {_DATA_SET_DO}"
        ) from error
    differing = [name for name, value in origin.items() if manifest.prepare.get(name) != value]
    if manifest.tokenizer_sha256 != tokenizer:
        differing.append("tokenizer")
    if differing:
        raise ConfigError(
            f"{directory}: has a data set made from other {' and '.join(differing)}; {_DATA_SET_DO}"
        )
    _LOG.info("%s: the data set is there already", directory)
    return Report(directory=directory, manifest=manifest, reused=True, seconds=0.0)


def _clear(directory: Path) -> None:
    """Make the directory; remove what an interrupted run has left in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if _SHARD_FILE.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be written ({reason_of(error)}); set data.directory to a folder "
            "that can be"
        ) from error


def _versions() -> dict[str, str]:
    packages = ("starencoder", "tokenizers", "pyarrow", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _warn_of_unknown(config: PrepareConfig, seen: set[str]) -> None:
    for setting, names in (("languages", config.languages), ("weights", config.weights)):
        for name in names:
            if known_language(name) not in seen:
                _LOG.warning("prepare.%s: no document is of the language %s", setting, name)
