"""What docs/pretraining.md says of settings, filters and commands is what the code has."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

import cli
from pretrain.config import PretrainConfig, load_config
from pretrain.filters import FILTERS

GUIDE = (Path(__file__).parents[2] / "docs" / "pretraining.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL))
def test_every_config_in_the_guide_loads(tmp_path, text):
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    config = load_config(str(tmp_path / "run.toml"))
    assert [source.path for source in config.prepare.sources] == [
        source["path"] for source in tomllib.loads(text)["prepare"]["sources"]
    ]


def test_the_guide_lists_every_filter_in_the_order_in_which_they_are_asked():
    rows = [f"| `{rule.name}` | {rule.description} |" for rule in FILTERS]
    assert "\n".join(["| filter | leaves out |", "|---|---|", *rows]) + "\n\n" in GUIDE


def test_every_setting_that_the_guide_names_exists():
    tables = {field.name: field.default_factory() for field in dataclasses.fields(PretrainConfig)}
    named = set(re.findall(rf"\b({'|'.join(tables)})\.([a-z]\w*)\b(?!\.)", GUIDE))
    named -= {(table, end) for table, end in named if end in ("py", "toml", "json", "safetensors")}
    named -= {("run", "step")}  # the guide's example of a mistake
    assert len(named) > 10
    for table, name in named:
        assert hasattr(tables[table], name), f"{table}.{name}"


def test_every_command_in_the_guide_exists():
    names = {command.name for command in cli.COMMANDS}
    found = set(
        re.findall(r"\bstarencoder ((?:pretrain|packages|tokenizer) \w+|status|report)\b", GUIDE)
    )
    assert {"pretrain prepare", "pretrain run", "pretrain plan", "status", "report"} <= found
    assert found <= names
