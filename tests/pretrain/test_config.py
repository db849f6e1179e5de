"""Settings of a pretraining run: presets, files that extend them, and every range."""

import argparse
import dataclasses
import json

import pytest

import cli
from pretrain.config import PretrainConfig, load_config, presets
from starencoder.errors import ConfigError

SOURCE = "[[prepare.sources]]\npath = 'texts'\n"


def write(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# --------------------------------------------------------------------------------------------------
# Presets


@pytest.mark.parametrize("name", presets())
def test_a_presets_settings_and_sizes_fit_each_other(name):
    config = load_config(name)
    encoder = config.model.encoder(vocab_size=49156, pad_id=49152)
    assert encoder.vocab_size == 49156
    assert json.loads(json.dumps(config.to_json()))["run"]["steps"] == config.run.steps


def test_the_presets_are_those_that_the_command_names():
    parser = argparse.ArgumentParser()
    cli.add_config_arguments(parser)
    (argument,) = [action for action in parser._actions if action.dest == "config"]
    assert sorted(argument.help.partition("preset: ")[2].split(", ")) == presets()


def test_the_125m_preset_has_the_numbers_of_the_original():
    # The model card of bigcode/starencoder and exp_configs.py of bigcode-project/bigcode-encoder.
    config = load_config("starencoder-125m")
    optimizer, run = config.optimizer, config.run
    encoder = config.model.encoder(vocab_size=49156, pad_id=49152)
    assert (encoder.num_layers, encoder.hidden_size, encoder.num_heads) == (12, 768, 12)
    assert (encoder.intermediate_size, encoder.max_positions) == (3072, 1024)
    assert (encoder.type_vocab_size, encoder.layer_norm_eps) == (2, 1e-12)
    assert (encoder.initializer_range, encoder.hidden_dropout) == (0.02, 0.1)
    assert encoder.nsp_is_next_index == 1
    assert (optimizer.learning_rate, optimizer.schedule) == (6e-4, "linear")
    assert (optimizer.warmup_steps, run.steps) == (24_000, 100_000)
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.98), 1e-6)
    assert (optimizer.weight_decay, optimizer.clip_norm) == (0.01, 1.0)
    assert (run.batch_rows, run.micro_rows * 64, run.precision) == (4096, 4096, "bf16")
    assert (config.data.mask_share, config.data.mask_policy) == (0.15, "80-10-10")
    assert config.data.seq_length is None  # as many as the model has positions


# --------------------------------------------------------------------------------------------------
# Files


def test_a_file_extends_a_preset_and_set_wins_over_both(tmp_path):
    path = write(
        tmp_path,
        'extends = "debug"\n[run]\nsteps = 300\nseed = 7\n[model]\nnum_layers = 3\n' + SOURCE,
    )
    config = load_config(path, ["run.seed=9", "run.output=out", "optimizer.betas=[0.9, 0.95]"])
    debug = load_config("debug")
    assert config.run == dataclasses.replace(debug.run, steps=300, seed=9, output="out")
    assert config.model == dataclasses.replace(debug.model, num_layers=3)
    assert config.optimizer == dataclasses.replace(debug.optimizer, betas=(0.9, 0.95))
    assert config.prepare.sources[0].path == "texts"


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load_config(write(tmp_path, "")) == PretrainConfig()


def test_a_folder_with_a_presets_name_does_not_hide_the_preset(tmp_path, monkeypatch):
    (tmp_path / "debug").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("debug").run.steps == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "tinny"', r"unknown preset 'tinny' \(did you mean tiny\?\)"),
        ("extends = 3", "extends must be a preset's name, in quotes"),
        ("[run]\nstep = 3", r"run\.step is not a setting \(did you mean run\.steps\?\)"),
        ("[optimiser]\n", r"optimiser is not a setting \(did you mean optimizer\?\)"),
        ("steps = 3", "steps is not a setting"),
        ("[[prepare.sources]]\nformat = 'parquet'", r"prepare\.sources\[0\]\.path is missing"),
        (
            "[[prepare.sources]]\npath = 'x'\nformat = 'csv'",
            r"prepare\.sources\[0\]\.format must be one of parquet, jsonl, files, hub",
        ),
        ("[model]\narchitecture = 'huge'", r"model\.architecture must be one of .*, got huge"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_neither_a_file_nor_a_preset(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown preset 'deubg' \(did you mean debug\?\)"):
        load_config("deubg")
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_config(str(tmp_path / "absent.toml"))


# --------------------------------------------------------------------------------------------------
# Ranges


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("prepare.held_out=1", r"held_out must be in \[0, 1\), got 1"),
        ("prepare.held_out=-0.1", r"held_out must be in \[0, 1\)"),
        ("prepare.held_out=nan", r"held_out must be in \[0, 1\)"),
        ("prepare.held_out_documents=-1", "held_out_documents must be 0 or more, got -1"),
        ("prepare.workers=-1", "workers must be 0 or more"),
        ("prepare.limit=-1", "limit must be 0 or more"),
        ("prepare.max_chars=0", "max_chars must be 1 or more"),
        ("prepare.shard_tokens=0", "shard_tokens must be 1 or more"),
        ("prepare.weights.Go=-1", r"weights\.Go must be in 0\.\.100"),
        ("prepare.weights.C++=inf", r"weights\.C\+\+ must be in 0\.\.100"),
        ("prepare.weights.Go=nan", r"weights\.Go must be in 0\.\.100"),
        ("prepare.sources=[{path = ''}]", r"sources\[0\]\.path must not be empty"),
        ("data.mask_share=0", r"mask_share must be in \(0, 1\), got 0"),
        ("data.mask_share=1", r"mask_share must be in \(0, 1\)"),
        ("data.mask_policy=none", "mask_policy must be one of 80-10-10, mask"),
        ("prepare.weights.Go=101", r"weights\.Go must be in 0\.\.100, got 101"),
        ("data.workers=-1", "workers must be 0 or more"),
        ("data.seq_length=0", "seq_length must be 1 or more"),
        ("model.architecture=huge", "model.architecture must be one of"),
        ("optimizer.betas=[0.9]", r"betas must be two numbers in \[0, 1\)"),
        ("optimizer.betas=[0.9, 1]", "betas must be two numbers"),
        ("optimizer.learning_rate=0", "learning_rate must be above 0"),
        ("optimizer.learning_rate=inf", "learning_rate must be above 0"),
        ("optimizer.learning_rate=nan", "learning_rate must be above 0"),
        ("optimizer.eps=0", "eps must be above 0"),
        ("optimizer.clip_norm=0", "clip_norm must be above 0"),
        ("optimizer.weight_decay=1", r"weight_decay must be in \[0, 1\)"),
        ("optimizer.weight_decay=-1", r"weight_decay must be in \[0, 1\)"),
        ("optimizer.decay_share=0", r"decay_share must be in \(0, 1\]"),
        ("optimizer.decay_share=1.1", r"decay_share must be in \(0, 1\]"),
        ("optimizer.warmup_steps=-1", "warmup_steps must be 0 or more"),
        ("optimizer.warmup_steps=201", r"warmup_steps \(201\) must be at most 200,"),
        ("optimizer.schedule=cosine", "schedule must be one of linear, wsd"),
        ("run.steps=0", "steps must be 1 or more"),
        ("run.seed=-1", r"seed must be in \[0, 2\^64\), got -1"),
        ("run.seed=18446744073709551616", "seed must be in"),
        ("run.output=", "output must not be empty"),
        ("run.batch_rows=0", "batch_rows must be 1 or more"),
        ("run.micro_rows=0", "micro_rows must be 1 or more"),
        ("run.micro_rows=3", r"batch_rows \(16\) must be a multiple of micro_rows \(3\)"),
        ("run.checkpoint_every=0", "checkpoint_every must be 1 or more"),
        ("run.keep_checkpoints=0", "keep_checkpoints must be 1 or more"),
        ("run.evaluate_every=0", "evaluate_every must be 1 or more"),
        ("run.evaluate_rows=-1", "evaluate_rows must be 0 or more"),
        ("run.log_every=0", "log_every must be 1 or more"),
        ("run.spike_factor=1", "spike_factor must be above 1"),
        ("run.spike_factor=nan", "spike_factor must be above 1"),
        ("run.trackers=['wandbb']", r"run.trackers\[0\] must be one of tensorboard, wandb"),
        ("run.precision=fp8", "precision must be one of fp32, bf16"),
        ("run.saved_precision=int8", "saved_precision must be one of fp32, fp16, bf16"),
        ("run.attention=flash", "attention must be one of auto, dense, varlen"),
        ("run.bad_step=ignore", "bad_step must be one of stop, skip"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_range(assignment, message):
    with pytest.raises(ConfigError, match=message):
        load_config("debug", [assignment])


@pytest.mark.parametrize(
    "assignment",
    [
        "prepare.held_out=0",
        "prepare.weights.Go=0",
        "optimizer.betas=[0, 0]",
        "optimizer.weight_decay=0",
        "optimizer.decay_share=1",
        "optimizer.warmup_steps=200",
        "run.evaluate_rows=0",
        "run.micro_rows=1",
        "run.spike_factor=1.01",
    ],
)
def test_the_ends_of_the_ranges_are_allowed(assignment):
    load_config("debug", [assignment])


def test_the_warm_up_ends_before_the_rate_falls():
    wsd = ["optimizer.schedule=wsd", "optimizer.decay_share=0.2"]
    load_config("debug", [*wsd, "optimizer.warmup_steps=160"])
    with pytest.raises(ConfigError, match=r"warmup_steps \(161\) must be at most 160,"):
        load_config("debug", [*wsd, "optimizer.warmup_steps=161"])


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["model.hidden_size=100", "model.num_heads=3"], "hidden_size .* must be a multiple of"),
        (["model.num_layers=0"], "num_hidden_layers must be at least 1"),
        (["model.hidden_dropout=1.0"], r"hidden_dropout_prob must be in \[0, 1\)"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(assignments, message):
    model = load_config("debug", assignments).model
    with pytest.raises(ConfigError, match=message):
        model.encoder(vocab_size=400, pad_id=0)
