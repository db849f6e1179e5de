"""The errors a user can act on.

Every message says where, what was found, what was expected and what to do. It never quotes a found
value: labels, paths and offsets are enough to look it up.
"""


class StarEncoderError(Exception):
    """Base of all errors shown to the user as one line; `exit_code` is the process's."""

    exit_code = 2


class ConfigError(StarEncoderError, ValueError):
    """A flag, setting, label or model name that is not usable as given."""


class MissingExtraError(StarEncoderError, ImportError):
    """A package of an optional extra is not installed."""


class CheckpointError(StarEncoderError):
    """A model directory that cannot be loaded as it is."""


class ParityError(StarEncoderError):
    """An exported model that does not compute what its checkpoint computes."""


class DataError(StarEncoderError):
    """Input data (a corpus, an annotation file) that is not of the stated form."""


class OutputError(StarEncoderError):
    """An output that cannot be written; whatever was there before is left as it was."""

    exit_code = 4


class DeviceError(StarEncoderError):
    """A GPU that fails while it is used, again after a new start; what is finished is kept."""

    exit_code = 4


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, without its path or content."""
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
