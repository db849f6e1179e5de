import dataclasses
import errno
import json
import pickle
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain import shards as shards_module
from pretrain.shards import (
    INDEX_DTYPE,
    SPLITS,
    Manifest,
    ShardWriter,
    TokenShards,
    check_vocabulary,
    open_shards,
    tokenizer_sha256,
    write_manifest,
)
from starencoder.errors import ConfigError, DataError, OutputError
from starencoder.tokenizer import copy_tokenizer, load_tokenizer

LANGUAGES = ("Python", "C", "Go")


def write(directory, tokenizer_dir, documents, shard_tokens=30):
    """Documents are (split, ids, language, entries)."""
    copy_tokenizer(tokenizer_dir, directory)
    tokenizer = load_tokenizer(directory)
    splits = {}
    for split in SPLITS:
        with ShardWriter(directory, split, shard_tokens) as writer:
            for name, ids, language, entries in documents:
                if name == split:
                    writer.add(np.array(ids, np.uint16), language, entries)
            splits[split] = writer.close()
    manifest = Manifest(
        tokenizer_sha256=tokenizer_sha256(directory),
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        sep_id=tokenizer.sep_id,
        cls_id=tokenizer.cls_id,
        mask_id=tokenizer.mask_id,
        special_ids=tuple(tokenizer.special_ids.values()),
        languages=LANGUAGES,
        splits=splits,
        counts={},
        left_out={},
        prepare={},
    )
    write_manifest(directory, manifest, np.arange(tokenizer.vocab_size))
    return manifest


def documents():
    ids = st.lists(st.integers(0, 399), min_size=1, max_size=40)
    one = st.tuples(st.sampled_from(SPLITS), ids, st.integers(0, 2), st.integers(1, 3))
    return st.lists(one, max_size=30)


@pytest.fixture
def data(tmp_path, tokenizer_dir):
    rng = np.random.default_rng(1)
    found = [
        ("train" if i % 5 else "held_out", rng.integers(0, 400, 3 + i).tolist(), i % 3, 1 + i % 2)
        for i in range(25)
    ]
    write(tmp_path, tokenizer_dir, found)
    return tmp_path


@settings(max_examples=25)
@given(written=documents(), shard_tokens=st.integers(1, 200))
def test_documents_come_back_as_they_were_written(tokenizer_dir, written, shard_tokens):
    with tempfile.TemporaryDirectory() as folder:
        manifest = write(Path(folder), tokenizer_dir, written, shard_tokens)
        opened = open_shards(Path(folder))
        opened.verify()

        assert opened.manifest == manifest
        for split in SPLITS:
            expected = [(d[1], d[2]) for d in written if d[0] == split for _ in range(d[3])]
            found = opened.split(split)
            assert len(found) == len(expected)
            assert found.lengths.tolist() == [len(ids) for ids, _ in expected]
            assert found.languages.tolist() == [language for _, language in expected]
            assert [found.tokens(i).tolist() for i in range(len(found))] == [
                ids for ids, _ in expected
            ]
            for language in range(3):
                chosen = found.select(language)
                wanted = [ids for ids, its in expected if its == language]
                assert [chosen.tokens(i).tolist() for i in range(len(chosen))] == wanted
                assert chosen.lengths.tolist() == [len(ids) for ids in wanted]
                assert set(chosen.languages.tolist()) <= {language}


def test_a_part_of_a_document_is_a_view_that_cannot_be_written_to(data):
    train = open_shards(data).split("train")
    whole = train.tokens(20)

    assert train.tokens(20, 2, 7).tolist() == whole[2:7].tolist()
    assert train.tokens(20, 2, 10**6).tolist() == whole[2:].tolist()
    assert not whole.flags.writeable
    assert whole.base is not None
    with pytest.raises(IndexError):
        train.tokens(len(train))


def test_a_shard_ends_where_it_has_the_wanted_number_of_tokens(data):
    manifest = open_shards(data).manifest
    for split in SPLITS:
        *full, last = manifest.splits[split]
        assert full
        assert all(30 <= shard.tokens < 30 + 28 for shard in full)
        assert last.tokens > 0


def test_messages_name_a_documents_shard_and_its_place_there(data):
    opened = open_shards(data)
    first, second = opened.manifest.splits["train"][:2]

    train = opened.split("train")
    assert train.where(0) == f"{first.name} document 0"
    assert train.where(first.documents + 1) == f"{second.name} document 1"
    chosen = train.select(2)
    places = [i for i, language in enumerate(train.languages) if language == 2]
    assert [chosen.where(i) for i in range(len(chosen))] == [train.where(i) for i in places]


def test_a_split_is_sent_to_another_process_in_few_bytes_and_reads_the_same(data):
    for split in (open_shards(data).split("train"), open_shards(data).split("train").select(1)):
        split.tokens(1)
        _ = split.lengths
        sent = pickle.dumps(split)
        again = pickle.loads(sent)

        assert len(sent) < 3000
        assert again.lengths.tolist() == split.lengths.tolist()
        assert again.tokens(3).tolist() == split.tokens(3).tolist()


def test_more_shards_than_may_be_mapped_at_once_read_the_same(data, monkeypatch):
    train = open_shards(data).split("train")
    expected = [train.tokens(i).tolist() for i in range(len(train))]
    monkeypatch.setattr(shards_module, "_OPEN_SHARDS", 2)
    fresh = open_shards(data).split("train")

    order = np.random.default_rng(0).permutation(len(train))
    assert [fresh.tokens(int(i)).tolist() for i in order] == [expected[i] for i in order]
    assert len(fresh._open) == 2


def test_tokens_that_end_a_line_are_known(data):
    opened = open_shards(data)
    tokenizer = load_tokenizer(data)

    assert opened.line_ends.shape == (400,)
    assert opened.line_ends[tokenizer.encode("\n").ids[0]]
    assert opened.line_ends[tokenizer.encode("\r").ids[0]]
    texts = [tokenizer.decode([int(i)]) for i in np.flatnonzero(opened.line_ends)]
    assert all(re.search(r"[\n\r][ \t]*\Z", text) for text in texts)
    assert any(text.endswith("\n    ") for text in texts)
    assert not opened.line_ends[tokenizer.encode("a").ids[0]]


def test_counts_of_tokens_and_the_fingerprint_belong_to_the_data_set(data, tmp_path, tokenizer_dir):
    opened = open_shards(data)
    other = tmp_path / "other"
    write(other, tokenizer_dir, [("train", [1, 2], 0, 1)])

    assert opened.token_counts.tolist() == list(range(400))
    assert opened.directory == data
    assert opened.fingerprint == open_shards(data).fingerprint
    assert opened.fingerprint != open_shards(other).fingerprint
    elsewhere = dataclasses.replace(opened.manifest, prepare={"made": "elsewhere"}, left_out={})
    assert opened.fingerprint == TokenShards(data, elsewhere).fingerprint
    renamed = dataclasses.replace(opened.manifest, languages=("one", "other"))
    assert opened.fingerprint != TokenShards(data, renamed).fingerprint


def test_a_directory_without_manifest_is_no_data_set(data):
    (data / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"manifest\.json is missing.*pretrain prepare"):
        open_shards(data)


def changed(path, position=5):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_damage_is_found_and_named(data):
    name = open_shards(data).manifest.splits["train"][1].name
    tokens, index = data / f"{name}.tokens", data / f"{name}.index"
    saved = {path: path.read_bytes() for path in (tokens, index, data / "tokenizer.json")}

    changed(tokens)
    with pytest.raises(DataError, match=rf"{name}\.tokens: damaged: checksum"):
        open_shards(data).verify()
    tokens.write_bytes(saved[tokens][:-2])
    with pytest.raises(DataError, match=rf"{name}\.tokens: damaged: bytes \d+, expected \d+"):
        open_shards(data)
    tokens.unlink()
    with pytest.raises(DataError, match=rf"{name}\.tokens: cannot be read"):
        open_shards(data)
    tokens.write_bytes(saved[tokens])
    changed(index)
    with pytest.raises(DataError, match=rf"{name}\.index: damaged: checksum"):
        open_shards(data)
    index.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name}\.index: damaged: bytes 0, expected"):
        open_shards(data)
    index.write_bytes(saved[index])
    changed(data / "tokenizer.json")
    with pytest.raises(DataError, match=r"tokenizer\.json: damaged: sha256"):
        open_shards(data)


def test_an_index_that_points_outside_its_shard_is_refused_even_with_a_right_checksum(data):
    manifest = json.loads((data / "manifest.json").read_text())
    shard = manifest["splits"]["train"][0]
    path = data / f"{shard['name']}.index"
    index = np.frombuffer(path.read_bytes(), INDEX_DTYPE).copy()
    index["length"][-1] += 1
    path.write_bytes(index.tobytes())
    shard["index_xxh3"] = shards_module.xxhash.xxh3_64_hexdigest(index.tobytes())
    (data / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(DataError, match="outside the shard"):
        open_shards(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "damaged"),
        (b"[]", "not a manifest"),
        (b'{"format": "other"}', "not a manifest"),
        (b'{"format": "starencoder-token-shards", "version": 2}', "version 2.*reads 1"),
        (b'{"format": "starencoder-token-shards", "version": 1}', "damaged"),
        (b"\xff", "damaged"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(data, content, message):
    (data / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_shards(data)


def test_a_vocabulary_whose_ids_need_more_than_16_bits_is_refused(tokenizer_dir):
    tokenizer = load_tokenizer(tokenizer_dir)
    tokenizer.vocab_size = 65_536
    check_vocabulary(tokenizer, tokenizer_dir)
    tokenizer.vocab_size += 1
    with pytest.raises(ConfigError, match="65,537 tokens"):
        check_vocabulary(tokenizer, tokenizer_dir)


def test_a_full_disk_is_an_error_about_the_output(tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards_module.os, "fsync", fsync)
    with ShardWriter(tmp_path, "train", 10) as writer:
        writer.add(np.zeros(3, np.uint16), 0)
        with pytest.raises(OutputError, match=r"No space left on device\); make room"):
            writer.close()


def test_the_layout_of_an_index_entry_is_16_bytes(data):
    assert INDEX_DTYPE.itemsize == 16
    shard = open_shards(data).manifest.splits["held_out"][0]
    content = (data / f"{shard.name}.index").read_bytes()
    # Document 0: offset 0, 3 tokens, language 0; document 5 has 8 tokens, language 2, two entries.
    assert content[:16] == bytes(8) + (3).to_bytes(4, "little") + bytes(4)
    entry = (3).to_bytes(8, "little") + (8).to_bytes(4, "little") + b"\x02\0\0\0"
    assert content[16:48] == entry + entry
