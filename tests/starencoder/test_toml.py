"""Strict TOML: what is read comes back, and each mistake is one line that names it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starencoder.errors import ConfigError
from starencoder.toml import from_toml, merge, parse_overrides, read_toml


@dataclass(frozen=True, kw_only=True)
class Engine:
    fuel: Literal["wood", "coal"] = "coal"
    wheels: int = 4

    def __post_init__(self):
        if self.wheels < 2:
            raise ConfigError("wheels must be 2 or more")


@dataclass(frozen=True, kw_only=True)
class Waggon:
    name: str
    seats: int = 40


@dataclass(frozen=True, kw_only=True)
class Train:
    name: str
    speed: float = 80.0
    express: bool = False
    crew: int | None = None
    stops: tuple[str, ...] = ()
    gradients: tuple[float, ...] = ()
    fares: Mapping[str, float] = field(default_factory=dict)
    engine: Engine = field(default_factory=Engine)
    waggons: tuple[Waggon, ...] = ()


def read(tmp_path, text):
    path = tmp_path / "train.toml"
    path.write_text(text, encoding="utf-8")
    return from_toml(Train, read_toml(path), "train.toml")


def test_every_kind_of_value_is_read(tmp_path):
    train = read(
        tmp_path,
        """
        name = "Nordvik"
        speed = 90
        express = true
        crew = 3
        stops = ["Aldby", "Fenwick"]
        gradients = [1, 0.5]
        fares.adult = 12
        fares."under 16" = 6.5
        [engine]
        fuel = "wood"
        [[waggons]]
        name = "first"
        [[waggons]]
        name = "second"
        seats = 60
        """,
    )
    assert train == Train(
        name="Nordvik",
        speed=90.0,
        express=True,
        crew=3,
        stops=("Aldby", "Fenwick"),
        gradients=(1.0, 0.5),
        fares={"adult": 12.0, "under 16": 6.5},
        engine=Engine(fuel="wood"),
        waggons=(Waggon(name="first"), Waggon(name="second", seats=60)),
    )
    # A whole number where a number is wanted does not stay an int.
    assert all(type(x) is float for x in (train.speed, *train.gradients, *train.fares.values()))


def test_what_is_left_out_has_its_default(tmp_path):
    assert read(tmp_path, 'name = "x"') == Train(name="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name is missing"),
        ('nmae = "x"', "nmae is not a setting (did you mean name?)"),
        ('name = "x"\nqqq = 1', "qqq is not a setting"),
        ("name = 1", "name must be a string"),
        ('name = "x"\nspeed = "1"', "speed must be a number"),
        ('name = "x"\nspeed = true', "speed must be a number"),
        ('name = "x"\nexpress = 1', "express must be true or false"),
        ('name = "x"\ncrew = 1.0', "crew must be a whole number"),
        ('name = "x"\ncrew = true', "crew must be a whole number"),
        ('name = "x"\nstops = "Aldby"', "stops must be a list"),
        ('name = "x"\nstops = ["Aldby", 3]', "stops[1] must be a string"),
        ('name = "x"\nfares = 3', "fares must be a table"),
        ('name = "x"\nfares.adult = "3"', "fares.adult must be a number"),
        ('name = "x"\nengine = 3', "engine must be a table"),
        ('name = "x"\nengine.fuel = "peat"', "engine.fuel must be one of wood, coal"),
        ('name = "x"\nengine.fule = 1', "engine.fule is not a setting (did you mean engine.fuel?)"),
        ('name = "x"\nengine.wheels = 1', "engine.wheels must be 2 or more"),
        ('name = "x"\nwaggons = 3', "waggons must be tables, [[waggons]]"),
        ('name = "x"\nwaggons = [3]', "waggons[0] must be a table"),
        ('name = "x"\n[[waggons]]\nseats = 3', "waggons[0].name is missing"),
        (
            'name = "x"\n[[waggons]]\nname = "a"\n[[waggons]]\nname = "b"\nseat = 3',
            "waggons[1].seat is not a setting (did you mean waggons[1].seats?)",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_that_names_file_and_setting(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert str(error.value) == f"train.toml: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"train\.toml: cannot be read \(No such file or directory\)"),
        (b"name =\nspeed = 3", r"train\.toml: not TOML: .*line 1"),
        (b"name = '\xff'", r"train\.toml: not TOML: 'utf-8' codec"),
        (b"a = 1\na = 2\nb = 3", r"train\.toml: not TOML: .*line 2"),
    ],
)
def test_a_file_that_is_no_toml_says_so(tmp_path, content, message):
    if content is not None:
        (tmp_path / "train.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_toml(tmp_path / "train.toml")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path)


# --------------------------------------------------------------------------------------------------
# Overrides


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a=1", 1),
        ("a=-1", -1),
        ("a=1e-4", 1e-4),
        ("a=0.5", 0.5),
        ("a=true", True),
        ("a=[1, 2]", [1, 2]),
        ('a=["x", "y"]', ["x", "y"]),
        ("a=[]", []),
        ("a={x = 1}", {"x": 1}),
        ('a="1"', "1"),
        ("a=wsd", "wsd"),
        ("a=data/tiny v2", "data/tiny v2"),
        ("a=s3://bucket/*.parquet?x=1", "s3://bucket/*.parquet?x=1"),
        ("a=[x", "[x"),
        ("a=", ""),
    ],
)
def test_a_value_is_toml_or_else_a_string(assignment, value):
    (found,) = parse_overrides([assignment]).values()
    assert found == value
    assert type(found) is type(value)


@given(st.text(st.characters(exclude_characters="\r\n"), min_size=1))
def test_a_quoted_string_comes_back_whatever_is_in_it(text):
    quoted = json.dumps(text, ensure_ascii=True)
    if "\\ud" not in quoted:  # TOML writes what is beyond 16 bits in another way
        assert parse_overrides([f"a.b={quoted}"]) == {"a": {"b": text}}


def test_dots_in_a_key_are_tables_and_later_overrides_win():
    found = parse_overrides(["run.steps=5", "run.seed=2", "data.workers=1", "run.steps=7"])
    assert found == {"run": {"steps": 7, "seed": 2}, "data": {"workers": 1}}


@pytest.mark.parametrize("assignment", ["run.steps", "=3", "run.=3", ".steps=3", "run..steps=3"])
def test_an_override_without_key_or_value_is_refused(assignment):
    with pytest.raises(ConfigError, match="--set takes key=value"):
        parse_overrides([assignment])


KEYS = st.sampled_from("abc")
TABLES = st.recursive(
    st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
)
ROOTS = st.dictionaries(KEYS, TABLES, max_size=3)


@given(ROOTS, ROOTS)
def test_merging_keeps_what_only_one_side_has_and_the_second_side_wins(first, second):
    merged = merge(first, second)
    assert merge(first, {}) == merge({}, first) == merge(first, first) == first
    assert merged.keys() == first.keys() | second.keys()
    for key in merged:
        if key not in second:
            assert merged[key] == first[key]
        elif not (isinstance(first.get(key), dict) and isinstance(second[key], dict)):
            assert merged[key] == second[key]
        else:
            assert merged[key] == merge(first[key], second[key])


def test_merging_changes_neither_side():
    base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, over) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}
    assert over == {"a": {"c": 2}}
