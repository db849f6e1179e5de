import pytest

from starencoder.text import aligned, amount, counted, duration, short


def test_columns_of_a_text_table_are_aligned():
    assert aligned([["name", "n"], ["x", "1,000"]]) == ["  name      n", "  x     1,000"]


def test_a_name_is_cut_and_cannot_steer_a_terminal():
    assert short("Jupyter Notebook") == "Jupyter Notebook"
    assert short("a\x1b[2J\n") == r"a\x1b[2J\n"
    assert short("x" * 40) == "x" * 40
    assert short("x" * 41) == "x" * 39 + "…"
    assert aligned([["\x07" * 30, "1"]])[0].endswith("…  1")


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0, "B", "0 B"),
        (999, "", "999"),
        (1000, "B", "1.0 kB"),
        (80e9, "B", "80.0 GB"),
        (419_430_400_000, "", "419.4 G"),
        (5.4321e15, "B", "5,432.1 TB"),
    ],
)
def test_amounts_have_a_decimal_prefix(value, unit, expected):
    assert amount(value, unit).rstrip() == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h")],
)
def test_durations_have_their_two_largest_units(seconds, expected):
    assert duration(seconds) == expected


def test_what_is_counted_is_called_what_it_is_called():
    assert [counted(n, "shard") for n in (0, 1, 2)] == ["0 shards", "1 shard", "2 shards"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]
