import re
from html import unescape
from html.parser import HTMLParser

from hypothesis import assume, given
from hypothesis import strategies as st

from pii.annotations import Document
from pii.error_browser import ERROR_STYLE, error_browser, kind_of_error
from pii.labels import LABELS
from pii.metrics import match_spans, pair_errors
from pii.spans import Span

HOSTILE = "<script>alert(1)</script>&amp;\x1b[2J'\""


class Parsed(HTMLParser):
    """Classes and ids of the tags, and the texts of marks by class."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.classes, self.ids, self.marks, self.open = [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert not any(name.startswith("on") for name in given)
        self.tags.append(tag)
        self.classes += given.get("class", "").split()
        self.ids += [given["id"]] if "id" in given else []
        if tag != "input":
            self.open.append((tag, given.get("class")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "mark":
            self.marks.append((self.open[-1][1], data))


def span(start, end, label="NAME", **more):
    return Span(start=start, end=end, label=label, **more)


def document(text, *spans, **more):
    fields = {"id": "a", "language": "", "package": "", "path": "", **more}
    return Document(text=text, spans=spans, **fields)


def errors_of(page):
    return re.findall(r'<div class="error ([^"]*)">(.*?)</pre>', page, re.DOTALL)


def lines_of(error):
    pre = re.sub(r"<[^>]*>", "", error.partition("<pre>")[2])
    return [unescape(line) for line in pre.split("\n")]


@st.composite
def cases(draw):
    text = draw(st.text('ab<&"\n\r\t\x1b é', min_size=10, max_size=60)) + HOSTILE
    spans = []
    for _ in range(2):
        starts = draw(st.lists(st.integers(0, len(text) - 1), max_size=4, unique=True))
        bounds = zip(sorted(starts), [*sorted(starts)[1:], len(text)], strict=False)
        spans.append([span(a, b, draw(st.sampled_from(LABELS[:3]))) for a, b in bounds])
    return text, *spans


@given(case=cases())
def test_each_error_is_shown_once_and_marks_exactly_its_spans(case):
    text, gold, found = case
    assume(len(re.findall(r"\r\n|\r|\n", text)) < 8)  # of more lines only the ends are shown
    page = error_browser([document(text, *gold)], [found])
    shown = errors_of(page)
    errors = pair_errors(match_spans(gold, found))

    assert len(shown) == len(errors)
    for error, (_, inner) in zip(errors, shown, strict=True):
        for role, marked in (("gold", error.gold), ("found", error.predicted)):
            pieces = [data for names, data in Parsed(inner + "</pre>").marks if role in names]
            value = text[marked.start : marked.end] if marked else ""
            # As the page writes what is no printable character; line ends are not in a line.
            value = re.sub(r"[\r\n]", "", value).replace("\t", "    ").replace("\x1b", "\\x1b")
            assert "".join(pieces) == value


@given(case=cases())
def test_whatever_the_documents_hold_the_page_has_only_tags_of_its_own(case):
    text, gold, found = case
    page = error_browser([document(text, *gold, id=HOSTILE, path=HOSTILE)], [found])
    parsed = Parsed(page)
    assert set(parsed.tags) <= {"p", "div", "b", "pre", "span", "mark", "input", "label"}
    assert parsed.open == []


def test_every_error_can_be_hidden_by_its_kind_and_by_its_label():
    text = "x" * 100
    gold = [span(0, 10), span(20, 30), span(40, 50), span(60, 70, "IP_ADDRESS")]
    found = [span(0, 5), span(20, 30, "KEY"), span(80, 90, "PASSWORD")]
    page = error_browser([document(text, *gold)], [found])

    kinds = [kind_of_error(error) for error in pair_errors(match_spans(gold, found))]
    assert kinds == ["wrong limits", "mislabelled", "missed", "missed", "extra"]
    parsed = Parsed(page)
    hidden = dict(re.findall(r"#(\S+):not\(:checked\) ~ \.errors \.(\S+) ", ERROR_STYLE))
    assert set(hidden) == set(parsed.ids)
    for classes, _ in errors_of(page):
        assert set(classes.split()) <= set(hidden.values())
    assert [classes.split()[1] for classes, _ in errors_of(page)] == [
        *["label-name"] * 3,
        "label-ip-address",
        "label-password",
    ]
    assert "missed (2)" in page
    assert "IP_ADDRESS (1)" in page
    # The boxes stand before the errors and beside them, as the style has it.
    assert re.search(r'<div>(<input[^>]*><label[^>]*>[^<]*</label>\n)+<div class="errors">', page)


def test_an_error_is_shown_with_three_lines_around_and_their_numbers():
    text = "".join(f"line {n}\r\n" for n in range(1, 12))
    start = text.index("line 6")
    ((_, inner),) = errors_of(error_browser([document(text, span(start, start + 4))], [[]]))
    assert lines_of(inner) == [f"{n:4} line {n}" for n in range(3, 10)]


def test_of_long_lines_and_of_spans_of_many_lines_only_the_ends_are_shown():
    text = "a" * 1000 + "secret" + "b" * 1000
    ((_, inner),) = errors_of(error_browser([document(text, span(1000, 1006, "KEY"))], [[]]))
    assert lines_of(inner) == [f"   1 …{'a' * 200}secret{'b' * 200}…"]

    text = "".join(f"{n}\n" for n in range(1, 41))
    whole = span(text.index("5\n"), text.index("36\n"), "KEY")
    ((_, inner),) = errors_of(error_browser([document(text, whole)], [[]]))
    numbers = [int(line.split()[0]) for line in lines_of(inner) if "(" not in line]
    assert numbers == [2, 3, 4, 5, 6, 7, 8, 32, 33, 34, 35, 36, 37, 38]
    assert "     (23 lines)" in lines_of(inner)


def test_an_error_says_where_it_is_and_what_found_it():
    found = span(0, 1, "KEY", score=0.5, source="pattern:jwt")
    where = {"id": "d7", "package": "p", "path": "a.py", "language": "Python"}
    page = error_browser([document("xy", **where)], [[found]])
    assert "<b>extra</b>: found KEY, score 0.50, pattern:jwt; d7 / p / a.py / Python" in page
