import os
import stat

import pytest

from starencoder import apt
from starencoder.apt import AptError, fetch_source
from starencoder.registries import Package, RegistryError, get_archives

APT = r"""#!/bin/sh
echo "$@" >> "$LOG"
case " $* " in
*" indextargets "*)
  printf 'http://mirror/debian/\tstable\tmain\t$(SIGNED_BY)\t$(TRUSTED)\n'
  printf 'http://mirror/debian/\tstable\tmain\t$(SIGNED_BY)\t$(TRUSTED)\n'
  printf 'http://mirror/extra/\tstable\tother\t/keys/extra.gpg\tyes\n'
  ;;
*" update "*)
  for part in "$@"; do
    case "$part" in Dir::Etc::SourceList=*) cat "${part#*=}" > "$LOG.sources" ;; esac
  done
  ;;
*" made-up=1.0-1 "*)
  touch made-up_1.0-1.dsc made-up_1.0-1.debian.tar.xz made-up_1.0.orig.tar.gz
  touch made-up_1.0.orig.tar.gz.asc
  ;;
*" empty=1.0-1 "*) ;;
*)
  echo "W: something else" >&2
  echo "E: Unable to find a source package for gone" >&2
  exit 100
  ;;
esac
"""


@pytest.fixture
def log(tmp_path, monkeypatch):
    """What the stand-in for apt-get was called with, a line each."""
    path = tmp_path / "bin" / "apt-get"
    path.parent.mkdir()
    path.write_text(APT)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    apt._private_options.cache_clear()
    yield tmp_path / "log"
    apt._private_options.cache_clear()
    while apt._FOLDERS:
        apt._FOLDERS.pop().cleanup()


def fetch(tmp_path, name, version="1.0-1"):
    into = tmp_path / f"into-{name}"
    into.mkdir(exist_ok=True)
    return fetch_source(name, version, into)


def test_the_files_of_a_source_come_with_the_dsc_first_and_without_signatures(log, tmp_path):
    assert [path.name for path in fetch(tmp_path, "made-up")] == [
        "made-up_1.0-1.dsc",
        "made-up_1.0-1.debian.tar.xz",
        "made-up_1.0.orig.tar.gz",
    ]


def test_the_private_configuration_names_the_sources_of_the_machines_archives(log, tmp_path):
    fetch(tmp_path, "made-up")

    assert log.with_suffix(".sources").read_text().splitlines() == [
        "deb-src http://mirror/debian/ stable main",
        "deb-src [signed-by=/keys/extra.gpg trusted=yes] http://mirror/extra/ stable other",
    ]
    _, update, source = log.read_text().splitlines()
    for call in (update, source):
        options = dict(part.split("=", 1) for part in call.split() if part.startswith("Dir::"))
        private = {options[f"Dir::{name}"] for name in ("Etc::SourceList", "State::Lists", "Cache")}
        assert all("starencoder-apt-" in path for path in private)
        assert options["Dir::Etc::SourceParts"] == "/dev/null"


def test_the_lists_are_read_once(log, tmp_path):
    fetch(tmp_path, "made-up")
    with pytest.raises(AptError):
        fetch(tmp_path, "empty")

    assert sum(" update" in call for call in log.read_text().splitlines()) == 1


def test_what_apt_does_not_have_is_said_in_its_words(log, tmp_path):
    with pytest.raises(AptError, match=r"^Unable to find a source package for gone$"):
        fetch(tmp_path, "gone")
    with pytest.raises(AptError, match=r"no \.dsc"):
        fetch(tmp_path, "empty")


def test_a_machine_without_apt_is_told_so(log, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AptError, match="cannot be run"):
        fetch(tmp_path, "made-up")


def get(tmp_path, **changes):
    """Ask a mirror that has nothing for a package."""
    work = tmp_path / "work"
    work.mkdir()
    package = Package(
        **{"registry": "debian", "name": "made-up", "version": "1.0-1", "licence": "", **changes}
    )
    return get_archives(package, [(tmp_path / "mirror").as_uri()], work)


def test_a_source_that_no_pool_has_is_asked_of_apt(log, tmp_path, monkeypatch):
    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)

    assert len(get(tmp_path)) == 3


def test_a_source_of_another_hash_than_the_list_states_is_refused(log, tmp_path, monkeypatch):
    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)

    with pytest.raises(RegistryError, match="sha256"):
        get(tmp_path, sha256="0" * 64)


def test_why_neither_pools_nor_apt_have_a_source_is_said(log, tmp_path, monkeypatch):
    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)

    with pytest.raises(RegistryError, match=r"No such file.*; apt: Unable to find"):
        get(tmp_path, name="gone")


def test_where_the_environment_names_the_mirrors_apt_is_not_asked(log, tmp_path, monkeypatch):
    monkeypatch.setenv("DEBIAN_MIRROR", "file:/nowhere")

    with pytest.raises(RegistryError):
        get(tmp_path)
    assert not log.exists()
