"""Tables: what is found in them by the name of its column; all values are made up."""

import csv
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.assignments import lower_of
from pii.filters import classify
from pii.patterns import find_patterns
from pii.redact import redact, tag_operator
from pii.spans import Span, resolve_overlaps
from pii.tables import tables_at

MIXED = "Gr4nitHarbour!"
USER = "tkowal77"


def found(text, label="PASSWORD"):
    return [text[span.start : span.end] for span in find_patterns(text) if span.label == label]


def tables(text, *names):
    lower = lower_of(text)
    return list(tables_at(text, lower, [lower.index(name) for name in names]))


def values(table):
    return [[cell.value for cell in row] for row in table.rows]


# --- Any table reads as it was written -----------------------------------------------------------

NAMES = ["id", "name", "username", "note", "e_mail"]
CELLS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from("\"',;|\t\n\\"),
    max_size=9,
)
DIALECTS = st.sampled_from(
    [
        {"delimiter": delimiter, "quotechar": '"', "quoting": quoting, "lineterminator": ending}
        for delimiter in ",;|\t"
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)
        for ending in ("\n", "\r\n", "\r")
    ]
)


@st.composite
def rows_of(draw, cells=CELLS):
    others = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    columns = draw(st.permutations([*others, "password"]))
    width = len(columns)
    rows = st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=4)
    return columns, draw(rows)


def as_csv(columns, rows, dialect):
    out = io.StringIO()
    csv.writer(out, **dialect).writerows([columns, *rows])
    return out.getvalue()


# No quote begins a cell that has none around it: then both quotes may be meant.
PLAIN = CELLS.filter(lambda cell: not cell.startswith(("'", " ")) and not cell.endswith(" "))


@given(rows_of(PLAIN), DIALECTS)
def test_the_cells_of_a_csv_are_those_that_were_written(table, dialect):
    columns, rows = table
    if dialect["lineterminator"] == "\r":  # the writer leaves \n without quotes then
        rows = [[cell.replace("\n", "") for cell in row] for row in rows]
    [read] = tables(as_csv(columns, rows, dialect), "password")

    assert read.columns == columns
    assert values(read) == rows


LETTERS = "abcdefghijkmnopqrstuvwxyz"
PASSWORDS = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(LETTERS.upper()),
    st.text("bcdfghjkmnpqrtvwxz", min_size=4, max_size=8),
    st.integers(23, 99).map(str),
    st.sampled_from(["", *"!&;,|'\"#"]),
    st.sampled_from(LETTERS),
)


def with_passwords(draw, passwords):
    columns, rows = draw(rows_of(st.sampled_from(["x", "4711", "Osl o", "a,b", ""])))
    at = columns.index("password")
    for row in rows:
        row[at] = draw(passwords)
    return columns, rows, at


@given(st.data(), DIALECTS)
def test_the_span_of_a_password_in_a_csv_is_its_cell(data, dialect):
    columns, rows, at = with_passwords(data.draw, PASSWORDS)
    written = as_csv(columns, rows, dialect)

    expected = [row[at].replace('"', '""') for row in rows]
    assert found(written) == expected


@given(st.data(), DIALECTS)
def test_a_redacted_csv_has_the_same_shape_and_the_same_other_cells(data, dialect):
    columns, rows, at = with_passwords(data.draw, PASSWORDS)
    written = as_csv(columns, rows, dialect)
    spans = [span for span in find_patterns(written) if span.label == "PASSWORD"]
    redacted = redact(written, spans, tag_operator).text

    kept = {key: dialect[key] for key in ("delimiter", "quotechar")}
    read = list(csv.reader(io.StringIO(redacted, newline=""), **kept))
    for row in rows:
        row[at] = "<PASSWORD>"
    assert read == [columns, *rows]


def as_sql(columns, rows, rng, *, backslashes):
    def literal(value):
        if backslashes:
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return "'" + value.replace("'", "''") + "'"

    left, right = rng.choice(['""', "``", "[]", ("", "")])
    names = ", ".join(f"{left}{name}{right}" for name in columns)
    comma = rng.choice([",", ", ", ",\n  "])
    lines = [f"({', '.join(map(literal, row))})" for row in rows]
    word = rng.choice(["INSERT INTO", "insert into", "REPLACE INTO", "INSERT IGNORE INTO"])
    return f"{word} shop.users ({names})\nVALUES {comma.join(lines)};\n"


@given(rows_of(), st.integers(0, 99), st.booleans())
def test_the_literals_of_an_insert_are_those_that_were_written(table, seed, backslashes):
    columns, rows = table
    if not backslashes:  # a lone backslash before a quote reads either way
        rows = [[cell.replace("\\", "/") for cell in row] for row in rows]
    written = as_sql(columns, rows, random.Random(seed), backslashes=backslashes)
    [read] = tables(written, "password")

    assert read.columns == columns
    assert values(read) == rows


@given(rows_of(CELLS.filter(lambda cell: cell == cell.strip())))
def test_the_cells_of_a_table_of_bars_are_those_that_were_written(table):
    columns, rows = table
    rows = [[cell.replace("\n", " ").replace("\\", "/") or "x" for cell in row] for row in rows]
    rows = [[f"x{cell}x" for cell in row] for row in rows]
    lines = [columns, ["---"] * len(columns), *rows]
    written = "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )
    [read] = tables(written, "password")

    assert read.columns == columns
    assert values(read) == rows


# --- What a table gives --------------------------------------------------------------------------

FORMS = {
    "csv": "id,username,password\n7,{user},{password}\n",
    "indented": "    id, username, password\n    7, {user}, {password}\n",
    "byte order mark": "\ufeffusername;password\r\n{user};{password}\r\n",
    "index": ",username,password\n0,{user},{password}\n",
    "space": "username,password \n{user},{password}\n",
    "title": "Users, as of May, and more\nusername,password\n{user},{password}\n",
    "tabs": "Id\tUserName\tInitial password\n7\t{user}\t{password}",
    "insert": "INSERT INTO users (id, username, password) VALUES (7, '{user}', '{password}');",
    "several": "REPLACE INTO u (username, password) VALUES (NULL, ?), ('{user}', '{password}')",
    "named": "INSERT INTO `a`.`u` (`username`, `password`) VALUES\n  ('{user}', '{password}');",
    "brackets": "INSERT INTO dbo.u ([username], [password]) VALUES (N'{user}', N'{password}')",
    "joined": """run("INSERT INTO u (username, password) " +
        "VALUES ('{user}', '{password}')")""",
    "escaped": "run('INSERT INTO u (username, password) VALUES (\\'{user}\\', \\'{password}\\')')",
    "cast": "INSERT INTO u (username, password) VALUES ('{user}'::text, '{password}'::text)",
    "second": "Users:\rusername,password\r{user},{password}\r",
    "call": "insert into u (a, username, password) values (now(), '{user}', '{password}')",
    "copy": "COPY public.u (id, username, password) FROM stdin;\n7\t{user}\t{password}\n\\.\n",
    "markdown": "| Name | Username | Password |\n|---|:-:|---|\n| x | `{user}` | {password} |\n",
    "comment": " * | username | **password** |\n * | --- | --- |\n * | {user} | {password} |\n",
    "grid": "+---+---+\n| username | password |\n+===+===+\n| {user} | {password} |\n+---+---+\n",
    "console": " username | password \n----------+------\n {user} | {password}\n(1 row)\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_user_and_password_of_a_row_are_found(form):
    text = FORMS[form].format(user=USER, password=MIXED)
    assert found(text, "USERNAME") == [USER]
    assert found(text) == [MIXED]


@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_its_column_is_found_and_another_columns_is_not(form):
    key = "q7Hs9Kd2" + "Lf4Mn6Zx"
    text = FORMS[form].format(user="x", password=key)
    assert found(text.replace("password", "api_token").replace("Password", "Token"), "KEY") == [key]
    assert found(text.replace("password", "etag").replace("Password", "Etag"), "KEY") == []


@pytest.mark.parametrize(
    "value",
    ["?", "%s", ":password", "$1", "NULL", "@pw", "DEFAULT", "MD5('x7y8z9')", "x7y8z9", "4711"],
)
def test_placeholders_calls_and_names_of_sql_are_no_values(value):
    text = f"INSERT INTO users (username, password) VALUES ({value}, {value}), ('a', {value})"
    assert found(text) == found(text, "USERNAME") == []


@pytest.mark.parametrize("value", ["$2y$10$" + "abcdefghi" * 6, "0123456789abcdef" * 2, "changeme"])
def test_hashes_and_placeholders_are_examples_as_they_are_in_assignments(value):
    for form in FORMS.values():
        text = form.format(user="root", password=value)
        kinds = {span.label: span.kind for span in classify(text, find_patterns(text))}
        assert kinds.get("PASSWORD", "example") == kinds.get("USERNAME", "example") == "example"


def test_a_word_is_a_password_in_data_and_none_in_a_document():
    assert found("username,password\nmarta,sonnenblume\n") == ["sonnenblume"]
    assert found("| Feature | Password |\n|---|---|\n| Login | supported |\n") == []


def test_a_table_goes_on_as_long_as_its_rows_have_as_many_cells():
    text = f"a,password\nx,{MIXED}\nx,y,zanzibar\nx,zanzibar\n"
    assert found(text) == [MIXED]


def test_a_key_that_is_part_of_a_cell_is_left_to_what_stands_in_the_cell():
    key = "q7Hs9Kd2" + "Lf4Mn6Zx"
    assert found(f"a,token\nx,{key}\n", "KEY") == [key]
    assert found(f'a,token\nx,{key}"rest\n', "KEY") == []


def test_a_bar_in_a_cell_of_a_table_of_bars_is_escaped():
    assert found("| a | password |\n|---|---|\n| x | Gr4nit\\|Harbour |\n") == ["Gr4nit\\|Harbour"]
    [table] = tables("| a | password |\n|---|---|\n| x | Gr4\\|Har |\n", "password")
    assert values(table) == [["x", "Gr4|Har"]]


def test_two_tables_of_one_text_have_columns_of_their_own():
    text = f"a,password\nx,{MIXED}\n\npassword,a\n{MIXED}2,zanzibar\n"
    assert found(text) == [MIXED, MIXED + "2"]


@pytest.mark.parametrize(
    "text",
    [
        "user, password = login(a, b)\nhost, port = f(c, d)\n",
        "def f(user, password):\n    return g(x1y2z3, x7y8z9)\n",
        "f(\n    username,\n    password,\n    x7y8z9,\n)\n",
        "f(\n    username, password,\n    zanzibar, x7y8z9)\n",
        "f(\n    username, password\n)\nx7y8z9\n",
        "SELECT username, password\nFROM users, x7y8z9\n",
        "select\n  username, password\nfrom\n  users, x7y8z9\n",
        "GROUP BY username, password\nORDER BY a, zanzibar\n",
        "Sign in with a login, password\nand with more, x7y8z9\n",
        "login,password\n",
        "login,password\n\nmarta,zanzibar\n",
        "password\nx7y8z9\n",
        "name,description\nlogin,zanzibar\nmarta7,x7y8z9\n",
        "| a | password |\n|---|\n| x | x7y8z9 |\n",
        "| a | password |\n|---|---|\n| x | y | x7y8z9 |\n",
        "a paste into users (a, password) values ('x', 'x7y8z9')\n",
        "password,password\na,x7y8z9\n",
        "a | password\nb | x7y8z9\n",
        "| password\n| x7y8z9\n",
        "int x = a |\n  password;\n---\nb | x7y8z9;\n",
        "-- insert into the table (a, password) values\n('x', 'x7y8z9')\n",
        "we insert into users (a, password) the values ('x', 'x7y8z9')\n",
        "INSERT INTO users (a, password) VALUES ('x', 'y', 'x7y8z9')",
        "INSERT INTO users (a, password) SELECT 'x', 'x7y8z9'",
        "copy it (username, password) from stdin; then\nmarta\tx7y8z9\n",
    ],
)
def test_code_statements_and_prose_are_no_table(text):
    assert found(text) == found(text, "USERNAME") == []


@pytest.mark.parametrize(
    "part",
    [
        "insert into t (password, x) values (f(\\'abc ",
        "a,password\r\r\r",
        "," * 1100 + "\na,password\n",
    ],
)
def test_a_megabyte_of_beginnings_of_tables_takes_no_minutes(part):
    assert found(part * (1_000_000 // len(part))) == []


def test_a_pattern_wins_over_what_the_model_takes_a_cell_for():
    value = "S3cur3P@ss" + "42"
    text = f"id,email,password\n7,x,{value}\n"
    start = text.index(value)
    guess = Span(start=start - 2, end=start + len(value), label="EMAIL", score=0.9)
    [span] = classify(text, resolve_overlaps([*find_patterns(text), guess]))
    assert (span.label, span.kind, text[span.start : span.end]) == ("PASSWORD", "real", value)
