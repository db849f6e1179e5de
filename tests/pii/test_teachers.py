import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii import teachers
from pii.detect import EMBEDDED_MODEL
from pii.labels import TAG_IDS, TAGS
from pii.spans import Span
from pii.tagger import load_tagger
from pii.teachers import average_spans, load_teachers
from starencoder.errors import ConfigError

TEXT = 'AUTHOR = "Marta Kowalczyk"\n' * 20


def span(start, end, score, label="NAME"):
    return Span(start=start, end=end, label=label, score=score)


@pytest.mark.parametrize(
    ("opinions", "averaged"),
    [
        ([[span(0, 10, 0.9)], [span(0, 10, 0.5)]], [span(0, 10, 0.7)]),
        ([[span(0, 10, 0.5)], [span(1, 10, 0.9)]], [span(1, 10, 0.7)]),
        ([[span(0, 10, 0.9)], []], [span(0, 10, 0.45)]),
        ([[span(0, 10, 0.9)], [span(0, 10, 0.7, "KEY")]], [span(0, 10, 0.45)]),
        ([[span(0, 10, 0.9)], [span(0, 7, 0.6)]], [span(0, 10, 0.45)]),
        (
            [[span(0, 4, 0.8), span(6, 9, 0.8)], [span(6, 9, 0.6)]],
            [span(0, 4, 0.4), span(6, 9, 0.7)],
        ),
        ([[], []], []),
    ],
)
def test_spans_that_agree_become_one_with_the_mean_score(opinions, averaged):
    assert [(s.start, s.end, s.label, pytest.approx(s.score)) for s in average_spans(opinions)] == [
        (s.start, s.end, s.label, s.score) for s in averaged
    ]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.floats(0, 1)), max_size=8))
def test_taggers_that_agree_are_as_one(places):
    spans, at = [], 0
    for length, gap, score in places:
        spans.append(span(at + gap, at + gap + length, score))
        at += gap + length
    for count in (1, 3):
        averaged = average_spans([spans] * count)
        assert [(s.start, s.end) for s in averaged] == [(s.start, s.end) for s in spans]
        assert [s.score for s in averaged] == pytest.approx([s.score for s in spans])


def fixed(tag, probability):
    """In place of `load_session`: every token has one tag with one probability."""

    def predict(chunks):
        results = []
        for chunk in chunks:
            probs = np.zeros((len(chunk), len(TAGS)), np.float32)
            probs[:, TAG_IDS[tag]] = probability
            probs[:, 0] += 1 - probability
            results.append(probs)
        return results

    return predict


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Three taggers; `b` has other chunks than `a`, and `c` another tokenizer."""
    for name in "abc":
        (tmp_path / name).mkdir()
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(EMBEDDED_MODEL / file, tmp_path / name)
    config = json.loads((tmp_path / "b/config.json").read_text())
    config["pii"].update(max_tokens=50, stride=30)
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    tokenizer = (tmp_path / "c/tokenizer.json").read_text()
    (tmp_path / "c/tokenizer.json").write_text(tokenizer + "\n")
    scores = {"a": ("B-NAME", 0.9), "b": ("B-KEY", 0.8), "c": ("B-NAME", 0.5)}
    monkeypatch.setattr(teachers, "load_session", lambda path: fixed(*scores[path.name]))
    return {name: str(tmp_path / name) for name in "abc"}


def test_with_one_tokenizer_probabilities_are_averaged_by_token(models):
    teach, how = load_teachers([models["a"], models["b"]])
    assert how == "2, averaged by token"
    spans = teach("Marta Kowalczyk")
    assert [(s.label, s.score) for s in spans] == [("NAME", pytest.approx(0.45, abs=1e-3))]
    assert teach(TEXT)
    assert teach("") == []


def test_with_several_tokenizers_spans_are_averaged(models):
    teach, how = load_teachers([models["a"], models["c"]])
    assert how == "2 with 2 tokenizers, averaged by span"
    assert [(s.label, s.score) for s in teach("Marta Kowalczyk")] == [
        ("NAME", pytest.approx(0.7, abs=1e-3))
    ]


def test_one_tagger_teaches_what_it_finds(models):
    teach, how = load_teachers([models["a"], "none"])
    assert how == "one"
    tagger = load_tagger(EMBEDDED_MODEL, fixed("B-NAME", 0.9))
    assert tagger.chunks.max_tokens > 50
    assert [s.score for s in teach("Marta Kowalczyk")] == pytest.approx([0.9], abs=1e-3)


def test_patterns_alone_tag_nothing():
    teach, how = load_teachers(["none"])
    assert (teach(TEXT), how) == ([], "none, patterns alone")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["no-such"], "unknown model 'no-such'"), (["none", "none"], "named twice")],
)
def test_teachers_that_are_unknown_or_named_twice_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        load_teachers(names)
