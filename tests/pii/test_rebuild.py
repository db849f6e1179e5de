import base64
import hashlib
import io
import itertools
import json
import shutil
import subprocess
import tarfile
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli
from pii.annotations import read_annotated
from pii.labels import KINDS, LABELS
from pii.rebuild import SPLITS, cut_windows, read_windows, rebuild_gold
from starencoder.errors import ConfigError, DataError

SOURCE = "# by Lena Novak\nx = 1\ny = 2\n"


def record(text=SOURCE, **changes):
    return {
        "id": "w0",
        "split": "extra",
        "registry": "npm",
        "package": "made-up",
        "version": "1.0.0",
        "path": "lib/a.py",
        "language": "Python",
        "line": 1,
        "chars": len(text),
        "sha1": hashlib.sha1(text.encode()).hexdigest(),
        "spans": [{"start": 5, "end": 15, "label": "NAME", "kind": "real"}],
        **changes,
    }


@pytest.fixture
def windows_of(tmp_path):
    def write(*records):
        path = tmp_path / "windows.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in records))
        return path

    return write


@pytest.fixture
def packages(tmp_path):
    folder = tmp_path / "packages" / "npm-made-up-1.0.0" / "lib"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(SOURCE)
    (folder / "latin.py").write_bytes("# \xe9".encode("latin-1"))
    return tmp_path / "packages"


def test_windows_come_back_as_documents_with_their_spans(windows_of, packages, tmp_path):
    second = record(SOURCE[16:22], id="w1", line=2, spans=[])
    output = tmp_path / "new" / "gold.jsonl"

    rebuilt = rebuild_gold(read_windows(windows_of(record(), second)), output, source_dir=packages)

    first, other = read_annotated(str(output)).documents
    assert (rebuilt.windows, rebuilt.missing, rebuilt.packages) == (2, {}, {})
    assert first.text[first.spans[0].start : first.spans[0].end] == "Lena Novak"
    assert (first.id, first.language, first.package, first.path) == (
        "w0", "Python", "made-up", "lib/a.py",
    )  # fmt: skip
    assert other.text == "x = 1\n"


def test_a_folder_of_packages_that_is_not_there_costs_no_output(windows_of, tmp_path):
    output = tmp_path / "gold.jsonl"
    output.write_text("made before")
    with pytest.raises(ConfigError, match="absent: no such folder"):
        rebuild_gold(read_windows(windows_of(record())), output, source_dir=tmp_path / "absent")
    assert output.read_text() == "made before"


@given(
    text=st.text(st.sampled_from("ab\n\r\x0b\x0c\x85\u2028é😀"), min_size=1),
    first=st.integers(0, 20),
    chars=st.integers(1, 20),
)
def test_a_window_of_any_lines_is_cut_as_it_was_drawn(tmp_path_factory, text, first, chars):
    root = tmp_path_factory.getbasetemp() / "any"
    root.mkdir(exist_ok=True)
    (root / "a.py").write_bytes(text.encode())
    # As the windows were drawn: text mode, then `splitlines`.
    lines = (root / "a.py").read_text(encoding="utf-8").splitlines(keepends=True)
    drawn = "".join(lines[first:])[:chars]
    path = root / "windows.jsonl"
    path.write_text(json.dumps(record(drawn, path="a.py", line=first + 1, chars=chars, spans=[])))

    cut = cut_windows(root, read_windows(path))

    assert cut.texts == {"w0": drawn}


def test_windows_that_cannot_be_had_are_counted_by_reason(windows_of, packages, tmp_path, capsys):
    path = windows_of(
        record(),
        record(id="w1", path="lib/b.py"),
        record(id="w2", path="lib/latin.py"),
        record(id="w3", sha1="0" * 40),
        record(id="w4", version="2.0.0"),
        record(id="w5", version="2.0.0"),
    )

    output = tmp_path / "gold.jsonl"
    places = ["--annotations", path, "--source-dir", packages, "--output", output]
    code = cli.main(["pii", "rebuild-gold", *map(str, places)])

    said = capsys.readouterr()
    assert code == 3
    assert "1 of 6 windows" in said.out
    assert (
        "missing: 1 file not UTF-8, 1 no such file in the package, 1 other text than was "
        "annotated, 2 package cannot be had"
    ) in said.out
    assert "npm made-up 2.0.0: not in" in said.err
    assert len(output.read_text().splitlines()) == 1


def test_a_split_is_rebuilt_alone(windows_of, packages, tmp_path, capsys):
    path = windows_of(record(), record(id="w1", split="dev"))
    output = tmp_path / "gold.jsonl"
    arguments = ["--annotations", str(path), "--source-dir", str(packages), "--output", str(output)]

    assert cli.main(["pii", "rebuild-gold", *arguments, "--split", "dev"]) == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["w1"]
    assert cli.main(["pii", "rebuild-gold", *arguments, "--split", "test"]) == 2


def test_packages_are_fetched_and_leave_nothing_behind(windows_of, tmp_path, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/lib/a.py")
        member.size = len(SOURCE)
        tar.addfile(member, io.BytesIO(SOURCE.encode()))
    registry = tmp_path / "registry"
    (registry / "made-up").mkdir(parents=True)
    (registry / "made-up.tgz").write_bytes(packed.getvalue())
    digest = base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
    (registry / "made-up" / "1.0.0").write_text(
        json.dumps(
            {
                "dist": {
                    "tarball": (registry / "made-up.tgz").as_uri(),
                    "integrity": f"sha512-{digest}",
                }
            }
        )
    )
    monkeypatch.setenv("npm_config_registry", registry.as_uri())
    output = tmp_path / "out" / "gold.jsonl"
    windows = read_windows(windows_of(record(), record(id="w1", package="gone")))

    rebuilt = rebuild_gold(windows, output)

    assert rebuilt.windows == 1
    assert rebuilt.missing == {"package cannot be had": 1}
    assert list(rebuilt.packages) == ["npm gone 1.0.0"]
    assert [path.name for path in output.parent.iterdir()] == ["gold.jsonl"]


@pytest.fixture
def debian_source(tmp_path):
    """A Debian source whose patches change a file, in the order of its series."""
    root = tmp_path / "debian-made-up-1.0-1"
    patches = root / "debian" / "patches"
    patches.mkdir(parents=True)
    (root / "a.py").write_text(SOURCE)
    change = "--- a/a.py\n+++ b/a.py\n@@ -2,2 +2,2 @@\n-{}\n+{}\n y = 2\n"
    (patches / "one.patch").write_text(change.format("x = 1", "x = 3"))
    (patches / "two.patch").write_text(change.format("x = 3", "x = 4"))
    (root / "debian" / "outside.patch").write_text(change.format("x = 1", "x = 9"))
    series = "# first\n../outside.patch\none.patch -p1\nnone.patch\ntwo.patch\n"
    (patches / "series").write_text(series)
    return root


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch")
def test_windows_of_patched_debian_files_are_found_and_the_source_stays(debian_source, windows_of):
    patched = record(SOURCE.replace("x = 1", "x = 4"), registry="debian", path="a.py")
    plain = record(id="w1", registry="debian", path="a.py")
    other = record("z", id="w2", registry="debian", path="a.py", spans=[])

    cut = cut_windows(debian_source, read_windows(windows_of(patched, plain, other)))

    assert cut.texts == {"w0": SOURCE.replace("x = 1", "x = 4"), "w1": SOURCE}
    assert cut.missing == {"w2": "other text than was annotated"}
    assert (debian_source / "a.py").read_text() == SOURCE


def test_without_patch_a_patched_window_is_missing(debian_source, windows_of, monkeypatch):
    def missing(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    patched = record(SOURCE.replace("x = 1", "x = 4"), registry="debian", path="a.py")

    cut = cut_windows(debian_source, read_windows(windows_of(patched)))

    assert cut.missing == {"w0": "other text than was annotated"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "../a.py"}, "the field 'path' leaves the package"),
        ({"path": "/etc/passwd"}, "the field 'path' leaves the package"),
        ({"line": 0}, "the fields 'line' and 'chars' must be 1 or more"),
        ({"line": "1"}, "the field 'line' is text; expected a whole number"),
        ({"chars": 0}, "the fields 'line' and 'chars' must be 1 or more"),
        ({"registry": "cpan"}, "the registry is unknown; known: pypi, npm, debian"),
        ({"spans": None}, "the field 'spans' is null; expected a list"),
        ({"package": "../made-up"}, "the field 'package' is not of the form it has in npm"),
        ({"version": "1.0.0/../../x"}, "the field 'version' is not of the form it has in npm"),
        ({"archive": "../a.tgz"}, "the field 'archive' is not of the form it has in npm"),
        ({}, "a second window has this id"),
        (
            {"spans": [{"start": 5, "end": 9999, "label": "NAME"}]},
            r"spans\[0\]: the span reaches outside the text",
        ),
        ({"spans": [1]}, r"spans\[0\] is a whole number; expected an object"),
    ],
)
def test_a_line_that_is_no_window_is_named_with_what_is_wrong(windows_of, changes, message):
    with pytest.raises(DataError, match=rf"windows\.jsonl:2: {message}"):
        read_windows(windows_of(record(), record(**changes)))


@pytest.mark.parametrize("path", ["lib/\0.py", "lib/\ud800.py"])
def test_a_path_that_no_file_can_have_is_a_missing_window(packages, windows_of, path):
    root = packages / "npm-made-up-1.0.0"
    cut = cut_windows(root, read_windows(windows_of(record(path=path))))
    assert cut.missing == {"w0": "no such file in the package"}


def test_a_field_that_a_window_lacks_is_named(windows_of):
    broken = record()
    del broken["version"]
    with pytest.raises(DataError, match=r"windows\.jsonl:1: no field 'version'; expected text"):
        read_windows(windows_of(broken))


def test_the_data_set_that_comes_with_the_package_is_whole():
    windows = read_windows()

    assert Counter(window.split for window in windows) == {
        "train": 1418, "dev": 508, "dev2": 199, "extra": 9157,
    }  # fmt: skip
    assert len({window.id for window in windows}) == len(windows)
    for window in windows:
        end = 0
        for span in window.spans:
            assert span["label"] in LABELS
            assert span["kind"] in KINDS
            assert end <= span["start"] < span["end"] <= window.chars
            end = span["end"]


def test_no_package_of_the_data_set_is_in_two_splits():
    packages = {
        split: {window.package.name.lower() for window in read_windows(splits=[split])}
        for split in SPLITS
    }

    for one, other in itertools.combinations(packages.values(), 2):
        assert not one & other
