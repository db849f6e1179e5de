"""Token shards, version 1: documents as token ids in memory-mapped files. Reader and writer.

A data set is a directory:

- `manifest.json`: what is there. It is written last, so a directory without it is no data set.
- `NAME.tokens`: token ids as little-endian uint16, one document after the other, nothing between.
- `NAME.index`: per entry offset (8 bytes, in tokens), length (4, in tokens), language (2) and two
  zero bytes, little-endian. A document that is sampled twice has two entries.
- `token_counts.bin`: per id, as little-endian uint64, how often the train split's entries have it.
- `tokenizer.json` and its side files.

Checksums are xxh3 of 64 bits, in hexadecimal.
"""

import dataclasses
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import xxhash

from starencoder.errors import ConfigError, DataError, OutputError, reason_of
from starencoder.files import write_whole
from starencoder.tokenizer import TOKENIZER_FILE, CodeTokenizer, load_tokenizer

FORMAT = "starencoder-token-shards"
VERSION = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "held_out")
INDEX_DTYPE = np.dtype([("offset", "<u8"), ("length", "<u4"), ("language", "<u2"), ("_", "<u2")])
TOKEN_DTYPE = np.dtype("<u2")
LARGEST_VOCABULARY = 1 << 16
MOST_LANGUAGES = 1 << 16

_COUNTS = "token_counts.bin"
_COUNT_DTYPE = np.dtype("<u8")
# A mapped file holds a descriptor; systems allow 1,024 a process.
_OPEN_SHARDS = 64
_DO = "make it again with: starencoder pretrain prepare"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One pair of files of a split."""

    name: str
    documents: int
    """Index entries."""
    tokens: int
    """Stored tokens; one that several entries show counts once."""
    tokens_xxh3: str
    index_xxh3: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a data set holds, and what it was made from."""

    tokenizer_sha256: str
    """Of `tokenizer.json`."""
    vocab_size: int
    pad_id: int
    sep_id: int
    cls_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    """Every special token, sentinels included, in ascending order."""
    languages: tuple[str, ...]
    """A language's id in the index is its place here."""
    splits: Mapping[str, tuple[Shard, ...]]
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]
    """split -> language -> documents, tokens and characters (each document once), and entries."""
    left_out: Mapping[str, Mapping[str, int]]
    """reason -> language -> documents."""
    prepare: Mapping[str, object]
    """The resolved settings, the seed, versions, and a checksum of the input's names, sizes and
    dates."""

    def to_json(self) -> str:
        """The content of `manifest.json`."""
        values = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def tokenizer_sha256(directory: Path) -> str:
    """The hash by which shards and a tokenizer are compared.

    Raises:
        DataError: There is no `tokenizer.json` that can be read.
    """
    path = directory / TOKENIZER_FILE
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error


def check_vocabulary(tokenizer: CodeTokenizer, directory: Path) -> None:
    """Refuse a vocabulary whose ids do not fit into 16 bits.

    Raises:
        ConfigError: It has more than 65,536 tokens.
    """
    if tokenizer.vocab_size > LARGEST_VOCABULARY:
        raise ConfigError(
            f"{directory}: the vocabulary has {tokenizer.vocab_size:,} tokens; token shards hold "
            f"ids of 16 bits, so choose one of at most {LARGEST_VOCABULARY:,}"
        )


class ShardWriter:
    """Writes the shards of one split. Files of the same names are overwritten.

    Every method raises OutputError when the directory cannot be written; no manifest is there
    then, so what was written is no data set.
    """

    def __init__(self, directory: Path, split: str, shard_tokens: int) -> None:
        """Write to `directory`; a shard with `shard_tokens` tokens or more is the last's end."""
        self._directory = directory
        self._split = split
        self._shard_tokens = shard_tokens
        self._shards: list[Shard] = []
        self._file: BinaryIO | None = None
        self._index: list[tuple[int, int, int, int]] = []
        self._tokens = 0
        self._hash = xxhash.xxh3_64()

    def add(self, ids: np.ndarray, language: int, entries: int = 1) -> None:
        """Append one document, shown by so many index entries.

        Args:
            ids: uint16, shape `(tokens,)`.
            language: Its place in the manifest's languages.
            entries: How often the document is seen per epoch.
        """
        content = np.ascontiguousarray(ids, dtype=TOKEN_DTYPE).tobytes()
        try:
            if self._file is None:
                self._file = self._path("tokens").open("wb")
            self._file.write(content)
        except OSError as error:
            raise self._failed("tokens", error) from error
        self._hash.update(content)
        self._index.extend([(self._tokens, len(ids), language, 0)] * entries)
        self._tokens += len(ids)
        if self._tokens >= self._shard_tokens:
            self._finish()

    def close(self) -> tuple[Shard, ...]:
        """Finish the last shard; return all."""
        if self._file is not None:
            self._finish()
        return tuple(self._shards)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # the disk is full, as an error before this one says
                self._file.close()

    def _finish(self) -> None:
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise self._failed("tokens", error) from error
        index = np.array(self._index, dtype=INDEX_DTYPE).tobytes()
        write_whole(self._path("index"), index)
        self._shards.append(
            Shard(
                name=self._path("index").stem,
                documents=len(self._index),
                tokens=self._tokens,
                tokens_xxh3=self._hash.hexdigest(),
                index_xxh3=xxhash.xxh3_64_hexdigest(index),
            )
        )
        self._file, self._index, self._tokens = None, [], 0
        self._hash = xxhash.xxh3_64()

    def _path(self, suffix: str) -> Path:
        return self._directory / f"{self._split}-{len(self._shards):05d}.{suffix}"

    def _failed(self, suffix: str, error: OSError) -> OutputError:
        return OutputError(
            f"{self._path(suffix)}: cannot be written ({reason_of(error)}); make room or choose "
            "another data.directory, then start again"
        )


def write_manifest(directory: Path, manifest: Manifest, token_counts: np.ndarray) -> None:
    """Make shards that are all written, beside their tokenizer, a data set.

    Args:
        directory: Where the shards are.
        manifest: What it holds.
        token_counts: Per id, shape `(vocab_size,)`.

    Raises:
        OutputError: The directory cannot be written.
    """
    write_whole(directory / _COUNTS, token_counts.astype(_COUNT_DTYPE).tobytes())
    # A path that is not UTF-8 has lone surrogates, for which JSON has escapes, these ones.
    content = manifest.to_json().encode("utf-8", "backslashreplace")
    write_whole(directory / MANIFEST, content)


class DocumentSet:
    """The documents of a split, or of one language in it; a document is an index entry.

    Files are mapped where they are first used, and again in every process that this is sent to.
    """

    def __init__(
        self, directory: Path, shards: Sequence[Shard], language: int | None = None
    ) -> None:
        """Take what `open_shards` has checked; of all languages, or of one by its id."""
        self._directory = directory
        self._shards = tuple(shards)
        self._language = language
        self._bounds = np.cumsum([0, *(shard.documents for shard in shards)])
        self._open: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        """Number of index entries."""
        return int(self._bounds[-1]) if self._language is None else len(self._chosen)

    def __reduce__(self) -> tuple[type[Self], tuple[Path, tuple[Shard, ...], int | None]]:
        return type(self), (self._directory, self._shards, self._language)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens per document: int64, shape `(documents,)`."""
        return self._column("length").astype(np.int64)

    @cached_property
    def languages(self) -> np.ndarray:
        """Language id per document: uint16, shape `(documents,)`."""
        return self._column("language")

    def tokens(self, document: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Token ids `[start, stop)` of a document: uint16, a read-only view of the file."""
        shard, entry = self._locate(document)
        index, tokens = self._map(shard)
        offset, length = int(index["offset"][entry]), int(index["length"][entry])
        end = length if stop is None else min(stop, length)
        view: np.ndarray = tokens[offset + start : offset + end]
        return view

    def where(self, document: int) -> str:
        """The shard and the place in it, for messages."""
        shard, entry = self._locate(document)
        return f"{self._shards[shard].name} document {entry}"

    def select(self, language: int) -> "DocumentSet":
        """The documents of one language."""
        return DocumentSet(self._directory, self._shards, language)

    def _locate(self, document: int) -> tuple[int, int]:
        if not 0 <= document < len(self):
            raise IndexError(f"document {document} of {len(self)}")
        if self._language is not None:
            document = int(self._chosen[document])
        shard = int(np.searchsorted(self._bounds, document, side="right")) - 1
        return shard, document - int(self._bounds[shard])

    @cached_property
    def _chosen(self) -> np.ndarray:
        return np.flatnonzero(self._all("language") == self._language)

    def _column(self, name: str) -> np.ndarray:
        values = self._all(name)
        return values if self._language is None else values[self._chosen]

    def _all(self, name: str) -> np.ndarray:
        parts = [_read_index(self._directory, shard)[name] for shard in self._shards]
        return np.concatenate([np.zeros(0, INDEX_DTYPE[name]), *parts])

    def _map(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        name = self._shards[shard].name
        index = _mapped(self._directory / f"{name}.index", INDEX_DTYPE)
        tokens = _mapped(self._directory / f"{name}.tokens", TOKEN_DTYPE)
        self._open[shard] = index, tokens
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)
        return index, tokens


class TokenShards:
    """A data set whose manifest, sizes and indexes are checked. Build it with `open_shards`."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Wrap what `open_shards` has checked."""
        self.manifest = manifest
        self.directory = directory

    @property
    def fingerprint(self) -> str:
        """Hash of the train split's content, by which a run knows the data that it began with.

        The same documents prepared elsewhere, or by other versions of packages, have the same.
        """
        manifest = self.manifest
        shards = [(shard.tokens_xxh3, shard.index_xxh3) for shard in manifest.splits["train"]]
        content = [manifest.tokenizer_sha256, manifest.special_ids, manifest.languages, shards]
        return xxhash.xxh3_64_hexdigest(json.dumps(content).encode())

    def split(self, name: str) -> DocumentSet:
        """The documents of `train` or `held_out`."""
        return DocumentSet(self.directory, self.manifest.splits[name])

    def verify(self, *, part: int = 0, parts: int = 1) -> None:
        """Compare the checksums of all tokens, or of one of equal parts of the shards.

        Raises:
            DataError: A file cannot be read or is not as it was written.
        """
        shards = [shard for split in self.manifest.splits.values() for shard in split][part::parts]
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for _ in pool.map(self._verify_tokens, shards):
                pass

    @cached_property
    def token_counts(self) -> np.ndarray:
        """How often the train split's entries have each id: uint64, shape `(vocab_size,)`."""
        path = self.directory / _COUNTS
        counts = np.frombuffer(_read(path), _COUNT_DTYPE)
        _check(path, "ids", len(counts), self.manifest.vocab_size)
        return counts

    @cached_property
    def line_ends(self) -> np.ndarray:
        """Which ids end a line, up to the next line's indentation: bool, `(vocab_size,)`."""
        tokenizer = load_tokenizer(self.directory)
        texts = (tokenizer.decode([index]) for index in range(self.manifest.vocab_size))
        return np.array([text.rstrip(" \t").endswith(("\n", "\r")) for text in texts])

    def _verify_tokens(self, shard: Shard) -> None:
        path = self.directory / f"{shard.name}.tokens"
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, xxhash.xxh3_64).hexdigest()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason_of(error)}); {_DO}") from error
        _check(path, "checksum", found, shard.tokens_xxh3)


def open_shards(directory: Path) -> TokenShards:
    """Open a data set; check its manifest, its files' sizes and its indexes, not yet its tokens.

    Raises:
        DataError: There is no data set, or it is of another version or damaged.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{directory}: no token shards ({MANIFEST} is missing: nothing was prepared here, or "
            f"it was interrupted); {_DO}"
        )
    content = _read(path)
    manifest = _parse_manifest(path, content)
    found = tokenizer_sha256(directory)
    _check(directory / TOKENIZER_FILE, "sha256", found, manifest.tokenizer_sha256)
    for split in manifest.splits.values():
        for shard in split:
            _check_shard(directory, shard, len(manifest.languages))
    return TokenShards(directory, manifest)


def _parse_manifest(path: Path, content: bytes) -> Manifest:
    try:
        values = json.loads(content)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise DataError(f"{path}: not a manifest of token shards; {_DO}")
        version = values.pop("version", None)
        if version != VERSION:
            raise DataError(
                f"{path}: version {version} of token shards; this release reads {VERSION}, so "
                f"{_DO}, or use the release that wrote it"
            )
        values["splits"] = {
            name: tuple(Shard(**shard) for shard in values["splits"][name]) for name in SPLITS
        }
        for name in ("special_ids", "languages"):
            values[name] = tuple(values[name])
        return Manifest(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}); {_DO}") from error


def _check_shard(directory: Path, shard: Shard, num_languages: int) -> None:
    path = directory / f"{shard.name}.tokens"
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)}); {_DO}") from error
    _check(path, "bytes", size, shard.tokens * TOKEN_DTYPE.itemsize)
    index = _read_index(directory, shard)
    path = directory / f"{shard.name}.index"
    _check(path, "checksum", xxhash.xxh3_64_hexdigest(index.tobytes()), shard.index_xxh3)
    last = int((index["offset"] + index["length"]).max(initial=0))
    if last > shard.tokens or int(index["language"].max(initial=0)) >= num_languages:
        raise DataError(f"{path}: an entry lies outside the shard or has no language; {_DO}")


def _read_index(directory: Path, shard: Shard) -> np.ndarray:
    path = directory / f"{shard.name}.index"
    content = _read(path)
    _check(path, "bytes", len(content), shard.documents * INDEX_DTYPE.itemsize)
    return np.frombuffer(content, INDEX_DTYPE)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)}); {_DO}") from error


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    try:
        # An empty file cannot be mapped.
        return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)}); {_DO}") from error


def _check(path: Path, what: str, found: int | str, expected: int | str) -> None:
    if found != expected:
        raise DataError(f"{path}: damaged: {what} {found}, expected {expected}; {_DO}")
