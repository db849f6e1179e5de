import os
import random
import re
import subprocess
import sys

import pytest

pytest.importorskip("faker")

from pii.dataset import Document
from pii.labels import LABELS
from pii.spans import Span
from pii.synthesize import Source, harvest_words, revalue, write_examples
from pii.values import ValueMaker

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
    import json

    records = [json.loads(line) for line in made(sources, tmp_path, "a", seed=1).splitlines()]

    found = {(span["label"], span["kind"]) for record in records for span in record["spans"]}
    assert {label for label, _ in found} == set(LABELS)
    assert {kind for _, kind in found} == {"real", "example"}
    for record in records:
        assert not re.search("Rosalind|rferreira|Lw83kdPq", record["text"])
        assert not re.search(r"\{[A-Za-z]\w+\}", record["text"].replace(CODE, ""))


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
