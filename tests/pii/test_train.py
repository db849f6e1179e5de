import dataclasses
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import pii.train
from pii.annotations import read_annotated
from pii.dataset import tokenise
from pii.evaluate import calibrate
from pii.labels import LABELS, OPERATING_POINTS, TAGS
from pii.predict import load_torch_predict
from pii.tagger import load_tagger, tag_probabilities
from pii.train import TrainConfig, TrainData, read_recipe, train
from starencoder.checkpoint import read_weights
from starencoder.config import PRESETS, EncoderConfig
from starencoder.errors import CheckpointError, ConfigError, DataError
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
        records.append({"id": str(number), "text": text, "spans": [span]})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "gold.jsonl").write_text(lines, encoding="utf-8")
    (folder / "empty.jsonl").write_text("", encoding="utf-8")
    (folder / "latin1.jsonl").write_bytes('{"id": "é"}'.encode("latin-1"))
    tokenizer = train_tokenizer([record["text"] for record in records], 290)
    save_tokenizer(tokenizer, folder / "tokenizer")
    return folder


def config_of(data, *, file="gold.jsonl", **changes):
    settings = {"steps": 3, "batch_size": 4, "warmup_steps": 1, "max_tokens": 30, "stride": 20}
    return TrainConfig(
        data=(TrainData(path=str(data / file), copies=2, revalue=True),),
        tokenizer=str(data / "tokenizer"),
        **{**settings, **changes},
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "tagger"
    train(config_of(data), directory, threads=1)
    return directory


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(data, trained, tmp_path):
    train(config_of(data), tmp_path / "again", threads=1)
    train(config_of(data, seed=2), tmp_path / "other", threads=1)

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

    config = dataclasses.replace(config_of(data), data=(source,))
    train(config, tmp_path / "again", threads=1)

    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (trained / "model.safetensors").read_bytes()


def test_weights_are_learned_and_what_is_saved_is_their_average(data, trained, tmp_path):
    _, averaged = read_weights(trained)
    train(config_of(data, average_decay=0.0), tmp_path / "last", threads=1)
    train(config_of(data, learning_rate=1e-9), tmp_path / "still", threads=1)
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
    train(config_of(data, steps=150, learning_rate=1e-2), tmp_path, threads=1)

    assert share_right(data, trained) < 0.3
    assert share_right(data, tmp_path) > 0.7


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
    train(config_of(data, encoder=str(trained), learning_rate=1e-9), tmp_path, threads=1)
    _, before = read_weights(trained)
    _, after = read_weights(tmp_path)
    name = "bert.encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(after[name], before[name])


# --------------------------------------------------------------------------------------------------
# errors


RECIPE = 'tokenizer = "build/tokenizer"\n[[data]]\npath = "gold.jsonl"\n'


def recipe(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_with_its_defaults(tmp_path):
    config = read_recipe(recipe(tmp_path, "learning_rate = 1\n" + RECIPE + "copies = 3\n"))
    assert config == TrainConfig(
        data=(TrainData(path="gold.jsonl", copies=3),),
        tokenizer="build/tokenizer",
        learning_rate=1,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3\n" + RECIPE, r"stepz is not a setting \(did you mean steps\?\)"),
        (
            RECIPE + "copy = 3\n",
            r"data\[0\]\.copy is not a setting \(did you mean data\[0\]\.copies\?\)",
        ),
        ('steps = "3"\n' + RECIPE, "steps must be a whole number"),
        ("steps = true\n" + RECIPE, "steps must be a whole number"),
        ("steps = 1.5\n" + RECIPE, "steps must be a whole number"),
        (RECIPE + "revalue = 1\n", r"data\[0\]\.revalue must be true or false"),
        ("steps = 0\n" + RECIPE, "steps must be 1 or more, got 0"),
        ("warmup_steps = 0\n" + RECIPE, "warmup_steps must be 1 or more, got 0"),
        ("save_every = 0\n" + RECIPE, "save_every must be 1 or more, got 0"),
        ("learning_rate = 0\n" + RECIPE, "learning_rate must be above 0, got 0"),
        ("average_decay = 1\n" + RECIPE, r"average_decay must be in \[0, 1\), got 1"),
        ("stride = 200\n" + RECIPE, r"stride must be in 1\.\.126"),
        (RECIPE + "copies = 0\n", r"data\[0\]\.copies must be 1 or more, got 0"),
        ('[[data]]\npath = "x"\n', "tokenizer is missing"),
        ('tokenizer = "x"\n[[data]]\ncopies = 2\n', r"data\[0\]\.path is missing"),
        ('data = "x"\n', r"data must be tables, \[\[data\]\]"),
        ("steps =\n", "not TOML"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_one_line_that_names_it(tmp_path, text, message):
    path = recipe(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        read_recipe(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read \(No such file"):
        read_recipe(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"file": "absent.jsonl"}, DataError, r"absent\.jsonl: No such file"),
        ({"file": "empty.jsonl"}, DataError, "hold no text"),
        ({"file": "latin1.jsonl"}, DataError, r"latin1\.jsonl: not UTF-8"),
        ({"preset": "huge"}, ConfigError, "unknown preset 'huge'; known: starencoder-125m, tiny"),
        ({"max_tokens": 127}, ConfigError, "max_tokens must be at most 126"),
        ({"encoder": "absent"}, CheckpointError, "absent"),
    ],
)
def test_training_that_cannot_start_says_why_and_writes_nothing(
    data, tmp_path, changes, error, message
):
    with pytest.raises(error, match=message):
        train(config_of(data, **changes), tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()


def test_only_a_tagger_with_settings_of_ours_is_calibrated(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json: no chunk settings"):
        calibrate(tmp_path, [])
