import json
import os
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("faker")

import pii.synthesize
from pii.annotations import Document
from pii.labels import LABELS
from pii.spans import Span
from pii.synthesize import (
    PLAIN_SLOTS,
    Source,
    Synthesizer,
    harvest_words,
    load_sources,
    revalue,
    write_examples,
)
from pii.values import ValueMaker
from starencoder.errors import ConfigError, OutputError

WORDS = "server buffer stream widget cloud parse render apple river config engine token".split()
CODE = (
    "# Copyright (c) 2011 Rosalind Ferreira\n"
    "import os\n\n"
    "def connect(host):\n"
    "    # TODO(rferreira): pick the port\n"
    "    password = 'Lw83kdPq'\n"
    "    return open_socket(host, password)\n\n"
) * 6


@pytest.fixture(scope="module")
def sources():
    return [Source("made-up", f"src/{n}.py", "Python", CODE) for n in range(4)]


def made(sources, tmp_path, name, *, seed):
    path = tmp_path / name
    write_examples(sources, path, count=60, seed=seed)
    return path.read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_examples_and_another_seed_others(sources, tmp_path):
    first = made(sources, tmp_path, "a", seed=3)

    assert made(sources, tmp_path, "b", seed=3) == first
    assert made(sources, tmp_path, "c", seed=4) != first


def test_every_label_and_both_kinds_are_planted_and_the_real_values_are_gone(sources, tmp_path):
    records = [json.loads(line) for line in made(sources, tmp_path, "a", seed=1).splitlines()]

    found = {(span["label"], span["kind"]) for record in records for span in record["spans"]}
    assert {label for label, _ in found} == set(LABELS)
    assert {kind for _, kind in found} == {"real", "example"}
    for record in records:
        assert not re.search("Rosalind|rferreira|Lw83kdPq", record["text"])
        assert not re.search(r"\{[A-Za-z]\w+\}", record["text"].replace(CODE, ""))


def synthesizer_of(lines, tmp_path, monkeypatch):
    tables = tmp_path / "lines.toml"
    tables.write_text(f"[c]\ngroups = ['*']\nlines = {json.dumps(lines)}\n", encoding="utf-8")
    monkeypatch.setattr(pii.synthesize, "_TABLES", tables)
    rng = random.Random(1)
    return Synthesizer(rng, ValueMaker(rng, WORDS))


def test_a_slot_that_nothing_fills_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"lines\.toml: \[c\]: unknown slot \{pasword\}; known"):
        synthesizer_of(["x = {num}", "y = {pasword}"], tmp_path, monkeypatch)


def test_every_slot_is_filled_and_named_in_the_head_of_the_tables(tmp_path, monkeypatch):
    head = pii.synthesize._TABLES.read_text(encoding="utf-8").partition("[")[0]
    assert {slot for slot in PLAIN_SLOTS if f"{{{slot}}}" not in head} == set()
    synthesizer = synthesizer_of(["{num}"], tmp_path, monkeypatch)
    for slot in PLAIN_SLOTS:
        pieces = list(synthesizer._fill(f"<{{{slot}}}>", "Python"))
        assert len("".join(piece.text for piece in pieces)) > 2


def test_an_output_that_cannot_be_written_is_an_output_error(sources, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="x: cannot be written"):
        write_examples(sources, tmp_path / "file" / "x", count=1, seed=1)


def test_files_that_no_example_is_drawn_from_are_counted(tmp_path):
    (tmp_path / "package").mkdir()
    for name in ("a.py", "b.min.js", "c.unheard-of"):
        (tmp_path / "package" / name).write_text(CODE, encoding="utf-8")
    (tmp_path / "package" / "d.py").write_bytes(CODE.encode() + b"\xe9")
    left_out = Counter()

    sources = load_sources(tmp_path, num_chars=10**6, seed=1, left_out=left_out)

    assert len(sources) == 1
    assert left_out == {"vendored or minified": 1, "language not known": 1, "not UTF-8": 1}


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


def test_the_commonest_words_everywhere_are_left_out():
    texts = [f"return value {word} thing" for word in WORDS] * 3

    assert set(harvest_words(texts)) == {word for word in WORDS if 4 <= len(word) <= 9}


def test_words_come_in_the_same_order_in_every_process():
    program = (
        "import sys\n"
        "from pii.synthesize import harvest_words\n"
        "print(harvest_words([' '.join(sys.argv[1:]), *['x'] * 20]))\n"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", program, *WORDS],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(orders) == 1
