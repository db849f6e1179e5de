import json
import logging
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import cli
from pii.annotations import LabelMap, load_label_map, read_annotated
from pii.labels import KINDS, LABELS
from starencoder.errors import ConfigError, DataError


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def record(**changes):
    span = {"start": 0, "end": 4, "label": "NAME", "kind": "real"}
    return {"id": "a", "text": "Lena wrote it", "spans": [span], **changes}


def test_records_are_read_and_their_spans_sorted(tmp_path):
    later = {"start": 11, "end": 13, "label": "USERNAME"}
    path = write(tmp_path / "d.jsonl", record(spans=[later, record()["spans"][0]]))

    (document,) = read_annotated(str(path)).documents

    assert [(s.start, s.label, s.kind) for s in document.spans] == [
        (0, "NAME", "real"),
        (11, "USERNAME", "real"),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "a", "text": "x"},
        record(spans="Lena"),
        record(spans=[{"start": 0, "end": 99, "label": "NAME"}]),
        record(spans=[{"start": 2, "end": 2, "label": "NAME"}]),
        record(spans=[{"start": 0, "end": 3, "label": "PHONE"}]),
        record(spans=[*record()["spans"], {"start": 3, "end": 6, "label": "KEY"}]),
        record(text=None),
        ["not", "an", "object"],
    ],
)
def test_a_line_that_is_no_record_is_named_and_its_text_is_not_quoted(tmp_path, broken):
    path = write(tmp_path / "d.jsonl", record(), broken)

    with pytest.raises(DataError, match=r"d\.jsonl:2") as error:
        read_annotated(str(path), format="gold")
    assert "Lena" not in str(error.value)


NAME = {"start": 0, "end": 3, "label": "NAME"}


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (without(record(), "id"), "no field 'id'; expected text"),
        (record(id=None), "the field 'id' is null; expected text"),
        (record(text=None), "the field 'text' is null; expected text"),
        (record(spans=None), "the field 'spans' is null; expected a list"),
        (record(spans=[NAME, "Lena"]), r"spans\[1\] is text; expected an object"),
        (record(spans=[without(NAME, "end")]), r"spans\[0\]: no field 'end'; expected a whole"),
        (record(spans=[{**NAME, "start": 5.0}]), "the field 'start' is a number; expected a whole"),
        (record(spans=[{**NAME, "start": True}]), "the field 'start' is true or false; expected"),
        (record(spans=[{**NAME, "kind": None}]), "the field 'kind' is null; expected text"),
        (
            record(spans=[{**NAME, "kind": "Lena"}]),
            r"spans\[0\]: the kind is unknown; known: real,",
        ),
        (record(spans=[{**NAME, "label": "Lena"}]), "the label is unknown; known: .*PASSWORD"),
        (record(spans=[{**NAME, "end": 10**400}]), "outside the text, which has 13 characters"),
        (record(spans=[{**NAME, "start": -1}]), "outside the text, which has 13 characters"),
        (record(spans=[{**NAME, "end": 0}]), r"spans\[0\]: the span is empty"),
        (record(spans=[{**NAME, "start": 2, "end": 4}, NAME]), r"spans\[0\] overlaps spans\[1\]"),
        (["Lena"], "a list; expected an object"),
    ],
)
def test_what_is_wrong_with_a_record_is_said_and_not_quoted(tmp_path, broken, message):
    path = write(tmp_path / "d.jsonl", record(), broken)

    with pytest.raises(DataError, match=rf"d\.jsonl:2: .*{message}") as error:
        read_annotated(str(path), format="gold")
    said = str(error.value).removeprefix(str(path))
    assert "Lena" not in said
    assert "000" not in said


def test_json_lines_with_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(record()).encode())

    assert read_annotated(str(path)).report.spans == 1


def test_a_file_that_is_not_what_its_name_says_is_named_as_that(tmp_path):
    shard, tags = tmp_path / "d.parquet", tmp_path / "d.conll"
    shard.write_text("broken")
    tags.write_text("broken\n")

    with pytest.raises(DataError, match=r"d\.parquet: not a parquet file"):
        read_annotated(str(shard))
    with pytest.raises(DataError, match=r"d\.conll:1: expected a token and its tag"):
        read_annotated(str(tags))


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl"):
        read_annotated(str(tmp_path / "none.jsonl"))


# --------------------------------------------------------------------------------------------------
# BigCode's forms

TEXT = "# by Lena Novak, root of 10.1.2.3"


def fragment(label="NAME", start=5, end=15, **changes):
    return {"category": label, "position": [start, end], "value": TEXT[start:end], **changes}


def entity(label="NAME", start=5, end=15, **changes):
    value = TEXT[start:end]
    return {"tag": label, "start": start, "end": end, "value": value, "context": TEXT, **changes}


def fragments_row(*items, **changes):
    return {"text": TEXT, "language": "Python", "fragments": list(items), "id": 7, **changes}


def pii_row(*items, **changes):
    return {"content": TEXT, "lang": "Python", "pii": list(items), "id": "7", **changes}


def in_short(annotations):
    return [
        [(s.start, s.end, s.label, s.kind) for s in document.spans]
        for document in annotations.documents
    ]


ENTITIES = [("NAME_LICENSE", 5, 15), ("USERNAME_EXAMPLE", 17, 21), ("IP_ADDRESS", 25, 33)]
READ = [
    (5, 15, "NAME", "licence"),
    (17, 21, "USERNAME", "example"),
    (25, 33, "IP_ADDRESS", "real"),
]
ROWS = {
    "fragments": fragments_row(*(fragment(*e) for e in ENTITIES)),
    "pii": pii_row(*(entity(*e) for e in ENTITIES)),
}
COLUMN = {"fragments": "fragments", "pii": "pii"}


def as_json_text(format):
    return {**ROWS[format], COLUMN[format]: json.dumps(ROWS[format][COLUMN[format]])}


def as_lists(format):
    items = ROWS[format][COLUMN[format]]
    return {**ROWS[format], COLUMN[format]: {key: [i[key] for i in items] for key in items[0]}}


@pytest.mark.parametrize("format", ["fragments", "pii"])
@pytest.mark.parametrize("shaped", [ROWS.get, as_json_text, as_lists])
@pytest.mark.parametrize("container", ["jsonl", "parquet"])
def test_bigcode_rows_give_the_same_documents_in_every_shape(tmp_path, format, shaped, container):
    path, row = tmp_path / f"d.{container}", shaped(format)
    if container == "jsonl":
        write(path, row, row)
    else:
        parquet.write_table(pa.Table.from_pylist([row, row]), path)

    read = read_annotated(str(path))

    assert in_short(read) == [READ, READ]
    assert read.report.format == format
    assert (read.report.documents, read.report.spans, read.report.left_out) == (2, 6, {})
    first = read.documents[0]
    assert (first.id, first.language, first.text) == ("7", "Python", TEXT)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (fragment(value="Lena"), "span: the value is not the text at its offsets"),
        (fragment(start=5, end=99), "span: outside the text"),
        (fragment(position=[-5, 5]), "span: outside the text"),
        (fragment(start=5, end=5), "span: empty"),
        (fragment(position=None), "span: no offsets"),
        (fragment(position=[5]), "span: no offsets"),
        (fragment(position="5, 15"), "span: no offsets"),
        (fragment(position=["five", "15"]), "span: no offsets"),
        (fragment("ID"), "label ignored: ID"),
        (fragment("USERNAME", 10, 15), "span: overlaps another"),
        (fragment(), "span: stated twice"),
    ],
)
def test_a_foreign_span_that_cannot_be_right_is_left_out_and_counted(tmp_path, item, reason):
    path = write(tmp_path / "d.jsonl", fragments_row(fragment(), item))

    read = read_annotated(str(path))

    assert in_short(read) == [[(5, 15, "NAME", "real")]]
    assert read.report.left_out == {reason: 1}


@pytest.mark.parametrize(
    "row",
    [
        fragments_row(fragment(position="[5, 15]")),
        fragments_row(fragment(position=["5", "15"])),
        pii_row({**entity(), "start": "5", "end": "15"}),
    ],
)
def test_offsets_that_are_written_as_text_are_read(tmp_path, row):
    read = read_annotated(str(write(tmp_path / "d.jsonl", row)))

    assert in_short(read) == [[(5, 15, "NAME", "real")]]
    assert read.report.left_out == {}


@pytest.mark.parametrize("row", [fragments_row(), pii_row()])
def test_a_foreign_row_without_the_column_of_the_first_is_named(tmp_path, row):
    column = next(name for name in ("fragments", "pii") if name in row)
    path = write(tmp_path / "d.jsonl", row, without(row, column))

    with pytest.raises(DataError, match=rf"d\.jsonl:2: no column '{column}'; expected it"):
        read_annotated(str(path))


def test_an_unknown_foreign_label_is_named_and_the_map_is_suggested(tmp_path):
    path = write(tmp_path / "d.jsonl", pii_row(entity("EMAIL_LICENCE")))

    with pytest.raises(ConfigError, match=r"d\.jsonl:1.*label map.*EMAIL_LICENCE.*EMAIL_LICENSE"):
        read_annotated(str(path))


def test_a_label_map_of_ones_own_is_laid_over_the_default(tmp_path):
    path = write(
        tmp_path / "d.jsonl",
        pii_row(entity("PHONE"), entity("IP_ADDRESS", 25, 33), entity("KEY", 0, 1)),
    )
    table = tmp_path / "map.toml"
    table.write_text('[labels]\nPHONE = ["KEY", "example"]\nIP_ADDRESS = "ignore"\n')

    read = read_annotated(str(path), label_map=load_label_map(table))

    assert in_short(read) == [[(0, 1, "KEY", "real"), (5, 15, "KEY", "example")]]
    assert read.report.left_out == {"label ignored: IP_ADDRESS": 1}


@pytest.mark.parametrize(
    "text",
    ["", "[label]\n", "[labels]\nA = 1\n", '[labels]\nA = ["PHONE", "real"]\n',
     '[labels]\nA = ["KEY", "fake"]\n', '[labels]\nA = ["KEY"]\n', '[labels]\n[more]\n'],
)  # fmt: skip
def test_a_label_map_that_says_something_else_is_refused(tmp_path, text):
    table = tmp_path / "map.toml"
    table.write_text(text)

    with pytest.raises(ConfigError, match=r"map\.toml.*(one table|labels\.(A|more) must be)"):
        load_label_map(table)


def test_the_default_map_knows_all_labels_of_bigcodes_guideline():
    targets = load_label_map().targets
    for label in LABELS:
        assert targets[label] == (label, "real")
        assert targets[f"{label}_LICENSE"] == (label, "licence")
        assert targets[f"{label}_EXAMPLE"] == (label, "example")
    assert {targets[label] for label in ("ID", "AMBIGUOUS")} == {None}
    assert {label for label, _ in filter(None, targets.values())} == set(LABELS)
    assert {kind for _, kind in filter(None, targets.values())} == set(KINDS)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**record(), "pii": []}, "ambiguous, the columns fit gold and pii; state"),
        ({"text": "x", "entities": []}, "cannot be told; the columns are 'text', 'entities'"),
        ({}, "cannot be told; the columns are none"),
    ],
)
def test_a_format_that_cannot_be_told_is_an_error_that_says_why(tmp_path, row, message):
    with pytest.raises(ConfigError, match=message):
        read_annotated(str(write(tmp_path / "d.jsonl", row)))


def test_a_stated_format_settles_what_is_ambiguous(tmp_path):
    path = write(tmp_path / "d.jsonl", {**record(), "pii": []})

    assert read_annotated(str(path), format="gold").report.spans == 1
    assert read_annotated(str(path), format="pii").report.spans == 0
    with pytest.raises(ConfigError, match=r"d\.jsonl:1: no column 'fragments'"):
        read_annotated(str(path), format="fragments")
    with pytest.raises(ConfigError, match="unknown format"):
        read_annotated(str(path), format="brat")


@pytest.mark.parametrize(
    "row",
    [
        fragments_row(fragment(), content=TEXT),
        {"fragments": []},
        fragments_row(fragment(), text=3),
        fragments_row(fragments="Lena"),
        fragments_row(fragments=["Lena"]),
        fragments_row(fragments={"category": ["NAME"], "position": []}),
        fragments_row({"position": [5, 15]}),
    ],
)
def test_a_foreign_row_of_another_form_is_named_and_not_quoted(tmp_path, row):
    path = write(tmp_path / "d.jsonl", fragments_row(), row)

    with pytest.raises(DataError, match=r"d\.jsonl:2") as error:
        read_annotated(str(path))
    assert "Lena" not in str(error.value)


def test_a_row_without_text_is_counted_and_one_without_entities_is_a_document(tmp_path):
    path = write(tmp_path / "d.jsonl", fragments_row(text=None), fragments_row(fragments=None))

    read = read_annotated(str(path))

    assert (in_short(read), read.report.left_out) == ([[]], {"row: no text": 1})


def test_an_evaluation_of_foreign_rows_says_what_was_left_out(tmp_path, capsys):
    address = "lena@" + "novak-tools.org"
    email = {"tag": "EMAIL", "start": 0, "end": len(address), "value": address}
    rows = {"content": address, "id": "a", "pii": [email, {**email, "tag": "ID"}]}
    arguments = [str(write(tmp_path / "d.jsonl", rows)), "--model", "none", "--format", "pii"]

    assert cli.main(["pii", "evaluate", *arguments]) == 0

    said = capsys.readouterr()
    assert re.search(r"EMAIL +1\.0", said.out)
    assert "left out: 1 label ignored: ID" in said.err


def test_a_data_set_of_a_hub_is_streamed_by_its_split(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.jsonl", pii_row(entity()))
    write(folder / "test.jsonl", pii_row(entity(), id="8"), pii_row(id="9"))

    read = read_annotated(f"hub:{folder}:test")

    assert [document.id for document in read.documents] == ["8", "9"]
    assert in_short(read) == [[(5, 15, "NAME", "real")], []]
    with pytest.raises(ConfigError, match="has the splits train, test; name one"):
        read_annotated(f"hub:{folder}")
    with pytest.raises(DataError, match="cannot be read"):
        read_annotated(f"hub:{tmp_path / 'none'}")


def test_a_hub_that_cannot_be_reached_is_said_once_and_no_account_is_asked_for(monkeypatch, capfd):
    def unreachable(name, **options):
        logger = logging.getLogger("huggingface_hub.utils._http")
        logger.warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataError, match=r"hub:a/b: the hub cannot be reached; is there") as error:
        read_annotated("hub:a/b")
    assert "account" not in str(error.value)
    assert "Retrying" not in capfd.readouterr().err


# --------------------------------------------------------------------------------------------------
# CoNLL


def test_conll_is_rebuilt_with_a_space_between_tokens(tmp_path):
    path = tmp_path / "d.conll"
    path.write_text(
        "-DOCSTART- -X- O\n\nby\tO\nLena\tB-PER\nNovak\tI-PER\nOtto\tB-PER\n\n\n"
        "mail NN I-EMAIL_LICENSE\nof NN I-ORG\nX NN S-KEY\nY NN E-KEY\n"
    )

    read = read_annotated(str(path))

    assert [document.text for document in read.documents] == ["by Lena Novak Otto", "mail of X Y"]
    assert in_short(read) == [
        [(3, 13, "NAME", "real"), (14, 18, "NAME", "real")],
        [(0, 4, "EMAIL", "licence"), (8, 9, "KEY", "real"), (10, 11, "KEY", "real")],
    ]
    assert read.report.left_out == {"label ignored: ORG": 1}
    assert [document.id.rpartition(":")[2] for document in read.documents] == ["3", "9"]


@st.composite
def tagged_tokens(draw):
    entities = draw(st.lists(st.tuples(st.sampled_from([None, *LABELS]), st.integers(1, 4))))
    rows = []
    for label, length in entities:
        for at in range(length):
            token = draw(st.text("abcß7@._", min_size=1, max_size=6))
            rows.append((token, f"{'I' if at else 'B'}-{label}" if label else "O"))
    return rows


@given(tagged_tokens())
def test_conll_that_is_written_anew_from_what_was_read_is_the_same(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.conll"
    path.write_text("".join(f"{token}\t{tag}\n" for token, tag in rows), encoding="utf-8")

    documents = read_annotated(str(path), format="conll").documents

    written = []
    for document in documents:
        at = 0
        for token in document.text.split(" "):
            over = [s for s in document.spans if s.start <= at < s.end]
            tag = f"{'B' if over[0].start == at else 'I'}-{over[0].label}" if over else "O"
            written.append((token, tag))
            at += len(token) + 1
    assert written == rows


@pytest.mark.parametrize("line", ["Lena", "Lena\tPERSON", "Lena\tX-PER", "\tB-PER"])
def test_a_conll_line_of_another_form_is_named_and_not_quoted(tmp_path, line):
    path = tmp_path / "d.conll"
    path.write_text(f"by\tO\n{line}\n")

    with pytest.raises(DataError, match=r"d\.conll:2") as error:
        read_annotated(str(path))
    assert "Lena" not in str(error.value)


def test_a_parquet_file_is_not_read_as_conll_nor_a_damaged_one_at_all(tmp_path):
    path = tmp_path / "d.parquet"
    parquet.write_table(pa.Table.from_pylist([ROWS["pii"]]), path)
    with pytest.raises(ConfigError, match="a parquet file"):
        read_annotated(str(path), format="conll")

    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a parquet file"):
        read_annotated(str(path))


def test_an_empty_file_holds_no_documents(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("\n")

    assert read_annotated(str(path), label_map=LabelMap({})).documents == []
