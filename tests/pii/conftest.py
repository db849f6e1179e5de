import pytest

from pii.filters import classify
from pii.spans import Span


@pytest.fixture(scope="session")
def kind():
    return _kind


def _kind(label, value, before="x = '", after="'\n", disabled=frozenset()):
    span = Span(start=len(before), end=len(before) + len(value), label=label)
    (classified,) = classify(before + value + after, [span], disabled)
    return classified.kind
