import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.chunks import ChunkConfig
from pii.detect import EMBEDDED_MODEL, Detector, load_detector, rule_names
from pii.labels import LABELS, TAG_IDS, TAGS
from pii.spans import Span
from pii.tagger import Tagger
from starencoder.errors import CheckpointError, ConfigError
from starencoder.tokenizer import Encoded

EVERYTHING = dict.fromkeys(LABELS, 0.0)
ADDRESS = "jane.roe@" + "acme-corp.io"


def tagger_of(tags):
    """A tagger that gives a word, looked up in `tags`, its `(tag, probability)`."""
    words = {}

    def encode(text):
        places = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
        ids = [words.setdefault(text[start:end], 10 + len(words)) for start, end in places]
        return Encoded(np.array(ids, np.int32), np.array(places, np.int32).reshape(-1, 2))

    def predict(chunks):
        known = {number: tags.get(word, ("O", 1.0)) for word, number in words.items()}
        results = []
        for chunk in chunks:
            probs = np.zeros((len(chunk), len(TAGS)), np.float32)
            for row, token in zip(probs, chunk, strict=True):
                tag, share = known.get(token, ("O", 1.0))
                row[0] = 1 - share
                row[TAG_IDS[tag]] += share
            results.append(probs)
        return results

    tokenizer = SimpleNamespace(cls_id=1, sep_id=2, encode=encode)
    chunks = ChunkConfig(max_tokens=6, stride=4)
    return Tagger(tokenizer, predict, tuple(range(len(TAGS))), chunks, {})


def found(text, spans):
    return [(text[span.start : span.end], span.label, span.source) for span in spans]


# --------------------------------------------------------------------------------------------------
# merging


PIECES = st.sampled_from(
    [
        "Jane Roe", "jane", "x9", " ", "\n", "\r\n", "(", '"', "=", ",", "é", "王", "\U0001f600",
        "\ud83d", "\udc80", ADDRESS, "http://u:pw9x@" + "h.io/", "10.1.2.3", "8.8.4.4", "password",
        "Copyright 2019 ", "# author: ",
    ]
)  # fmt: skip


@given(
    st.lists(PIECES, max_size=30).map("".join),
    st.dictionaries(
        st.sampled_from(["Jane", "Roe", "jane", "x9", "é", "王", "acme", "u", "8", "password"]),
        st.tuples(st.sampled_from(TAGS), st.floats(0, 1, width=32)),
    ),
)
def test_spans_are_sorted_apart_inside_the_text_and_of_known_labels_and_kinds(text, tags):
    spans = Detector(tagger_of(tags), thresholds=EVERYTHING).detect(text)

    end = 0
    for span in spans:
        assert end <= span.start < span.end <= len(text)
        assert span.label in LABELS
        assert span.kind in ("real", "example", "licence")
        assert 0 <= span.score <= 1
        end = span.end


def test_a_pattern_wins_over_the_tagger_where_they_overlap():
    text = f"mail Jane at {ADDRESS} now"
    tags = {"Jane": ("B-NAME", 0.9), "jane": ("B-USERNAME", 0.99), "roe": ("B-NAME", 0.99)}

    spans = Detector(tagger_of(tags), thresholds=EVERYTHING).detect(text)

    assert found(text, spans) == [("Jane", "NAME", "model"), (ADDRESS, "EMAIL", "pattern:email")]


def test_a_span_is_reported_from_the_threshold_of_its_own_label_on():
    text = "Jane Roe met bob42"
    tags = {"Jane": ("B-NAME", 0.75), "Roe": ("I-NAME", 0.75), "bob42": ("B-USERNAME", 0.75)}
    thresholds = {**EVERYTHING, "NAME": 0.75, "USERNAME": 0.76}
    detector = Detector(tagger_of(tags), thresholds=thresholds)

    assert found(text, detector.detect(text)) == [("Jane Roe", "NAME", "model")]
    assert len(detector.tagged_spans(text)) == 2
    combined = detector.combine(text, detector.tagged_spans(text), {**EVERYTHING, "NAME": 0.76})
    assert found(text, combined) == [("bob42", "USERNAME", "model")]


def test_only_the_labels_asked_for_are_reported():
    text = f"Jane wrote to {ADDRESS}"
    detector = Detector(
        tagger_of({"Jane": ("B-NAME", 0.9)}), thresholds=EVERYTHING, labels=["EMAIL"]
    )
    assert found(text, detector.detect(text)) == [(ADDRESS, "EMAIL", "pattern:email")]


def test_a_label_left_out_hides_nothing_of_the_others_and_shows_no_part_of_its_values():
    text = f"wrote to {ADDRESS}"
    tags = {"jane": ("B-USERNAME", 0.9)}
    detector = Detector(tagger_of(tags), thresholds=EVERYTHING, labels=["USERNAME"])
    assert detector.detect(text) == []


def test_rules_that_are_switched_off_find_and_filter_nothing():
    text = "ask me at joe@" + "foo.test"
    (span,) = load_detector("none").detect(text)
    (kept,) = load_detector("none", disabled=frozenset(["example-domain"])).detect(text)
    assert (span.kind, kept.kind) == ("example", "real")
    rule = span.source.removeprefix("pattern:")
    assert load_detector("none", disabled=frozenset([rule])).detect(text) == []


def test_what_the_tagger_finds_is_filtered_too():
    text = "Copyright (c) 2019 Marta Lind\n"
    tags = {"Marta": ("B-NAME", 0.9), "Lind": ("I-NAME", 0.9)}

    (span,) = Detector(tagger_of(tags), thresholds=EVERYTHING).detect(text)

    assert (text[span.start : span.end], span.kind) == ("Marta Lind", "licence")


# --------------------------------------------------------------------------------------------------
# values that stand more than once


class Scripted(Detector):
    """Finds what it is told to."""

    def __init__(self, spans, **options):
        super().__init__(None, **options)
        self.spans = spans

    def iter_tagged(self, texts):
        return (self.spans for _ in texts)


def names(*places):
    return [Span(start=start, end=end, label="NAME", score=score) for start, end, score in places]


def test_a_name_below_its_threshold_is_not_looked_for_and_a_part_of_one_becomes_the_whole():
    text = "Ann Lee and Bo Day. Ann Lee? Bo Day!"
    tagged = names((0, 7, 0.9), (12, 18, 0.4), (20, 23, 0.9), (29, 31, 0.9))

    spans = Scripted(tagged, thresholds={**EVERYTHING, "NAME": 0.5}).detect(text)

    assert [text[span.start : span.end] for span in spans] == ["Ann Lee", "Ann Lee", "Bo"]


def test_what_a_detector_is_less_than_sure_of_is_found_where_it_stands_and_nowhere_else():
    text = "Ann Lee. Ann Lee. Bo Day. Bo Day."
    detector = Scripted(
        names((0, 7, 0.9), (18, 24, 0.96)), thresholds=EVERYTHING, sure={**EVERYTHING, "NAME": 0.95}
    )

    spans = detector.detect(text)

    assert [text[span.start : span.end] for span in spans] == ["Ann Lee", "Bo Day", "Bo Day"]
    assert list(detector.sure_values(text, spans)) == ["Bo Day"]
    # Thresholds that are being chosen depend on none that are there.
    assert len(detector.combine(text, detector.tagged_spans(text), EVERYTHING)) == 4


@pytest.mark.parametrize("point", ["balanced", "thorough"])
def test_a_value_is_looked_for_elsewhere_from_the_balanced_thresholds_on_at_every_point(
    point,
):
    detector = load_detector("tiny", operating_point=point)
    key = "x7Kq" * 6
    spans = [Span(start=0, end=24, label="KEY", score=score) for score in (0.95, 0.97)]

    assert [bool(detector.sure_values(key, [span])) for span in spans] == [False, True]


def test_repeated_values_get_the_kind_of_the_place_they_stand_in():
    text = "# ask Marta Lind\nCopyright (c) 2019 Marta Lind\n# ask Marta Lind\n"
    spans = Scripted(names((6, 16, 0.9)), thresholds=EVERYTHING).detect(text)
    assert [span.kind for span in spans] == ["real", "licence", "real"]


def test_looking_for_repeated_values_is_a_rule_that_can_be_switched_off():
    text = "Ann Lee. Ann Lee."
    tagged = names((0, 7, 0.9))
    off = Scripted(tagged, thresholds=EVERYTHING, disabled=frozenset(["repeated-value"]))
    assert len(Scripted(tagged, thresholds=EVERYTHING).detect(text)) == 2
    assert len(off.detect(text)) == 1
    assert "repeated-value" in rule_names()


# --------------------------------------------------------------------------------------------------
# loading


PLANTED = f'AUTHOR = "Marta Kowalczyk"  # ask {ADDRESS}\n'


@pytest.fixture
def model_dir(tmp_path):
    pytest.importorskip("onnxruntime")
    return shutil.copytree(EMBEDDED_MODEL, tmp_path / "model")


def with_points(model_dir, **points):
    path = model_dir / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["pii"]["operating_points"] = {
        point: dict.fromkeys(LABELS, threshold) for point, threshold in points.items()
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(model_dir)


def test_operating_points_come_from_the_model_and_a_smallest_score_replaces_them(model_dir):
    model = with_points(model_dir, balanced=1.0, thorough=0.3)

    def sources(**options):
        return {span.source for span in load_detector(model, **options).detect(PLANTED)}

    assert sources() == {"pattern:email"}
    assert sources(operating_point="thorough") == {"model", "pattern:email"}
    assert sources(min_score=0.3) == {"model", "pattern:email"}
    assert sources(operating_point="thorough", min_score=1.0) == {"pattern:email"}


def test_the_embedded_model_finds_a_name_that_patterns_do_not():
    pytest.importorskip("onnxruntime")
    spans = load_detector().detect(PLANTED)

    assert ("Marta Kowalczyk", "NAME", "model") in found(PLANTED, spans)
    assert found(PLANTED, load_detector("none").detect(PLANTED)) == [
        (ADDRESS, "EMAIL", "pattern:email")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "no-such-model"}, "unknown model 'no-such-model'; expected tiny, none or"),
        ({"operating_point": "best"}, "unknown operating point 'best'; known: balanced, thorough"),
        ({"labels": []}, "no label given; known: NAME"),
        ({"disabled": frozenset({"emial"})}, r"unknown rule 'emial' \(did you mean email\?\)"),
        ({"min_score": 1.5}, r"must be in 0\.\.1, got 1\.5"),
        ({"min_score": float("nan")}, r"must be in 0\.\.1, got nan"),
        ({"model": "none", "labels": ["NAMES"]}, "unknown label 'NAMES'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_detector(**options)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "onnx/model_int8.onnx"])
def test_a_model_directory_without_one_of_its_files_is_refused_by_name(model_dir, missing):
    (model_dir / missing).unlink()
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        load_detector(str(model_dir))


def test_patterns_alone_need_none_of_the_extras():
    program = (
        "import sys\n"
        "extras = ('numpy', 'onnxruntime', 'tokenizers', 'pyarrow', 'torch', 'transformers')\n"
        "sys.modules.update(dict.fromkeys(extras))\n"  # importing them fails from here on
        "from pii.detect import load_detector\n"
        "(span,) = load_detector('none').detect(sys.argv[1])\n"
        "print(span.label)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, PLANTED], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("EMAIL\n", "")


def test_the_encoder_needs_neither_torch_nor_transformers_nor_onnx():
    pytest.importorskip("onnxruntime")
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'transformers', 'onnx', 'safetensors')))\n"
        "from pii.detect import load_detector\n"
        "print(len(load_detector().detect(sys.argv[1])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, PLANTED], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("2\n", "")
