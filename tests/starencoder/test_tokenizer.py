import itertools
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import cli
from starencoder.errors import CheckpointError, ConfigError, DataError, OutputError
from starencoder.sources import find_source_files, iter_texts, read_source
from starencoder.tokenizer import (
    SENTINELS,
    TOKENIZER_FILE,
    _words,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)

SMALLEST = 256 + len(SENTINELS) + 4
VOCAB_SIZE = 400
TEXTS = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "starencoder").glob("*.py"))
    if path.name != "__init__.py"  # too small for a walk
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    # Numbers that a tokenizer would learn whole if it could.
    save_tokenizer(train_tokenizer([*TEXTS, "x = 20240101\n" * 1000], VOCAB_SIZE), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory)


@pytest.fixture(scope="module")
def oracle(directory):
    return PreTrainedTokenizerFast.from_pretrained(str(directory))


def texts():
    # Code, any characters (no lone surrogates, which no UTF-8 text has), and what is special here.
    pieces = st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.sampled_from(
            [*SENTINELS, "<mask>", "<cls>", "[MASK]", "0123", "\r\n", "\t", "  x", "\0"]
        ),
        st.sampled_from(TEXTS).map(lambda text: text[100:200]),
        st.sampled_from(["\U0001f468\u200d\U0001f469", "é", "ä\u0308\u0301", "\U00010400", "中文"]),
    )
    return st.lists(pieces, max_size=8).map("".join)


# --------------------------------------------------------------------------------------------------
# Tokens


@given(text=texts())
def test_any_text_comes_back_from_its_ids(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@given(text=texts())
def test_ids_are_those_of_transformers(tokenizer, oracle, text):
    expected = oracle(text, add_special_tokens=False, split_special_tokens=True)

    assert tokenizer.encode(text).ids.tolist() == expected["input_ids"]


@given(text=texts())
def test_offsets_are_slices_of_the_text_in_order_that_leave_out_spaces_only(tokenizer, text):
    encoded = tokenizer.encode(text)

    assert len(encoded.ids) == len(encoded.offsets)
    covered = [False] * len(text)
    last_start = last_end = 0
    for start, end in encoded.offsets:
        assert 0 <= start <= end <= len(text)
        assert start >= last_start
        assert end >= last_end
        last_start, last_end = start, end
        covered[start:end] = [True] * (end - start)
    missed = {text[i] for i, seen in enumerate(covered) if not seen}
    assert all(char.isspace() for char in missed)


@given(text=texts())
def test_the_bytes_of_a_token_are_those_of_its_slice(tokenizer, text):
    encoded = tokenizer.encode(text)

    for id_, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
        said = tokenizer.decode([id_])
        if "\ufffd" not in said:  # a token of whole characters
            assert said.strip() == text[start:end].strip()


@pytest.mark.parametrize(
    "text",
    ["a\U0001f600b", "é1", "\U0001d504\U0001d505", "x\U0001f468\u200d\U0001f469y", "中 文"],
)
def test_offsets_count_code_points_not_bytes_or_code_units(tokenizer, text):
    offsets = tokenizer.encode(text).offsets

    assert offsets[0][0] == 0
    assert offsets[-1][1] == len(text)
    assert {i for start, end in offsets for i in range(start, end)} == {
        i for i, char in enumerate(text) if char != " "
    }


def test_every_byte_has_a_token_and_every_utf8_byte_comes_back(directory, tokenizer):
    vocabulary = json.loads((directory / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"][
        "vocab"
    ]
    assert sum(len(token) == 1 for token in vocabulary) == 256
    # Two characters of each plane's ends use every byte that UTF-8 has.
    text = "".join(
        map(chr, [*range(0x800), *range(0x800, 0xD800, 61), *range(0x10000, 0x110000, 4001)])
    )
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@given(
    digits=st.text("0123456789", min_size=1, max_size=30), before=st.sampled_from(["", "x", " "])
)
def test_each_digit_is_one_token(tokenizer, digits, before):
    encoded = tokenizer.encode(before + digits)
    slices = [(before + digits)[start:end] for start, end in encoded.offsets]

    assert slices[-len(digits) :] == list(digits)


def test_a_lone_surrogate_is_read_as_the_replacement_character(tokenizer):
    lone = "a" + chr(0xDC80) + "b\U0001f600"

    expected = tokenizer.encode("a\ufffdb\U0001f600").ids
    assert tokenizer.encode(lone).ids.tolist() == expected.tolist()
    assert tokenizer.encode(lone).offsets[-1][1] == len(lone)


def test_two_surrogates_that_would_make_a_pair_stay_two_characters(tokenizer):
    pair = chr(0xD83D) + chr(0xDE00) + "ab"

    assert tokenizer.encode(pair).offsets[-1][1] == len(pair)


def test_an_empty_text_has_no_tokens(tokenizer):
    assert tokenizer.encode("").ids.shape == (0,)
    assert tokenizer.encode("").offsets.shape == (0, 2)


# --------------------------------------------------------------------------------------------------
# Special tokens


def test_sentinels_come_first_and_pad_sep_cls_mask_last(tokenizer, oracle):
    assert oracle.convert_tokens_to_ids(list(SENTINELS)) == list(range(19))
    ids = [tokenizer.pad_id, tokenizer.sep_id, tokenizer.cls_id, tokenizer.mask_id]
    assert ids == list(range(VOCAB_SIZE - 4, VOCAB_SIZE))
    assert tokenizer.vocab_size == VOCAB_SIZE == len(oracle)


def test_transformers_finds_the_same_special_tokens(tokenizer, oracle):
    assert oracle.pad_token_id == tokenizer.pad_id
    assert oracle.sep_token_id == tokenizer.sep_id
    assert oracle.cls_token_id == tokenizer.cls_id
    assert oracle.mask_token_id == tokenizer.mask_id


@pytest.mark.parametrize("name", [*SENTINELS, "<pad>", "<sep>", "<cls>", "<mask>"])
def test_a_special_tokens_name_in_a_text_is_only_text(tokenizer, name):
    ids = tokenizer.encode(f"x = '{name}'").ids

    assert not set(ids) & {*range(19), *range(VOCAB_SIZE - 4, VOCAB_SIZE)}


def renamed(directory, folder, names, **side_files):
    """The tokenizer with pad, sep, cls, mask called otherwise."""
    text = (directory / TOKENIZER_FILE).read_text(encoding="utf-8")
    for old, new in zip(("<pad>", "<sep>", "<cls>", "<mask>"), names, strict=True):
        text = text.replace(json.dumps(old), json.dumps(new))
    folder.mkdir()
    (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")
    for name, content in side_files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_berts_names_are_read_as_well(directory, tokenizer, tmp_path):
    folder = renamed(directory, tmp_path / "bert", ("[PAD]", "[SEP]", "[CLS]", "[MASK]"))

    loaded = load_tokenizer(folder)

    assert (loaded.pad_id, loaded.sep_id) == (tokenizer.pad_id, tokenizer.sep_id)
    assert (loaded.cls_id, loaded.mask_id) == (tokenizer.cls_id, tokenizer.mask_id)


def test_other_names_are_read_from_the_side_files(directory, tokenizer, tmp_path):
    folder = renamed(
        directory,
        tmp_path / "other",
        ("<p>", "</s>", "<s>", "<m>"),
        special_tokens_map={"pad_token": "<p>", "sep_token": {"content": "</s>"}},
        tokenizer_config={"cls_token": "<s>", "mask_token": "<m>", "pad_token": "<absent>"},
    )

    loaded = load_tokenizer(folder)

    assert (loaded.pad_id, loaded.sep_id) == (tokenizer.pad_id, tokenizer.sep_id)
    assert (loaded.cls_id, loaded.mask_id) == (tokenizer.cls_id, tokenizer.mask_id)


def test_a_directory_that_cannot_be_loaded_says_why(directory, tmp_path):
    with pytest.raises(CheckpointError, match=r"a model directory holds tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / TOKENIZER_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"not a tokenizer .*; copy it again"):
        load_tokenizer(tmp_path)
    folder = renamed(directory, tmp_path / "a", ("<pad>", "<sep>", "<cls>", "<other>"))
    with pytest.raises(CheckpointError, match=r"no mask token; expected <mask> or \[MASK\]"):
        load_tokenizer(folder)
    (folder / "special_tokens_map.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"special_tokens_map\.json: not readable JSON"):
        load_tokenizer(folder)
    (folder / "special_tokens_map.json").write_text("[]")
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        load_tokenizer(folder)


# --------------------------------------------------------------------------------------------------
# Training


def test_training_again_or_in_another_order_gives_the_same_bytes():
    first = train_tokenizer(TEXTS, VOCAB_SIZE).to_str()

    assert train_tokenizer(TEXTS, VOCAB_SIZE).to_str() == first
    assert train_tokenizer(reversed(TEXTS), VOCAB_SIZE).to_str() == first


def test_the_smallest_vocabulary_is_bytes_and_special_tokens():
    assert train_tokenizer(TEXTS, SMALLEST).get_vocab_size() == SMALLEST
    with pytest.raises(ConfigError, match=f"at least {SMALLEST} tokens, got {SMALLEST - 1}"):
        train_tokenizer(TEXTS, SMALLEST - 1)


def test_too_little_text_for_the_vocabulary_is_an_error():
    with pytest.raises(ConfigError, match="give more text or ask for fewer tokens"):
        train_tokenizer(["abc"], VOCAB_SIZE)


def test_a_directory_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_tokenizer(train_tokenizer(TEXTS, SMALLEST), tmp_path / "file" / "below")


def test_a_tokenizer_that_cannot_be_saved_leaves_the_one_that_was_there(tmp_path):
    (tmp_path / TOKENIZER_FILE).write_text("before", encoding="utf-8")
    (tmp_path / f"{TOKENIZER_FILE}.partial").mkdir()
    with pytest.raises(OutputError, match=r"tokenizer\.json: cannot be written"):
        save_tokenizer(train_tokenizer(TEXTS, SMALLEST), tmp_path)
    assert (tmp_path / TOKENIZER_FILE).read_text(encoding="utf-8") == "before"


def train(*arguments):
    return cli.main(["tokenizer", "train", *map(str, arguments)])


def write_shard(path, values, column="content"):
    table = pa.table({"id": list(range(len(values))), column: pa.array(values, pa.string())})
    parquet.write_table(table, path, row_group_size=3)


def test_files_a_folder_and_shards_of_the_same_texts_give_the_same_tokenizer(tmp_path, capsys):
    sources, shards = tmp_path / "sources", tmp_path / "shards"
    sources.mkdir()
    shards.mkdir()
    for number, text in enumerate(TEXTS):
        (sources / f"{number}.py").write_text(text, encoding="utf-8")
    half = len(TEXTS) // 2
    write_shard(shards / "0.parquet", [*TEXTS[:half], None], column="text")
    write_shard(shards / "1.parquet", TEXTS[half:], column="text")

    size = ["--vocab-size", VOCAB_SIZE]
    assert train(sources, *size, "--output", tmp_path / "a") == 0
    assert train(*sorted(sources.iterdir()), *size, "--output", tmp_path / "b") == 0
    capsys.readouterr()
    assert train(shards, *size, "--output", tmp_path / "c", "--text-column", "text") == 0

    assert "left out: 1 null" in capsys.readouterr().err
    made = {(tmp_path / name / TOKENIZER_FILE).read_bytes() for name in "abc"}
    assert len(made) == 1
    assert load_tokenizer(tmp_path / "a").vocab_size == VOCAB_SIZE


def test_a_draw_is_told_by_its_seed_and_says_what_it_left_out(tmp_path, capsys):
    for package in ("one", "two"):
        (tmp_path / "packages" / package).mkdir(parents=True)
        for number, text in enumerate(TEXTS):
            path = tmp_path / "packages" / package / f"{number}.py"
            path.write_text(text.replace("the", package), encoding="utf-8")
    (tmp_path / "packages" / "two" / "notes.unheard-of").write_text("", encoding="utf-8")
    command = [tmp_path / "packages", "--vocab-size", VOCAB_SIZE, "--chars", 20_000]

    for name, seed in (("a", ()), ("b", ("--seed", 1)), ("c", ("--seed", 2))):
        assert train(*command, *seed, "--output", tmp_path / name) == 0

    made = [(tmp_path / name / TOKENIZER_FILE).read_bytes() for name in "abc"]
    assert made[0] == made[1] != made[2]
    assert "left out: 1 language not known" in capsys.readouterr().err


def test_each_mistake_of_the_command_is_one_clear_line(tmp_path, capsys):
    output = ["--vocab-size", VOCAB_SIZE, "--output", tmp_path / "out"]
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"\xe9" * 50)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    numbers = tmp_path / "numbers.parquet"
    parquet.write_table(pa.table({"content": [1, 2]}), numbers)
    for arguments, message in (
        ([tmp_path / "absent"], "absent: no such file"),
        ([latin], "latin.txt: cannot be read (not UTF-8)"),
        ([broken], "broken.parquet: not a parquet file"),
        ([numbers], "column content holds int64, expected strings"),
        ([numbers, "--text-column", "text"], "no column text; it has content"),
        ([tmp_path, "--seed", 3], "--seed goes with --chars"),
        ([latin, "--chars", 3], "--chars draws"),
        ([tmp_path, tmp_path, "--chars", 3], "--chars draws"),
    ):
        assert train(*arguments, *output) == 2, arguments
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------
# Sources


def test_a_walk_counts_what_it_leaves_out(tmp_path):
    good = "x = 1\n" * 60
    files = {
        "a.py": good,
        "b/c.js": good,
        "b/c.min.js": good,
        "node_modules/d.js": good,
        "small.py": "x\n",
        "image.xyz": good,
        "one_line.py": "x" * 1000,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n" * 100)
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    left_out = Counter()

    found = list(find_source_files(tmp_path, left_out))
    read = [path.name for path in found if read_source(path, left_out) is not None]

    assert read == ["a.py", "c.js"]
    assert left_out == {
        "vendored or minified": 2,
        "very large or very small": 1,
        "language not known": 1,
        "long lines": 1,
        "not UTF-8": 1,
    }


def test_a_shard_is_read_batch_by_batch(tmp_path, monkeypatch):
    write_shard(tmp_path / "a.parquet", ["x" * 10] * 1000)
    read = []
    batches = parquet.ParquetFile.iter_batches

    def counted(self, *arguments, **options):
        for batch in batches(self, *arguments, **options):
            read.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", counted)
    texts = iter_texts([tmp_path / "a.parquet"], column="content", left_out=Counter())
    next(texts)

    assert sum(read) <= 64
    assert len(list(texts)) == 999


def test_an_error_in_the_texts_stops_the_training_with_that_error():
    def texts():
        yield "abc"
        raise DataError("here")

    with pytest.raises(DataError, match="here"):
        train_tokenizer(texts(), VOCAB_SIZE)


# What decides where a word ends.
BITS = (
    " ", "  ", "    ", "\n", "\n    ", "\t", "\r\n", "\v", "\x1c", "\x00", "0", "12", "a", "def",
    "'s", "'ll", "'", "d", "ve", ".", "_(", "\u00e9", "\u00a0", "\u2028", "\u0663", "\u0301",
)  # fmt: skip
CODE_LIKE = st.lists(st.sampled_from(BITS)).map("".join)


@given(text=CODE_LIKE | CODE_LIKE.map(lambda text: text.encode("ascii", "ignore").decode()))
def test_words_of_a_batch_are_those_that_the_package_finds(directory, text):
    bpe = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
    expected = [text[start:end] for _, (start, end) in bpe.pre_tokenizer.pre_tokenize_str(text)]
    words = _words(text)

    assert load_tokenizer(directory)._shapes is not None
    if text.isascii():
        assert words == expected
    assert "".join(words) == text
    assert ends(words) <= ends(expected)


def ends(words):
    return set(itertools.accumulate(map(len, words)))


def assert_encoded_as_the_package_does(tokenizer, bpe, text):
    expected = bpe.encode(text, add_special_tokens=False)
    found = tokenizer.encode(text)
    assert found.ids.tolist() == expected.ids
    assert list(map(tuple, found.offsets.tolist())) == expected.offsets
    assert tokenizer.encode_batch([text]) == [expected.ids]


@pytest.fixture(scope="module")
def bpe(directory):
    """The package's own tokenizer, which knows nothing of words that are remembered."""
    bpe = Tokenizer.from_file(str(directory / "tokenizer.json"))
    bpe.encode_special_tokens = True
    return bpe


@given(text=CODE_LIKE | st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_ids_and_offsets_are_those_of_the_package(tokenizer, bpe, text):
    assert_encoded_as_the_package_does(tokenizer, bpe, text)


def test_code_has_the_ids_and_offsets_of_the_package_and_few_words_are_remembered(
    directory, bpe, monkeypatch
):
    monkeypatch.setattr("starencoder.tokenizer._MOST_WORDS", 500)
    tokenizer = load_tokenizer(directory)
    texts = [
        path.read_text() for path in sorted((Path(__file__).parents[2] / "pii").glob("[a-f]*.py"))
    ]
    texts += [text.replace("e", "\u00e9", 40) + "x" * 500 for text in texts]

    for text in texts:
        assert_encoded_as_the_package_does(tokenizer, bpe, text)
    expected = [bpe.encode(text, add_special_tokens=False).ids for text in texts]
    assert tokenizer.encode_batch(texts) == expected
    assert all(len(word) < 100 for word in tokenizer._known)
    assert tokenizer.encode("a b" + "y" * 500).offsets.tolist()[-1][1] == 503
    load_tokenizer(directory).encode_batch(texts)
    words = set(itertools.chain.from_iterable(map(_words, texts)))
    tokenizer.encode("a")
    assert len(tokenizer._known) < len(words) / 2


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts["pre_tokenizer"]["pretokenizers"].pop(0),
        lambda parts: parts["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
        lambda parts: parts["added_tokens"][0].update(special=False, content="def ", rstrip=True),
        lambda parts: parts.update(
            normalizer={"type": "Strip", "strip_left": True, "strip_right": True}
        ),
        lambda parts: parts["post_processor"].update(trim_offsets=False),
        lambda parts: parts["post_processor"].update(add_prefix_space=True),
        lambda parts: parts["model"].update(end_of_word_suffix="</w>"),
        lambda parts: parts["model"]["vocab"].pop("\u0100"),  # the byte 0
    ],
)
def test_a_tokenizer_that_splits_otherwise_gives_what_the_package_does(directory, tmp_path, change):
    parts = json.loads((directory / "tokenizer.json").read_text())
    change(parts)
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts))
    tokenizer = load_tokenizer(tmp_path)
    bpe = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    bpe.encode_special_tokens = True
    for text in (Path(__file__).read_text(), "def a1 23 B", " a \0 b "):
        assert_encoded_as_the_package_does(tokenizer, bpe, text)


def test_a_tokenizer_that_pads_and_cuts_of_itself_does_neither_here(directory, tmp_path):
    bpe = Tokenizer.from_file(str(directory / "tokenizer.json"))
    bpe.enable_padding(length=20)
    bpe.enable_truncation(3)
    bpe.save(str(tmp_path / "tokenizer.json"))
    texts = ["a", "some longer text"]

    plain, other = load_tokenizer(directory), load_tokenizer(tmp_path)
    assert other.encode_batch(texts) == plain.encode_batch(texts)
    assert other.encode(texts[1]).ids.tolist() == plain.encode(texts[1]).ids.tolist()
