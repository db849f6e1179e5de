import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pii.detect
import pii.windows
from pii.detect import load_detector
from pii.spans import Span
from pii.windows import Window, iter_windows, join_windows, spans_inside

ADDRESS = "jane.roe@" + "acme-corp.io"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(pii.windows, "LONGEST_WINDOW", 40)
    monkeypatch.setattr(pii.windows, "_CONTEXT", 8)


lengths = pytest.mark.usefixtures("small")


@lengths
@given(st.text(alphabet="ab\n", max_size=300))
def test_every_character_belongs_to_one_window_which_sees_its_surroundings(text):
    windows = list(iter_windows(text))

    assert windows[0].first == 0
    assert windows[-1].last == len(text)
    assert all(a.last == b.first for a, b in itertools.pairwise(windows))
    for window in windows:
        assert window.last - window.first <= 40
        assert window.start == max(0, window.first - 8)
        assert window.end == min(len(text), window.last + 8)


@lengths
def test_a_window_ends_after_a_line_where_it_can():
    text = "a" * 37 + "\n" + "b" * 60
    assert next(iter_windows(text)).last == 38


@lengths
@given(
    words=st.lists(st.sampled_from(["x", "yy", "zzz", "MARK"]), max_size=80),
    glue=st.sampled_from([" ", "\n"]),
)
def test_what_is_found_in_the_windows_is_what_is_found_in_the_whole(words, glue):
    text = glue.join(words)

    def find(part):
        return [
            Span(start=at, end=at + 4, label="KEY")
            for at in range(len(part))
            if part.startswith("MARK", at)
        ]

    windows = list(iter_windows(text))
    found = [find(text[window.start : window.end]) for window in windows]
    assert join_windows(windows, found) == find(text)


def test_spans_of_two_windows_that_overlap_are_not_both_kept():
    windows = [Window(0, 20, 0, 10), Window(0, 20, 10, 20)]
    long, inner = (Span(start=a, end=b, label="KEY") for a, b in [(5, 15), (12, 14)])
    assert join_windows(windows, [[long], [inner]]) == [long]


def test_a_detector_reads_a_long_text_in_windows_and_finds_the_same(monkeypatch):
    text = "".join(f"line {i} of a file\nmail {i}.{ADDRESS}\n" for i in range(60))
    whole = load_detector("tiny").detect(text)
    monkeypatch.setattr(pii.windows, "LONGEST_WINDOW", 700)
    monkeypatch.setattr(pii.windows, "_CONTEXT", 300)

    assert len(list(iter_windows(text))) > 3
    in_windows = load_detector("tiny").detect(text)
    assert [(span.start, span.end, span.label) for span in in_windows] == [
        (span.start, span.end, span.label) for span in whole
    ]


def test_what_is_sure_in_one_window_is_found_in_all(monkeypatch):
    value = "Gr4nit" + "Harbour7x"
    filler = "a line of a file\n" * 60
    text = f'password = "{value}"\n{filler}tried {value} for it\n{filler}{value}'
    found = [match.start() for match in re.finditer(value, text)]
    detector = load_detector("none")
    assert [span.start for span in detector.detect(text)] == found
    monkeypatch.setattr(pii.windows, "LONGEST_WINDOW", 700)
    monkeypatch.setattr(pii.windows, "_CONTEXT", 300)

    assert len(list(iter_windows(text))) > 2
    assert [span.start for span in detector.detect(text)] == found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pii.detect, "_MOST_SHARED", 0)
        assert [span.start for span in detector.detect(text)] == found[:1]
    without = load_detector("none", disabled=frozenset(["repeated-value"]))
    assert [span.start for span in without.detect(text)] == found[:1]


@lengths
@given(
    text=st.text(alphabet="ab\n", min_size=60, max_size=200),
    cuts=st.sets(st.integers(0, 200), max_size=30),
)
def test_a_window_sees_the_spans_that_lie_in_it(text, cuts):
    places = sorted(cut for cut in cuts if cut <= len(text))
    spans = [
        Span(start=a, end=b, label="KEY") for a, b in zip(places[::2], places[1::2], strict=False)
    ]
    for window in iter_windows(text):
        inside = [s for s in spans if window.start <= s.start and s.end <= window.end]
        part = text[window.start : window.end]
        seen = spans_inside(window, spans)
        assert [part[s.start : s.end] for s in seen] == [text[s.start : s.end] for s in inside]
