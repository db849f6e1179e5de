import pytest

import pii.redactor
from pii.detect import load_detector
from pii.redactor import Redactor
from pii.spans import Span
from starencoder.errors import ConfigError

TEXT = "from Jane Roe, see example.com"
NAME = Span(start=5, end=13, label="NAME", score=0.9)
EXAMPLE = Span(start=19, end=30, label="EMAIL", kind="example")


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    class Fake:
        def detect(self, text):
            return [NAME, EXAMPLE] if text == TEXT else []

    asked = {}

    def load(model, **options):
        asked.update(options, model=model)
        return Fake()

    monkeypatch.setattr(pii.redactor, "load_detector", load)
    return asked


def test_examples_are_left_alone_unless_asked_for():
    assert Redactor().detect(TEXT) == [NAME]
    assert Redactor().redact(TEXT).text == "from <NAME>, see example.com"
    assert Redactor(include_examples=True).detect(TEXT) == [NAME, EXAMPLE]
    assert Redactor(include_examples=True).redact(TEXT).text == "from <NAME>, see <EMAIL>"


def test_a_redaction_tells_where_each_replacement_is():
    (replacement,) = Redactor(operator="starcoder").redact(TEXT).replacements
    assert (replacement.span, replacement.start, replacement.end) == (NAME, 5, 11)


def test_by_default_little_leaks(detector):
    Redactor()
    assert (detector["model"], detector["operating_point"]) == ("tiny", "thorough")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operator": "tags"}, r"unknown operator 'tags' \(did you mean tag\?\)"),
        ({"labels": ["EMIAL"]}, r"unknown label 'EMIAL' \(did you mean EMAIL\?\)"),
        ({"operating_point": "through"}, r"did you mean thorough\?"),
        ({"disabled": ["emial"]}, r"unknown rule 'emial' \(did you mean email\?\)"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(monkeypatch, options, message):
    monkeypatch.setattr(pii.redactor, "load_detector", load_detector)
    with pytest.raises(ConfigError, match=message):
        Redactor(**options)


def test_an_unknown_model_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown model 'tinny' \(did you mean tiny\?\)"):
        load_detector("tinny")
