import dataclasses
import errno
import io
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pretrain import shards as shards_module
from pretrain.config import DataConfig, PrepareConfig, SourceConfig
from pretrain.corpus_report import report_text, write_report
from pretrain.documents import Document
from pretrain.prepare import prepare, token_ids
from pretrain.shards import open_shards
from starencoder.errors import CheckpointError, ConfigError, DataError, OutputError
from starencoder.tokenizer import SENTINELS, load_tokenizer


def text_of(language, number):
    return f"# {language} file number {number}\n" + f"value_{number} = {number} + 1\n" * 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """200 documents of two languages, ten of which are there twice, and some to be left out."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [(text_of("Python", i), "Python") for i in range(120)]
    rows += [(text_of("Go", i), "Go") for i in range(80)]
    rows += rows[:10]
    rows += [("x = 1", "Python"), (None, "Go"), ("# @generated\n" + text_of("Go", 1000), "Go")]
    for part in range(4):
        contents, languages = zip(*rows[part::4], strict=True)
        parquet.write_table(
            pa.table({"content": contents, "lang": languages}), folder / f"{part}.parquet"
        )
    return folder


class InProcess:
    """Stands in for the pool, whose processes take a second to start."""

    def __init__(self, _, *, initializer, initargs, mp_context):
        initializer(*initargs)

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, *, cancel_futures):
        pass


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setattr("pretrain.prepare.ProcessPoolExecutor", InProcess)
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.fixture
def run(corpus, tokenizer_dir, tmp_path, in_process):
    def run(name="data", *, seed=1, **settings):
        settings = {"workers": 1, "held_out": 0.2, "held_out_documents": 15, **settings}
        settings.setdefault("sources", (SourceConfig(path=str(corpus)),))
        data = DataConfig(directory=str(tmp_path / name), tokenizer=str(tokenizer_dir))
        return prepare(PrepareConfig(**settings), data, seed=seed)

    return run


def contents(directory, split):
    opened = open_shards(directory)
    tokenizer = load_tokenizer(directory)
    documents = opened.split(split)
    names = opened.manifest.languages
    return [
        (names[documents.languages[i]], tokenizer.decode(documents.tokens(i).tolist()))
        for i in range(len(documents))
    ]


def files(directory):
    return {path.name: path.read_bytes() for path in sorted(Path(directory).iterdir())}


EXPECTED = {("Python", text_of("Python", i)) for i in range(120)} | {
    ("Go", text_of("Go", i)) for i in range(80)
}


def test_every_document_is_in_one_split_once_and_the_rest_is_counted(run):
    report = run()
    train, held_out = (contents(report.directory, split) for split in ("train", "held_out"))

    assert len(train) + len(held_out) == 200
    assert set(train) | set(held_out) == EXPECTED
    assert report.manifest.left_out == {
        "auto-generated": {"Go": 1},
        "duplicate": {"Python": 10},
        "near-empty": {"Python": 1},
        "null": {"Go": 1},
    }
    open_shards(report.directory).verify()


def test_no_language_holds_out_more_than_its_share_and_the_surplus_is_trained_on(run):
    few = contents(run("few", held_out_documents=5).directory, "held_out")
    many = contents(run("many", held_out_documents=1000).directory, "held_out")
    none = contents(run("none", held_out=0.0).directory, "train")

    assert Counter(language for language, _ in few) == {"Python": 5, "Go": 5}
    assert set(few) < set(many)
    assert 15 <= len(many) <= 65
    assert set(none) == EXPECTED


def test_what_is_held_out_depends_on_the_content_not_on_the_seed(run):
    first, second = (
        run(str(seed), seed=seed, held_out_documents=1000).directory for seed in (1, 2)
    )
    assert set(contents(first, "held_out")) == set(contents(second, "held_out"))
    assert contents(first, "train") != contents(second, "train")


@pytest.mark.parametrize("held_out_documents", [2, 1000])
def test_copies_of_a_text_never_lie_in_both_splits(run, held_out_documents):
    report = run(
        disable=("duplicate", "near-empty"), held_out=0.5, held_out_documents=held_out_documents
    )
    train, held_out = (contents(report.directory, split) for split in ("train", "held_out"))

    assert len(train) + len(held_out) == 211
    assert not set(train) & set(held_out)


def test_the_bytes_depend_neither_on_the_number_of_workers_nor_on_the_time(run, monkeypatch):
    monkeypatch.setattr("pretrain.prepare._BATCH_DOCUMENTS", 7)
    monkeypatch.setattr("pretrain.prepare.ProcessPoolExecutor", ProcessPoolExecutor)
    first = run("first", workers=1, shard_tokens=1000)
    second = run("second", workers=3, shard_tokens=1000)

    names = set(files(first.directory)) - {"report.html"}
    assert len(names) > 10
    before, after = files(first.directory), files(second.directory)
    assert all(before[name] == after[name] for name in names)


def test_weights_repeat_and_leave_out_documents_to_train_on(run):
    whole = run("whole")
    report = run("weighted", weights={"python": 2.5, "Go": 0.5})
    train = Counter(contents(report.directory, "train"))
    times = {"Python": Counter(), "Go": Counter()}
    for language, text in contents(whole.directory, "train"):
        times[language][train[language, text]] += 1

    assert set(times["Python"]) == {2, 3}
    assert set(times["Go"]) == {0, 1}
    assert 30 < times["Python"][3] < 80
    assert 15 < times["Go"][1] < 55
    assert contents(whole.directory, "held_out") == contents(report.directory, "held_out")
    left_out = report.manifest.left_out["sampled out by weight"]
    assert left_out == {"Go": times["Go"][0]}
    counted = report.manifest.counts["train"]["Python"]
    assert counted["entries"] == sum(n for (name, _), n in train.items() if name == "Python")
    assert counted["documents"] == len([name for name, _ in train if name == "Python"])


def test_counts_of_tokens_are_those_of_the_entries(run):
    opened = open_shards(run(weights={"Python": 2}).directory)
    train = opened.split("train")
    tokens = np.concatenate([train.tokens(i) for i in range(len(train))])

    expected = np.bincount(tokens, minlength=opened.manifest.vocab_size)
    assert opened.token_counts.tolist() == expected.tolist()


def test_only_chosen_languages_are_kept(run, caplog):
    report = run(languages=("go", "Cobol"), weights={"Fortran": 2})

    assert report.manifest.languages == ("Go",)
    assert report.manifest.left_out["language not selected"] == {"Python": 131}
    assert "prepare.languages: no document is of the language Cobol" in caplog.text
    assert "prepare.weights: no document is of the language Fortran" in caplog.text


def test_counts_of_documents_tokens_and_characters_are_right(run):
    report = run(shard_tokens=1000)
    opened = open_shards(report.directory)
    for split in ("train", "held_out"):
        documents = opened.split(split)
        for number, language in enumerate(opened.manifest.languages):
            row = report.manifest.counts[split][language]
            chosen = documents.select(number)
            assert row["documents"] == row["entries"] == len(chosen)
            assert row["tokens"] == chosen.lengths.sum()
            texts = [text for name, text in contents(report.directory, split) if name == language]
            assert row["characters"] == sum(map(len, texts))
        shards = opened.manifest.splits[split]
        assert sum(shard.tokens for shard in shards) == documents.lengths.sum()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "<issue_start>", "<commit_msg>"]),
            st.text(max_size=30) | st.sampled_from(["<mask>", "a<|endoftext|>b", "<cls>\n"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_only_a_documents_own_sentinels_become_special_tokens(tokenizer_dir, parts):
    tokenizer = load_tokenizer(tokenizer_dir)
    (ids,) = token_ids(tokenizer, [Document(tuple(parts), "C")])

    special = [i for i in ids.tolist() if i in tokenizer.special_ids.values()]
    assert special == [tokenizer.special_ids[sentinel] for sentinel, _ in parts if sentinel]
    assert tokenizer.decode(ids.tolist()) == "".join(sentinel + text for sentinel, text in parts)


def test_special_ids_are_all_the_sentinels_and_the_encoders(run):
    manifest = open_shards(run().directory).manifest
    assert manifest.special_ids == (*range(len(SENTINELS)), 396, 397, 398, 399)


def test_the_same_data_set_is_kept_and_another_one_refused(run, caplog):
    first = run()
    before = files(first.directory)
    with caplog.at_level(logging.INFO):
        again = run(workers=2)

    assert again.reused
    assert not first.reused
    assert dataclasses.replace(again, reused=False, seconds=first.seconds) == first
    assert "is there already" in report_text(again)
    for changed in ({"seed": 2}, {"max_chars": 5000}, {"languages": ("Go",)}):
        with pytest.raises(ConfigError, match=r"made from other (settings|seed); delete it, or"):
            run(**changed)
    assert files(first.directory) == before


def test_a_data_set_of_changed_input_or_that_is_damaged_is_refused(run, tmp_path):
    shard = tmp_path / "in" / "a.parquet"
    shard.parent.mkdir()
    parquet.write_table(pa.table({"content": [text_of("C", i) for i in range(20)]}), shard)
    sources = (SourceConfig(path=str(shard)),)
    report = run(sources=sources)
    parquet.write_table(pa.table({"content": [text_of("C", i) for i in range(30)]}), shard)
    with pytest.raises(ConfigError, match="made from other inputs_xxh3"):
        run(sources=sources)
    (report.directory / "train-00000.index").unlink()
    with pytest.raises(ConfigError, match=r"cannot be used .*train-00000\.index.*; delete it"):
        run(sources=sources)


def test_a_data_set_of_an_input_changed_to_as_many_bytes_is_refused(run, tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"content": text_of("C", i), "lang": "C"}) for i in range(20)]
    path.write_text("\n".join(lines))
    sources = (SourceConfig(path=str(path), format="jsonl"),)
    run(sources=sources)
    assert run(sources=sources).reused
    path.write_text(
        "\n".join(lines).swapcase().replace("CONTENT", "content").replace("LANG", "lang")
    )
    os.utime(path, (1, 1))
    with pytest.raises(ConfigError, match="made from other inputs_xxh3"):
        run(sources=sources)


def test_a_path_that_is_not_utf8_can_be_named_as_unreadable(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    parquet.write_table(
        pa.table({"content": [text_of("C", i) for i in range(20)]}), folder / "a.parquet"
    )
    Path(os.fsdecode(os.fsencode(folder) + b"/b\xff.parquet")).write_bytes(b"no parquet")
    report = run(sources=(SourceConfig(path=str(folder)),))
    (name,) = open_shards(report.directory).manifest.prepare["unreadable"]
    assert name.endswith(r"b\udcff.parquet")
    assert r"b\udcff.parquet" in report_text(report)


def test_more_languages_than_an_index_can_tell_are_an_error(run, monkeypatch):
    monkeypatch.setattr("pretrain.prepare.MOST_LANGUAGES", 1)
    with pytest.raises(DataError, match=r"more than 1 languages; set the source's language_column"):
        run()


def test_leftovers_of_an_interrupted_run_are_overwritten(run, tmp_path):
    clean = files(run("clean").directory)
    (tmp_path / "data").mkdir()
    for name in ("train-00000.tokens", "train-00007.index", "held_out-00003.tokens"):
        (tmp_path / "data" / name).write_bytes(b"left over")
    (tmp_path / "data" / "notes.txt").write_text("mine")

    found = files(run().directory)
    assert found.pop("notes.txt") == b"mine"
    assert {name: c for name, c in found.items() if name != "report.html"} == {
        name: c for name, c in clean.items() if name != "report.html"
    }


def test_a_full_disk_leaves_no_data_set(run, tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards_module.os, "fsync", fsync)
    with pytest.raises(OutputError, match="No space left on device"):
        run(shard_tokens=500)
    with pytest.raises(DataError, match="no token shards"):
        open_shards(tmp_path / "data")
    monkeypatch.undo()
    open_shards(run(shard_tokens=500).directory).verify()


class FullDisk(io.RawIOBase):
    """Takes nothing, also not when it is closed."""

    def writable(self):
        return True

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_still_full_when_files_are_closed_is_the_same_error(run, monkeypatch):
    def opened(path, mode="r", *arguments, **options):
        if path.suffix == ".tokens" and mode == "wb":
            return io.BufferedWriter(FullDisk())
        return real(path, mode, *arguments, **options)

    real = Path.open
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OutputError, match=r"\.tokens: cannot be written \(No space left"):
        run()


def test_a_directory_that_cannot_be_made_is_an_error_about_the_output(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Not a directory"):
        run("file/data")


def test_settings_that_cannot_work_are_refused_at_the_start(run, tmp_path, corpus):
    source = SourceConfig(path=str(corpus))
    with pytest.raises(ConfigError, match=r"prepare\.sources is empty"):
        run(sources=())
    with pytest.raises(ConfigError, match=r"unknown filter in prepare\.disable 'minifed'"):
        run(disable=("minifed",))
    with pytest.raises(ConfigError, match=r"data\.tokenizer is empty"):
        prepare(PrepareConfig(sources=(source,)), DataConfig(), seed=1)
    data = DataConfig(tokenizer=str(tmp_path), directory=str(tmp_path / "data"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        prepare(PrepareConfig(sources=(source,)), data, seed=1)
    assert not (tmp_path / "data").exists()


def test_a_tokenizer_without_sentinels_cannot_take_issues(run, tokenizer_dir, tmp_path, corpus):
    tokenizer = json.loads((tokenizer_dir / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["id"] > 300
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = PrepareConfig(sources=(SourceConfig(path=str(corpus), kind="issues"),))
    with pytest.raises(ConfigError, match=r"no special token .* of kind issues need"):
        prepare(config, DataConfig(tokenizer=str(tmp_path)), seed=1)


def test_no_document_to_train_on_is_an_error_that_says_why(run):
    with pytest.raises(DataError, match=r"left out: 212 language not selected, 1 null; see"):
        run(languages=("Cobol",))


def test_a_process_that_is_ended_from_outside_is_an_error_that_says_what_to_do(run, monkeypatch):
    def submit(*_):
        future = Future()
        future.set_exception(BrokenProcessPool())
        return future

    monkeypatch.setattr(InProcess, "submit", submit)
    with pytest.raises(OutputError, match=r"set prepare\.workers lower"):
        run()


def test_inputs_that_cannot_be_read_are_in_the_report(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    parquet.write_table(
        pa.table({"content": [text_of("C", i) for i in range(9)]}), folder / "a.parquet"
    )
    (folder / "b.parquet").write_bytes(b"")
    for _ in range(2):  # made, and found there
        report = run(sources=(SourceConfig(path=str(folder)),))
        assert list(report.unreadable) == [str(folder / "b.parquet")]
        assert (
            f"not readable: {folder / 'b.parquet'}: not a parquet file, or damaged"
            in report_text(report)
        )


def test_the_reports_show_all_numbers_and_escape_all_text(run, tmp_path):
    nasty = r"<script>alert($\x$)</script>"
    source = SourceConfig(path=str(tmp_path / "in"), text_column="t", language=nasty)
    (tmp_path / "in").mkdir()
    rows = [text_of("C", i) for i in range(20)] + [None]
    parquet.write_table(pa.table({"t": rows}), tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "<b>.parquet").write_bytes(b"")
    report = run(sources=(source,))
    page = (report.directory / "report.html").read_text()

    tokens = report.manifest.counts["train"][nasty]["tokens"]
    assert nasty in report_text(report)
    for text in (report_text(report), page):
        assert f"{tokens:,}" in text
        assert "null" in text
    assert "<svg" in page
    assert "<script" not in page
    assert "<b>" not in page
    assert r"&lt;script&gt;alert($\x$)&lt;/script&gt;" in page
    assert write_report(report).read_text() == page


def test_the_reports_show_of_a_languages_name_what_a_terminal_can_bear(run, tmp_path):
    path = tmp_path / "a.parquet"
    names = ["\x1b[2J", "C", "x" * 5000]
    rows = {"content": [text_of("C", i) for i in range(30)], "lang": names * 10}
    parquet.write_table(pa.table(rows), path)
    text = report_text(run(sources=(SourceConfig(path=str(path), language_column="lang"),)))

    assert r"\x1b[2J" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 200


def test_a_killed_run_leaves_no_data_set_and_no_process(tmp_path, tokenizer_dir):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [text_of("C", i) * 50 for i in range(4000)]
    parquet.write_table(pa.table({"content": rows}), folder / "a.parquet")
    script = tmp_path / "job.py"
    script.write_text(
        "from pretrain.config import *\nfrom pretrain.prepare import prepare\n"
        "if __name__ == '__main__':\n"
        f"    sources = (SourceConfig(path={str(folder)!r}),)\n"
        "    config = PrepareConfig(sources=sources, workers=2, shard_tokens=1000)\n"
        f"    prepare(config, DataConfig(tokenizer={str(tokenizer_dir)!r}, "
        f"directory={str(tmp_path / 'data')!r}), seed=1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    job = subprocess.Popen([sys.executable, script], env=environment, start_new_session=True)
    while job.poll() is None and not (tmp_path / "data" / "train-00001.tokens").exists():
        time.sleep(0.02)
    job.kill()
    job.wait()

    assert job.returncode == -9
    with pytest.raises(DataError, match="no token shards"):
        open_shards(tmp_path / "data")
    deadline = time.monotonic() + 60
    while processes_of(job.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of(group):
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, check=False)
    return found.stdout.split()


def test_inputs_without_a_document_are_an_error_that_says_so(run, tmp_path):
    path = tmp_path / "empty.parquet"
    parquet.write_table(pa.table({"content": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match=r"the 1 inputs of prepare\.sources hold none"):
        run(sources=(SourceConfig(path=str(path)),))
    parquet.write_table(pa.table({"content": ["", None]}), path)
    with pytest.raises(DataError, match="left out: 1 empty, 1 null; see"):
        run(sources=(SourceConfig(path=str(path)),))
