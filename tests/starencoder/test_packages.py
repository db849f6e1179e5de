import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import tomllib
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli
from starencoder import archives, registries
from starencoder.errors import ConfigError, DataError, OutputError
from starencoder.licences import PERMISSIVE_LICENCES, is_permissive, licences_agree
from starencoder.packages import (
    Package,
    fetch_packages,
    is_excluded,
    read_excluded,
    read_packages,
)

SOURCES = {"src/quillow.py": b"print('hello')\n", "docs/notes.txt": b"notes\n"}
PKG_INFO = b"Metadata-Version: 2.1\nName: quillow\nVersion: 1.2.0\nLicense: MIT License\n\nText\n"


# --------------------------------------------------------------------------------------------------
# A registry on this machine


class Server:
    """Answers what stands in `pages`; counts what it is asked for."""

    def __init__(self, url):
        self.url = url
        self.pages = {}
        self.asked = []
        self.headers = {}
        self.truncate = {}  # path: how many answers to cut short
        self.fail = {}  # path: how many times to answer 503
        self.types = {}

    def add_pypi(self, files, name="quillow", as_json=True):
        base = f"/simple/{name}/"
        for file, data in files.items():
            self.pages[f"/files/{file}"] = data
        if as_json:
            entries = [
                {
                    "filename": file,
                    "url": f"../../files/{file}",
                    "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                }
                for file, data in files.items()
            ]
            self.pages[base] = json.dumps({"files": entries}).encode()
        else:
            links = "".join(
                f'<a href="../../files/{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>'
                for file, data in files.items()
            )
            self.pages[base] = f"<!DOCTYPE html><body>{links}</body>".encode()

    def add_npm(self, name, version, data, **dist):
        path = f"/tarballs/{name.rpartition('/')[2]}-{version}.tgz"
        self.pages[path] = data
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        dist = {"tarball": self.url + path, "integrity": f"sha512-{digest}", **dist}
        page = json.dumps({"name": name, "dist": dist}).encode()
        self.pages[f"/npm/{name.replace('/', '%2F')}/{version}"] = page

    def add_debian(self, name, version, files):
        pool = f"/debian/pool/main/{name[0]}/{name}/"
        sums = "".join(
            f" {hashlib.sha256(data).hexdigest()} {len(data)} {file}\n"
            for file, data in files.items()
        )
        dsc = (
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nFormat: 3.0 (quilt)\n"
            f"Source: {name}\nChecksums-Sha256:\n{sums}Files:\n x 1 y\n\n"
            "-----BEGIN PGP SIGNATURE-----\n"
        ).encode()
        self.pages[f"{pool}{name}_{version}.dsc"] = dsc
        for file, data in files.items():
            self.pages[pool + file] = data
        return dsc


@contextlib.contextmanager
def serve():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path
            server.asked.append(path)
            server.headers[path] = dict(self.headers)
            if server.fail.get(path, 0) > 0:
                server.fail[path] -= 1
                self.send_error(503)
            elif path not in server.pages:
                self.send_error(404)
            else:
                data = server.pages[path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if server.truncate.get(path, 0) > 0:
                    server.truncate[path] -= 1
                    data = data[: len(data) // 2]
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(registries, "_RETRY_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url + "/simple")
        monkeypatch.setenv("npm_config_registry", server.url + "/npm/")
        monkeypatch.setenv("DEBIAN_MIRROR", server.url + "/debian")
        yield server


def make_tar(files, mode="w:gz", members=()):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return data.getvalue()


def make_sdist(extra=(), members=(), folder="quillow-1.2.0"):
    files = {"PKG-INFO": PKG_INFO, **SOURCES, **dict(extra)}
    return make_tar({f"{folder}/{name}": data for name, data in files.items()}, members=members)


def make_zip(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return data.getvalue()


def pypi(**fields):
    return Package(
        **{
            "registry": "pypi",
            "name": "quillow",
            "version": "1.2.0",
            "licence": "MIT",
            **fields,
        }
    )


def npm(**fields):
    return pypi(**{"registry": "npm", **fields})


def debian(**fields):
    return pypi(**{"registry": "debian", "version": "1.2.0-3", **fields})


def fetch(package, output, **options):
    (outcome,) = fetch_packages([package], output, **options)
    return outcome


def files_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def entries(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# --------------------------------------------------------------------------------------------------
# Round trips


@pytest.mark.parametrize("as_json", [True, False])
def test_an_sdist_is_unpacked_byte_for_byte_from_either_form_of_the_index(
    server, tmp_path, as_json
):
    data = make_sdist()
    wheel = make_zip({"quillow.py": b""})
    server.add_pypi(
        {"quillow-1.2.0.tar.gz": data, "quillow-1.2.0-py3-none-any.whl": wheel,
         "quillow-1.2.0.post1.tar.gz": make_sdist()},
        as_json=as_json,
    )  # fmt: skip

    outcome = fetch(pypi(), tmp_path)

    assert outcome.status == "fetched"
    assert files_below(tmp_path / "pypi-quillow-1.2.0") == {"PKG-INFO": PKG_INFO, **SOURCES}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:  # the oracle: what tarfile lists
        sizes = [member.size for member in tar if member.isreg()]
    (entry,) = entries(tmp_path)
    assert (entry["files"], entry["bytes"]) == (len(sizes), sum(sizes))
    assert entry["sha256"] == sha256(data)
    assert entry["archive"] == "quillow-1.2.0.tar.gz"
    assert (entry["licence"], entry["stated_licence"]) == ("MIT", "MIT License")
    assert entry["licence_agrees"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.jsonl",
        "pypi-quillow-1.2.0",
    ]


def test_without_an_sdist_the_pure_wheel_is_taken_and_never_one_for_a_platform(server, tmp_path):
    pure = make_zip({"quillow.py": b"1\n", "quillow-1.2.0.dist-info/METADATA": PKG_INFO})
    server.add_pypi(
        {"quillow-1.2.0-cp311-cp311-linux_x86_64.whl": make_zip({"a.so": b"\0"}),
         "quillow-1.2.0-py2.py3-none-any.whl": pure}
    )  # fmt: skip

    assert fetch(pypi(), tmp_path).status == "fetched"
    assert (tmp_path / "pypi-quillow-1.2.0" / "quillow.py").read_bytes() == b"1\n"
    assert entries(tmp_path)[0]["stated_licence"] == "MIT License"


def test_a_list_can_name_the_file_to_take(server, tmp_path):
    wheel = make_zip({"quillow/native.c": b"int x;\n"})
    name = "quillow-1.2.0-cp311-cp311-linux_x86_64.whl"
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist(), name: wheel})

    assert fetch(pypi(archive=name), tmp_path).status == "fetched"
    assert set(files_below(tmp_path / "pypi-quillow-1.2.0")) == {"quillow/native.c"}


def test_the_name_of_an_sdist_may_join_its_words_otherwise(server, tmp_path):
    server.add_pypi({"Big_Quillow-1.2.0.tar.gz": make_sdist()}, name="big-quillow")

    assert fetch(pypi(name="big.quillow"), tmp_path).status == "fetched"


def test_an_npm_tarball_is_unpacked_as_npm_packed_it(server, tmp_path):
    npm_tool = shutil.which("npm")
    if npm_tool is None:
        pytest.skip("npm is not installed")
    source = tmp_path / "source"
    source.mkdir()
    described = {"name": "@quill/low", "version": "1.2.0", "license": "ISC", "files": ["lib"]}
    (source / "package.json").write_text(json.dumps(described))
    (source / "lib").mkdir()
    (source / "lib" / "index.js").write_text("exports.x = 1;\n")
    subprocess.run(
        [npm_tool, "pack", "--offline", "--silent"],
        cwd=source,
        check=True,
        capture_output=True,
        env={**os.environ, "npm_config_cache": str(tmp_path / "cache")},
    )
    server.add_npm("@quill/low", "1.2.0", (source / "quill-low-1.2.0.tgz").read_bytes())
    output = tmp_path / "output"

    outcome = fetch(npm(name="@quill/low", licence="ISC"), output)

    assert outcome.status == "fetched"
    folder = output / "npm-@quill+low-1.2.0"
    assert files_below(folder) == {
        "package.json": (source / "package.json").read_bytes(),
        "lib/index.js": b"exports.x = 1;\n",
    }
    assert entries(output)[0]["stated_licence"] == "ISC"


@pytest.mark.parametrize(
    ("described", "stated"),
    [
        ({"license": "MIT"}, "MIT"),
        ({"license": {"type": "MIT", "url": "x"}}, "MIT"),
        ({"licenses": [{"type": "MIT"}, {"type": "ISC"}]}, "MIT OR ISC"),
        ({"license": 1}, ""),
        ([], ""),
    ],
)
def test_what_an_npm_package_says_of_its_licence_is_read_in_old_forms_too(
    server, tmp_path, described, stated
):
    data = make_tar({"package/package.json": json.dumps(described).encode()})
    server.add_npm("quillow", "1.2.0", data)

    fetch(npm(), tmp_path)

    assert entries(tmp_path)[0]["stated_licence"] == stated


COPYRIGHT = b"""Format: x

Files: *
Copyright: 2020 The Quillow Project
License: Expat

Files: debian/*
License: GPL-2+
"""


def test_a_debian_source_is_upstream_with_its_components_and_packaging_beside_it(server, tmp_path):
    files = {
        "quillow_1.2.0.orig.tar.gz": make_tar(
            {"quillow-v1/a.c": b"int a;\n", "quillow-v1/debian/old": b"upstream's own\n"}
        ),
        "quillow_1.2.0.orig-www.tar.xz": make_tar({"quillow-www/i.html": b"<p>\n"}, "w:xz"),
        "quillow_1.2.0-3.debian.tar.xz": make_tar(
            {"debian/copyright": COPYRIGHT, "debian/rules": b"#!make\n"}, "w:xz"
        ),
    }
    dsc = server.add_debian("quillow", "1.2.0-3", files)

    outcome = fetch(debian(version="1:1.2.0-3", sha256=sha256(dsc)), tmp_path)

    assert outcome.status == "fetched"
    assert files_below(tmp_path / "debian-quillow-1%3a1.2.0-3") == {
        "a.c": b"int a;\n",
        "www/i.html": b"<p>\n",
        "debian/copyright": COPYRIGHT,
        "debian/rules": b"#!make\n",
    }
    assert entries(tmp_path)[0]["stated_licence"] == "Expat"
    assert entries(tmp_path)[0]["licence_agrees"] is True


def test_a_native_debian_source_and_an_old_patch_are_read(server, tmp_path):
    native = {"quillow_3.tar.bz2": make_tar({"quillow/a": b"a", "quillow/debian/b": b"b"}, "w:bz2")}
    server.add_debian("quillow", "3", native)
    old = {
        "reedle_1.orig.tar.gz": make_tar({"reedle-1/a": b"a"}),
        "reedle_1-1.diff.gz": gzip.compress(b"--- a\n+++ b\n"),
    }
    server.add_debian("reedle", "1-1", old)

    packages = [debian(version="3"), debian(name="reedle", version="1-1")]
    assert [o.status for o in fetch_packages(packages, tmp_path)] == ["fetched"] * 2

    assert files_below(tmp_path / "debian-quillow-3") == {"a": b"a", "debian/b": b"b"}
    assert files_below(tmp_path / "debian-reedle-1-1") == {"a": b"a"}
    assert entries(tmp_path)[1]["skipped"] == {"packaging as a patch": 1}


# --------------------------------------------------------------------------------------------------
# Hostile and damaged


def assert_refused(outcome, output, reason):
    assert outcome.status == "failed"
    assert reason in outcome.reason
    assert [path.name for path in output.iterdir()] == ["manifest.jsonl"]
    assert (output / "manifest.jsonl").read_text() == ""


def test_a_hash_that_differs_from_the_list_leaves_nothing_behind(server, tmp_path):
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})

    assert_refused(fetch(pypi(sha256="0" * 64), tmp_path), tmp_path, "sha256 is not the one")


@pytest.mark.parametrize("registry", ["pypi", "npm", "debian"])
def test_a_hash_that_differs_from_the_registrys_own_is_refused(server, tmp_path, registry):
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})
    server.add_npm("quillow", "1.2.0", make_sdist())
    server.add_debian("quillow", "1.2.0-3", {"quillow_1.2.0.orig.tar.gz": make_sdist()})
    for path in server.pages:
        if path.endswith(("gz", "tgz")):
            server.pages[path] = make_sdist({"more.py": b"1\n"})
    package = {"pypi": pypi(), "npm": npm(), "debian": debian()}[registry]

    assert_refused(fetch(package, tmp_path), tmp_path, "is not the one that is stated")


@pytest.mark.parametrize("name", ["../evil", "quillow-1.2.0/../../evil", "{here}/evil"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_names_a_path_outside_of_itself_is_refused_whole(
    server, tmp_path, name, kind
):
    files = {"quillow-1.2.0/a.py": b"1\n", name.format(here=tmp_path): b"x"}
    if kind == "tar":
        server.add_pypi({"quillow-1.2.0.tar.gz": make_tar(files)})
    else:
        server.add_pypi({"quillow-1.2.0.zip": make_zip(files)})
    output = tmp_path / "output"

    assert_refused(fetch(pypi(), output), output, "a path outside of itself")
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(f"quillow-1.2.0/{name}")
    member.type, member.linkname = kind, target
    return member


def test_links_and_devices_are_never_made_but_counted(server, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    members = [
        link("lib", str(outside)),
        link("copy", "quillow-1.2.0/PKG-INFO", tarfile.LNKTYPE),
        link("pipe", "", tarfile.FIFOTYPE),
    ]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member)
        through = tarfile.TarInfo("quillow-1.2.0/lib/evil.py")
        through.size = 2
        tar.addfile(through, io.BytesIO(b"1\n"))
    server.add_pypi({"quillow-1.2.0.tar.gz": data.getvalue()})
    output = tmp_path / "output"

    assert fetch(pypi(), output).status == "fetched"

    assert list(outside.iterdir()) == []
    assert files_below(output / "pypi-quillow-1.2.0") == {"lib/evil.py": b"1\n"}
    assert entries(output)[0]["skipped"] == {"link": 2, "not a regular file": 1}


def test_a_link_in_a_zip_is_not_made(server, tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        info = zipfile.ZipInfo("quillow/lib")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc")
        file.writestr("quillow/a.py", "1\n")
    server.add_pypi({"quillow-1.2.0-py3-none-any.whl": data.getvalue()})

    assert fetch(pypi(), tmp_path).status == "fetched"
    assert entries(tmp_path)[0]["skipped"] == {"link": 1}


def test_a_bomb_is_refused_by_its_size_by_its_count_and_by_what_hides_between_members(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(archives, "_BYTE_LIMIT", 1 << 20)
    monkeypatch.setattr(archives, "_MEMBER_LIMIT", 50)
    hidden = tarfile.TarInfo("quillow-1.2.0/lib")
    hidden.type, hidden.size = b"Q", 5 << 20  # tarfile passes over what it does not know
    raw = hidden.tobuf() + bytes(5 << 20)
    for data in (
        make_sdist({"zeros": bytes(2 << 20)}),
        make_sdist({f"{i}.py": b"" for i in range(60)}),
        gzip.compress(raw),
    ):
        server.add_pypi({"quillow-1.2.0.tar.gz": data})
        assert len(data) < 20_000
        assert_refused(fetch(pypi(), tmp_path), tmp_path, "unpacks to more than")
    server.add_pypi({"quillow-1.2.0.zip": make_zip({"zeros": bytes(2 << 20)})})
    assert_refused(fetch(pypi(), tmp_path), tmp_path, "unpacks to more than")


def test_names_that_some_system_cannot_hold_are_left_out_and_counted(server, tmp_path):
    odd = {"a\\b.py": b"1", "c:d.py": b"2", "x" * 300: b"3", "PKG-INFO/under": b"4"}
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist(odd)})

    assert fetch(pypi(), tmp_path).status == "fetched"
    assert set(files_below(tmp_path / "pypi-quillow-1.2.0")) == {"PKG-INFO", *SOURCES}
    assert entries(tmp_path)[0]["skipped"] == {
        "name given twice, or that this system cannot hold": 2,
        "name that not every system can hold": 2,
    }


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_a_damaged_archive_is_named_as_such(server, tmp_path, cut):
    data = make_sdist({"random": os.urandom(20_000)})
    server.add_pypi({"quillow-1.2.0.tar.gz": data[: int(len(data) * cut)]})

    outcome = fetch(pypi(), tmp_path)

    assert_refused(outcome, tmp_path, "damaged" if cut else "")


@given(data=st.binary(max_size=2000), suffix=st.sampled_from(["tar.gz", "tar", "zip", "tar.xz"]))
def test_any_bytes_either_unpack_or_are_an_archive_error(tmp_path_factory, data, suffix):
    folder = tmp_path_factory.mktemp("any")
    (folder / f"a.{suffix}").write_bytes(data)
    with contextlib.suppress(archives.ArchiveError):
        archives.Unpacker().unpack(folder / f"a.{suffix}", folder / "tree")


def test_an_index_on_the_net_cannot_point_at_a_file_of_this_machine(server, tmp_path):
    secret = tmp_path / "quillow-1.2.0.tgz"
    secret.write_bytes(make_sdist())
    server.add_npm("quillow", "1.2.0", secret.read_bytes(), tarball=secret.as_uri())

    outcome = fetch(npm(), tmp_path / "output")

    assert outcome.status == "failed"
    assert "not http or https" in outcome.reason


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/simple/quillow/", b'{"files": [1]}'),
        ("/simple/quillow/", b"{" * 10_000),
        ("/simple/quillow/", b"[]"),
        ("/npm/quillow/1.2.0", b"[]"),
        ("/npm/quillow/1.2.0", b'{"dist": {"tarball": "x"}}'),
        ("/npm/quillow/1.2.0", b"[" * 100_000),
        ("/debian/pool/main/q/quillow/quillow_1.2.0-3.dsc", b"Format: 3.0\n"),
        (
            "/debian/pool/main/q/quillow/quillow_1.2.0-3.dsc",
            b"Checksums-Sha256:\n 00 1 ../../evil.tar.gz\n",
        ),
    ],
)
def test_an_index_of_another_form_is_an_error_of_that_package_only(server, tmp_path, path, page):
    server.pages[path] = page
    package = {"s": pypi(), "n": npm(), "d": debian()}[path[1]]

    assert_refused(fetch(package, tmp_path), tmp_path, "")


# --------------------------------------------------------------------------------------------------
# The network, and coming back


def test_a_download_that_breaks_off_is_tried_again(server, tmp_path):
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})
    server.truncate = {"/files/quillow-1.2.0.tar.gz": 1}
    server.fail = {"/simple/quillow/": 2}

    assert fetch(pypi(), tmp_path).status == "fetched"


def test_a_download_that_always_breaks_off_leaves_nothing_under_the_final_name(server, tmp_path):
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})
    server.truncate = {"/files/quillow-1.2.0.tar.gz": 99}

    outcome = fetch(pypi(), tmp_path)

    assert_refused(outcome, tmp_path, "tried 3 times")
    assert server.asked.count("/files/quillow-1.2.0.tar.gz") == 3


def test_what_the_registry_does_not_have_is_asked_for_once(server, tmp_path):
    assert_refused(fetch(pypi(), tmp_path), tmp_path, "the server answers 404")
    assert server.asked == ["/simple/quillow/"]


def test_the_next_mirror_is_asked_where_one_does_not_have_the_package(
    server, tmp_path, monkeypatch
):
    monkeypatch.setenv("DEBIAN_MIRROR", f"{server.url}/security\n{server.url}/debian\n")
    server.add_debian("quillow", "1.2.0-3", {"quillow_1.2.0.orig.tar.gz": make_sdist()})

    assert fetch(debian(), tmp_path).status == "fetched"
    assert server.asked[0].startswith("/security/")


def test_what_lies_there_with_the_right_hash_is_not_fetched_again(server, tmp_path):
    data = make_sdist()
    server.add_pypi({"quillow-1.2.0.tar.gz": data})
    fetch(pypi(), tmp_path)
    before = (tmp_path / "manifest.jsonl").read_bytes()
    asked = len(server.asked)

    outcome = fetch(pypi(sha256=sha256(data)), tmp_path)

    assert outcome.status == "already there"
    assert len(server.asked) == asked
    assert (tmp_path / "manifest.jsonl").read_bytes() == before


def test_what_lies_there_with_another_hash_or_half_is_fetched_anew(server, tmp_path):
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})
    fetch(pypi(), tmp_path)
    newer = make_sdist({"new.py": b"1\n"})
    server.add_pypi({"quillow-1.2.0.tar.gz": newer})
    (tmp_path / ".fetch-killed" / "tree").mkdir(parents=True)

    assert fetch(pypi(sha256=sha256(newer)), tmp_path).status == "fetched"
    assert (tmp_path / "pypi-quillow-1.2.0" / "new.py").exists()
    assert not (tmp_path / ".fetch-killed").exists()

    (tmp_path / "manifest.jsonl").unlink()  # killed before the manifest was written
    assert fetch(pypi(), tmp_path).status == "fetched"
    shutil.rmtree(tmp_path / "pypi-quillow-1.2.0")
    assert fetch(pypi(), tmp_path).status == "fetched"


def test_the_manifest_keeps_the_order_of_the_list_and_the_packages_of_other_lists(server, tmp_path):
    for name in ("aa", "bb", "cc"):
        server.add_npm(name, "1.0.0", make_tar({f"package/{name}.js": b"1\n"}))
    packages = [npm(name=name, version="1.0.0") for name in ("cc", "aa", "bb")]
    fetch(packages[2], tmp_path)

    list(fetch_packages(packages[:2], tmp_path, jobs=3))

    assert [entry["name"] for entry in entries(tmp_path)] == ["cc", "aa", "bb"]
    assert [entry["licence_agrees"] for entry in entries(tmp_path)] == [None] * 3


def test_user_and_password_of_an_index_go_in_a_header_and_into_no_message(
    server, tmp_path, monkeypatch
):
    word = "made" + "up"
    monkeypatch.setenv("PIP_INDEX_URL", server.url.replace("//", f"//reader:{word}@") + "/simple")
    outcome = fetch(pypi(), tmp_path)
    assert word not in outcome.reason
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})

    assert fetch(pypi(), tmp_path).status == "fetched"

    expected = "Basic " + base64.b64encode(f"reader:{word}".encode()).decode()
    for path in ("/simple/quillow/", "/files/quillow-1.2.0.tar.gz"):
        assert server.headers[path]["Authorization"] == expected


def test_an_index_and_a_mirror_may_be_folders(tmp_path, monkeypatch):
    index = tmp_path / "index" / "quillow"
    index.mkdir(parents=True)
    (index / "quillow-1.2.0.tar.gz").write_bytes(make_sdist())
    (index / "index.html").write_text('<a href="quillow-1.2.0.tar.gz">x</a>')
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "index").as_uri())
    monkeypatch.setenv("DEBIAN_MIRROR", (tmp_path / "index").as_uri())

    outcomes = list(fetch_packages([pypi(), debian()], tmp_path / "output"))

    assert {o.package.registry: o.status for o in outcomes} == {
        "pypi": "fetched",
        "debian": "failed",
    }


def test_registries_that_are_set_up_nowhere_are_named_with_what_to_set(monkeypatch):
    monkeypatch.setattr(registries, "_output_of", lambda command: "undefined\n")
    for registry, variable in (
        ("pypi", "PIP_INDEX_URL"),
        ("npm", "npm_config_registry"),
        ("debian", "DEBIAN_MIRROR"),
    ):
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(ConfigError, match=f"{registry}.*set {variable}"):
            registries.find_registries({registry})


def test_the_tools_are_asked_where_the_environment_says_nothing(monkeypatch):
    said = {"npm": "http://127.0.0.1:1/a/\n", "apt-get": "file:/m\nhttp://127.0.0.1:2/d\nfile:/m\n"}
    monkeypatch.setattr(registries, "_output_of", lambda command: said[command[0]])
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)

    assert registries.find_registries({"npm", "debian"}) == {
        "npm": ("http://127.0.0.1:1/a/",),
        "debian": ("file:/m", "http://127.0.0.1:2/d"),
    }


def test_where_pip_is_not_set_up_its_default_counts(monkeypatch):
    said = {
        "--help": "  -i, --index-url <url>  Base URL (default\n      http://127.0.0.1:3/simple)."
    }
    monkeypatch.setattr(registries, "_output_of", lambda command: said.get(command[-1], ""))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)

    assert registries.find_registries({"pypi"}) == {"pypi": ("http://127.0.0.1:3/simple",)}


def test_an_output_that_cannot_be_written_stops_the_run(server, tmp_path):
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(pypi(), tmp_path / "file" / "output")


def test_a_list_of_names_that_cannot_be_read_is_named_once(tmp_path):
    (tmp_path / "latin").write_bytes(b"\xe9")
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "latin", "not UTF-8")):
        with pytest.raises(ConfigError) as error:
            read_excluded(path)
        assert str(error.value) == f"{path}: cannot be read ({reason})"


def test_a_damaged_manifest_is_named_with_its_line(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"registry": 1}\n')
    with pytest.raises(DataError, match=r"manifest\.jsonl line 1"):
        fetch(pypi(), tmp_path)


# --------------------------------------------------------------------------------------------------
# Licences, exclusions, lists, the command


@pytest.mark.parametrize(
    ("expression", "permissive"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("(MIT AND Zlib) OR ISC", True),
        ("MIT OR (GPL-2.0-only)", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("", False),
        ("mit", False),
    ],
)
def test_only_permissive_licences_pass(expression, permissive):
    assert is_permissive(expression) is permissive


@pytest.mark.parametrize(
    ("listed", "stated", "agree"),
    [
        ("MIT", "The MIT License", True),
        ("MIT", "Expat", True),
        ("Apache-2.0", "Apache License, Version 2.0", True),
        ("Apache-2.0", "Apache Software License", True),
        ("Apache-2.0", "apache2", True),
        ("BSD-3-Clause", "BSD", True),
        ("BSD-3-Clause", "BSD-2-Clause", False),
        ("PSF-2.0", "Python Software Foundation License", True),
        ("MIT", "MIT OR GPL-2.0", True),
        ("MIT", "MIT AND GPL-2.0", False),
        ("MIT", "Apache-2.0", False),
        ("MIT OR Apache-2.0", "Apache-2.0", True),
    ],
)
def test_a_packages_own_words_are_compared_with_the_list(listed, stated, agree):
    assert licences_agree(listed, stated) is agree


@given(licence=st.sampled_from(sorted(PERMISSIVE_LICENCES)))
def test_every_licence_agrees_with_itself(licence):
    assert licences_agree(licence, licence)


def test_licences_that_are_not_permissive_are_refused_unless_asked_for(server, tmp_path):
    server.add_pypi({"quillow-1.2.0.tar.gz": make_sdist()})
    package = pypi(licence="GPL-3.0-only")

    refused = fetch(package, tmp_path)
    assert refused.status == "licence refused"
    assert server.asked == []

    taken = fetch(package, tmp_path, any_licence=True)
    assert taken.status == "fetched"
    assert taken.unpacked.licence_agrees is False


def test_excluded_names_count_in_every_registry_and_spelling(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("# kept back: moodle\nquillow\nthin_reed (the other one)\n\n")
    excluded = read_excluded(path)

    assert excluded == {"quillow", "thin-reed"}
    for package in (
        pypi(name="Quillow"),
        pypi(name="thin.reed"),
        npm(name="@thin/reed"),
        debian(),
        debian(name="python-quillow"),
        debian(name="node-thin-reed"),
    ):
        assert is_excluded(package, excluded), package
    assert not is_excluded(pypi(name="quillow2"), excluded)
    assert not is_excluded(npm(name="node-quillow"), excluded)


LIST = """
[[package]]
registry = "pypi"
name = "quillow"
version = "1.2.0"
licence = "MIT"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no package"),
        ("[package", "not TOML"),
        ("packages = 1\n" + LIST, "packages is not a setting"),
        (LIST + 'sha = "1"', r"package\[0\]\.sha is not a setting"),
        (LIST + "sha256 = 1", "sha256 must be a string"),
        (LIST + 'sha256 = "1"', "sha256 is not of the form"),
        (LIST.replace("pypi", "cargo"), r"package\[0\]\.registry must be one of pypi, npm, debian"),
        (LIST.replace("quillow", "../quillow"), "name is not of the form"),
        (LIST.replace("quillow", "quillow/../../x").replace("pypi", "npm"), "name is not"),
        (LIST.replace("1.2.0", ".."), "version is not of the form"),
        (LIST.replace('licence = "MIT"', ""), "licence is missing"),
        (LIST.replace("MIT", ""), "licence is not of the form"),
        ("package = 3", r"package must be tables, \[\[package\]\]"),
        (LIST + LIST, r"package\[1\]: pypi quillow 1.2.0 stands there twice"),
        (LIST.replace("pypi", "npm") + 'archive = "x.whl"', "archive is for pypi only"),
    ],
)
def test_each_mistake_in_a_list_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "list.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_packages(path)


def test_the_command_names_what_could_not_be_had_and_exits_3(server, tmp_path, capsys):
    data = make_sdist()
    server.add_pypi({"quillow-1.2.0.tar.gz": data})
    path = tmp_path / "list.toml"
    missing = LIST.replace("quillow", "reedle")
    path.write_text(LIST.replace("MIT", "Zlib") + missing + LIST.replace("quillow", "kept"))
    (tmp_path / "kept.txt").write_text("kept\n")
    command = ["packages", "fetch", str(path), "--output", str(tmp_path / "out")]

    code = cli.main([*command, "--exclude", str(tmp_path / "kept.txt")])

    said = capsys.readouterr()
    assert code == 3
    assert "packages: 1 excluded, 1 failed, 1 fetched\n" in said.out
    assert "licences that differ from the list: 1" in said.out
    assert "pypi reedle 1.2.0: failed" in said.err
    assert "pypi kept 1.2.0: excluded" in said.err
    assert "the list says Zlib, the package 'MIT License'" in said.err

    path.write_text(LIST)
    assert cli.main(command) == 0
    assert "1 already there" in capsys.readouterr().out
    assert cli.main([*command, "--jobs", "0"]) == 2


@pytest.mark.parametrize("name", ["packages.toml", "unannotated.toml", "router_packages.toml"])
def test_the_shipped_lists_are_of_the_right_form_with_every_hash(name):
    path = Path(__file__).parents[2] / "pii" / "models" / "tiny" / name
    packages = read_packages(path)

    assert len(packages) == len(tomllib.loads(path.read_text())["package"])
    assert all(package.sha256 for package in packages)
