"""Files at addresses of fsspec, such as s3://bucket/key."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starencoder.errors import ConfigError, MissingExtraError, StarEncoderError

if TYPE_CHECKING:
    import fsspec

_CHANGED = (
    "ETag", "etag", "blob_id", "md5Hash", "LastModified", "last_modified", "updated", "mtime",
)  # fmt: skip
"""What file systems of fsspec call a file's version or date."""


def file_system(address: str) -> "tuple[fsspec.AbstractFileSystem, str]":
    """The file system of an address or a local path, and the path in it.

    Raises:
        ConfigError: A chain of addresses, or one that fsspec does not know.
        MissingExtraError: A package that it needs is not installed.
    """
    if "::" in address:
        raise ConfigError(f"{address}: chains of addresses (::) are not read; unpack it first")
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(
            f"{address}: needs fsspec, which is not installed: pip install fsspec"
        ) from error
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(
            f"{address}: cannot be opened ({error}); install the package that it names"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{address}: not an address that fsspec knows") from error
    return system, path


@contextmanager
def remote_errors(address: str, *own: type[Exception]) -> Iterator[None]:
    """Raise errors of a remote store's client, which are of any type, as OSError.

    Args:
        address: What is read; the errors of a local path stay as they are.
        own: Further errors that are not a client's.
    """
    as_they_are: tuple[type[Exception], ...] = (OSError, StarEncoderError, *own)
    try:
        yield
    except as_they_are:
        raise
    except Exception as error:
        if "://" not in address or type(error).__module__.startswith("pyarrow"):
            raise
        raise OSError(errno.EIO, f"{type(error).__name__} of {type(error).__module__}") from error


def changed_of(info: Mapping[str, object]) -> str:
    """The name of a file's content in its store, or when it last changed; empty: not known.

    Args:
        info: What a file system of fsspec says of the file.
    """
    return next((str(info[key]) for key in _CHANGED if info.get(key)), "")
