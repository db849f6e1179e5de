"""What docs/scanning.md says of commands, options, fields and reasons is what the code has."""

import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import cli
from export import row_groups
from export.scan import local_engine, plan_scan, scan
from export.scanner import ScanConfig
from export.shards import SPANS_TYPE
from starencoder.languages import LANGUAGE_COLUMNS

GUIDE = (Path(__file__).parents[2] / "docs" / "scanning.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ +\$ starencoder ((?:.*\\\n)*.*)$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_guide_is_understood(command):
    arguments = cli._parse(shlex.split(command.replace("\\\n", " ")))
    assert arguments.run in (cli.run_scan, cli.run_status, cli.run_report)


def test_every_option_in_the_guide_exists(capsys):
    known = ""
    for command in ("scan", "status", "report"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        known += capsys.readouterr().out
    named = set(re.findall(r"`(--[a-z][a-z-]+)", GUIDE))
    assert len(named) > 10
    assert [name for name in named if not re.search(rf"{name}\b(?!-)", known)] == []


def test_the_guide_has_every_field_of_the_manifest_and_of_a_span(tmp_path):
    parquet.write_table(pa.table({"content": ["limit = 7"]}), tmp_path / "a.parquet")
    plan = plan_scan([str(tmp_path / "a.parquet")], ScanConfig(model="none"))
    manifest = scan(plan, tmp_path / "out", local_engine(1)).manifest
    values = json.loads(manifest.read_text())
    fields = {*values, *values["inputs"][0], *(own.name for own in SPANS_TYPE.value_type)}
    assert [name for name in sorted(fields) if f"`{name}`" not in GUIDE] == []


def test_the_guide_has_every_reason_and_every_language_column():
    reasons = ("NULL", "NOT_UTF8", "NOT_SELECTED", "BEYOND_LIMIT")
    for name in (*(getattr(row_groups, reason) for reason in reasons), *LANGUAGE_COLUMNS):
        assert f"`{name}`" in GUIDE
