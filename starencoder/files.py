"""Files that appear whole or not at all, and JSON objects read from them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from starencoder.errors import OutputError, StarEncoderError, reason_of


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when all of it is written; its folder is made if needed.

    What is there and no file, such as a pipe or `/dev/null`, is written to as it is.

    Raises:
        OutputError: It cannot be written; what was there before is left.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                yield file
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)})") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as `open_whole` does.

    Raises:
        OutputError: It cannot be written; what was there before is left.
    """
    with open_whole(path) as file:
        file.write(content)


def read_json_object(
    path: Path, error_type: type[StarEncoderError], *, advice: str = ""
) -> dict[str, object]:
    """The object in a JSON file.

    Args:
        path: The file.
        error_type: Of the error if it cannot be read or holds something else.
        advice: What to do then, where its content is not as it should be.

    Raises:
        FileNotFoundError: There is no such file; what that means, callers know.
    """
    end = f"; {advice}" if advice else ""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise error_type(f"{path}: cannot be read ({reason_of(error)})") from error
    except (ValueError, RecursionError) as error:
        raise error_type(f"{path}: not valid JSON{end}") from error
    if not isinstance(values, dict):
        raise error_type(f"{path}: expected a JSON object{end}")
    return values
