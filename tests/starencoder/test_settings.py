import pytest

from starencoder.errors import ConfigError
from starencoder.settings import load_settings


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")


def test_no_file_is_no_settings(tmp_path):
    settings = load_settings(tmp_path)
    assert settings.source == ""
    assert settings.get("detect", "model") is None


def test_a_pyproject_of_others_is_no_settings(tmp_path):
    write(tmp_path, "pyproject.toml", "[tool.other]\nmodel = 1\n")
    assert load_settings(tmp_path).source == ""


def test_a_commands_own_setting_wins_over_the_shared_one(tmp_path):
    write(
        tmp_path,
        "pyproject.toml",
        '[tool.starencoder]\nmodel = "none"\nmin-score = 1\nlabels = ["EMAIL"]\n'
        '[tool.starencoder.redact]\nmodel = "tiny"\n',
    )
    settings = load_settings(tmp_path)
    assert settings.source == "pyproject.toml"
    assert settings.get("detect", "model") == "none"
    assert settings.get("redact", "model") == "tiny"
    assert settings.get("detect", "min-score") == 1.0
    assert settings.get("redact", "labels") == ("EMAIL",)


def test_starencoder_toml_hides_pyproject(tmp_path):
    write(tmp_path, "pyproject.toml", "[tool.starencoder]\njobs = 1\n")
    write(tmp_path, "starencoder.toml", "hidden = true\n")
    settings = load_settings(tmp_path)
    assert settings.get("detect", "hidden") is True
    assert settings.get("detect", "jobs") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'", r"starencoder.toml: modle is not a setting \(did you mean model\?\)"),
        (
            "[detect]\nfromat = 'x'",
            r"detect.fromat is not a setting \(did you mean detect.format\?\)",
        ),
        ("min_score = 0.5", r"did you mean min-score\?"),
        ("[detect]\noperator = 'tag'", "detect.operator is not a setting"),
        ("[detcet]\n", r"did you mean detect\?"),
        ("zzz = 1", "zzz is not a setting$"),
        ("jobs = true", "jobs must be a whole number"),
        ("jobs = 1.5", "jobs must be a whole number"),
        ("min-score = false", "min-score must be a number"),
        ("hidden = 1", "hidden must be true or false"),
        ("labels = 'EMAIL'", "labels must be a list of strings"),
        ("labels = ['EMAIL', 1]", "labels must be a list of strings"),
        ("detect = 1", "detect must be a table"),
        ("jobs = ", "not TOML"),
    ],
)
def test_what_is_no_setting_is_an_error_that_helps(tmp_path, text, message):
    write(tmp_path, "starencoder.toml", text)
    with pytest.raises(ConfigError, match=message):
        load_settings(tmp_path)


def test_an_unreadable_file_is_an_error(tmp_path):
    (tmp_path / "starencoder.toml").mkdir()
    with pytest.raises(ConfigError, match=r"starencoder\.toml: "):
        load_settings(tmp_path)
    (tmp_path / "starencoder.toml").rmdir()
    (tmp_path / "starencoder.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(ConfigError, match="not TOML"):
        load_settings(tmp_path)
