import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starencoder.config import (
    PRESETS,
    EncoderConfig,
    TaggerConfig,
    load_config,
    load_tagger_config,
)
from starencoder.errors import CheckpointError, ConfigError

TINY = EncoderConfig(
    vocab_size=40,
    hidden_size=12,
    num_layers=2,
    num_heads=3,
    intermediate_size=20,
    max_positions=16,
    pad_id=36,
)
TAGS = {0: "O", 1: "B-KEY", 2: "I-KEY"}


@st.composite
def encoder_configs(draw):
    num_heads, vocab_size = draw(st.integers(1, 16)), draw(st.integers(1, 60_000))
    return EncoderConfig(
        vocab_size=vocab_size,
        hidden_size=num_heads * draw(st.integers(1, 64)),
        num_layers=draw(st.integers(1, 48)),
        num_heads=num_heads,
        intermediate_size=draw(st.integers(1, 4096)),
        max_positions=draw(st.integers(1, 8192)),
        pad_id=draw(st.integers(0, vocab_size - 1)),
        type_vocab_size=draw(st.integers(1, 4)),
        layer_norm_eps=draw(st.floats(1e-12, 1e-3)),
        hidden_dropout=draw(st.floats(0, 0.9)),
        attention_dropout=draw(st.floats(0, 0.9)),
        initializer_range=draw(st.floats(1e-3, 0.5)),
        nsp_is_next_index=draw(st.integers(0, 1)),
    )


@given(config=encoder_configs())
def test_a_config_survives_its_json(config):
    assert EncoderConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@given(
    config=encoder_configs(),
    labels=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30, unique=True),
    chunk=st.integers(),
)
def test_a_taggers_config_survives_its_json(config, labels, chunk):
    tagger = TaggerConfig(
        encoder=config, id2label=dict(enumerate(labels)), pii={"chunk": {"max_tokens": chunk}}
    )
    assert TaggerConfig.from_json(json.loads(json.dumps(tagger.to_json()))) == tagger


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "gelu_new"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
        ("classifier_dropout", 0.3),
        ("vocab_size", "many"),
        ("vocab_size", 40.0),
        ("vocab_size", 0),
        ("hidden_size", True),
        ("hidden_size", 13),
        ("num_hidden_layers", 0),
        ("pad_token_id", None),
        ("pad_token_id", 40),
        ("pad_token_id", -1),
        ("layer_norm_eps", 0),
        ("hidden_dropout_prob", 1.0),
        ("attention_probs_dropout_prob", "none"),
        ("initializer_range", -0.1),
        ("nsp_is_next_index", 2),
        ("nsp_is_next_index", "next"),
    ],
)
def test_a_value_that_is_another_architecture_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=key):
        EncoderConfig.from_json({**TINY.to_json(), key: value})


@pytest.mark.parametrize(
    "key",
    [
        "model_type",
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "pad_token_id",
    ],
)
def test_a_key_that_is_left_out_is_named(key):
    values = TINY.to_json()
    del values[key]
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        EncoderConfig.from_json(values)


@pytest.mark.parametrize(
    ("id2label", "complaint"),
    [
        (None, "id2label is missing"),
        ({}, "id2label is missing"),
        ({"0": "O", "2": "B-KEY"}, "id2label must number"),
        ({"0": "O", "1": 7}, "id2label maps 1"),
        ({"0": "O", "1": "O"}, "same tag twice"),
    ],
)
def test_labels_that_do_not_number_every_output_are_refused(id2label, complaint):
    values = {**TINY.to_json(), "id2label": id2label}
    with pytest.raises(ConfigError, match=complaint):
        TaggerConfig.from_json(values)


def test_keys_that_do_not_change_the_architecture_are_left_alone():
    values = {**TINY.to_json(), "use_cache": True, "transformers_version": "4.27.2"}
    assert EncoderConfig.from_json(values) == TINY


def test_the_meaning_of_the_nsp_logits_follows_whose_checkpoint_it_is():
    def is_next_index(config):
        values = config.to_json()
        del values["nsp_is_next_index"]
        return EncoderConfig.from_json(values).nsp_is_next_index

    assert is_next_index(PRESETS["starencoder-125m"]) == 1
    assert is_next_index(replace(PRESETS["starencoder-125m"], vocab_size=49157)) == 0


def test_directories_without_a_usable_config_are_refused_with_the_files_name(tmp_path):
    with pytest.raises(CheckpointError, match="no such model directory"):
        load_config(tmp_path / "absent")
    path = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        load_config(tmp_path)
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load_config(tmp_path)
    path.rmdir()
    for content, complaint in [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object; write or download"),
        ('{"model_type": "gpt2"}', 'model_type is "gpt2"'),
    ]:
        path.write_text(content)
        with pytest.raises(CheckpointError, match=rf"config\.json: {complaint}"):
            load_config(tmp_path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_config(tmp_path)


def test_a_pretraining_directory_is_not_a_tagger(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY.to_json()))
    assert load_config(tmp_path) == TINY
    with pytest.raises(CheckpointError, match=r"config\.json: id2label is missing"):
        load_tagger_config(tmp_path)


def test_reading_a_config_loads_no_torch():
    command = "import starencoder.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
