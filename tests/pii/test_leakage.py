import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.annotations import Document
from pii.leakage import BOILERPLATE_PACKAGES, MIN_SHINGLES, SHINGLE_WORDS, Leak, find_leaks


def document(identity, text, package="a"):
    return Document(id=identity, language="", package=package, path="", text=text, spans=())


def words(first, count):
    return " ".join(f"w{n}" for n in range(first, first + count))


def test_a_copy_with_other_white_space_is_an_exact_duplicate():
    held_out = [document("e0", "x = 1"), document("e1", "def f(x):\n    return x")]

    leakage = find_leaks([document("d", "def  f(x):\n\treturn x\n")], held_out)

    assert leakage.leaks == (Leak(id="d", against="e1", share=1.0, exact=True),)


def test_a_copy_in_other_letters_is_a_near_duplicate():
    (leak,) = find_leaks([document("d", words(0, 40).upper())], [document("e", words(0, 40))]).leaks

    assert (leak.share, leak.exact) == (1.0, False)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_window_that_lies_in_a_file_is_a_near_duplicate(swapped):
    pair = [document("file", words(0, 500)), document("window", words(200, 40))]
    if swapped:
        pair.reverse()

    (leak,) = find_leaks(pair[:1], pair[1:]).leaks

    assert (leak.id, leak.against, leak.share, leak.exact) == (pair[0].id, pair[1].id, 1.0, False)


def test_texts_are_near_duplicates_from_the_stated_share_on():
    held_out = [document("e", words(0, 40 + SHINGLE_WORDS - 1))]  # 40 shingles
    for shared in (19, 20):
        text = words(0, shared + SHINGLE_WORDS - 1) + " " + words(1000, 100)
        leaks = find_leaks([document("d", text)], held_out, near_share=0.5).leaks
        assert [leak.share for leak in leaks] == ([0.5] if shared == 20 else [])


def test_a_text_too_short_to_say_is_no_near_duplicate():
    short = words(0, MIN_SHINGLES + SHINGLE_WORDS - 2)
    assert not find_leaks([document("d", words(0, 99))], [document("e", short)]).leaks
    assert find_leaks([document("d", words(0, 99))], [document("e", f"{short} w13")]).leaks


def test_what_many_packages_have_is_set_aside_and_counted():
    header = words(0, 60)
    data = [
        document(f"d{n}", f"{header} {words(1000 * n, 30)}", package=f"p{n}")
        for n in range(1, BOILERPLATE_PACKAGES)
    ]
    held_out = [document("e", f"{header} {words(9000, 30)}", package="p0")]

    leakage = find_leaks(data, held_out)
    fewer = find_leaks(data[1:], held_out)

    assert (leakage.leaks, leakage.boilerplate) == ((), len(data))
    assert (len(fewer.leaks), fewer.boilerplate) == (len(data) - 1, 0)


def test_what_two_texts_share_beside_boilerplate_still_counts():
    header = words(0, 60)
    data = [document(f"d{n}", f"{header} {words(1000 * n, 30)}", f"p{n}") for n in range(1, 6)]
    held_out = [document("e", f"{header} {words(2000, 30)} {words(9000, 9)}", package="p9")]

    assert [leak.id for leak in find_leaks(data, held_out).leaks] == ["d2"]


def test_the_share_is_of_what_is_left_beside_boilerplate():
    header, own = words(0, 200), words(5000, 30)
    data = [document(f"d{n}", f"{header} x{n}", package=f"p{n}") for n in range(1, 6)]
    window = document("d", f"{header} {own}", package="p6")
    held_out = [document("e", f"{header} {words(9000, 300)} {own}", package="p9")]

    (leak,) = find_leaks([*data, window], held_out).leaks

    # 26 shingles of its own, and 4 that begin in the header.
    assert (leak.id, leak.share) == ("d", round(26 / 30, 3))


texts = st.lists(st.sampled_from("a b c d".split()), max_size=60).map(" ".join)


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4), st.sampled_from([0.3, 0.5, 1.0]))
def test_the_leaks_are_those_that_comparing_every_pair_finds(data, held_out, near_share):
    def shingles(text):
        found = re.findall(r"\w+", text)
        return {tuple(found[i : i + SHINGLE_WORDS]) for i in range(len(found) - SHINGLE_WORDS + 1)}

    expected = set()
    for i, text in enumerate(data):
        for j, other in enumerate(held_out):
            a, b = shingles(text), shingles(other)
            size = min(len(a), len(b))
            if text and text == other:
                expected.add((f"d{i}", f"e{j}", True))
            elif size >= MIN_SHINGLES and len(a & b) / size >= near_share:
                expected.add((f"d{i}", f"e{j}", False))

    leakage = find_leaks(
        [document(f"d{i}", text) for i, text in enumerate(data)],
        [document(f"e{j}", text) for j, text in enumerate(held_out)],
        near_share=near_share,
    )

    found = [(leak.id, leak.against, leak.exact) for leak in leakage.leaks]
    assert set(found) == expected
    assert len(found) == len(expected)
