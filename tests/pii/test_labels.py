import pytest

from pii.labels import LABELS, TAGS, check_labels, tag_columns
from starencoder.errors import ConfigError


def test_the_tags_are_outside_then_b_and_i_of_each_label():
    assert TAGS[:3] == ("O", "B-NAME", "I-NAME")
    assert TAGS[-1] == "I-PASSWORD"
    assert len(TAGS) == 1 + 2 * len(LABELS)


def test_labels_come_back_in_their_order_and_once():
    assert check_labels(["KEY", "NAME", "KEY"]) == ("NAME", "KEY")


def test_an_unknown_label_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ConfigError, match="known: NAME, USERNAME"):
        check_labels(["PHONE"])
    with pytest.raises(ConfigError, match="unknown labels 'AGE', 'PHONE'; known: NAME"):
        check_labels(["PHONE", "NAME", "AGE"])


def test_the_tags_of_starpii_are_matched_by_name_and_ambiguous_ones_left_out():
    order = "AMBIGUOUS EMAIL IP_ADDRESS KEY NAME PASSWORD USERNAME".split()
    tags = ["O", *(f"{prefix}-{label}" for label in order for prefix in "BI")]

    columns = tag_columns(dict(enumerate(tags)))

    assert columns[:3] == (0, None, None)
    assert [TAGS[c] for c in columns[3:] if c is not None] == tags[3:]


@pytest.mark.parametrize("tags", [["O", "B-PHONE"], ["B-NAME", "I-NAME"], ["O", "NAME"]])
def test_tags_without_a_place_are_refused(tags):
    with pytest.raises(ConfigError):
        tag_columns(dict(enumerate(tags)))
