import gzip
import json
from collections import Counter

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from pretrain.config import SourceConfig
from pretrain.documents import Document, Dropped, iter_documents, known_language, list_inputs
from starencoder.errors import ConfigError, DataError, MissingExtraError


def read(*sources, limit=0, seed=1):
    dropped = Dropped()
    inputs = list_inputs(sources, dropped)
    documents = list(iter_documents(inputs, limit=limit, seed=seed, dropped=dropped))
    return documents, dropped


def texts(documents):
    return sorted((document.language, document.text) for document in documents)


def shard(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


def test_the_stacks_columns_are_read(tmp_path):
    shard(tmp_path / "data/python/a.parquet", content=["x = 1"], lang=["Python"], size=[5])
    shard(tmp_path / "v2/b.parquet", content=["int x;"], language=["C"], is_generated=[False])

    assert texts(read(SourceConfig(path=str(tmp_path)))[0]) == [
        ("C", "int x;"),
        ("Python", "x = 1"),
    ]


def test_without_a_column_the_language_is_the_folders(tmp_path):
    for folder in ("python", "c-sharp", "fortran", "train"):
        shard(tmp_path / folder / "train-0.parquet", content=[folder], id=["1"])
    shard(tmp_path / "plain.parquet", content=["here"])
    found = texts(read(SourceConfig(path=str(tmp_path)))[0])
    assert found == [
        ("C#", "c-sharp"),
        ("Python", "python"),
        ("fortran", "fortran"),
        ("unknown", "here"),
        ("unknown", "train"),
    ]

    one = SourceConfig(path=str(tmp_path / "python/*.parquet"))
    assert texts(read(one)[0]) == [("Python", "python")]
    said = SourceConfig(path=str(tmp_path / "plain.parquet"), language="go")
    assert texts(read(said)[0]) == [("Go", "here")]


def test_languages_have_one_spelling_whoever_names_them():
    names = ("PYTHON", "c++", "cpp", "c-sharp", "Brainfuck")
    assert [known_language(name) for name in names] == ["Python", "C++", "C++", "C#", "Brainfuck"]


def test_texts_that_are_none_are_counted_by_reason_and_language(tmp_path):
    shard(tmp_path / "a.parquet", content=["x", None, " \n", "y"], lang=["C", "C", "Go", None])
    documents, dropped = read(SourceConfig(path=str(tmp_path)))

    assert texts(documents) == [("C", "x"), ("unknown", "y")]
    assert dropped.documents == Counter({("null", "C"): 1, ("empty", "Go"): 1})


def test_bytes_in_a_text_column_that_are_not_utf8_are_counted(tmp_path):
    raw = pa.array([b"good", b"\xff\xfe"], pa.binary())
    strings = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    parquet.write_table(pa.table({"content": strings}), tmp_path / "a.parquet")

    documents, dropped = read(SourceConfig(path=str(tmp_path)))
    assert [document.text for document in documents] == ["good"]
    assert dropped.documents == Counter({("not UTF-8", "unknown"): 1})


def test_bytes_in_a_language_column_that_are_not_utf8_are_counted(tmp_path):
    raw = pa.array([b"C", b"\xff\xfe"], pa.binary())
    languages = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    table = pa.table({"content": ["good", "bad"], "lang": languages})
    parquet.write_table(table, tmp_path / "a.parquet")

    documents, dropped = read(SourceConfig(path=str(tmp_path)))
    assert texts(documents) == [("C", "good")]
    assert dropped.documents == Counter({("not UTF-8", "unknown"): 1})


def test_numbers_are_no_languages(tmp_path):
    shard(tmp_path / "a.parquet", content=["x"], lang=[7], tongue=[8])
    assert texts(read(SourceConfig(path=str(tmp_path)))[0]) == [("unknown", "x")]
    with pytest.raises(DataError, match=r"column tongue holds int64.*set the source's language_co"):
        read(SourceConfig(path=str(tmp_path), language_column="tongue"))


def test_two_columns_of_one_name_are_an_error(tmp_path):
    both = pa.Table.from_arrays([pa.array(["x"])] * 2, names=["content"] * 2)
    parquet.write_table(both, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="several columns are called content"):
        read(SourceConfig(path=str(tmp_path)))


def test_not_every_json_line_needs_every_key(tmp_path):
    lines = ['{"lang": "Go"}', '{"content": "a"}', '{"lang": "C", "content": "b"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    documents, dropped = read(SourceConfig(path=str(tmp_path), format="jsonl"))
    assert texts(documents) == [("C", "b"), ("unknown", "a")]
    assert dropped.documents == Counter({("null", "Go"): 1})


def test_a_language_that_is_no_unicode_is_escaped(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": "x", "lang": "Py\\ud800"}')
    (document,), _ = read(SourceConfig(path=str(tmp_path), format="jsonl"))
    assert document.language == r"Py\ud800"


class OwnError(Exception):
    """As clients of remote stores raise them."""


def test_any_error_of_a_remote_store_names_the_input_or_the_address(monkeypatch):
    def broken(*_, **__):
        raise OwnError

    address = "memory://broken/a.jsonl"
    with fsspec.open(address, "wb") as file:
        file.write(b'{"content": "x"}\n')
    source = SourceConfig(path=address, format="jsonl")
    system = type(fsspec.filesystem("memory"))
    with monkeypatch.context() as patched:
        patched.setattr(system, "open", broken)
        documents, dropped = read(source)
    assert not documents
    ((name, reason),) = dropped.unreadable.items()
    assert name.endswith("/broken/a.jsonl")
    assert "OwnError" in reason
    monkeypatch.setattr(system, "isfile", broken)
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be listed \(OwnError of"):
        read(source)


def test_a_missing_column_is_an_error_that_lists_those_there(tmp_path):
    shard(tmp_path / "a.parquet", text=["x"], lang=["C"])
    with pytest.raises(DataError, match=r"a\.parquet: no column content; it has text, lang;"):
        read(SourceConfig(path=str(tmp_path)))
    with pytest.raises(DataError, match="no column tongue; it has text, lang"):
        read(SourceConfig(path=str(tmp_path), text_column="text", language_column="tongue"))
    (tmp_path / "b.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl: no column content; it has body"):
        read(SourceConfig(path=str(tmp_path), format="jsonl"))


def test_text_may_be_dictionary_encoded_or_views(tmp_path):
    shard(tmp_path / "a.parquet", content=pa.array(["x", "y"]).dictionary_encode())
    shard(tmp_path / "b.parquet", content=pa.array(["x"], pa.string_view()))
    documents, _ = read(SourceConfig(path=str(tmp_path), language="C"))
    assert texts(documents) == [("C", "x"), ("C", "x"), ("C", "y")]


def test_a_column_that_holds_no_text_is_an_error(tmp_path):
    shard(tmp_path / "a.parquet", content=[1, 2])
    with pytest.raises(DataError, match="column content holds int64, expected strings"):
        read(SourceConfig(path=str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet PAR1", b"\0" * 100])
def test_a_damaged_shard_is_named_and_the_others_are_read(tmp_path, content, caplog):
    shard(tmp_path / "good.parquet", content=["x"])
    shard(tmp_path / "no_rows.parquet", content=pa.array([], pa.string()))
    (tmp_path / "bad.parquet").write_bytes(content)
    documents, dropped = read(SourceConfig(path=str(tmp_path)))

    assert [document.text for document in documents] == ["x"]
    assert list(dropped.unreadable) == [str(tmp_path / "bad.parquet")]
    assert "bad.parquet" in caplog.text


def test_a_shard_damaged_in_the_middle_is_read_up_to_there(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [f"{i:04} " * 100 for i in range(600)]
    parquet.write_table(
        pa.table({"content": rows}), path, row_group_size=100, compression="none",
        use_dictionary=False, write_page_checksum=True,
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2] = b"xx"
    path.write_bytes(content)
    documents, dropped = read(SourceConfig(path=str(tmp_path)))

    assert list(dropped.unreadable) == [str(path)]
    assert not dropped.documents
    assert [document.text for document in documents] == rows[: len(documents)]
    assert 100 <= len(documents) < 400


LINES = [
    b'{"content": "one", "lang": "C"}', b"", b'{"content": "tw', b"[1]", b"[" * 100_000,
    b'{"content": null, "lang": "C"}', b'{"content": 3, "lang": "C"}', b'{"lang": "Go"}',
    b'{"content": "\xff"}', b'{"content": "two", "lang": "Go"}',
]  # fmt: skip


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.zst"])
def test_json_lines_plain_or_packed(tmp_path, name):
    content = b"\n".join(LINES)
    if name.endswith("gz"):
        content = gzip.compress(content)
    elif name.endswith("zst"):
        content = pa.compress(content, "zstd", asbytes=True)
    (tmp_path / name).write_bytes(content)
    documents, dropped = read(SourceConfig(path=str(tmp_path), format="jsonl"))

    assert texts(documents) == [("C", "one"), ("Go", "two")]
    assert dropped.documents == Counter(
        {
            ("broken JSON line", "unknown"): 3,
            ("null", "C"): 1,
            ("not a string", "C"): 1,
            ("null", "Go"): 1,
            ("not UTF-8", "unknown"): 1,
        }
    )
    assert not dropped.unreadable


def test_a_packed_file_cut_short_is_named(tmp_path):
    lines = b"".join(b'{"content": "line %d"}\n' % i for i in range(50_000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:-1000])
    documents, dropped = read(SourceConfig(path=str(tmp_path), format="jsonl"))

    assert list(dropped.unreadable) == [str(tmp_path / "a.jsonl.gz")]
    assert len(documents) > 1000


def test_addresses_are_opened_through_fsspec():
    with fsspec.open("memory://corpus/go/a.jsonl", "wb") as file:
        file.write(b'{"content": "package a"}\n')
    for path in ("memory://corpus", "memory://corpus/*/*.jsonl", "memory://corpus/go/a.jsonl"):
        found, dropped = read(SourceConfig(path=path, format="jsonl"))
        assert [document.text for document in found] == ["package a"]
        assert not dropped.unreadable
    assert read(SourceConfig(path="memory://corpus", format="jsonl"))[0][0].language == "Go"


def test_sources_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no files there.*\.parquet"):
        read(SourceConfig(path=str(tmp_path / "missing")))
    with pytest.raises(ConfigError, match="no files there"):
        read(SourceConfig(path=str(tmp_path / "*.parquet")))
    with pytest.raises(ConfigError, match="no such folder"):
        read(SourceConfig(path=str(tmp_path / "missing"), format="files"))
    with pytest.raises(ConfigError, match="not an address"):
        read(SourceConfig(path="nowhere://x"))


def test_a_package_that_an_address_needs_is_named(monkeypatch):
    def url_to_fs(_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(MissingExtraError, match="Install s3fs"):
        read(SourceConfig(path="s3://bucket/x"))


def test_source_files_have_their_names_language(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.py").write_text("print('some text of a file')\n" * 20)
    (tmp_path / "a/y.go").write_bytes(b"\xff" + b"// text of a file\n" * 30)
    (tmp_path / "a/z.bin").write_text("?" * 500)
    documents, dropped = read(SourceConfig(path=str(tmp_path), format="files"))

    assert [document.language for document in documents] == ["Python"]
    assert dropped.documents == Counter(
        {("not UTF-8", "Go"): 1, ("language not known", "unknown"): 1}
    )


def test_issues_become_what_starcoder_saw(tmp_path):
    events = [
        {"action": "opened", "author": "ann", "text": "It breaks", "title": "A bug"},
        {"action": "created", "author": "bo", "text": "Which version?", "title": None},
        {"action": "created", "author": "ann", "text": "", "title": None},
        {"action": "closed", "author": "ann", "text": None, "title": None},
    ]
    shard(tmp_path / "a.parquet", events=[events, None, []], content=["", "", ""])
    documents, dropped = read(SourceConfig(path=str(tmp_path), kind="issues"))

    assert documents == [
        Document(
            (
                ("<issue_start>", "Title: A bug\nusername_0: It breaks"),
                ("<issue_comment>", "username_1: Which version?"),
                ("<issue_closed>", ""),
            ),
            "GitHub issues",
        )
    ]
    assert dropped.documents == Counter(
        {("null", "GitHub issues"): 1, ("empty", "GitHub issues"): 1}
    )


def test_commits_become_what_starcoder_saw(tmp_path):
    shard(
        tmp_path / "a.parquet",
        old_contents=["a = 1", None],
        new_contents=["a = 2", "x"],
        message=["Fix a", "m"],
        subject=["Fix", "m"],
        repos=["one/two,three/four", ""],
    )
    documents, dropped = read(SourceConfig(path=str(tmp_path), kind="commits"))

    assert documents[0].parts == (
        ("<reponame>", "one/two"),
        ("<commit_before>", "a = 1"),
        ("<commit_msg>", "Fix a"),
        ("<commit_after>", "a = 2"),
    )
    assert dropped.documents == Counter({("null", "Git commits"): 1})


def test_sentinels_spelled_out_count_in_formatted_issues_and_commits_only(tmp_path):
    text = "<issue_start>Title: T<issue_comment>c<mask><issue_closed>"
    shard(tmp_path / "a.parquet", content=[text])
    (code,), _ = read(SourceConfig(path=str(tmp_path)))
    (issue,), _ = read(SourceConfig(path=str(tmp_path), kind="issues"))

    assert code.parts == (("", text),)
    assert issue.parts == (
        ("<issue_start>", "Title: T"), ("<issue_comment>", "c<mask>"), ("<issue_closed>", "")
    )  # fmt: skip


@pytest.fixture
def many(tmp_path):
    for language in ("C", "Go", "Java"):
        for number in range(20):
            rows = [f"{language} {number} {row}" for row in range(10)]
            shard(tmp_path / language / f"{number}.parquet", content=rows)
    return SourceConfig(path=str(tmp_path))


def test_the_order_depends_on_the_seed_only_and_mixes_the_inputs(many):
    first, second, other = (read(many, seed=seed)[0] for seed in (1, 1, 2))

    assert first == second != other
    assert texts(first) == texts(other)
    assert len(first) == 600
    for start in range(0, 500, 100):
        counts = Counter(document.language for document in first[start : start + 100])
        assert max(counts.values()) < 90
    inputs = [document.text.rsplit(" ", 1)[0] for document in first]
    assert sum(map(str.__eq__, inputs, inputs[1:])) < 20


def test_a_limit_holds_for_each_source(many, tmp_path):
    other = SourceConfig(path=str(tmp_path / "C"), language="C++")
    found = Counter(document.language for document in read(many, other, limit=50)[0])

    assert found["C++"] + found["C"] + found["Go"] + found["Java"] == 100
    assert found.total() == 100
    assert found["C++"] == 50


def test_the_hub_is_streamed_by_the_package_datasets(tmp_path, monkeypatch):
    import datasets

    shard(tmp_path / "a.parquet", content=["x = 1", None], lang=["Python", "C"])
    asked = []
    original = datasets.load_dataset

    def load_dataset(path, **options):
        asked.append((path, options))
        files = str(tmp_path / "a.parquet")
        return original("parquet", data_files=files, split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = SourceConfig(path="some/stack", format="hub", subset="data/python")
    documents, dropped = read(folder)
    read(SourceConfig(path="some/smol", format="hub", subset="python"))

    assert texts(documents) == [("Python", "x = 1")]
    assert dropped.documents == Counter({("null", "C"): 1})
    streamed = {"split": "train", "streaming": True}
    assert asked == [
        ("some/stack", {"data_dir": "data/python", **streamed}),
        ("some/smol", {"name": "python", **streamed}),
    ]


def test_a_dataset_that_cannot_be_streamed_is_an_error(monkeypatch):
    import datasets

    def load_dataset(path, **_):
        raise datasets.exceptions.DatasetNotFoundError(f"{path} is gated")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"some/stack: cannot be streamed.*DatasetNotFoundError"):
        read(SourceConfig(path="some/stack", format="hub"))


def test_json_lines_and_parquet_of_the_same_rows_give_the_same_documents(tmp_path):
    rows = [{"content": f"text {i} \u00e9\U0001f600", "lang": "Go"} for i in range(100)]
    shard(tmp_path / "p/a.parquet", content=[r["content"] for r in rows], lang=["Go"] * 100)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))

    assert (
        read(SourceConfig(path=str(tmp_path), format="jsonl"))[0]
        == read(SourceConfig(path=str(tmp_path)))[0]
    )


def test_the_language_of_source_files_may_be_set_by_any_of_its_names(tmp_path):
    (tmp_path / "a.txt").write_text("x = 1\n" * 200)
    documents, _ = read(SourceConfig(path=str(tmp_path), format="files", language="python"))
    assert [document.language for document in documents] == ["Python"]


def test_source_files_are_no_issues():
    with pytest.raises(ConfigError, match="kind must be code where format is files, got issues"):
        SourceConfig(path="x", format="files", kind="issues")


def test_the_stack_smol_is_read_as_a_folder(tmp_path):
    for language in ("python", "c-sharp"):
        folder = tmp_path / "data" / language
        folder.mkdir(parents=True)
        (folder / "data.json").write_text(f'{{"content": "{language}", "lang": null}}\n')
    documents, _ = read(SourceConfig(path=str(tmp_path), format="jsonl"))
    assert texts(documents) == [("C#", "c-sharp"), ("Python", "python")]


def test_an_author_may_be_anything_and_stays_one_speaker(tmp_path):
    events = [
        {"author": author, "text": text}
        for author, text in [({"login": "b", "id": 1}, "one"), ([1], "two"), (None, "three")]
    ]
    events.append({"author": {"id": 1, "login": "b"}, "text": "four"})
    (tmp_path / "a.jsonl").write_text(json.dumps({"events": events}))
    source = SourceConfig(path=str(tmp_path), format="jsonl", kind="issues")
    ((document,), _) = read(source)
    said = [text.partition(":")[0] for _, text in document.parts]
    assert said == ["username_0", "username_1", "username_2", "username_0"]


def test_columns_that_are_only_nice_to_have_may_hold_anything(tmp_path):
    columns = {"old_contents": ["a"], "new_contents": ["b"], "message": ["c"], "repos": [["r"]]}
    shard(tmp_path / "a.parquet", **columns)
    ((document,), _) = read(SourceConfig(path=str(tmp_path), kind="commits"))
    assert [sentinel for sentinel, _ in document.parts] == [
        "<commit_before>",
        "<commit_msg>",
        "<commit_after>",
    ]


def test_a_shard_without_a_single_text_is_counted(tmp_path):
    shard(tmp_path / "a.parquet", content=pa.nulls(3))
    documents, dropped = read(SourceConfig(path=str(tmp_path)))
    assert not documents
    assert dropped.documents == Counter({("null", "unknown"): 3})


def test_chains_of_addresses_are_refused():
    with pytest.raises(ConfigError, match="chains of addresses"):
        read(SourceConfig(path="zip://a.parquet::shards.zip"))
