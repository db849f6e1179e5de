import codecs
import os
import random
import stat
import subprocess
import sys
from pathlib import Path, PurePath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pii.files import (
    BINARY,
    HIDDEN,
    IGNORED,
    SPECIAL,
    SYMLINK,
    VENDORED,
    Document,
    FoundFile,
    LeftOut,
    WalkOptions,
    check_output,
    copy_link,
    decode,
    escaped,
    find_files,
    make_folders,
    read_file,
    replace_file,
    take_snapshot,
    write_file,
)
from starencoder.errors import ConfigError, OutputError

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX file types and modes")


def found(arguments, options=None):
    entries = find_files(arguments, options)
    return [entry.relative.as_posix() for entry in entries if isinstance(entry, FoundFile)]


def left_out(arguments, options=None):
    entries = find_files(arguments, options)
    return {
        entry.relative.as_posix(): entry.reason for entry in entries if isinstance(entry, LeftOut)
    }


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return root


# Walking


def test_files_come_in_the_order_of_their_paths_as_bytes(tmp_path):
    names = ["a-b", "a/z", "a.c", "b", "a/b/c", "Z", "é"]
    tree(tmp_path, *names)
    assert found([tmp_path]) == sorted(names, key=lambda name: name.encode())


def test_hidden_and_vendored_folders_and_git_are_left_out_by_reason_and_entered_by_flag(tmp_path):
    tree(tmp_path, ".env", ".cache/a", "node_modules/b", "src/vendor/c", ".git/config", "d")
    assert found([tmp_path]) == [".env", "d"]
    assert left_out([tmp_path]) == {
        ".cache": HIDDEN,
        ".git": ".git",
        "node_modules": VENDORED,
        "src/vendor": VENDORED,
    }
    everything = WalkOptions(hidden=True, vendored=True)
    assert found([tmp_path], everything) == [
        *(".cache/a", ".env", "d", "node_modules/b", "src/vendor/c"),
    ]


def test_a_folder_named_as_an_argument_is_read_whatever_its_name_or_gitignore_say(tmp_path):
    tree(tmp_path, "node_modules/a.js", ".git/HEAD")
    (tmp_path / ".gitignore").write_text("a.js\n")
    assert found([tmp_path / "node_modules" / "a.js"]) == ["a.js"]
    assert found([tmp_path / "node_modules"], WalkOptions(gitignore=False)) == ["a.js"]
    assert left_out([tmp_path / "node_modules"]) == {"a.js": IGNORED}


def test_with_several_arguments_each_keeps_its_name_and_a_file_comes_once(tmp_path):
    tree(tmp_path, "a/x", "b/y", "c")
    arguments = [tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "a" / "x"]
    assert found(arguments) == ["a/x", "b/y", "c"]


def test_two_arguments_of_one_name_are_refused(tmp_path):
    tree(tmp_path, "a/src/x", "b/src/y")
    with pytest.raises(ConfigError, match="same name"):
        found([tmp_path / "a" / "src", tmp_path / "b" / "src"])


def test_a_missing_argument_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nowhere: No such file"):
        found([tmp_path / "nowhere"])


@posix_only
def test_links_are_not_followed_and_a_loop_ends(tmp_path):
    tree(tmp_path, "a/x")
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert found([tmp_path]) == ["a/x"]
    assert left_out([tmp_path]) == dict.fromkeys(("a/loop", "a/self", "dangling"), SYMLINK)
    with pytest.raises(ConfigError, match="symbolic links"):
        found([tmp_path / "a" / "self"])


@posix_only
def test_pipes_and_sockets_are_left_out_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert left_out([tmp_path]) == {"pipe": SPECIAL}
    assert [entry.failed for entry in find_files([tmp_path / "pipe"])] == [True]
    with pytest.raises(OSError, match=SPECIAL):
        read_file(tmp_path / "pipe")


def test_a_folder_that_cannot_be_listed_is_named_as_failed(tmp_path, monkeypatch):
    tree(tmp_path, "a/x", "b")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    entries = list(find_files([tmp_path]))
    assert entries[0] == LeftOut(tmp_path / "a", PurePath("a"), "Permission denied", failed=True)
    assert entries[1].relative == PurePath("b")


NAMES = ["a", "b", "foo", "bar", "x.py", "y.txt", "foo.d", "a b", "#h", "!n", ".hid", "[z]", "é"]
PATTERNS = """a|b/|*.py|!x.py|/foo|foo/|!/foo/|**/bar|foo/**|!foo/bar|*|!*/|!*.txt|/*|a/b|a/*/x.py
!a/b/|*.d|foo.d/|\\#h|\\!n|a b|a\\ b|b |[a-b]|[!a]|[z-a]|?|a/**/b|**/|**|/**|!/a/|foo*|*o*|#c||  |/
a//b|\\|[|**/foo/bar|foo/**/|*/bar|!**/x.py|/a/**|!**|a**b|*.*|x.py/|[[:alpha:]]|\\a|./a|../a|*/
é*|a\r""".replace("\n", "|").split("|")


@pytest.mark.parametrize("seed", range(12))
def test_gitignore_files_leave_out_what_git_leaves_out(tmp_path, seed):
    rng = random.Random(seed)
    folders = [tmp_path]
    for _ in range(6):
        folder = rng.choice(folders) / rng.choice(NAMES)
        if not folder.exists():
            folder.mkdir()
            folders.append(folder)
    for _ in range(14):
        path = rng.choice(folders) / rng.choice(NAMES)
        if not path.exists():
            path.write_text("x")
    for folder in [tmp_path, rng.choice(folders)]:
        patterns = rng.choices(PATTERNS, k=rng.randint(1, 4))
        (folder / ".gitignore").write_bytes("\n".join(patterns).encode())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("!n\\!n\n*.txt\n")

    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")

    options = WalkOptions(hidden=True, vendored=True)
    assert [os.fsencode(name) for name in found([tmp_path], options)] == sorted(listed[:-1])
    for folder in folders[1:]:
        if os.fsencode(folder.relative_to(tmp_path)) in {name.split(b"/")[0] for name in listed}:
            below = os.fsencode(folder.relative_to(tmp_path)) + b"/"
            names = [os.fsencode(name) for name in found([folder], options)]
            expected = sorted(name[len(below) :] for name in listed if name.startswith(below))
            assert names == expected


def test_a_repository_inside_another_has_only_its_own_patterns(tmp_path):
    tree(tmp_path, "inner/a.log", "a.log", "b")
    (tmp_path / ".gitignore").write_text("*.log\n")
    for repository in (tmp_path, tmp_path / "inner"):
        subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    assert found([tmp_path]) == [".gitignore", "b", "inner/a.log"]


# Decoding

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.binary())
@example(b"")
@example(b"\xff\xfe")
@example(b"\xff\xfea\0b")
@example(b"\xff\xfe\0\xd8a\0")
@example(b"\xff\xfe\0\0a\0\0\0")
@example(b"\xef\xbb\xbf\xff")
@example(b"caf\xe9")
@example(b"# coding: shift_jis\n\x81\x5c\x81\x60\x85")
def test_any_bytes_are_binary_or_come_back_the_same(data):
    document = decode(data)
    assert document == BINARY or document.encode(document.text) == data


@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40))
@example(b"\xc3\xa9\xe9\xc3\xa9", 1, 2)
def test_replacing_part_of_a_text_leaves_the_bytes_of_the_rest(data, start, end):
    document = decode(data)
    if document == BINARY:
        return
    start, end = sorted((min(start, len(document.text)), min(end, len(document.text))))
    head, tail = document.text[:start], document.text[end:]
    edited = document.encode(head + "<EMAIL>" + tail)
    plain = Document("", document.encoding, document.errors)
    before = document.before + plain.encode(head)
    after = plain.encode(tail) + document.after
    assert data.startswith(before)
    assert data.endswith(after)
    assert edited == before + plain.encode("<EMAIL>") + after


@given(texts)
def test_utf_8_is_read_as_it_is(text):
    document = decode(text.encode())
    assert document == BINARY or document.text == text.removeprefix("\ufeff")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@given(text=texts.filter(lambda text: not text.startswith("\ufeff")))
def test_a_byte_order_mark_tells_the_encoding(encoding, text):
    document = decode(f"\ufeff{text}".encode(encoding))
    if encoding == "utf-16-le" and text.startswith("\0"):
        return  # the mark of UTF-32
    assert (document.text, document.encoding) == (text, encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_told_by_its_nul_bytes(encoding):
    text = "[section]\r\nuser = Zoë\r\n"
    document = decode(text.encode(encoding))
    assert (document.text, document.encoding) == (text, encoding)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("naïve café".encode("latin-1"), "cp1252"),
        (b"caf\xe9 \x81", "latin-1"),
        ("naïve café — ok".encode() + b" \xe9", "utf-8 with invalid bytes"),
        (codecs.BOM_UTF8 + b"a", "utf-8 with byte order mark"),
        ("# -*- coding: koi8-r -*-\n# Привет".encode("koi8-r"), "koi8-r"),
        ('<?xml version="1.0" encoding="Shift_JIS"?>山田'.encode("shift_jis"), "shift_jis"),
        ('<meta charset="gbk">李雷'.encode("gbk"), "gbk"),
        ("# coding: utf-7\ncafé".encode("latin-1"), "cp1252"),
        (b"\x1b[31mred\x1b[0m\t\f\r\n", "utf-8"),
    ],
)
def test_the_encoding_is_chosen_and_named(data, encoding):
    document = decode(data)
    assert document.encoding_name == encoding
    assert document.encode(document.text) == data


@pytest.mark.parametrize(
    "data",
    [
        b"text with one \0 in it",
        b"\x7fELF\x02\x01\x01\0\0\0",
        bytes(range(1, 256)),
        random.Random(0).randbytes(200).replace(b"\0", b"\1"),
    ],
)
def test_binary_files_are_told_from_text(data):
    assert decode(data) == BINARY


# Writing


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@posix_only
def test_a_replaced_file_keeps_its_mode_and_owner(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    assert replace_file(take_snapshot(path), b"new")
    after = path.stat()
    assert path.read_bytes() == b"new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        *(before.st_mode, before.st_uid, before.st_gid),
    )
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("change", ["content", "file", "gone"])
def test_a_file_that_changed_since_it_was_read_is_left_alone(tmp_path, change):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    snapshot = take_snapshot(path)
    if change == "content":
        path.write_bytes(b"odd")
        os.utime(path, ns=(snapshot.status.st_atime_ns, snapshot.status.st_mtime_ns))
    else:
        path.rename(tmp_path / "b")
        if change == "file":
            path.write_bytes(b"old")
    assert not replace_file(snapshot, b"new")
    contents = [(tmp_path / name).read_bytes() for name in names_in(tmp_path)]
    assert b"new" not in contents


@pytest.mark.parametrize("call", ["fsync", "fdopen"])
def test_a_full_disk_leaves_the_original_whole_and_nothing_beside_it(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    snapshot = take_snapshot(path)
    original = getattr(os, call)

    def full(*arguments):
        if call == "fdopen" and arguments[1] == "rb":
            return original(*arguments)
        if call == "fdopen":
            os.close(arguments[0])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match="a: No space left on device"):
        replace_file(snapshot, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small file system needs root"
)
def test_a_disk_that_really_is_full_leaves_the_original_whole(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        path = disk / "a"
        path.write_bytes(b"x" * 40_000)
        with pytest.raises(OutputError, match="No space left"):
            replace_file(take_snapshot(path), b"y" * 40_000)
        assert path.read_bytes() == b"x" * 40_000
        assert names_in(disk) == ["a"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@posix_only
def test_nothing_is_read_for_replacing_through_a_link(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(OSError, match="symbolic link"):
        take_snapshot(tmp_path / "link")


@posix_only
def test_written_files_have_the_mode_asked_for_and_replace_links_rather_than_their_targets(
    tmp_path,
):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "a").symlink_to("precious")
    write_file(tmp_path / "a", b"new", stat.S_IFREG | 0o751)
    assert stat.S_IMODE((tmp_path / "a").lstat().st_mode) == 0o751
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"precious"


@posix_only
def test_no_folder_is_made_through_a_link(tmp_path):
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(outside)
    with pytest.raises(OutputError, match="symbolic link"):
        make_folders(out, PurePath("sub", "deeper"))
    assert names_in(outside) == []


@posix_only
def test_links_are_copied_as_links_again_and_again(tmp_path):
    (tmp_path / "link").symlink_to("somewhere/else")
    for _ in range(2):
        copy_link(tmp_path / "link", tmp_path / "copy")
    assert (tmp_path / "copy").readlink() == Path("somewhere/else")
    assert names_in(tmp_path) == ["copy", "link"]


@posix_only
@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("src", "src"),
        ("src", "src/out"),
        ("src", "link/out"),
        ("src", "src/../src/deep/out"),
        ("link", "src/out"),
        ("src/sub", "src"),
        ("src/a", "src"),
        ("src/a", "link"),
        ("src", "src/a"),
        ("src", "file"),
    ],
)
def test_an_output_that_touches_the_input_is_refused(tmp_path, monkeypatch, source, output):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path, "src/a", "src/sub/b", "file")
    (tmp_path / "link").symlink_to("src")
    with pytest.raises(ConfigError):
        check_output([Path(source)], Path(output))


def test_an_output_beside_the_input_is_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path, "src/a")
    check_output([Path("src")], Path("src-redacted"))
    check_output([Path("src/a")], Path())


@given(st.text())
@settings(max_examples=50)
def test_escaped_text_is_printable(text):
    assert escaped(text).isprintable()
    assert text.isprintable() == (escaped(text) == text)
