"""Files that appear whole or not at all, and JSON objects read from them."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from starencoder.errors import ConfigError, OutputError, StarEncoderError, reason_of


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


def check_outputs(
    outputs: Iterable[Path], inputs: Iterable[Path] = (), *, folders: bool = False
) -> None:
    """Refuse outputs that could not be written in the end, before the work for them is done.

    Args:
        outputs: Files to write.
        inputs: Files and folders that are read; what does not exist does no harm.
        folders: Whether the outputs are folders.

    Raises:
        ConfigError: An output is an input, lies in one, or two outputs are the same file; links
            are followed to find out.
        OutputError: One cannot be written.
    """
    sources = {path: path.resolve() for path in inputs}
    targets: dict[Path, Path] = {}
    for output in outputs:
        _check_writable(output, folder=folders)
        if output.exists() and not output.is_file() and not folders:
            continue  # such as /dev/null, of which nothing is lost
        target = output.resolve()
        for path, source in sources.items():
            if target == source:
                raise ConfigError(f"{output}: is the input {path} too; choose another output")
            if source in target.parents:
                raise ConfigError(f"{output}: lies in the input {path}; choose another output")
        if target in targets:
            raise ConfigError(
                f"{output}: is the output {targets[target]} too; choose another one for one of them"
            )
        targets[target] = output


def _check_writable(output: Path, *, folder: bool) -> None:
    """See whether the nearest folder that is there takes a file; nothing is left in it."""
    if not folder and output.is_dir():
        raise OutputError(f"{output}: is a directory; expected a file's name")
    try:
        if not folder and output.exists() and not output.is_file():
            return  # a pipe, whose reader would take what is tried for the end
        nearest = output if folder else output.parent
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            return
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({reason_of(error)})") from error


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
