"""Distilling a router: it learns which chunks hold what the tagger finds, and keeps those."""

import json
import shutil
from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from export.router import build_router_graph, export_router, write_thresholds
from pii.detect import EMBEDDED_MODEL, load_detector
from pii.router import load_router
from pii.session import make_session
from pii.train_router import (
    CHOOSES,
    REPORTS,
    TEACHES,
    RouterConfig,
    RouterWeights,
    _chosen,
    _Convolutions,
    _Scored,
    calibrate_router,
    part_of,
    train_router,
)
from starencoder.errors import CheckpointError, ConfigError, DataError
from starencoder.tokenizer import load_tokenizer

FIRST = (
    "Lena Omar Ines Pavel Ruth Tomas Aiko Jonas Marta Felix Nadia Bruno Greta Hugo Ida Karl Lucia"
    " Mirko"
).split()
LAST = (
    "Brandt Okafor Lindqvist Novak Ferreira Castellan Moreau Haddad Weiss Sato Petrov Alvarez"
    " Jansen Keller Rossi Nowak Silva Tanaka"
).split()
PLAIN = "".join(
    f"def step_{n}(values):\n    return [value * {n} for value in values if value > {n}]\n\n"
    for n in range(60)
)


SETTINGS = {"width": 8, "epochs": 25, "lost": 0.0, "chars": 50_000_000, "seed": 1}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Packages: in each a file of code, and one with an author in its middle."""
    folder = tmp_path_factory.mktemp("packages")
    for first, last in zip(FIRST, LAST, strict=True):
        package = folder / f"lib-{first.lower()}"
        package.mkdir()
        (package / "plain.py").write_text(PLAIN.replace("step", first.lower()))
        author = f"# Written by {first} {last}\n# Copyright 2021 {first} {last}\n"
        (package / "signed.py").write_text(PLAIN[:3000] + author + PLAIN[3000:])
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(EMBEDDED_MODEL, directory)
    (directory / "onnx" / "router.onnx").unlink(missing_ok=True)
    return directory


@pytest.fixture(scope="module")
def trained(model, packages):
    config = RouterConfig(**SETTINGS)
    return train_router(model, packages, [], config)


def test_the_router_keeps_what_the_tagger_finds_and_spares_it_most_chunks(
    trained, model, packages, tmp_path
):
    weights, report = trained
    for point in report.points.values():
        assert 0 < point.kept["NAME"] <= point.spans["NAME"]
        assert 0 < point.read < 0.5

    directory = tmp_path / "routed"
    shutil.copytree(model, directory)
    export_router(weights, directory)
    routed = load_detector(str(directory))
    full = load_detector(str(directory), disabled=frozenset({"router"}))
    signed = [p for p in sorted(packages.rglob("signed.py")) if part_of(p.parent.name) == CHOOSES]
    assert signed
    for path in signed:
        with_router, without = (
            {(span.start, span.end, span.label) for span in detector.detect(path.read_text())}
            for detector in (routed, full)
        )
        assert with_router == without


def test_the_same_settings_give_the_same_router(trained, model, packages):
    again, _ = train_router(model, packages, [], RouterConfig(**SETTINGS))

    assert build_router_graph(again) == build_router_graph(trained[0])


def test_the_report_counts_spans_by_label(trained):
    text = trained[1].text()

    assert "balanced: " in text
    assert "thorough: " in text
    assert "  NAME: " in text
    assert "spans kept (" in text


def test_annotated_documents_are_learned_too(model, packages, tmp_path):
    text = "connect(host, 'Tr0ub4dor', 22)\n" * 3
    start = text.index("Tr0ub4dor")
    span = {"start": start, "end": start + 9, "label": "PASSWORD", "kind": "real"}
    data = tmp_path / "gold.jsonl"
    data.write_text(json.dumps({"id": "1", "text": text, "spans": [span]}) + "\n")
    config = RouterConfig(**{**SETTINGS, "epochs": 1})

    weights, _ = train_router(model, packages, [str(data)], config)
    without, _ = train_router(model, packages, [], config)

    assert build_router_graph(weights) != build_router_graph(without)


def test_files_in_which_nothing_is_found_teach_no_router(model, tmp_path):
    for name in FIRST:
        (tmp_path / name).mkdir()
        (tmp_path / name / "plain.py").write_text(PLAIN)

    with pytest.raises(DataError, match="found nothing in the packages of the part that teaches"):
        train_router(model, tmp_path, [], RouterConfig(**{**SETTINGS, "epochs": 1}))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("npm-@elastic+elasticsearch-9.4.3", "@elastic/elasticsearch"),
        ("pypi-paho-mqtt-2.2.0", "paho-mqtt"),
        ("debian-postgresql-15-15.18-0+deb12u1", "postgresql-15"),
        ("npm-oauth-1.0a-2.2.6", "oauth-1.0a"),
        ("debian-golang-github-lib-pq-1.10.7-2", "golang-github-lib-pq"),
    ],
)
def test_a_packages_files_and_its_annotated_windows_are_of_one_part(folder, name):
    assert part_of(folder) == part_of(name)


def test_one_package_in_four_chooses_and_one_in_eight_is_reported_on():
    parts = Counter(part_of(f"npm-package{number}-1.0") for number in range(1000))

    assert set(parts) == {TEACHES, CHOOSES, REPORTS}
    assert 200 < parts[CHOOSES] < 300
    assert 90 < parts[REPORTS] < 160


def test_packages_that_chose_no_threshold_say_what_it_keeps():
    chunks = np.array([1.0, 4.5, 6.0], np.float32)
    choosing = _Scored(chunks, [(5.0, "NAME", 0.9), (7.0, "KEY", 0.9), (1.0, "KEY", 0.1)])
    reporting = _Scored(chunks, [(4.0, "NAME", 0.9), (6.0, "NAME", 0.9), (0.0, "KEY", 0.1)])

    thresholds, points = _chosen(
        choosing, reporting, {"balanced": {"NAME": 0.5, "KEY": 0.5}}, lost=0.0
    )

    assert 4.9 < thresholds["balanced"] < 5.0
    assert points["balanced"].spans == {"NAME": 2}
    assert points["balanced"].kept == {"NAME": 1}
    assert points["balanced"].read == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"width": 0}, "width must be 1 or more, got 0"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"chars": 0}, "chars must be 1 or more, got 0"),
        ({"lost": 1.0}, r"lost must be in \[0, 1\), got 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        RouterConfig(**{**SETTINGS, **changes})


@pytest.mark.parametrize("length", [1, 5, 300])
def test_the_graph_scores_as_the_trained_convolutions_do(length):
    torch.manual_seed(length)
    table = torch.randn(50, 8).half().float()  # the graph keeps it in float16
    model = _Convolutions(table).eval()
    state = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    weights = RouterWeights(
        embeddings=table.numpy(),
        convolutions=tuple(
            (state[f"layers.{i}.weight"], state[f"layers.{i}.bias"]) for i in range(2)
        ),
        output=state["output.weight"][0, :, 0],
        output_bias=state["output.bias"],
        thresholds={"balanced": 0.25},
    )
    ids = torch.randint(50, (length,), dtype=torch.int32)
    with torch.inference_mode():
        expected = model(ids[None])[0].numpy()

    session = make_session(build_router_graph(weights))

    (scores,) = session.run(["scores"], {"input_ids": ids.numpy()})
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_written_router_belongs_to_a_tokenizer_of_its_size(trained, model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    export_router(trained[0], tmp_path / "model")

    router = load_router(tmp_path / "model", load_tokenizer(model), "balanced")

    assert router is not None
    assert router.scores(np.arange(10, dtype=np.int32)).shape == (10,)


def spans_of(detector, path):
    return {(span.start, span.end, span.label) for span in detector.detect(path.read_text())}


def test_thresholds_chosen_anew_keep_all_in_the_packages_that_choose_and_the_graph_stays(
    trained, model, packages, tmp_path
):
    directory = tmp_path / "model"
    shutil.copytree(model, directory)
    path = export_router(trained[0], directory)
    write_thresholds({"balanced": 99.0, "thorough": 99.0}, directory)
    signed = sorted(packages.rglob("signed.py"))
    assert not any(spans_of(load_detector(str(directory)), file) for file in signed)
    graph = onnx.load(path).graph

    thresholds, report = calibrate_router(directory, packages, lost=0.0, chars=10**8, seed=1)
    write_thresholds(thresholds, directory)

    assert onnx.load(path).graph == graph
    for point in ("balanced", "thorough"):
        routed, full = (
            load_detector(str(directory), operating_point=point, disabled=frozenset(disabled))
            for disabled in ((), ("router",))
        )
        for file in signed:
            if part_of(file.parent.name) != REPORTS:
                assert spans_of(routed, file) == spans_of(full, file)
        reporting = [file for file in signed if part_of(file.parent.name) == REPORTS]
        found = sum(report.points[point].spans.values())
        assert found == sum(len(spans_of(full, file)) for file in reporting) > 0


def test_packages_that_report_choose_no_threshold_of_a_router_that_is_there(
    trained, model, packages, tmp_path
):
    directory = tmp_path / "model"
    shutil.copytree(model, directory)
    export_router(trained[0], directory)
    reporting = tmp_path / "packages"
    for package in packages.iterdir():
        if part_of(package.name) == REPORTS:
            shutil.copytree(package, reporting / package.name)

    with pytest.raises(DataError, match="found nothing in the packages of the part that chooses"):
        calibrate_router(directory, reporting, lost=0.0, chars=10**8, seed=1)


def test_a_tagger_without_a_router_is_told_how_to_make_one(model, packages):
    with pytest.raises(CheckpointError, match=r"router\.onnx: not there; .* pii train-router"):
        calibrate_router(model, packages, lost=0.0, chars=10**8, seed=1)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"chars": 0}, "chars must be 1"),
        ({"lost": -0.1}, r"lost must be in \[0, 1\)"),
    ],
)
def test_settings_out_of_range_choose_no_thresholds(model, packages, changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        calibrate_router(model, packages, **{"lost": 0.0, "chars": 1, "seed": 1, **changes})
