import json
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


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ({"label": "Lena"}, r"label of the span 0\.\.3 is unknown; known: .*PASSWORD"),
        ({"label": "NAME", "kind": "Lena"}, r"kind of the span 0\.\.3 is unknown; known: real,"),
        ({"label": "NAME", "start": "Lena"}, "expected an object"),
    ],
)
def test_a_wrong_field_of_a_span_is_named_with_what_is_known(tmp_path, span, message):
    path = write(tmp_path / "d.jsonl", record(spans=[{"start": 0, "end": 3, **span}]))

    with pytest.raises(DataError, match=message) as error:
        read_annotated(str(path), format="gold")
    assert "Lena" not in str(error.value)


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
        (fragment(start=5, end=99), "span: empty or outside the text"),
        (fragment(start=5, end=5), "span: empty or outside the text"),
        (fragment(position=None), "span: no offsets"),
        (fragment(position=[5]), "span: no offsets"),
        (fragment(position=["5", "15"]), "span: no offsets"),
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

    with pytest.raises(ConfigError):
        load_label_map(table)


def test_the_default_map_knows_all_labels_of_bigcodes_guideline():
    targets = load_label_map().targets
    for label in ("NAME", "USERNAME", "EMAIL"):
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
