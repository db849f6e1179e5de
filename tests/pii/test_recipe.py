import pytest

from pii.recipe import StageConfig, TrainConfig, TrainData, read_recipe
from starencoder.errors import ConfigError
from starencoder.schedule import OptimizerConfig

TOP = 'tokenizer = "build/tokenizer"\n'
STAGE = "[[stages]]\nsteps = 5\n"
DATA = '[[stages.data]]\npath = "gold.jsonl"\n'
RATE = "[stages.optimizer]\nlearning_rate = 1e-3\n"


def recipe(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_with_its_defaults(tmp_path):
    text = TOP + "seeds = [3, 4]\n" + STAGE + RATE + DATA + "copies = 3\n" + STAGE + DATA
    data = TrainData(path="gold.jsonl")
    assert read_recipe(recipe(tmp_path, text)) == TrainConfig(
        tokenizer="build/tokenizer",
        seeds=(3, 4),
        stages=(
            StageConfig(
                steps=5,
                data=(TrainData(path="gold.jsonl", copies=3),),
                optimizer=OptimizerConfig(learning_rate=1e-3),
            ),
            StageConfig(steps=5, data=(data,)),
        ),
    )


def test_with_an_encoder_no_tokenizer_is_needed(tmp_path):
    config = read_recipe(recipe(tmp_path, 'encoder = "hub:some/encoder"\n' + STAGE + DATA))
    assert config.tokenizer == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seedz = [3]\n" + TOP + STAGE + DATA, r"seedz is not a setting \(did you mean seeds\?\)"),
        (
            TOP + STAGE + DATA + "copy = 3\n",
            r"stages\[0\]\.data\[0\]\.copy is not a setting \(did you mean .*\.copies\?\)",
        ),
        (TOP + STAGE.replace("5", '"5"') + DATA, r"stages\[0\]\.steps must be a whole number"),
        (TOP + STAGE.replace("5", "0") + DATA, r"stages\[0\]\.steps must be 1 or more, got 0"),
        (TOP + STAGE + "batch_size = 0\n" + DATA, "batch_size must be 1 or more"),
        (TOP + STAGE + "outside_weight = 0\n" + DATA, "outside_weight must be above 0"),
        (TOP + STAGE + RATE.replace("1e-3", "0") + DATA, "learning_rate must be above 0, got 0"),
        (TOP + STAGE + DATA + "revalue = 1\n", r"data\[0\]\.revalue must be true or false"),
        (TOP + STAGE + DATA + "copies = 0\n", r"data\[0\]\.copies must be 1 or more, got 0"),
        (TOP + STAGE + DATA + 'format = "xml"\n', "unknown format 'xml'"),
        (TOP + STAGE, r"stages\[0\]\.data is missing"),
        (TOP + STAGE + "data = []\n", "data is empty"),
        (TOP + "stages = []\n", "stages is empty"),
        (TOP, "stages is missing"),
        (STAGE + DATA, "tokenizer is missing"),
        ("preset = 'huge'\n" + TOP + STAGE + DATA, "unknown preset 'huge'"),
        ("seeds = []\n" + TOP + STAGE + DATA, "seeds must be different whole numbers"),
        ("seeds = [1, 1]\n" + TOP + STAGE + DATA, "seeds must be different"),
        ("seeds = [-1]\n" + TOP + STAGE + DATA, "seeds must be different"),
        ("folds = 1\n" + TOP + STAGE + DATA, "folds must be 0, or 2 or more, got 1"),
        ("patience = 0\n" + TOP + STAGE + DATA, "patience must be 1 or more, got 0"),
        ("save_every = 0\n" + TOP + STAGE + DATA, "save_every must be 1 or more, got 0"),
        ("evaluate_every = 0\n" + TOP + STAGE + DATA, "evaluate_every must be 1 or more, got 0"),
        ("dropout = 1\n" + TOP + STAGE + DATA, r"dropout must be in \[0, 1\), got 1"),
        ("average_decay = 1\n" + TOP + STAGE + DATA, r"average_decay must be in \[0, 1\), got 1"),
        ("stride = 200\n" + TOP + STAGE + DATA, r"stride must be in 1\.\.126"),
        ("precision = 'int8'\n" + TOP + STAGE + DATA, "precision must be one of fp32, bf16"),
        ("seeds =\n", "not TOML"),
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
