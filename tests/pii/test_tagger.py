import dataclasses
import hashlib
import importlib.util
import itertools
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

import pii.decode
import pii.tagger
from pii.chunks import ChunkConfig, chunk_starts
from pii.decode import decode_spans
from pii.detect import EMBEDDED_MODEL
from pii.labels import LABELS, TAG_IDS, TAGS
from pii.session import load_session
from pii.tagger import Tagger, load_tagger, tag_probabilities, tokenize_document
from starencoder.errors import CheckpointError
from starencoder.tokenizer import Encoded, load_tokenizer

CLS, SEP = 1, 2


def spans_at(text, probs, offsets=None):
    """Decode with one token for each non-space character unless told otherwise."""
    if offsets is None:
        offsets = [(at, at + 1) for at, char in enumerate(text) if not char.isspace()]
    return decode_spans(text, np.array(offsets, np.int32).reshape(-1, 2), [np.array(probs)])


def rows(*tags):
    """One row for each `TAG` or `(TAG, probability)`; the rest of it goes to O."""
    probs = np.zeros((len(tags), len(TAGS)), np.float32)
    for row, tag in zip(probs, tags, strict=True):
        name, share = (tag, 1.0) if isinstance(tag, str) else tag
        row[0] = 1 - share
        row[TAG_IDS[name]] += share
    return probs


def found(text, spans):
    return [(text[span.start : span.end], span.label) for span in spans]


# --------------------------------------------------------------------------------------------------
# from tokens to probabilities


def context_probs(chunk, num_columns):
    """Probabilities that depend on the token, its neighbours and where in the chunk it is."""
    probs = np.empty((len(chunk), num_columns), np.float32)
    for at in range(len(chunk)):
        seen = (chunk[max(0, at - 1) : at + 2], at, len(chunk))
        digest = hashlib.blake2b(repr(seen).encode(), digest_size=num_columns).digest()
        probs[at] = np.frombuffer(digest, np.uint8) + np.float32(1)
    return probs / probs.sum(axis=1, keepdims=True)


@st.composite
def taggers(draw):
    max_tokens = draw(st.integers(1, 12))
    chunks = ChunkConfig(max_tokens=max_tokens, stride=draw(st.integers(1, max_tokens)))
    columns = draw(st.permutations([*range(len(TAGS)), None, None]))
    tokenizer = SimpleNamespace(cls_id=CLS, sep_id=SEP)
    calls = []

    def predict(batch):
        calls.append(len(batch))
        assert all(chunk[0] == CLS and chunk[-1] == SEP for chunk in batch)
        return [context_probs(chunk, len(columns)) for chunk in batch]

    return Tagger(tokenizer, predict, tuple(columns), chunks, {}), calls


@given(made=taggers(), num_tokens=st.integers(0, 150))
def test_every_token_gets_the_mean_over_its_chunks_weighted_by_the_distance_to_their_edges(
    made, num_tokens
):
    tagger, calls = made
    ids = np.random.default_rng(num_tokens).integers(10, 99, num_tokens).astype(np.int32)
    starts = chunk_starts(num_tokens, tagger.chunks)
    expected = np.zeros((num_tokens, len(TAGS)))
    for token in range(num_tokens):
        weights = 0
        for start in starts:
            chunk = ids[start : start + tagger.chunks.max_tokens].tolist()
            place = token - start
            if 0 <= place < len(chunk):
                probs = context_probs([CLS, *chunk, SEP], len(tagger.columns))[place + 1]
                weight = 1 + min(place, len(chunk) - 1 - place)
                weights += weight
                for probability, column in zip(probs, tagger.columns, strict=True):
                    if column is not None:
                        expected[token, column] += weight * probability
        expected[token] /= weights

    blocks = list(tag_probabilities(ids, tagger))

    stitched = np.concatenate([np.zeros((0, len(TAGS))), *blocks])
    np.testing.assert_allclose(stitched, expected, atol=1e-6)
    assert sum(calls) == len(starts)


@given(
    st.text(alphabet=st.characters() | st.sampled_from("\n\r a"), max_size=80), st.integers(1, 9)
)
def test_a_text_is_tokenised_in_segments_that_together_are_the_text(text, size):
    def encode(segment):
        assert 0 < len(segment) <= size
        places = [at for at, char in enumerate(segment) if not char.isspace()]
        ids = np.array([ord(segment[at]) for at in places], np.int32)
        return Encoded(ids, np.array([(at, at + 1) for at in places], np.int32).reshape(-1, 2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pii.tagger, "_SEGMENT_CHARS", size)
        ids, offsets = tokenize_document(text, SimpleNamespace(encode=encode))

    assert "".join(map(chr, ids)) == "".join(char for char in text if not char.isspace())
    assert [text[start:end] for start, end in offsets] == [chr(token) for token in ids]


@given(
    lines=st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r"), max_size=9)),
    ends=st.sampled_from([["\r\n"], ["\r"], ["\r\n", "\n"], ["\r\n", "\r"]]),
)
def test_tokens_and_their_texts_are_the_same_whatever_the_line_ends(lines, ends):
    tokenizer = load_tokenizer(EMBEDDED_MODEL)
    text = "".join(line + end for line, end in zip(lines, itertools.cycle(ends)))
    plain = "".join(f"{line}\n" for line in lines)

    ids, offsets = tokenize_document(text, tokenizer)
    plain_ids, plain_offsets = tokenize_document(plain, tokenizer)

    assert ids.tolist() == plain_ids.tolist()
    assert [text[a:b].replace("\r\n", "\n").replace("\r", "\n") for a, b in offsets] == [
        plain[a:b] for a, b in plain_offsets
    ]


# --------------------------------------------------------------------------------------------------
# from probabilities to spans


@given(
    st.lists(
        st.sampled_from(["O"]) | st.sampled_from([t for t in TAGS if t[2:] in ("EMAIL", "KEY")]),
        max_size=12,
    )
)
def test_words_with_spaces_between_them_decode_as_seqeval_reads_their_tags(tags):
    # Other labels differ by intent: names join over a space, user names hold none.
    text = " ".join("abcdefghijklmnop"[: len(tags)])

    spans = spans_at(text, rows(*tags))

    assert [(s.label, s.start // 2, s.end // 2) for s in spans] == get_entities(tags)


def test_a_word_has_the_mean_of_its_pieces_weighted_by_their_characters():
    text = "abcdef xy"
    probs = rows(("B-PASSWORD", 0.2), ("I-PASSWORD", 0.8), ("B-PASSWORD", 0.1))

    (span,) = spans_at(text, probs, [(0, 2), (2, 6), (7, 9)])

    assert found(text, [span]) == [("abcdef", "PASSWORD")]
    assert span.score == pytest.approx((2 * 0.2 + 4 * 0.8) / 6, abs=1e-4)


def test_the_likeliest_label_of_a_word_wins_though_single_pieces_say_another():
    text = "abcdef"
    probs = rows(("B-USERNAME", 0.9), ("I-NAME", 0.6))

    assert found(text, spans_at(text, probs, [(0, 1), (1, 6)])) == [("abcdef", "NAME")]


def test_the_score_of_a_span_is_the_mean_over_its_words_weighted_by_their_characters():
    text = "Jo Malina"
    probs = rows(("B-NAME", 0.4), ("I-NAME", 0.9))

    (span,) = spans_at(text, probs, [(0, 2), (3, 9)])

    assert span.score == pytest.approx((2 * 0.4 + 6 * 0.9) / 8, abs=1e-4)


def test_pieces_of_one_character_belong_to_one_word():
    text = "an Żal"  # the space is a token, whose offsets leave it out; the capital is two
    offsets = [(0, 2), (3, 3), (3, 4), (3, 4), (4, 6)]
    probs = rows("O", "O", ("I-USERNAME", 0.2), ("I-USERNAME", 0.7), ("I-USERNAME", 1.0))

    (span,) = spans_at(text, probs, offsets)

    assert found(text, [span]) == [("Żal", "USERNAME")]
    assert span.score == pytest.approx((0.2 + 0.7 + 2 * 1.0) / 4, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "label", "values"),
    [
        ("Ana Bel", "NAME", ["Ana Bel"]),
        ("Ana-Bel", "NAME", ["Ana-Bel"]),
        ("A. Bel", "NAME", ["A. Bel"]),
        ("O'Bel", "NAME", ["O'Bel"]),
        ("O’Bel", "NAME", ["O’Bel"]),
        ("Ana, Bel", "NAME", ["Ana", "Bel"]),
        ("Ana\nBel", "NAME", ["Ana", "Bel"]),
        ("Ana/Bel", "NAME", ["Ana", "Bel"]),
        ("ana bel", "USERNAME", ["ana", "bel"]),
        ("ana-bel", "USERNAME", ["ana-bel"]),
        ("ana bel", "PASSWORD", ["ana bel"]),
    ],
)
def test_what_joins_two_words_of_one_label_depends_on_the_label(text, label, values):
    words = [match.span() for match in re.finditer(r"\w+", text)]
    tags = [f"I-{label}"] * len(words)
    joints = [(s, s + 1) for s, c in enumerate(text) if not (c.isalnum() or c.isspace())]
    both = sorted([*zip(words, tags, strict=True), *((joint, "O") for joint in joints)])
    if label == "PASSWORD":
        both[0] = (both[0][0], "B-PASSWORD")

    spans = spans_at(text, rows(*(tag for _, tag in both)), [place for place, _ in both])

    assert found(text, spans) == [(value, label) for value in values]


def test_a_space_that_is_a_token_of_its_own_joins_two_names():
    text = "Ana Żal"
    probs = rows("B-NAME", "O", "I-NAME", "I-NAME", "I-NAME")

    spans = spans_at(text, probs, [(0, 3), (4, 4), (4, 5), (4, 5), (5, 7)])

    assert found(text, spans) == [("Ana Żal", "NAME")]


def test_a_key_does_not_end_where_another_seems_to_begin_without_a_space():
    text = "ab+cd ef"
    probs = rows("B-KEY", "I-KEY", "B-KEY", "B-KEY")

    spans = spans_at(text, probs, [(0, 2), (2, 3), (3, 5), (6, 8)])

    assert found(text, spans) == [("ab+cd", "KEY"), ("ef", "KEY")]


@pytest.mark.parametrize(
    ("label", "text", "value"),
    [
        ("KEY", '("Ab1+/=")', "Ab1+/="),
        ("PASSWORD", "'(p4;s!)'", "(p4;s!)"),
        ("EMAIL", "<me@home>.", "me@home"),
        ("USERNAME", "@some_one,", "some_one"),
        ("IP_ADDRESS", "[::1]:", "::1"),
        ("IP_ADDRESS", '"fe80::",', "fe80::"),
        ("IP_ADDRESS", "<::>", "::"),
        ("IP_ADDRESS", "addr:1.2.3.4:", "addr:1.2.3.4"),
        ("IP_ADDRESS", ":1.2.3.4:", "1.2.3.4"),
    ],
)
def test_what_surrounds_a_value_is_trimmed_as_its_label_allows(label, text, value):
    tags = [f"B-{label}", *[f"I-{label}"] * (len(text) - 1)]
    assert found(text, spans_at(text, rows(*tags))) == [(value, label)]


@pytest.mark.parametrize(
    ("label", "value", "score"),
    [
        ("NAME", "Roe", 0.4096),
        ("NAME", "Jane Roe", 0.8),
        ("NAME", "J.Roe", 0.8),
        ("NAME", "Ruiz-Sato", 0.8),
        ("NAME", "Roe2", 0.4096),
        ("NAME", "O'Roe", 0.4096),
        ("NAME", "Jane O'roe", 0.8),
        ("NAME", "Jane van der Roe", 0.8),
        ("NAME", "Jeanne d'Arc", 0.8),
        ("NAME", "Jane's place", 0.4096),
        ("NAME", "jane roe", 0.4096),
        ("NAME", "Новый пароль", 0.4096),
        ("NAME", "Жанна Роу", 0.8),
        ("NAME", "סיסמה חדשה", 0.4096),
        ("KEY", "qPw3ZtLmKx7Vb2N", 0.4096),
        ("KEY", "qPw3ZtLmKx7Vb2Nc", 0.8),
        ("KEY", "qPwaZtLmKxoVbtNc", 0.4096),
        ("PASSWORD", "sun", 0.8),
        ("USERNAME", "roe", 0.8),
    ],
)
def test_what_has_a_form_that_is_rare_for_its_label_counts_less(label, value, score):
    text = f"x {value} y"
    offsets = [(at, at + 1) for at in range(2, 2 + len(value))]
    tags = [(f"B-{label}", 0.8), *[(f"I-{label}", 0.8)] * (len(value) - 1)]

    (span,) = spans_at(text, rows(*tags), offsets)

    assert (text[span.start : span.end], span.score) == (value, score)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Oak Harbour, Inc.", []),
        ("Oak Harbour Ltd", []),
        ("Oak Harbour B.V.", []),
        ("Oak Harbour (Pty) Ltd", []),
        ("Jane Roe, Oak Inc.", ["Jane Roe"]),
        ("Jane Roe and Incarnacion Ruiz", ["Jane Roe", "Incarnacion Ruiz"]),
        ("Jane Limitedova", ["Jane Limitedova"]),
    ],
)
def test_a_company_is_no_person(text, names):
    words = [(word.start(), word.end()) for word in re.finditer(r"\w+|[^\w\s]", text)]
    tags = ["B-NAME", *["I-NAME"] * (len(words) - 1)]

    assert found(text, spans_at(text, rows(*tags), words)) == [(name, "NAME") for name in names]


@pytest.mark.parametrize(
    ("value", "is_user"),
    [("v2", False), ("v1.0.3", False), ("NODE-4994", False), ("v2roe", True), ("roe-42", True)],
)
def test_neither_a_version_nor_the_key_of_an_issue_is_a_user(value, is_user):
    text = f"TODO({value}) x"
    offsets = [(at, at + 1) for at in range(5, 5 + len(value))]
    tags = ["B-USERNAME", *["I-USERNAME"] * (len(value) - 1)]

    spans = spans_at(text, rows(*tags), offsets)

    assert found(text, spans) == [(value, "USERNAME")] * is_user


def test_only_keys_of_long_lines_run_over_line_ends():
    line = "qPw3ZtLmKx7Vb2NcRd9Yf5Hj8Sg4Te"
    for label, text, values in (
        ("KEY", f"{line}\n{line}\r\nef", [f"{line}\n{line}\r\nef"]),
        ("KEY", f'{line}\\n"\n "{line}', [f'{line}\\n"\n "{line}']),
        ("KEY", "ab\ncd", ["ab", "cd"]),
        ("KEY", f"{line} = x\n{line}", [f"{line} = x", line]),
        ("PASSWORD", f"{line}\n{line}", [line, line]),
    ):
        tags = [f"B-{label}", *[f"I-{label}"] * (len(text) - 1)]
        spans = spans_at(text, rows(*tags), [(at, at + 1) for at in range(len(text))])
        assert found(text, spans) == [(value, label) for value in values]


@pytest.mark.parametrize(
    ("label", "text", "values"),
    [
        ("NAME", "Ana Bel, Eva Kiss", ["Ana Bel", "Eva Kiss"]),
        ("NAME", "Ana Bel Jr., Eva Kiss.", ["Ana Bel Jr.", "Eva Kiss"]),
        ("NAME", "Ana Bel, Jr., Eva Kiss", ["Ana Bel, Jr.", "Eva Kiss"]),
        ("NAME", "Ana Bel, III.", ["Ana Bel, III"]),
        ("NAME", "Ana Bel and Eva Kiss", ["Ana Bel", "Eva Kiss"]),
        ("NAME", "Ana Belka. Thanks", ["Ana Belka"]),
        ("NAME", "Ana Bel, Acme", ["Ana Bel"]),
        ("NAME", "Bel, Ana", ["Bel", "Ana"]),
        ("NAME", "thanks to Ana Bel", ["Ana Bel"]),
        ("PASSWORD", "'xy'zzy'))", ["xy"]),
        ("PASSWORD", "xy'zzy", ["xy'zzy"]),
        ("PASSWORD", "'xy\\'zzy'))", ["xy\\'zzy'))"]),
        ("NAME", "A. B. Bel", ["A. B. Bel"]),
        ("USERNAME", "anabel}\\n", ["anabel"]),
        ("USERNAME", "-anabel+", ["anabel"]),
        ("USERNAME", "ana.b@bel-2", ["ana.b@bel-2"]),
    ],
)
def test_what_stands_in_no_value_parts_it(label, text, values):
    tags = [f"B-{label}", *[f"I-{label}"] * (len(text) - 1)]
    spans = spans_at(text, rows(*tags), [(at, at + 1) for at in range(len(text))])
    assert found(text, spans) == [(value, label) for value in values]


def test_a_user_name_widens_over_hyphens_but_not_to_a_title():
    for text, value in (
        ("by @kaari-ainen in", "kaari-ainen"),
        ("using-a-passwd-file-as-the-kaari-database", "kaari"),
        ("x--kaari--y", "kaari"),
    ):
        at = text.index("kaari")
        (span,) = spans_at(text, rows("B-USERNAME"), [(at, at + 5)])
        assert found(text, [span]) == [(value, "USERNAME")]


PIECES = st.lists(st.text("abŻ王9_ \n-.'\"@", min_size=1, max_size=4), min_size=1, max_size=40)


@st.composite
def tagged_texts(draw):
    """A text, the offsets of pieces of it that leave out some spaces, and probabilities."""
    pieces = draw(PIECES)
    text = "".join(pieces)
    offsets, end = [], 0
    for piece in pieces:
        start, end = end, end + len(piece)
        offsets.append((start + len(piece) - len(piece.lstrip(" ")), end))
        if draw(st.booleans()) and not piece.isascii():
            offsets.append((end - 1, end))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probs = rng.dirichlet(np.full(len(TAGS), 0.1), len(offsets)).astype(np.float32)
    return text, np.array(offsets, np.int32), probs


@given(tagged_texts(), st.lists(st.integers(0, 60), max_size=6))
def test_how_probabilities_are_cut_into_blocks_makes_no_difference(tagged, cuts):
    text, offsets, probs = tagged
    blocks = np.split(probs, sorted(min(cut, len(probs)) for cut in cuts))

    assert decode_spans(text, offsets, blocks) == decode_spans(text, offsets, [probs])


@given(tagged_texts(), st.integers(1, 5))
def test_spans_are_sorted_apart_and_trimmed_even_in_words_without_end(tagged, longest):
    text, offsets, probs = tagged
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pii.decode, "_LONGEST_WORD", longest)
        spans = decode_spans(text, offsets, np.split(probs, range(3, len(probs), 3)))

    end = 0
    for span in spans:
        assert end <= span.start < span.end <= len(text)
        assert text[span.start : span.end].strip() == text[span.start : span.end]
        assert 0 <= span.score <= 1
        assert span.label in LABELS
        end = span.end


def test_a_word_without_end_is_one_span_with_its_best_score():
    text = "x" * 1000 + " y"
    probs = rows(*[("I-PASSWORD", 0.4)] * 100, *["O"] * 200, *[("I-PASSWORD", 0.9)] * 700, "O")
    blocks = np.split(probs, range(50, 1000, 50))
    offsets = np.array([(at, at + 1) for at in range(1000)] + [(1001, 1002)], np.int32)

    (span,) = decode_spans(text, offsets, blocks)

    assert (span.start, span.end) == (0, 1000)
    assert span.score > 0.85


# --------------------------------------------------------------------------------------------------
# the embedded model


@pytest.fixture(scope="module")
def tagger():
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("ONNX Runtime is not installed")
    return load_tagger(EMBEDDED_MODEL, load_session(EMBEDDED_MODEL))


def test_the_embedded_model_gives_a_chunk_the_same_result_in_any_company(tagger):
    rng = random.Random(4)
    ids = [rng.randrange(tagger.tokenizer.vocab_size) for _ in range(700)]
    chunks = [[*ids[at : at + length]] for at, length in ((0, 128), (90, 3), (200, 128), (400, 57))]
    alone = [tagger.predict([chunk])[0] for chunk in chunks]
    order = [2, 0, 3, 1, 2]

    together = tagger.predict([chunks[index] for index in order])

    for index, probs in zip(order, together, strict=True):
        assert probs.tobytes() == alone[index].tobytes()
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-4)


def test_a_document_has_the_same_probabilities_however_its_chunks_are_grouped(tagger, monkeypatch):
    text = "".join(f"def f{at}(a, b=None):\n    return {at}  # by someone\n" for at in range(60))
    ids, _ = tokenize_document(text, tagger.tokenizer)
    whole = np.concatenate(list(tag_probabilities(ids, tagger)))
    monkeypatch.setattr(pii.tagger, "_CHUNKS_PER_CALL", 1)

    assert np.concatenate(list(tag_probabilities(ids, tagger))).tobytes() == whole.tobytes()
    assert len(whole) == len(ids) > 3 * tagger.chunks.max_tokens


def test_the_embedded_model_has_both_operating_points_and_its_own_chunks(tagger):
    assert set(tagger.operating_points) == {"balanced", "thorough"}
    assert all(set(points) == set(LABELS) for points in tagger.operating_points.values())
    assert sorted(c for c in tagger.columns if c is not None) == list(range(len(TAGS)))
    assert dataclasses.asdict(tagger.chunks)["max_tokens"] == 62


def test_unusable_settings_of_a_model_are_one_clear_error(tmp_path):
    import json

    config = json.loads((EMBEDDED_MODEL / "config.json").read_text(encoding="utf-8"))
    del config["pii"]["operating_points"]["thorough"]["KEY"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"config\.json: not the configuration .*'KEY'"):
        load_tagger(tmp_path, lambda chunks: [])


@pytest.mark.parametrize(
    ("text", "value", "whole"),
    [
        ('password = "Zeb*ra\\"Cross9"', "Cross9", 'Zeb*ra\\"Cross9'),
        ("'secret': 'x;Kd93-|j[U 3f'", "Kd93", "x;Kd93-|j[U 3f"),
        ("define('AUTH_KEY', 'x;Kd93(q')", "Kd93", "x;Kd93(q"),
        ('password = "the one is Kd93"', "Kd93", "Kd93"),
        ('token = "Bearer Kd93x"', "Kd93x", "Kd93x"),
        ('token = "https://x/?t=Kd93"', "Kd93", "Kd93"),
        ('secret = "${A}Kd93"', "Kd93", "Kd93"),
        ('colour = "x;Kd93(q"', "Kd93", "Kd93"),
        ('secret = "x;Kd93(q', "Kd93", "Kd93"),
    ],
)
def test_a_secret_found_in_part_of_a_literal_is_the_whole_literal(text, value, whole):
    words = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    at = text.index(value)
    tags = ["B-KEY" if start == at else "O" for start, end in words]
    probs = np.zeros((len(words), len(TAGS)), np.float32)
    probs[range(len(words)), [TAG_IDS[tag] for tag in tags]] = 1
    spans = decode_spans(text, np.array(words, np.int32), [probs])
    assert [text[span.start : span.end] for span in spans] == [whole]
