import pytest

from starencoder.errors import ConfigError
from starencoder.names import check_name


def test_a_wrong_name_is_answered_with_the_nearest_and_the_known():
    assert check_name("label", "EMAIL", ("NAME", "EMAIL")) == "EMAIL"
    with pytest.raises(ConfigError, match=r"unknown label 'emal' \(did you mean EMAIL\?\); known"):
        check_name("label", "emal", ("NAME", "EMAIL"))
