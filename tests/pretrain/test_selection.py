import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.config import PrepareConfig
from pretrain.documents import Document, Dropped
from pretrain.selection import Selection

DOCUMENTS = [Document((("", f"text {i}"),), "Go" if i % 3 else "C") for i in range(3000)]


def select(documents, *, seed=1, **settings):
    """Split and entries of each document, None where it is left out; and what was left out."""
    dropped = Dropped()
    selection = Selection(PrepareConfig(**settings), seed=seed, dropped=dropped)
    placed = []
    for document in documents:
        chosen = selection.choose(document)
        placed.append(None if chosen is None else selection.place(chosen))
    return placed, dropped


@given(order=st.permutations(range(40)), seed=st.integers(0, 2**64 - 1))
def test_a_documents_place_does_not_depend_on_where_it_stands(order, seed):
    settings = {"weights": {"Go": 1.5, "C": 0.3}, "held_out": 0.2, "held_out_documents": 100}
    first, _ = select(DOCUMENTS[:40], seed=seed, **settings)
    again, _ = select([DOCUMENTS[i] for i in order], seed=seed, **settings)
    assert again == [first[i] for i in order]


@pytest.mark.parametrize("weight", [0.25, 1.0, 2.5])
def test_entries_are_the_weight_on_average_and_never_a_whole_one_off(weight):
    placed, dropped = select(DOCUMENTS, weights={"Go": weight, "C": weight}, held_out=0.0)
    entries = [found[1] if found else 0 for found in placed]
    assert sum(entries) / len(entries) == pytest.approx(weight, abs=0.04)
    assert set(entries) <= {int(weight), int(weight) + 1}
    assert sum(dropped.documents.values()) == entries.count(0)


def test_no_more_are_held_out_of_a_language_than_allowed_and_about_the_share():
    many, _ = select(DOCUMENTS, held_out=0.1, held_out_documents=10_000)
    splits = [found[0] for found in many]
    assert splits.count("held_out") == pytest.approx(300, abs=70)
    few, _ = select(DOCUMENTS, held_out=0.1, held_out_documents=20)
    for language in ("Go", "C"):
        own = [f for f, d in zip(few, DOCUMENTS, strict=True) if d.language == language]
        assert sum(found[0] == "held_out" for found in own) == 20


def test_of_equal_texts_one_is_taken_unless_the_filter_is_off():
    once, dropped = select(DOCUMENTS[:5] * 2)
    assert once[5:] == [None] * 5
    assert sum(dropped.documents.values()) == 5
    assert "5 duplicate" in str(dropped)
    twice, dropped = select(DOCUMENTS[:5] * 2, disable=("duplicate",))
    assert twice[5:] == twice[:5]
    assert not str(dropped)
