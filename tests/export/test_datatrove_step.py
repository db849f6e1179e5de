"""The detector as a step of datatrove: what a scan finds, document by document."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from export.scanner import ScanConfig
from starencoder.errors import ConfigError
from tests.export.scans import EMAIL, TEXTS, run, spans_of, table_of, texts_of, write

pytest.importorskip("datatrove", reason="needs datatrove: pip install 'starencoder[datatrove]'")

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

from export import datatrove_step, rows
from export.datatrove_step import RedactPII

NAME_TEXT = "# Author: Marta Lindqvist\nimport os\n"


def documents(texts):
    return [Document(text=text, id=str(number)) for number, text in enumerate(texts)]


def test_two_tasks_on_two_workers_find_what_a_scan_finds_and_are_not_run_twice(tmp_path):
    texts = [NAME_TEXT, *(text for text in TEXTS if text)]  # datatrove reads no empty texts
    for name in "ab":
        write(tmp_path / "in" / f"{name}.parquet", table_of(texts * 2))

    def pipeline():
        return LocalPipelineExecutor(
            [
                ParquetReader(str(tmp_path / "in"), text_key="content", id_key="hexsha"),
                RedactPII(),
                ParquetWriter(str(tmp_path / "out"), expand_metadata=True, compression="zstd"),
            ],
            tasks=2,
            workers=2,
            logging_dir=str(tmp_path / "logs"),
            start_method="spawn",
        )

    stats = pipeline().run()

    run([tmp_path / "in"], tmp_path / "scan", ScanConfig())
    for name, output in zip("ab", sorted((tmp_path / "out").iterdir()), strict=True):
        table = parquet.read_table(output)
        scanned = tmp_path / "scan" / f"{name}.parquet"
        assert table["text"].to_pylist() == texts_of(scanned)
        assert as_scanned(table["pii_spans"].to_pylist()) == spans_of(scanned)
        assert "NAME" in {span["label"] for span in table["pii_spans"].to_pylist()[0]}
    counted = {key: value.total for key, value in stats.stats[1].stats.items()}
    assert (counted["total"], counted["scanned"], counted["modified"]) == (20, 20, 16)
    assert counted["EMAIL"] == 8

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    pipeline().run()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def as_scanned(rows):
    """Scores as the output of a scan has them, in 32 bits."""
    return [
        [{**span, "score": pa.scalar(span["score"], pa.float32()).as_py()} for span in spans]
        for spans in rows
    ]


def test_spans_do_not_depend_on_which_documents_are_read_together(monkeypatch):
    whole = list(RedactPII(model="none").run(documents(TEXTS * 3)))
    monkeypatch.setattr(datatrove_step, "_MOST_DOCUMENTS", 2)
    assert list(RedactPII(model="none").run(documents(TEXTS * 3))) == whole
    monkeypatch.setattr(datatrove_step, "_MOST_CHARACTERS", 1)
    assert list(RedactPII(model="none").run(documents(TEXTS * 3))) == whole


def test_documents_pass_in_order_as_they_come_with_what_they_had(monkeypatch):
    monkeypatch.setattr(datatrove_step, "_MOST_DOCUMENTS", 1)
    given = iter(documents(TEXTS))
    first = next(RedactPII(model="none").run(given))
    assert first.id == "0"
    assert [document.id for document in given] == ["1", "2", "3", "4"]

    document = Document(text="x", id="7", metadata={"path": "a.py"})
    (out,) = RedactPII(model="none").run([document])
    assert out.metadata == {"path": "a.py", "pii_spans": [], "pii_modified": False}


def test_what_cannot_be_read_passes_and_is_counted():
    step = RedactPII(model="none")
    texts = [None, "\ud800", EMAIL]
    out = list(step.run(documents(texts)))
    assert [document.text for document in out] == [None, "\ud800", "<EMAIL>"]
    assert [document.metadata["pii_spans"] is None for document in out] == [True, True, False]
    counted = {key: value.total for key, value in step.stats.stats.items()}
    assert counted["not scanned: null"] == counted["not scanned: not UTF-8"] == 1
    assert counted["total"] == 3


def test_annotating_leaves_the_text_and_only_what_is_asked_for_is_found():
    (out,) = RedactPII(model="none", mode="annotate").run(documents(TEXTS[:1]))
    assert out.text == TEXTS[0]
    assert [span["label"] for span in out.metadata["pii_spans"]] == ["EMAIL", "IP_ADDRESS"]
    (out,) = RedactPII(model="none", labels=["EMAIL"]).run(documents(TEXTS[:1]))
    assert out.text == TEXTS[0].replace(EMAIL, "<EMAIL>")
    assert out.metadata["pii_modified"]


@pytest.mark.parametrize(
    "options",
    [
        {"model": "tyni"},
        {"mode": "redcat"},
        {"operator": "tga"},
        {"operating_point": "x"},
        {"labels": ["EMIAL"]},
        {"disabled": ["routr"]},
        {"min_score": 2.0},
    ],
)
def test_a_wrong_option_is_refused_when_the_pipeline_is_made(options):
    with pytest.raises(ConfigError):
        RedactPII(**options)


def test_a_long_text_is_read_as_a_scan_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LONG_BYTES", 40)
    thread = f"<issue_start>Title\nkestrel9: ask {EMAIL}<issue_comment>owl-77: @kestrel9 yes"
    write(tmp_path / "in.parquet", table_of([thread, f"é {EMAIL}"]))
    run([tmp_path / "in.parquet"], tmp_path / "scan")
    out = list(RedactPII(model="none").run(documents([thread, f"é {EMAIL}"])))
    assert [document.text for document in out] == texts_of(tmp_path / "scan" / "in.parquet")
    found = [document.metadata["pii_spans"] for document in out]
    assert as_scanned(found) == spans_of(tmp_path / "scan" / "in.parquet")
    assert [[span["label"] for span in spans] for spans in found] == [["EMAIL"], ["EMAIL"]]
