import html.parser
import json
import re
import time
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.report import status_text, write_report
from pretrain.run_dir import RunDirectory
from starencoder.errors import DataError, OutputError

HOSTILE = "</script><img src=x onerror=alert(1)> & \"'$\\frac{\u4e2d\x1b[2J\ud800"
STEPS = 200


def held_out(masked, **over):
    return {
        "rows": 10, "tokens": 9000, "mlm_loss": 2.5, "masked_accuracy": 0.456,
        "unigram_accuracy": 0.051, "nsp_accuracy": 0.789, "nsp_chance": 0.512,
        "masked": masked, "pairs": 40, **over,
    }  # fmt: skip


def fill(run, steps, *, language="Python", seconds_per_step=2.0):
    run.write_config(
        {"config": {"run": {"steps": STEPS, "seed": 1}}, "versions": {"torch": "2.13.0"}}
    )
    start = time.time() - steps * seconds_per_step
    for step in range(10, steps + 1, 10):
        run.append(
            "train",
            step,
            {
                "loss": 10 / step, "mlm_loss": 8 / step, "nsp_loss": 2 / step,
                "learning_rate": 1e-3, "grad_norm": 1.0, "tokens": step * 1000,
                "tokens_per_second": 500, "mfu": None, "data_wait": 0.002,
                "time": start + step * seconds_per_step,
            },
        )  # fmt: skip
        if step % 50 == 0:
            languages = {language: held_out(60), "C": held_out(90, masked_accuracy=0.123)}
            run.append("held_out", step, {"all": held_out(150), "languages": languages})
            saved = {"seconds": 1.5, "stall": 0.12, "bytes": 1000, "error": None}
            run.append("checkpoint", step, saved)


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    yield directory
    directory.close()


def line_of(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return " ".join(line.split())


def test_a_run_without_metrics_has_not_started(tmp_path):
    (tmp_path / "lock").touch()
    assert status_text(tmp_path).split()[-2:] == ["not", "started"]
    page = write_report(tmp_path).read_text()
    assert "not started" in page
    assert "<svg" not in page


def test_a_directory_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "report.html").write_text("of token shards")
    for job in (status_text, write_report):
        with pytest.raises(DataError, match="no pretraining run"):
            job(tmp_path)
    assert (tmp_path / "report.html").read_text() == "of token shards"


def test_what_is_no_directory_is_an_error(tmp_path):
    for function in (status_text, write_report):
        with pytest.raises(DataError, match="no such directory"):
            function(tmp_path / "missing")


def test_status_of_a_running_run(run):
    fill(run, 100)
    text = status_text(run.path)

    assert text.splitlines()[0].endswith(" running")
    assert line_of(text, "step") == "step 100 of 200 (50.0%)"
    assert line_of(text, "loss") == "loss 0.1000 (MLM 0.0800, NSP 0.0200)"
    assert line_of(text, "tokens") == "tokens 100,000"
    assert line_of(text, "speed") == "speed 500 tokens/s, 0.20% waiting for data"
    assert line_of(text, "time left") == "time left 3 min 20 s"
    assert "last metrics" in text
    assert line_of(text, "last checkpoint") == "last checkpoint step 100, training waited 0.12 s"
    assert "held out, step 100" in text
    assert line_of(text, "  C").split() == [
        "C",
        "90",
        "2.5000",
        "12.3%",
        "5.1%",
        "40",
        "78.9%",
        "51.2%",
    ]
    assert text.index("  C  ") < text.index("  Python") < text.index("  all")
    assert "warnings" not in text


def test_a_damaged_config_is_warned_of_and_the_metrics_are_shown(run):
    fill(run, 50)
    (run.path / "config.json").write_text("{")
    for text in (status_text(run.path), write_report(run.path).read_text()):
        assert "config.json: not valid JSON; resume the run to write it again" in text
        assert "50" in text
        assert "100" not in status_text(run.path).splitlines()[1]


def test_a_break_in_the_metrics_does_not_count_in_the_time_left(run):
    fill(run, 50)
    for step in (60, 70):
        run.append("train", step, {"time": time.time() + 100_000 + step * 2})

    assert line_of(status_text(run.path), "time left") == "time left 4 min 20 s"


def test_status_of_a_finished_run(run):
    fill(run, STEPS)
    run.mark_done(STEPS)
    run.close()
    text = status_text(run.path)

    assert text.splitlines()[0].endswith(" done")
    assert "100.0%" in text
    assert "time left" not in text


def test_a_run_whose_process_is_gone_is_stopped(run):
    fill(run, 50)
    run.close()

    assert "stopped before its last step; go on with --resume" in status_text(run.path)


def test_status_lists_only_the_largest_of_many_languages(run):
    languages = {f"L{index:02}": held_out(index) for index in range(30)}
    run.append("held_out", 1, {"all": held_out(999), "languages": languages})
    text = status_text(run.path)

    assert "L29" in text
    assert "L18" in text
    assert "L17" not in text
    assert "18 more languages" in text
    assert "L00" in write_report(run.path).read_text()


def test_bad_steps_failed_saves_and_waiting_for_data_are_warned_of(run):
    fill(run, 50)
    documents = ["train-00003 document 17"]
    bad = {"reason": "loss is nan", "action": "skip", "loss": None, "rank": 1}
    run.append("bad_step", 33, {**bad, "documents": documents})
    run.append("checkpoint", 60, {"error": "disk full"})
    for step in range(60, 300, 10):
        run.append("train", step, {"data_wait": 0.25})

    page = write_report(run.path).read_text()
    for text in (status_text(run.path), page):
        assert "1 bad step; the last at step 33: loss is nan (skip)" in text
        assert "1 of 2 checkpoints not saved; the last at step 60: disk full" in text
        assert "25.0% of the time goes into waiting for data; raise data.workers" in text
    assert "train-00003 document 17" in page
    assert line_of(status_text(run.path), "last checkpoint").startswith("last checkpoint step 50")


class Reader(html.parser.HTMLParser):
    """Collects the elements and attributes that a browser would see."""

    def __init__(self):
        super().__init__()
        self.elements, self.attributes, self.text = [], [], []
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_has_curves_tables_settings_and_versions(run):
    fill(run, 100)
    page = write_report(run.path).read_text()
    text = " ".join("".join(read(page).text).split())

    for part in (
        "Pretraining run run", "Loss", "Masked accuracy, held out", "NSP accuracy, held out",
        "Learning rate", "Gradient norm", "Tokens per second", "train, MLM", "held out, MLM",
        "most frequent token (unigram)", "chance", "Held out by language, step 100", "45.6%",
        "config.run.steps", "versions.torch", "2.13.0", "Bad steps", "Last checkpoints",
    ):  # fmt: skip
        assert part in text
    assert page.count("<svg") == page.count("</svg>") == 7


def test_the_page_loads_nothing_and_runs_nothing(run):
    fill(run, 100)
    reader = read(write_report(run.path).read_text())

    assert not set(reader.elements) & {"script", "link", "img", "iframe", "object", "image"}
    for name, value in reader.attributes:
        assert not name.startswith("on")
        assert "//" not in value
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#")
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", value))
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes


def test_names_inside_the_charts_are_there_once_and_are_those_referred_to(run):
    fill(run, 100)
    attributes = read(write_report(run.path).read_text()).attributes
    names = [value for name, value in attributes if name == "id"]
    references = {
        match
        for name, value in attributes
        if name != "id"
        for match in re.findall(r"#([\w-]{8,})", value)
    }

    assert len(names) == len(set(names))
    assert references <= set(names)


def hostile_run(path, text):
    run = RunDirectory(path)
    fill(run, 50, language=text)
    run.write_config({text: text, "config": {"run": {"steps": text, text: [text]}}})
    bad = {"reason": text, "action": text, "rank": text, "loss": text, "documents": [text]}
    run.append("bad_step", 1, bad)
    run.append("checkpoint", 1, {"error": text, "stall": text})
    run.append("train", 60, {"loss": text, "time": text, "data_wait": True})
    run.close()


# Names that the run has anyway would replace a row instead of adding one.
TAKEN = {"C", "config", "run", "steps"}


@given(
    text=st.text(st.characters(), min_size=1).filter(lambda t: t not in TAKEN) | st.just(HOSTILE)
)
def test_hostile_settings_and_names_are_only_ever_text(tmp_path_factory, text):
    plain, hostile = (tmp_path_factory.mktemp("r") / "run" for _ in range(2))
    hostile_run(plain, "x")
    hostile_run(hostile, text)
    # No chart ever gets a name from outside, and drawing them takes long.
    with mock.patch("pretrain.report.line_chart", return_value="<svg></svg>"):
        readers = [read(write_report(path).read_text()) for path in (plain, hostile)]

    assert readers[1].elements == readers[0].elements
    assert readers[1].attributes == readers[0].attributes
    shown = status_text(hostile)
    assert all(char.isprintable() or char == "\n" for char in shown)


def test_the_page_says_what_is_hostile_as_text(run):
    hostile_run(run.path.with_name("hostile"), HOSTILE)
    page = write_report(run.path.with_name("hostile")).read_text()

    assert "<img" not in page
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in page
    assert "\u4e2d\\x1b[2J\\ud800" in page


def test_a_page_may_go_elsewhere_and_a_place_that_cannot_be_written_is_an_error(run, tmp_path):
    output = tmp_path / "elsewhere" / "page.html"

    assert write_report(run.path, output) == output
    assert output.exists()
    assert not (run.path / "report.html").exists()
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(run.path, run.path / "lock" / "page.html")


def test_the_same_metrics_give_the_same_page(run):
    fill(run, 50)
    metrics = run.path / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for line in lines:
        line.pop("time", None)
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert write_report(run.path).read_bytes() == write_report(run.path).read_bytes()
