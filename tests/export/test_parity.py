import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.parity import check_parity, compare, f1_by_label, probe_chunks
from pii.annotations import Document
from pii.dataset import align_targets
from pii.detect import EMBEDDED_MODEL
from pii.labels import TAG_IDS, TAGS
from pii.spans import Span
from pii.tagger import tokenize_document
from starencoder.config import EncoderConfig
from starencoder.errors import ParityError
from starencoder.tokenizer import load_tokenizer

CHUNKS = [[1, 2, 3], [4], [5, 6, 7, 8]]


def uniform(chunks):
    return [np.full((len(chunk), 4), 0.25, np.float32) for chunk in chunks]


def with_change(chunk, token, column, change):
    def predict(chunks):
        results = uniform(chunks)
        results[chunk][token, column] += change
        return results

    return predict


@given(
    where=st.sampled_from([(c, t) for c, chunk in enumerate(CHUNKS) for t in range(len(chunk))]),
    column=st.integers(0, 3),
    change=st.floats(0.001, 0.5),
    sign=st.sampled_from([1, -1]),
)
def test_the_largest_difference_is_found_wherever_it_lies(where, column, change, sign):
    difference = compare(uniform, with_change(*where, column, sign * change), CHUNKS)
    assert difference.largest == pytest.approx(change, abs=1e-6)
    assert (difference.chunk, difference.token) == where
    assert difference.mean == pytest.approx(change / (8 * 4), abs=1e-6)


def test_what_agrees_passes_and_is_reported_as_zero():
    difference = check_parity(uniform, uniform, CHUNKS, limit=0.0, name="model.onnx")
    assert (difference.largest, difference.mean, difference.changed_tags) == (0, 0, 0)


def test_the_error_names_the_difference_the_chunk_and_the_token():
    message = r"^model\.onnx: .* by 3\.0e-02 \(limit 1e-04\) at chunk 2, token 1; report"
    with pytest.raises(ParityError, match=message):
        check_parity(uniform, with_change(2, 1, 0, 0.03), CHUNKS, limit=1e-4, name="model.onnx")


def test_what_is_near_everywhere_but_wrong_on_average_does_not_pass():
    def shifted(chunks):
        return [probs + np.float32(0.002) for probs in uniform(chunks)]

    limits = {"limit": 3e-2, "name": "model_fp16.onnx"}
    check_parity(uniform, shifted, CHUNKS, mean_limit=3e-3, **limits)
    message = r"^model_fp16\.onnx: .* by 2\.0e-03 \(limit 1e-03\) on average, most at chunk \d"
    with pytest.raises(ParityError, match=message):
        check_parity(uniform, shifted, CHUNKS, mean_limit=1e-3, **limits)


def test_changed_tags_are_counted_by_token():
    def tagged(column):
        def predict(chunks):
            return [np.eye(4, dtype=np.float32)[[column(id) for id in chunk]] for chunk in chunks]

        return predict

    difference = compare(tagged(lambda id: 0), tagged(lambda id: int(id == 7)), CHUNKS)
    assert difference.changed_tags == 1 / 8


def test_values_that_are_not_finite_or_of_another_shape_never_pass():
    with pytest.raises(ParityError, match="chunk 1, token 0: a probability is not finite"):
        compare(uniform, with_change(1, 0, 2, np.nan), CHUNKS)
    with pytest.raises(ParityError, match=r"chunk 0: .* \(2, 4\), expected \(3, 4\)"):
        compare(uniform, lambda chunks: [p[1:] for p in uniform(chunks)], CHUNKS)


@pytest.mark.parametrize("max_positions", [1, 5, 128, 1024])
def test_probes_reach_from_the_shortest_to_the_longest_chunk(max_positions):
    config = EncoderConfig(
        vocab_size=9,
        hidden_size=4,
        num_layers=1,
        num_heads=1,
        intermediate_size=4,
        max_positions=max_positions,
        pad_id=0,
    )
    chunks = probe_chunks(config)
    lengths = [len(chunk) for chunk in chunks]
    assert min(lengths) == 1
    assert max(lengths) == max_positions
    assert all(0 <= token < 9 for chunk in chunks for token in chunk)
    assert probe_chunks(config) == chunks


def test_f1_is_that_of_what_the_detector_makes_of_the_probabilities():
    text = "by Zbigniew Brzozowski\ncontact: zb@corp-mail.net\n"
    spans = (Span(start=3, end=22, label="NAME"), Span(start=32, end=48, label="EMAIL"))
    document = Document(id="d", language="", package="", path="", text=text, spans=spans)
    _, offsets = tokenize_document(text, load_tokenizer(EMBEDDED_MODEL))
    outside = np.eye(len(TAGS), dtype=np.float32)[TAG_IDS["O"]]
    right = np.tile(outside, (len(offsets) + 2, 1))
    right[1:-1] = np.eye(len(TAGS))[align_targets(offsets, spans)]

    perfect = f1_by_label(EMBEDDED_MODEL, lambda chunks: [right for _ in chunks], [document])
    blind = f1_by_label(
        EMBEDDED_MODEL, lambda chunks: [np.tile(outside, (len(c), 1)) for c in chunks], [document]
    )

    # The pattern finds the address in either case.
    assert perfect == {"NAME": 1, "EMAIL": 1, "micro": 1}
    assert blind == {"NAME": 0, "EMAIL": 1, "micro": pytest.approx(2 / 3)}
