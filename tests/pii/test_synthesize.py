import json
import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("faker")

import pii.synthesize
from pii.annotations import Document
from pii.harvest import Prose
from pii.labels import LABELS
from pii.spans import Span
from pii.synthesis_report import synthesis_text, write_report
from pii.synthesize import Source, Synthesizer, load_sources, revalue, write_examples
from pii.templates import DEFAULT_MIX, LineMaker, Template, load_mix, stands
from pii.values import ValueMaker
from starencoder.errors import ConfigError, DataError, OutputError
from starencoder.languages import LANGUAGES

WORDS = "server buffer stream widget cloud parse render apple river config engine token".split()
CODE = (
    "# Copyright (c) 2011 Rosalind Ferreira\n"
    "import os\n\n"
    "def connect(host):\n"
    "    # TODO(rferreira): pick the port\n"
    "    password = 'Lw83kdPq'\n"
    "    return open_socket(host, password)\n\n"
) * 6
MARK = re.compile("[⟦⟧]")


@pytest.fixture(scope="module")
def mix():
    return load_mix()


@pytest.fixture(scope="module")
def values():
    return ValueMaker(random.Random(1), WORDS)


@pytest.fixture(scope="module")
def lines(mix, values):
    return LineMaker(mix, random.Random(1), values, Prose())


@pytest.fixture(scope="module")
def sources():
    return [Source("made-up", f"src/{n}.py", "Python", CODE) for n in range(4)]


def made(sources, mix, tmp_path, name, *, seed, count=60):
    path = tmp_path / name
    synthesis = write_examples(sources, path, mix, count=count, seed=seed)
    return path.read_text(encoding="utf-8"), synthesis


def test_the_same_seed_gives_the_same_examples_and_another_seed_others(sources, mix, tmp_path):
    first, _ = made(sources, mix, tmp_path, "a", seed=3)

    assert made(sources, mix, tmp_path, "b", seed=3)[0] == first
    assert made(sources, mix, tmp_path, "c", seed=4)[0] != first


def test_every_label_and_both_kinds_are_planted_and_the_real_values_are_gone(
    sources, mix, tmp_path
):
    records = [
        json.loads(line) for line in made(sources, mix, tmp_path, "a", seed=1)[0].split("\n")[:-1]
    ]

    found = {(span["label"], span["kind"]) for record in records for span in record["spans"]}
    assert {label for label, _ in found} == set(LABELS)
    assert {kind for _, kind in found} == {"real", "example"}
    for record in records:
        assert not re.search("Rosalind|rferreira|Lw83kdPq", record["text"])


def test_spans_are_sorted_apart_and_hold_what_was_drawn(sources, mix, tmp_path, monkeypatch):
    """The values are marked where they are made: every mark must stand at a span's limits."""
    make = ValueMaker.make

    def marked(self, label, kind=None, person=None):
        value = make(self, label, kind, person)
        return replace(value, text="⟦" + value.text.replace("`", "") + "⟧")

    monkeypatch.setattr(ValueMaker, "make", marked)
    records = [
        json.loads(line) for line in made(sources, mix, tmp_path, "a", seed=2)[0].split("\n")[:-1]
    ]

    total = 0
    for record in records:
        text, end = record["text"], 0
        marks = [match.start() for match in MARK.finditer(text)]
        limits = []
        for span in record["spans"]:
            assert end <= span["start"] < span["end"] <= len(text)
            end = span["end"]
            value = text[span["start"] : end]
            if MARK.search(value):
                assert value[0] == "⟦"
                assert value[-1] == "⟧"
                limits += [span["start"], end - 1]
        assert marks == limits
        total += len(limits) // 2
    assert total > 80


def template_of(text, table="t"):
    return Template(text, table, frozenset(), 1.0)


def test_every_line_of_every_language_is_filled_and_labelled_as_its_slots_say(mix, values):
    for table, lines in mix.lines.items():
        maker = LineMaker(mix, random.Random(table), values, Prose())
        language = lines.groups[0] if lines.groups[0] != "*" else "Python"
        for line in lines.lines:
            pieces = list(maker.fill(template_of(line, table), language))
            labels = {piece.label for piece in pieces if piece.label}
            slots = set(re.findall(r"\{(NAME|USERNAME|EMAIL|IP_ADDRESS|KEY|PASSWORD|PEM)", line))
            assert labels == {"KEY" if slot == "PEM" else slot for slot in slots}, line
            assert bool(labels) != table.startswith("none_"), line
            assert all(piece.template == table for piece in pieces)
            unlabelled = "".join(piece.text for piece in pieces if not piece.label)
            left = re.findall(r"\{(\w+)(?::\d+)?\}", unlabelled)
            assert mix.known_slots().isdisjoint(left), line


def test_every_language_has_lines_for_every_label_and_hard_negatives(lines):
    for language in sorted(LANGUAGES - {"Diff", "Jupyter"}):
        templates = lines._by_language[language]
        assert set().union(*(template.labels for template in templates)) == set(LABELS), language
        assert sum(not template.labels for template in templates) > 5, language


def test_every_table_of_the_mix_is_drawn(mix, values):
    lines = LineMaker(mix, random.Random(7), values, Prose())
    drawn = {
        template.table
        for language in sorted(LANGUAGES)
        for _ in range(250)
        if (template := lines.draw(language))
    }
    assert drawn == set(mix.lines)


def test_a_line_of_one_person_has_a_name_and_an_address_that_belong_together(lines):
    together = 0
    for _ in range(100):
        pieces = list(lines.fill(template_of("{NAME} <{EMAIL}>"), "Text"))
        name, address = (piece.text.lower() for piece in pieces if piece.label)
        together += any(part[:3] in address for part in re.findall(r"[a-z]{3,}", name))
    assert together > 30


def test_a_number_of_digits_is_kept(lines):
    filled = list(lines.fill(template_of("{hex:7} {digits:3} {b64:22} {hex_rows:2}"), "C"))
    text = "".join(piece.text for piece in filled)
    assert re.fullmatch(r"[0-9a-f]{7} \d{3} [A-Za-z0-9+/=]{22} .+\n.+", text)


@pytest.mark.parametrize(
    ("value", "label", "before", "after", "fits"),
    [
        ("it's", "PASSWORD", "x = '", "'", False),
        ("it's", "PASSWORD", 'x = "', '"', True),
        ("a b", "PASSWORD", "x = ", "", False),
        ("a b", "PASSWORD", "x = '", "'", True),
        ("a b", "NAME", "by ", "", True),
        ("2001:db8::1", "IP_ADDRESS", "http://", ":80/", False),
        ("2001:db8::1", "IP_ADDRESS", "http://[", "]:80/", True),
        ("93.184.216.34", "IP_ADDRESS", "http://[", "]:80/", False),
        ("93.184.216.34", "IP_ADDRESS", "http://", "/", True),
        ("a\nb", "KEY", "x = '", "'", False),
        ("a\\b", "KEY", "x = '", "'", False),
    ],
)
def test_a_value_stands_only_where_its_form_allows(value, label, before, after, fits):
    assert stands(value, label, before, after) == fits


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_a_password_in_a_url_leaves_the_url_whole(lines, seed):
    from urllib.parse import unquote, urlsplit

    lines._values._rng.seed(seed)
    lines._rng.seed(seed)
    pieces = list(lines.fill(template_of("ftp://u:{PASSWORD}@db.zak.pl/x"), "Text"))
    password = next(piece.text for piece in pieces if piece.label)
    parts = urlsplit("".join(piece.text for piece in pieces))
    assert (parts.hostname, parts.path) == ("db.zak.pl", "/x")
    assert unquote(parts.password) == unquote(password)


def test_lines_in_a_notebook_are_strings_of_its_json(mix, lines, values):
    cell = '{"source": [\n"import os\\n",\n"x = 1"\n]}\n'
    for seed in range(40):
        synthesizer = Synthesizer(random.Random(seed), values, lines, mix)
        pieces, _ = synthesizer._insert_line([pii.synthesize.Piece('"import os\\n",\n')], "Jupyter")
        text = "".join(piece.text for piece in pieces)
        assert json.loads(f'[{text} "x"]')[0] == "import os\n"
    assert json.loads(cell)


def test_lines_in_a_diff_begin_with_its_marks(mix, lines, values):
    for seed in range(40):
        synthesizer = Synthesizer(random.Random(seed), values, lines, mix)
        pieces, _ = synthesizer._insert_line([pii.synthesize.Piece(" a\n b\n")], "Diff")
        text = "".join(piece.text for piece in pieces)
        assert all(line[:1] in " +-" for line in text.splitlines())


def mix_with(tmp_path, change):
    _, start, settings = DEFAULT_MIX.read_text(encoding="utf-8").partition("\n[shares]\n")
    assert change[0] in settings
    path = tmp_path / "mix.toml"
    path.write_text(start + settings.replace(*change, 1), encoding="utf-8")
    return load_mix(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("{c} {credential_comment}", "{c} {pasword}"), r"unknown slot \{pasword\}; known"),
        (
            ("{c} {credential_comment}", "{c} {KEY}"),
            "a line with a labelled slot in a table of hard",
        ),
        (
            ("requirepass {PASSWORD}", "requirepass {word}"),
            "a line with a labelled slot in a table of",
        ),
        (("{hex:2}", "{hex:0}"), r"\{hex:0\}; .*take a number"),
        (("{hex:2}", "{hex:x}"), r"no slot from \{hex on; expected \{hex\}"),
        (
            ("{c} {credential_comment}", "{c {credential_comment}"),
            r"no slot from \{c on; expected \{c\}",
        ),
        (
            ("{c} {credential_comment}", "{c{credential_comment}"),
            r"no slot from \{c on; expected \{c\}",
        ),
        (("{uuid}", "{uuid:4}"), r"\{uuid:4\}; .*take a number"),
        (("negative = 0.33", "negative = 1.33"), r"shares\.negative must be in \[0, 1\]"),
        (("NAME = 0.22", "PHONE = 0.22"), r"shares\.label\.PHONE is not a label"),
        (("0 = 0.2", "few = 0.2"), r"shares\.lines\.few is not a whole number"),
        (("[slots]", "[slots]\nword = ['a']"), r"the slot \{word\} is stated twice"),
        (('groups = ["CMake"]', 'groups = ["CMaek"]'), "CMaek is not a language"),
        (("negative = 0.33", "negativ = 0.33"), "negativ is not a setting"),
    ],
)
def test_a_mix_that_is_not_as_it_should_be_is_an_error(tmp_path, change, message):
    with pytest.raises(ConfigError, match=rf"mix\.toml: .*{message}"):
        mix_with(tmp_path, change)


def test_every_slot_is_named_in_the_head_of_the_mix_or_stated_there(mix):
    head = DEFAULT_MIX.read_text(encoding="utf-8").partition("[shares]\n")[0]
    stated = {*mix.identifiers, *mix.slots}
    stated |= {f"{name.removesuffix('_var')}_env" for name in mix.identifiers}
    missing = [
        slot for slot in mix.known_slots() - stated if not re.search(rf"\{{{slot}(:N)?\}}", head)
    ]
    assert missing == []


def test_the_report_counts_every_span_once_and_shows_marked_samples(sources, mix, tmp_path):
    text, synthesis = made(sources, mix, tmp_path, "a", seed=1)
    spans = [span for line in text.split("\n")[:-1] for span in json.loads(line)["spans"]]

    assert synthesis.count() == len(spans) == synthesis.spans.total()
    assert synthesis.count("KEY", "real") == sum(
        (span["label"], span["kind"]) == ("KEY", "real") for span in spans
    )
    labelled = sum(n for (_, label), n in synthesis.templates.items() if label != "-")
    assert labelled == len(spans)
    assert synthesis.windows == {"Python": 60}
    shown = synthesis_text(synthesis)
    assert shown.startswith(f"60 windows, {len(spans)} spans\n")
    assert "site:todo" in shown
    write_report(synthesis, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    samples = synthesis.samples["Python"]
    assert page.count("<mark ") == sum(len(sample.spans) for sample in samples)
    assert "<script" not in page


def test_an_output_that_cannot_be_written_is_an_output_error(sources, mix, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="x: cannot be written"):
        write_examples(sources, tmp_path / "file" / "x", mix, count=1, seed=1)


def test_files_of_which_no_window_can_be_used_are_an_error(mix, tmp_path):
    short = [Source("made-up", "a.py", "Python", "x = 1\n")]
    with pytest.raises(DataError, match="windows left out for 0 written"):
        write_examples(short, tmp_path / "x", mix, count=1, seed=1)


def test_files_that_no_example_is_drawn_from_are_counted(tmp_path):
    (tmp_path / "package").mkdir()
    for name in ("a.py", "b.min.js", "c.unheard-of"):
        (tmp_path / "package" / name).write_text(CODE, encoding="utf-8")
    (tmp_path / "package" / "d.py").write_bytes(CODE.encode() + b"\xe9")
    left_out = Counter()

    sources = load_sources(tmp_path, num_chars=10**6, seed=1, left_out=left_out)

    assert len(sources) == 1
    assert left_out == {"vendored or minified": 1, "language not known": 1, "not UTF-8": 1}


def test_a_folder_without_packages_says_why(tmp_path):
    with pytest.raises(DataError, match="none: no such folder"):
        load_sources(tmp_path / "none", num_chars=1, seed=1, left_out=Counter())

    folder = tmp_path / "packages"
    folder.mkdir()
    with pytest.raises(DataError, match=r"one unpacked package per subfolder$"):
        load_sources(folder, num_chars=1, seed=1, left_out=Counter())

    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.py").write_text(CODE, encoding="utf-8")
    (folder / "linked").symlink_to(tmp_path / "real")
    with pytest.raises(DataError, match=r"\(1 links in it are not followed\)"):
        load_sources(folder, num_chars=1, seed=1, left_out=Counter())


@pytest.mark.parametrize("label", LABELS)
def test_every_label_has_its_share_of_examples(mix, label):
    rng = random.Random(3)
    lines = LineMaker(mix, rng, ValueMaker(rng, WORDS), Prose())
    template = Template(f"x = '{{{label}}}'", "made-up", frozenset([label]), 1.0)

    kinds = Counter(
        piece.kind for _ in range(500) for piece in lines.fill(template, "Python") if piece.label
    )

    assert kinds["example"] / kinds.total() == pytest.approx(mix.shares.example, abs=0.05)


def test_new_values_leave_the_text_outside_the_spans_alone():
    rng = random.Random(2)
    values = ValueMaker(rng, WORDS)
    text = "author: Lena Novak, host 198.51.100.7, by Lena Novak"
    spans = (
        Span(start=8, end=18, label="NAME"),
        Span(start=25, end=37, label="IP_ADDRESS", kind="example"),
        Span(start=42, end=52, label="NAME"),
    )
    document = Document(id="a", language="", package="", path="", text=text, spans=spans)
    changed = 0
    for _ in range(50):
        new = revalue(document, values, rng)
        a, b, c = (new.text[s.start : s.end] for s in new.spans)
        assert new.text == f"author: {a}, host {b}, by {c}"
        assert a == c
        assert [(s.label, s.kind) for s in new.spans] == [(s.label, s.kind) for s in spans]
        changed += a != "Lena Novak"
    assert changed > 25
