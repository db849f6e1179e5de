import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import cli
import pii.train
from pii.annotations import read_annotated
from pii.dataset import tokenise
from pii.evaluate import calibrate
from pii.labels import LABELS, OPERATING_POINTS, TAGS
from pii.predict import load_torch_predict
from pii.recipe import StageConfig, TrainConfig, TrainData
from pii.tagger import load_tagger, tag_probabilities
from pii.train import train, train_text
from starencoder.checkpoint import read_weights
from starencoder.config import PRESETS, EncoderConfig, load_config
from starencoder.errors import CheckpointError, ConfigError, DataError, OutputError
from starencoder.schedule import OptimizerConfig
from starencoder.tokenizer import save_tokenizer, train_tokenizer

LINES = [
    ("# by {}\n", "Lena Novak", "NAME"),
    ("mail = '{}'\n", "lena@" + "novak-tools.org", "EMAIL"),
    ("def area(width, height): return width * height  # @{}\n", "otto_k", "USERNAME"),
]


SMALL = EncoderConfig(
    vocab_size=1,  # the tokenizer's is taken
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    intermediate_size=32,
    max_positions=128,
    pad_id=0,
    hidden_dropout=0.1,
)


@pytest.fixture(autouse=True, scope="module")
def small_preset():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pii.train, "PRESETS", {**PRESETS, "tiny": SMALL})
        yield


@pytest.fixture(autouse=True)
def torch_as_it_was():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a tokenizer and a file of annotated documents."""
    folder = tmp_path_factory.mktemp("data")
    records = []
    for number, (line, value, label) in enumerate(LINES * 3):
        text = "x = 1\n" * number + line.format(value)
        start = text.index(value)
        span = {"start": start, "end": start + len(value), "label": label, "kind": "real"}
        package = f"package-{number % 4}"
        records.append({"id": str(number), "text": text, "spans": [span], "package": package})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "gold.jsonl").write_text(lines, encoding="utf-8")
    one = "".join(json.dumps({**record, "package": "p"}) + "\n" for record in records)
    (folder / "one.jsonl").write_text(one, encoding="utf-8")
    (folder / "empty.jsonl").write_text("", encoding="utf-8")
    (folder / "latin1.jsonl").write_bytes('{"id": "é"}'.encode("latin-1"))
    tokenizer = train_tokenizer([record["text"] for record in records], 290)
    save_tokenizer(tokenizer, folder / "tokenizer")
    return folder


def stage_of(data, *, file="gold.jsonl", steps=3, rate=5e-4, **changes):
    source = TrainData(path=str(data / file), copies=2, revalue=True)
    optimizer = OptimizerConfig(learning_rate=rate, warmup_steps=1)
    return StageConfig(data=(source,), steps=steps, batch_size=4, optimizer=optimizer, **changes)


def config_of(data, *stages, **changes):
    settings = {"max_tokens": 30, "stride": 20, "folds": 0, "tokenizer": str(data / "tokenizer")}
    return TrainConfig(stages=stages or (stage_of(data),), **{**settings, **changes})


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "tagger"
    train(config_of(data), directory, threads=1)
    return directory


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(data, trained, tmp_path):
    train(config_of(data), tmp_path / "again", threads=1)
    train(config_of(data, seeds=(2,)), tmp_path / "other", threads=1)

    first, again, other = (
        (directory / "model.safetensors").read_bytes()
        for directory in (trained, tmp_path / "again", tmp_path / "other")
    )
    assert first == again
    assert first != other


def test_documents_of_another_form_train_the_same(data, trained, tmp_path):
    rows = []
    for line in (data / "gold.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        (span,) = record["spans"]
        value = record["text"][span["start"] : span["end"]]
        entity = {**span, "tag": f"{span['label']}_HERE", "value": value}
        rows.append({"id": record["id"], "content": record["text"], "pii": [entity]})
    (tmp_path / "pii.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = "".join(f'{label}_HERE = ["{label}", "real"]\n' for label in LABELS)
    (tmp_path / "map.toml").write_text(f"[labels]\n{labels}")
    source = TrainData(
        path=str(tmp_path / "pii.jsonl"),
        format="pii",
        label_map=str(tmp_path / "map.toml"),
        copies=2,
        revalue=True,
    )

    stage = dataclasses.replace(stage_of(data), data=(source,))
    train(config_of(data, stage), tmp_path / "again", threads=1)

    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (trained / "model.safetensors").read_bytes()


def test_weights_are_learned_and_what_is_saved_is_their_average(data, trained, tmp_path):
    _, averaged = read_weights(trained)
    train(config_of(data, average_decay=0.0), tmp_path / "last", threads=1)
    train(config_of(data, stage_of(data, rate=1e-9)), tmp_path / "still", threads=1)
    _, last = read_weights(tmp_path / "last")
    _, start = read_weights(tmp_path / "still")

    name = "classifier.weight"
    moved = (last[name].float() - start[name].float()).abs().mean()
    assert 0 < (averaged[name].float() - start[name].float()).abs().mean() < moved


def share_right(data, directory):
    """The share of the tokens in annotated spans whose likeliest tag is the annotated one."""
    tagger = load_tagger(directory, load_torch_predict(directory))
    right = []
    for document in tokenise(read_annotated(str(data / "gold.jsonl")).documents, tagger.tokenizer):
        probs = np.concatenate(list(tag_probabilities(document.ids, tagger)))
        inside = document.targets > 0
        right += (probs.argmax(axis=1) == document.targets)[inside].tolist()
    return np.mean(right)


def test_what_was_seen_often_is_recognised(data, trained, tmp_path):
    train(config_of(data, stage_of(data, steps=150, rate=1e-2)), tmp_path / "long", threads=1)

    assert share_right(data, trained) < 0.3
    assert share_right(data, tmp_path / "long") > 0.7


def test_a_trained_directory_is_a_tagger_for_us_and_for_transformers(data, trained):
    from transformers import AutoModelForTokenClassification

    tagger = load_tagger(trained, load_torch_predict(trained))
    assert (tagger.chunks.max_tokens, tagger.chunks.stride) == (30, 20)
    assert tagger.operating_points == {
        point: dict.fromkeys(LABELS, 0.5) for point in OPERATING_POINTS
    }
    theirs = AutoModelForTokenClassification.from_pretrained(trained, dtype=torch.float32).eval()
    assert [theirs.config.id2label[index] for index in range(len(TAGS))] == list(TAGS)
    chunk = [tagger.tokenizer.cls_id, *tagger.tokenizer.encode("# by Lena").ids]
    with torch.inference_mode():
        expected = theirs(torch.tensor([chunk])).logits.softmax(-1)[0].numpy()
    np.testing.assert_allclose(tagger.predict([chunk])[0], expected, atol=1e-5)
    ours = Tokenizer.from_file(str(trained / "tokenizer.json"))
    assert ours.to_str() == Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json")).to_str()


def test_training_goes_on_from_a_checkpoint(data, trained, tmp_path):
    config = config_of(data, stage_of(data, rate=1e-9), encoder=str(trained), tokenizer="")
    train(config, tmp_path / "on", threads=1)
    _, before = read_weights(trained)
    _, after = read_weights(tmp_path / "on")
    name = "bert.encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(after[name], before[name])


def test_dropout_is_the_recipes_not_the_encoders(data, trained, tmp_path):
    for folder, dropout in [("none", 0.0), ("again", 0.0), ("half", 0.5)]:
        config = config_of(data, encoder=str(trained), tokenizer="", dropout=dropout)
        train(config, tmp_path / folder, threads=1)

    assert load_config(tmp_path / "half").hidden_dropout == 0.5
    none, again, half = (
        (tmp_path / folder / "model.safetensors").read_bytes()
        for folder in ("none", "again", "half")
    )
    assert none == again != half


# --------------------------------------------------------------------------------------------------
# stages, folds, seeds


class Killed(BaseException):
    """Ends a run as kill -9 would: nothing is tidied up."""


@pytest.fixture
def two_stages(data):
    stages = stage_of(data, steps=12), stage_of(data, steps=8)
    changes = {"folds": 2, "evaluate_every": 2, "save_every": 3, "seeds": (1, 2)}
    return config_of(data, *stages, **changes)


def test_a_run_killed_anywhere_goes_on_to_the_same_weights_and_report(
    two_stages, tmp_path, monkeypatch
):
    train(two_stages, tmp_path / "whole", threads=1)
    expected = files(tmp_path / "whole")
    step = pii.train._Trainer._step
    # In the first stage, in a fold, between two phases, in the last stage, with the second seed.
    for number, allowed in enumerate((5, 13, 4, 9, 17, 11)):
        left = [allowed]

        def until(*arguments, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return step(*arguments)

        monkeypatch.setattr(pii.train._Trainer, "_step", until)
        with pytest.raises(Killed):
            train(two_stages, tmp_path / "broken", resume=number > 0, threads=1)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="--resume, or remove it"):
        train(two_stages, tmp_path / "broken", threads=1)
    train(two_stages, tmp_path / "broken", resume=True, threads=1)
    assert files(tmp_path / "broken") == expected


@pytest.fixture
def interrupted(data, trained, tmp_path, monkeypatch):
    """A function that starts a run which ends in its second step, and the recipe of that run."""
    (tmp_path / "gold.jsonl").write_bytes((data / "gold.jsonl").read_bytes())
    shutil.copytree(trained, tmp_path / "encoder")
    config = config_of(tmp_path, encoder=str(tmp_path / "encoder"), tokenizer="", save_every=1)
    left = [1]
    step = pii.train._Trainer._step

    def until(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pii.train._Trainer, "_step", until)
        with pytest.raises(Killed):
            train(config, tmp_path / "out", threads=1)
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 0.2}, "other settings: dropout was 0.1, is 0.2; go on with those"),
        ({"seeds": (1, 2)}, r"seeds was \[1\], is \[1, 2\]"),
        ({"steps": 4}, r"stages\.1\.steps was 3, is 4"),
        ({"rate": 1e-3}, r"stages\.1\.optimizer\.learning_rate was 0.0005, is 0.001"),
    ],
)
def test_a_run_does_not_go_on_with_another_recipe(interrupted, tmp_path, changes, message):
    stage = {name: changes.pop(name) for name in ("steps", "rate") if name in changes}
    if stage:
        changes["stages"] = (stage_of(tmp_path, **stage),)
    with pytest.raises(ConfigError, match=message):
        train(dataclasses.replace(interrupted, **changes), tmp_path / "out", resume=True, threads=1)
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["gold.jsonl", "encoder/config.json", "encoder/tokenizer.json"])
def test_a_run_does_not_go_on_with_other_data(interrupted, tmp_path, name):
    path = tmp_path / name
    content = path.read_text(encoding="utf-8")
    other = content.replace("USERNAME", "NAME") if "gold" in name else content + "\n"
    path.write_text(other, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"another content of \S*{name}; put that back"):
        train(interrupted, tmp_path / "out", resume=True, threads=1)
    path.write_text(content, encoding="utf-8")
    train(interrupted, tmp_path / "out", resume=True, threads=1)


def test_how_often_a_run_saves_may_change(interrupted, tmp_path):
    changed = dataclasses.replace(interrupted, save_every=2)
    train(changed, tmp_path / "out", resume=True, threads=1)
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize(("content", "message"), [(None, "missing"), ("{", "not valid JSON")])
def test_a_run_of_which_nothing_tells_the_recipe_does_not_go_on(
    interrupted, tmp_path, content, message
):
    path = tmp_path / "out" / "checkpoints" / "run.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"run\.json: {message}.*; remove .* and start again"):
        train(interrupted, tmp_path / "out", resume=True, threads=1)


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_tagger_is_not_replaced(data, trained, resume):
    before = everything_in(trained)
    with pytest.raises(ConfigError, match=r"model\.safetensors: already there; give another"):
        train(config_of(data), trained, resume=resume, threads=1)
    assert everything_in(trained) == before


def test_graphs_of_an_earlier_tagger_are_not_taken_for_the_new_ones(data, tmp_path):
    (tmp_path / "out" / "onnx").mkdir(parents=True)
    with pytest.raises(ConfigError, match="onnx: already there; give another"):
        train(config_of(data), tmp_path / "out", threads=1)


def test_an_output_that_is_an_input_or_cannot_be_written_is_seen_before_data_are_read(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(pii.train, "read_annotated", None)
    with pytest.raises(ConfigError, match=r"is the input .*tokenizer too"):
        train(config_of(data), data / "tokenizer", threads=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="out: cannot be written"):
        train(config_of(data), tmp_path / "file" / "out", threads=1)


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files(folder):
    assert not (folder / "checkpoints").exists()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_fold_is_trained_on_a_package_that_it_holds_out(data, tmp_path, monkeypatch):
    phases = {}
    phase = pii.train._Trainer._phase

    def spied(self, name, start, copies, stage, steps, held_out=()):
        trained_on = {document.package for document, _ in copies}
        phases[name] = trained_on, {document.package for document in held_out}
        return phase(self, name, start, copies, stage, steps, held_out)

    monkeypatch.setattr(pii.train._Trainer, "_phase", spied)
    train(config_of(data, folds=3), tmp_path / "out", threads=1)
    everything = {f"package-{number}" for number in range(4)}
    assert phases.pop("last-stage") == (everything, set())
    assert len(phases) == 3
    for trained_on, held_out in phases.values():
        assert held_out
        assert trained_on == everything - held_out
    assert set.union(*(held_out for _, held_out in phases.values())) == everything


def test_folds_give_thresholds_and_scores_and_none_leaves_one_half(data, trained, tmp_path):
    stage = stage_of(data, steps=120, rate=1e-2)
    config = config_of(data, stage, folds=2, evaluate_every=40)
    (result,) = train(config, tmp_path / "out", threads=1)
    stored = load_tagger(tmp_path / "out", load_torch_predict(tmp_path / "out")).operating_points
    assert stored == result.points
    assert set(result.f1) == {*LABELS, "micro"}
    assert "micro" in train_text([result])
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert report["seeds"]["1"]["f1_over_folds"] == result.f1
    plain = load_tagger(trained, load_torch_predict(trained)).operating_points
    assert plain == {point: dict.fromkeys(LABELS, 0.5) for point in OPERATING_POINTS}


def test_a_fold_stops_when_it_gets_no_better_and_the_last_stage_takes_as_many_steps(
    data, tmp_path, monkeypatch
):
    scores = {"fold-0": [0.1, 0.5, 0.4, 0.3, 0.9], "fold-1": [0.2, 0.3, 0.6, 0.5, 0.4]}
    evaluated = iter([*scores["fold-0"][:4], *scores["fold-1"]])
    monkeypatch.setattr(pii.train._Trainer, "_f1", lambda *_: next(evaluated))
    stage = stage_of(data, steps=10)
    config = config_of(data, stage, folds=2, evaluate_every=2, patience=2)
    (result,) = train(config, tmp_path / "out", threads=1)
    # Best after the second and the third evaluation: 4 and 6 steps.
    assert result.steps == 5
    assert next(evaluated, None) is None


def test_of_several_seeds_the_best_is_written_and_all_are_reported(
    data, two_stages, tmp_path, monkeypatch
):
    by_folds = pii.train._Trainer._by_folds

    def scored(self, start, copies, stage):
        steps, f1, points = by_folds(self, start, copies, stage)
        return steps, {**f1, "micro": {1: 0.5, 2: 0.75}[self.seed]}, points

    monkeypatch.setattr(pii.train._Trainer, "_by_folds", scored)
    results = train(two_stages, tmp_path / "out", threads=1)
    assert [result.seed for result in results] == [1, 2]
    text = train_text(results)
    assert "0.6250" in text  # the mean
    assert "0.1768" in text  # the standard deviation
    _, written = read_weights(tmp_path / "out")
    for name, weight in results[1].weights.items():
        assert torch.equal(written[name], weight.half())


def test_a_lower_weight_outside_of_spans_finds_more(data, tmp_path):
    def found(weight):
        stage = stage_of(data, steps=40, rate=3e-3, outside_weight=weight)
        train(config_of(data, stage), tmp_path / str(weight), threads=1)
        tagger = load_tagger(tmp_path / str(weight), load_torch_predict(tmp_path / str(weight)))
        documents = read_annotated(str(data / "gold.jsonl")).documents
        return sum(
            float(1 - np.concatenate(list(tag_probabilities(d.ids, tagger)))[:, 0].mean())
            for d in tokenise(documents, tagger.tokenizer)
        )

    assert found(0.1) > found(1.0) > found(10.0)


# --------------------------------------------------------------------------------------------------
# errors


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"file": "absent.jsonl"}, DataError, r"absent\.jsonl: No such file"),
        ({"file": "empty.jsonl"}, DataError, "hold no text"),
        ({"file": "latin1.jsonl"}, DataError, r"latin1\.jsonl: not UTF-8"),
        ({"train_tokens": 127}, ConfigError, "train_tokens must be at most 126"),
        ({"max_tokens": 127}, ConfigError, "max_tokens must be at most train_tokens, 126"),
        ({"file": "one.jsonl", "folds": 2}, DataError, "are of one package"),
        ({"encoder": "absent"}, CheckpointError, "absent"),
    ],
)
def test_training_that_cannot_start_says_why_and_writes_nothing(
    data, tmp_path, changes, error, message
):
    stage = stage_of(data, file=changes.pop("file", "gold.jsonl"))
    with pytest.raises(error, match=message):
        train(config_of(data, stage, **changes), tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()


def test_only_a_tagger_with_settings_of_ours_is_calibrated(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json: no chunk settings"):
        calibrate(tmp_path, [])


def test_the_command_says_what_was_measured_and_how_the_tagger_is_used(data, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"max_tokens = 30\nstride = 20\nfolds = 0\ntokenizer = {str(data / 'tokenizer')!r}\n"
        f"[[stages]]\nsteps = 1\nbatch_size = 4\n"
        f"[[stages.data]]\npath = {str(data / 'gold.jsonl')!r}\n"
    )
    output = tmp_path / "tagger"

    assert cli.main(["pii", "train", str(recipe), "--output", str(output)]) == 0

    said = capsys.readouterr()
    assert "nothing was measured" in said.out
    assert "nan" not in said.out + said.err
    assert said.err.endswith(f"to detect with it: starencoder export quantize {output}\n")
