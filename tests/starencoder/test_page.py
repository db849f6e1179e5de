from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starencoder.page import bar_chart, escaped, line_chart, page, table, unit_chart

hostile = st.text(max_size=20) | st.just("</td><script>alert(1)</script>&amp;\x1b[2J$\\frac{")


class Texts(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.texts.append(data)


def elements(svg):
    return list(ElementTree.fromstring(f'<div xmlns:xlink="x">{svg}</div>').iter())


def parsed(text):
    parser = Texts()
    parser.feed(text)
    parser.close()
    return parser


@given(cells=st.lists(hostile, min_size=2, max_size=4))
def test_whatever_is_in_a_table_it_adds_no_tag(cells):
    found = parsed(page(cells[0], [table(cells, [cells]), f"<p>{escaped(cells[1])}</p>"]))
    expected = ["html", "head", "meta", "meta", "title", "style", "body", "h1", "table"]
    heads = ["thead", "tr", *["th"] * len(cells)] if any(cells) else []
    assert found.tags == [*expected, *heads, "tbody", "tr", *["td"] * len(cells), "p"]


def test_a_text_comes_back_as_it_was_but_for_what_steers_a_terminal():
    found = parsed(page("t", [table(("name",), [("a < b & 'c'\x1b[2J",)])]))
    assert "a < b & 'c'\\x1b[2J" in found.texts


@pytest.mark.parametrize("name", ["C++", "a$b$c", "<script>", "x & y", "\x1b[2J"])
def test_bars_show_names_as_text(name):
    svg = bar_chart("chart", {name: 2.0, "other": 1.0}, "million")
    texts = [element.text for element in elements(svg) if element.tag == "text"]
    assert texts.index("other") < texts.index(name.replace("\x1b", "\\x1b"))
    assert "million" in texts


def test_charts_are_the_same_each_time_and_share_no_names():
    curves = {"model": ([1, 2, 3], [3.0, 2.0, 1.5]), "chance": ([1, 3], [1.0, 1.0])}
    one, other = line_chart("one", curves), line_chart("other", curves)
    assert one == line_chart("one", curves)

    def ids(svg):
        return {element.attrib["id"] for element in elements(svg) if "id" in element.attrib}

    assert ids(one)
    assert not ids(one) & ids(other)


def test_a_curve_in_the_unit_square_is_drawn_with_its_names():
    curves = {"model": [(0.0, 1.0), (1.0, 0.0)], "none": []}
    svg = unit_chart("chart", curves, "recall", "precision")
    texts = {element.text for element in elements(svg) if element.tag == "text"}
    assert {"model", "none", "recall", "precision", "0.0", "1.0"} <= texts
    assert svg == unit_chart("chart", curves, "recall", "precision")


def test_a_style_of_ones_own_follows_the_pages():
    assert "</style>" in page("t", [], style=".mine { color: red }").split(".mine")[1]
