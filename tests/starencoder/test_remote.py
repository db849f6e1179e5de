import sys

import pyarrow as pa
import pytest

from starencoder.errors import ConfigError, MissingExtraError
from starencoder.remote import changed_of, file_system, remote_errors

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install fsspec")


class StoreError(Exception):
    """As clients of remote stores raise them."""


class OwnError(Exception):
    """Not of a client."""


def test_an_address_gives_its_file_system_and_the_path_there(tmp_path):
    system, path = file_system("memory://data/a.parquet")
    assert (system.protocol, path) == ("memory", "/data/a.parquet")
    system, path = file_system(str(tmp_path))
    assert system.isdir(path)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("zip://a::memory://b.zip", "chains of addresses"),
        ("nosuch://data", "nosuch://data: not an address that fsspec knows"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(address, message):
    with pytest.raises(ConfigError, match=message):
        file_system(address)


def test_a_missing_package_is_named(monkeypatch):
    known = sys.modules["fsspec.registry"].known_implementations
    monkeypatch.setitem(known, "far", {"class": "farfs.File", "err": "install farfs"})
    with pytest.raises(MissingExtraError, match=r"far://x: cannot be opened \(.*farfs"):
        file_system("far://x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="pip install fsspec"):
        file_system("memory://x")


def test_the_errors_of_a_client_are_errors_of_the_system():
    with (
        pytest.raises(OSError, match=r"StoreError of .*test_remote") as caught,
        remote_errors("s3://x", OwnError),
    ):
        raise StoreError("a secret address")
    assert "secret" not in str(caught.value)
    for address, error in (
        ("s3://x", OwnError()),
        ("s3://x", FileNotFoundError()),
        ("s3://x", ConfigError("x")),
        ("s3://x", pa.ArrowInvalid("x")),
        ("/local", StoreError()),
    ):
        with pytest.raises(type(error)) as caught, remote_errors(address, OwnError):
            raise error
        assert caught.value is error


def test_what_a_file_holds_comes_before_when_it_changed():
    assert changed_of({"LastModified": "today", "ETag": "abc"}) == "abc"
    assert changed_of({"mtime": 12.5, "ETag": None}) == "12.5"
    assert changed_of({"name": "x"}) == ""
