import os
from pathlib import Path

import pytest

from starencoder.errors import ConfigError, OutputError
from starencoder.files import check_outputs, open_whole, write_whole


def test_a_file_is_written_with_its_folder_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"one\n", b"\r\nother"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), OutputError), (KeyboardInterrupt(), None)],
)
def test_what_was_there_stays_when_writing_breaks_off(tmp_path, error, raised):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def break_off():
        with open_whole(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(raised or type(error)) as caught:
        break_off()
    if raised:
        assert str(caught.value) == f"{path}: cannot be written (No space left on device)"
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_or_a_file_in_the_way_is_named_once(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(OutputError) as error:
            write_whole(path, b"")
        assert str(error.value).count(str(path)) == 1


def test_outputs_that_are_inputs_or_one_another_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    given = tmp_path / "folder" / "in"
    given.write_bytes(b"")
    link, other = tmp_path / "link", tmp_path / "new" / "out"
    link.symlink_to(given)
    for output, inputs, message in [
        (given, [given], "is the input"),
        (link, [tmp_path / "absent", given], "is the input"),
        (given, [link], "is the input"),
        (tmp_path / "folder" / ".." / "folder" / "out", [tmp_path / "folder"], "lies in the input"),
    ]:
        with pytest.raises(ConfigError, match=message):
            check_outputs([output], inputs)
    with pytest.raises(ConfigError, match="is the output"):
        check_outputs([link, given])
    check_outputs([other, link], [tmp_path / "folder" / "in.jsonl"])
    # Nothing of what is written there can be lost.
    check_outputs([Path(os.devnull), Path(os.devnull)], [Path(os.devnull)])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "in", "link"]


def test_outputs_that_cannot_be_written_are_refused_and_no_folder_is_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    below = tmp_path / "file" / "below"
    for path, folders in [(below, False), (below, True), (tmp_path / "file", True)]:
        with pytest.raises(OutputError, match=f"{path.name}: cannot be written"):
            check_outputs([path], folders=folders)
    with pytest.raises(OutputError, match="is a directory"):
        check_outputs([tmp_path])
    check_outputs([tmp_path], folders=True)
    check_outputs([tmp_path / "a" / "b"])
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(path, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert path.is_fifo()
