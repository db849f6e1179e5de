"""Text to token ids and character offsets: byte-level BPE, and the special tokens by name.

The vocabulary is StarCoder's scheme: all 256 bytes, digits split one by one, StarCoder's sentinels
as ids 0 to 18, then pieces of words, then pad, sep, cls and mask.
"""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from starencoder.errors import CheckpointError, ConfigError, MissingExtraError, reason_of
from starencoder.files import write_whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SENTINELS = (
    "<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>",
    "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>",
    "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<empty_output>", "<commit_before>",
    "<commit_msg>", "<commit_after>", "<reponame>",
)  # fmt: skip
"""StarCoder's special tokens in the order of their ids."""

TOKENIZER_FILE = "tokenizer.json"
_SIDE_FILES = ("special_tokens_map.json", "tokenizer_config.json")

_ENCODER_TOKENS = ("<pad>", "<sep>", "<cls>", "<mask>")
# Each special token by the names that StarEncoder and BERT give it.
_SPELLINGS = {
    "pad": ("<pad>", "[PAD]"),
    "sep": ("<sep>", "[SEP]"),
    "cls": ("<cls>", "[CLS]"),
    "mask": ("<mask>", "[MASK]"),
}
# Two that would make a pair stay two code points, as they are in the text.
_SURROGATE = re.compile("[\ud800-\udfff]")
# GPT-2's pattern behind the splitting of digits, for ASCII.
_WORD = re.compile(
    r"[0-9]|'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+(?=[0-9])|\s+(?!\S)|\s+",
    re.ASCII,
)
# No word goes on from a visible character to a line's end.
_WORD_END = re.compile(r"(?<=[!-~])(?=\n)")
_MOST_WORDS = 100_000
"""Remembered; about 150 bytes each."""
_LONGEST_WORD = 40
_BYTES = 256
_SPACE = "\u0120"
"""What stands for a space in a byte-level vocabulary."""
_LONGEST_TOKEN = 24
"""Characters; longer merges are runs of one character or licence sentences."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Token ids and, per token, its `(start, end)` in code points of the text.

    The offsets leave out spaces in front of a word that belong to its token.
    """

    ids: npt.NDArray[np.int32]
    """`(n,)`."""
    offsets: npt.NDArray[np.int32]
    """`(n, 2)`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Of each token by its id, how many bytes and spaces it has. All are `(largest id + 1,)`."""

    sizes: npt.NDArray[np.int32]
    """In bytes of UTF-8."""
    before: npt.NDArray[np.int32]
    """Spaces at its start."""
    after: npt.NDArray[np.int32]
    """Spaces at its end."""

    @classmethod
    def of(cls, vocabulary: dict[str, int]) -> "_Shapes":
        """Those of a byte-level vocabulary, in which each byte is a character."""
        shapes = np.zeros((3, 1 + max(vocabulary.values())), np.int32)
        for token, index in vocabulary.items():
            before = len(token) - len(token.lstrip(_SPACE))
            after = len(token) - len(token.rstrip(_SPACE))
            shapes[:, index] = len(token), before, after
        return cls(*shapes)

    def offsets(self, text: str, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Offsets `(n, 2)` of a text's tokens, which together are the text's bytes."""
        sizes = self.sizes[ids]
        ends = np.cumsum(sizes, dtype=np.int32)
        starts = ends - sizes
        if not text.isascii():
            # From bytes to characters: all bytes of UTF-8 but these begin one.
            content = np.frombuffer(text.encode(), np.uint8)
            characters = np.cumsum((content & 0xC0) != 0x80, dtype=np.int32)
            starts, ends = characters[starts] - 1, characters[ends - 1]
        starts = np.minimum(starts + self.before[ids], ends)
        return np.stack([starts, np.maximum(ends - self.after[ids], starts)], axis=1)


class CodeTokenizer:
    """A loaded `tokenizer.json` with its special tokens. Build it with `load_tokenizer`."""

    def __init__(self, bpe: "Tokenizer", special: dict[str, int]) -> None:
        """Wrap a tokenizer; `special` has the ids of pad, sep, cls and mask."""
        # A file that spells out "<mask>" must not get the token of that name.
        bpe.encode_special_tokens = True
        # Padded or cut ids would not be the text's.
        bpe.no_padding()
        bpe.no_truncation()
        self._bpe = bpe
        self._known: dict[str, bytes] = {}  # int32 ids by word
        self.pad_id = special["pad"]
        self.sep_id = special["sep"]
        self.cls_id = special["cls"]
        self.mask_id = special["mask"]
        self.vocab_size: int = bpe.get_vocab_size()
        self.special_ids: dict[str, int] = {
            token.content: index
            for index, token in sorted(bpe.get_added_tokens_decoder().items())
            if token.special
        }
        """Every special token, sentinels included: spelling -> id, in ascending order of ids."""

    def encode(self, text: str) -> Encoded:
        """Tokenise a text; no special token is added or recognised.

        Lone surrogates (bytes that were no valid UTF-8) are read as U+FFFD.
        """
        text = _without_surrogates(text)
        if self._shapes is None:
            found = self._bpe.encode(text, add_special_tokens=False)
            offsets = np.array(found.offsets, np.int32).reshape(-1, 2)
            return Encoded(np.array(found.ids, np.int32), offsets)
        (ids,) = self._tokenised([text])
        return Encoded(ids, self._shapes.offsets(text, ids))

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids that `encode` gives, of several texts at once."""
        clean = [_without_surrogates(text) for text in texts]
        if self._shapes is None:
            encoded = self._bpe.encode_batch(clean, add_special_tokens=False)
            return [list(found.ids) for found in encoded]
        return [ids.tolist() for ids in self._tokenised(clean)]

    def _tokenised(self, texts: list[str]) -> list[npt.NDArray[np.int32]]:
        """The ids of each text.

        Most of the package's time goes into splitting text into words, of which code repeats most.
        So words are found here, and each is tokenised once and remembered.
        """
        split = [_words(text) for text in texts]
        if len(self._known) > _MOST_WORDS:
            self._known = {}
        known = self._known
        new = [word for word in set(itertools.chain.from_iterable(split)) if word not in known]
        encoded = self._bpe.encode_batch_fast(new, add_special_tokens=False)
        for word, encoding in zip(new, encoded, strict=True):
            known[word] = np.array(encoding.ids, np.int32).tobytes()
        found = [
            np.frombuffer(b"".join(map(known.__getitem__, words)), np.int32) for words in split
        ]
        for word in new:
            if len(word) > _LONGEST_WORD:
                del known[word]
        return found

    @cached_property
    def _shapes(self) -> "_Shapes | None":
        """The tokens' bytes; None if words are not what this module takes them for.

        They are in StarCoder's tokenizer, in which a text's tokens are the text's bytes.
        """
        parts = json.loads(self._bpe.to_str())
        steps = [
            _settings(part) for part in (parts["pre_tokenizer"] or {}).get("pretokenizers", [])
        ]
        model, last = parts["model"], parts["post_processor"] or {}
        byte_level = (
            parts["normalizer"] is None
            and all(token["special"] for token in parts["added_tokens"])
            and steps
            == [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            ]
            and (last.get("type"), last.get("trim_offsets"), last.get("add_prefix_space"))
            == ("ByteLevel", True, False)
            and model["type"] == "BPE"
            and not model["continuing_subword_prefix"]
            and not model["end_of_word_suffix"]
            and sum(len(token) == 1 for token in model["vocab"]) == _BYTES
        )
        return _Shapes.of(model["vocab"]) if byte_level else None

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""
        return str(self._bpe.decode(ids, skip_special_tokens=False))


def _words(text: str) -> list[str]:
    """A text in pieces that are tokenised by themselves; a line that is not ASCII is one piece."""
    if text.isascii():
        return _WORD.findall(text)
    words = []
    for line in _WORD_END.split(text):
        if line.isascii():
            words += _WORD.findall(line)
        else:
            words.append(line)
    return words


def _settings(part: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in part.items() if name != "trim_offsets"}


def _without_surrogates(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def load_tokenizer(model_dir: Path) -> CodeTokenizer:
    """Read `tokenizer.json` and find its special tokens.

    Raises:
        CheckpointError: The file is missing or broken, or has no pad, sep, cls or mask token.
        MissingExtraError: The package tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError(
            "tokenizers is not installed; a model needs it: pip install 'starencoder[cpu]'"
        ) from error
    path = model_dir / TOKENIZER_FILE
    try:
        text = path.read_text(encoding="utf-8")
        bpe = Tokenizer.from_str(text)
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror or error}; a model directory holds tokenizer.json"
        ) from error
    # The package raises a plain Exception for a file it cannot use.
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a tokenizer ({error}); copy it again, or make one with: "
            "starencoder tokenizer train"
        ) from error
    vocabulary = bpe.get_vocab()
    named = _named_tokens(model_dir)
    special = {}
    for role, spellings in _SPELLINGS.items():
        token = next((t for t in (named.get(role), *spellings) if t in vocabulary), None)
        if token is None:
            raise CheckpointError(
                f"{path}: no {role} token; expected {' or '.join(spellings)}, or the name given "
                "in special_tokens_map.json"
            )
        special[role] = vocabulary[token]
    return CodeTokenizer(bpe, special)


def _named_tokens(model_dir: Path) -> dict[str, str]:
    """The names that Hugging Face's side files give to the special tokens."""
    named: dict[str, str] = {}
    for name in _SIDE_FILES:
        path = model_dir / name
        if not path.exists():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not readable JSON ({error})") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"{path}: expected a JSON object of settings")
        for role in _SPELLINGS:
            token = values.get(f"{role}_token")
            if isinstance(token, dict):
                token = token.get("content")
            if isinstance(token, str):
                named.setdefault(role, token)
    return named


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "Tokenizer":
    """Learn a vocabulary of exactly `vocab_size` tokens, special tokens included.

    Raises:
        ConfigError: `vocab_size` has no room for the bytes and the special tokens, or the texts
            hold too little to fill it.
        MissingExtraError: The package tokenizers is not installed.
    """
    smallest = 256 + len(SENTINELS) + len(_ENCODER_TOKENS)
    if vocab_size < smallest:
        raise ConfigError(f"the vocabulary must have at least {smallest} tokens, got {vocab_size}")
    try:
        from tokenizers import (
            AddedToken,
            Tokenizer,
            decoders,
            models,
            pre_tokenizers,
            processors,
            trainers,
        )
    except ImportError as error:
        raise MissingExtraError(
            "tokenizers is not installed; training one needs it: pip install 'starencoder[cpu]'"
        ) from error
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(_ENCODER_TOKENS),
            special_tokens=[AddedToken(token, special=True) for token in SENTINELS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=_LONGEST_TOKEN,
            show_progress=False,
        ),
    )
    bpe.add_special_tokens([AddedToken(token, special=True) for token in _ENCODER_TOKENS])
    if bpe.get_vocab_size() != vocab_size:
        raise ConfigError(
            f"the texts gave {bpe.get_vocab_size()} tokens, not {vocab_size}; "
            "give more text or ask for fewer tokens"
        )
    return bpe


def save_tokenizer(bpe: "Tokenizer", directory: Path) -> None:
    """Write `tokenizer.json` and the `tokenizer_config.json` that transformers reads.

    Raises:
        OutputError: The directory cannot be written.
    """
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **{f"{role}_token": spellings[0] for role, spellings in _SPELLINGS.items()},
    }
    write_whole(directory / TOKENIZER_FILE, bpe.to_str(pretty=True).encode())
    write_whole(directory / "tokenizer_config.json", (json.dumps(config, indent=2) + "\n").encode())


def copy_tokenizer(source: Path, output: Path) -> list[Path]:
    """Copy the files of a tokenizer that are there; return the copies.

    Raises:
        CheckpointError: One cannot be read.
        OutputError: `output` cannot be written.
    """
    copies = []
    for name in (TOKENIZER_FILE, *_SIDE_FILES):
        path = source / name
        if path.is_file():
            try:
                content = path.read_bytes()
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read ({reason_of(error)})") from error
            write_whole(output / name, content)
            copies.append(output / name)
    return copies
