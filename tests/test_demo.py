"""The demo's sample tree, its findings, and what it prints."""

import subprocess
import sys
from pathlib import Path

import pytest

from pii.detect import EMBEDDED_MODEL, load_detector
from starencoder.languages import language_of

ROOT = Path(__file__).resolve().parents[1]
# Made-up values of the sample; few have a form or a place that gives them away.
PLANTED = {
    "app/Session.java": ["Henrike Baumgartner", "hbaumgartner", "kupferdach77"],
    "app/crypt.c": ["Priya Venkataraman"],
    "app/mailer.py": ["Marta Lindqvist", "mlindqvist", "tkowalczyk", "Tomasz Kowalczyk"],
    "config/deploy.env": ["Oksana Hryhorenko"],
    "config/production.yml": ["nv_billing", "tr0ut-Lantern-58"],
    "db/seed.sql": ["Lars-Erik Haugland", "lhaugland", "fjordtaxi1987", "Aiko Tanabe"],
    "deploy/provision.sh": ["lhaugland", "deploybot"],
    "docs/CHANGES.md": ["Dimitrios Karagiannis", "dkaragiannis", "Seehund-Parade-4"],
    "docs/access.log": ["dkaragiannis"],
    "web/package.json": ["Joost van den Berg", "Aiko Tanabe"],
    "web/settings.php": ["Lucía Ferreiro", "lferreiro"],
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import demo
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("demo") / "sample"
    demo.make_sample(folder)
    return folder


def values(detector, path):
    text = path.read_text(encoding="utf-8")
    return {text[span.start : span.end] for span in detector.detect(text)}


def test_the_sample_has_eight_languages_and_no_marker_is_left(sample):
    files = [path for path in sample.rglob("*") if path.is_file()]
    assert len({language_of(path) for path in files} - {None}) >= 8
    assert not any("%%" in path.read_text(encoding="utf-8") for path in files)


def test_what_is_planted_stands_in_the_sample(sample):
    for name, planted in PLANTED.items():
        text = (sample / name).read_text(encoding="utf-8")
        assert [value for value in planted if value not in text] == []


def test_the_encoder_finds_ten_planted_values_that_no_pattern_finds(sample):
    if not (EMBEDDED_MODEL / "onnx" / "model_int8.onnx").exists():
        pytest.fail("the embedded model is missing from the checkout")
    patterns, encoder = load_detector("none"), load_detector("tiny")
    by_encoder = 0
    for name, planted in PLANTED.items():
        unknown = set(planted) - values(patterns, sample / name)
        by_encoder += len(unknown & values(encoder, sample / name))
    assert by_encoder >= 10


def test_the_demo_runs_in_any_folder_and_says_where_its_result_lies(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert "pattern:email" in done.stdout
    assert "model" in done.stdout
    assert "-SMTP_PASSWORD" in done.stdout
    redacted = tmp_path / "demo-output" / "redacted"
    assert "demo-output/redacted" in done.stdout.replace("\\", "/")
    assert sum(path.is_file() for path in redacted.rglob("*")) == 13
    assert "jvdberg" not in (redacted / "web" / "package.json").read_text(encoding="utf-8")
    assert "karagiannis" not in (redacted / "docs" / "access.log").read_text(encoding="utf-8")
    assert "Gr4nit" not in (redacted / "app" / "mailer.py").read_text(encoding="utf-8")
