import json

import numpy as np
import pytest

import cli
from pii.annotations import Document, read_annotated
from pii.chunks import ChunkConfig
from pii.detect import EMBEDDED_MODEL
from pii.inspection import Reach, count_reach, inspect_data
from pii.spans import Span
from starencoder.errors import ConfigError
from starencoder.tokenizer import Encoded


class FourCharacters:
    """A tokenizer whose every token has four characters."""

    def encode(self, text):
        offsets = [(at, min(at + 4, len(text))) for at in range(0, len(text), 4)]
        return Encoded(np.full(len(offsets), 3, np.int32), np.array(offsets, np.int32))


def reach_of(start, end, *, text="aaaa bbb cccc ddd eee fff ", label="PASSWORD", **chunks):
    span = Span(start=start, end=end, label=label)
    document = Document(id="", language="", package="", path="", text=text, spans=(span,))
    config = ChunkConfig(**{"max_tokens": 9, "stride": 9, **chunks})
    return count_reach([document], FourCharacters(), config)[label]


def test_a_span_of_whole_tokens_is_in_reach():
    assert reach_of(0, 4) == Reach(spans=1)


def test_a_span_within_a_token_is_out_of_reach_exactly_or_at_80_percent_too():
    outside = reach_of(0, 11, text="aaaaaaaaaaa bb")  # 11 of 12 characters
    before = reach_of(1, 8, text="aaaaaaaa bb")  # 7 of 8
    inside = reach_of(0, 9, text="aaaaaaaaa bbbb")  # 8 of 9
    far = reach_of(9, 11, text="aaaaaaaaa_bb_cc")

    assert (outside.between_tokens, outside.between_tokens_80) == (1, 0)
    assert (before.between_tokens, before.between_tokens_80) == (1, 0)
    assert (inside.between_tokens, inside.between_tokens_80) == (1, 0)
    assert (far.between_tokens, far.between_tokens_80) == (1, 1)


def test_what_decoding_trims_off_is_told_from_what_tokens_cannot_say():
    quoted = reach_of(0, 8, text="'aaaaaa' b")

    assert (quoted.between_tokens, quoted.decoded_otherwise) == (0, 1)
    assert quoted.decoded_otherwise_80 == 1  # 6 of 8 characters


def test_of_two_spans_in_one_token_the_second_is_decoded_otherwise():
    spans = (Span(start=0, end=2, label="NAME"), Span(start=2, end=4, label="KEY"))
    text = "ab:c x"
    document = Document(id="", language="", package="", path="", text=text, spans=spans)

    reach = count_reach([document], FourCharacters(), ChunkConfig(max_tokens=9, stride=9))

    assert reach["KEY"].decoded_otherwise_80 == 1


@pytest.mark.parametrize(
    ("start", "end", "stride", "too_long", "cut"),
    [
        (0, 8, 2, 0, 0),  # both tokens of the first chunk
        (4, 12, 2, 0, 1),  # the last of one chunk and the first of the next
        (4, 12, 1, 0, 0),  # and a chunk that holds both
        (0, 12, 1, 1, 1),
    ],
)
def test_spans_longer_than_a_chunk_or_in_no_chunk_whole_are_counted(
    start, end, stride, too_long, cut
):
    reach = reach_of(start, end, text="a" * 40, max_tokens=2, stride=stride)

    assert (reach.longer_than_chunk, reach.cut) == (too_long, cut)


@pytest.fixture
def data(tmp_path):
    """Two files that have one document in common but for white space."""

    def write(name, *rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    span = {"start": 5, "end": 15, "label": "NAME", "kind": "licence"}
    first = {"id": "a", "text": "# by Lena Novak\n", "spans": [span]}
    second = {"id": "b", "text": "x = 1\n", "spans": []}
    same = {"id": "c", "text": "# by  Lena Novak", "spans": []}
    return write("data.jsonl", first, second), write("eval.jsonl", same)


def test_leakage_is_listed_by_id_and_makes_the_exit_code_1(data, capsys):
    assert cli.main(["pii", "inspect", data[0], "--against", data[1]]) == 1
    text = capsys.readouterr().out
    assert "1 exact duplicates, 0 near ones" in text
    assert "  a is c (100%)" in text
    assert "Lena" not in text

    assert cli.main(["pii", "inspect", data[0]]) == 0
    assert "duplicates" not in capsys.readouterr().out


def test_the_json_says_what_the_text_says(data, capsys):
    assert cli.main(["pii", "inspect", data[0], "--against", data[1], "--json"]) == 1
    said = json.loads(capsys.readouterr().out)

    assert said["sources"][0]["documents"] == 2
    assert said["spans"]["NAME"] == {"real": 0, "example": 0, "licence": 1}
    assert said["reach"]["NAME"]["spans"] == 1
    assert said["leakage"]["leaks"] == [{"id": "a", "against": "c", "share": 1.0, "exact": True}]


def test_documents_with_the_id_of_another_are_counted_over_all_sources(data, capsys):
    assert cli.main(["pii", "inspect", data[0], data[0]]) == 0
    assert "2 documents have the id of an earlier one" in capsys.readouterr().out

    assert cli.main(["pii", "inspect", *data]) == 0
    assert "the id of an earlier one" not in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(data, share):
    with pytest.raises(ConfigError, match="share of near duplicates"):
        inspect_data([read_annotated(data[0])], EMBEDDED_MODEL, near_share=share)
