"""A model directory published as a pickle to one with safetensors.

The only place where a pickle is read, and only on request: by torch's restricted unpickler, which
builds tensors and plain containers and runs no code of the file's.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from starencoder.checkpoint import match_weights, write_model_directory
from starencoder.config import (
    CONFIG_FILE,
    PICKLE_FILE,
    WEIGHTS_FILE,
    load_config,
    load_tagger_config,
    read_config_json,
)
from starencoder.errors import CheckpointError, ConfigError
from starencoder.model import PretrainingModel, TokenClassifier
from starencoder.tokenizer import copy_tokenizer

_ADVICE = "get the file again from a source you trust"


def convert_pickle(directory: Path, output: Path) -> list[Path]:
    """Write `directory`'s config, weights and tokenizer to `output`; return the files written.

    Names, shapes and types of the weights are kept, and checked against config.json. Copies of tied
    tensors are left out.

    Raises:
        ConfigError: `output` already holds a model.
        CheckpointError: The pickle is missing, damaged, holds something else than named tensors, or
            is not the model that config.json describes.
        OutputError: `output` cannot be written.
    """
    if (output / WEIGHTS_FILE).exists():
        raise ConfigError(f"{output / WEIGHTS_FILE}: already there; give another output directory")
    values = read_config_json(directory)
    path = directory / PICKLE_FILE
    tensors = _read_pickle(path)
    with torch.device("meta"):
        if any(name.startswith("classifier.") for name in tensors):
            num_labels = len(load_tagger_config(directory).id2label)
            model: torch.nn.Module = TokenClassifier(load_config(directory), num_labels=num_labels)
        else:
            model = PretrainingModel(load_config(directory))
    # Tensors may share memory in a pickle, which safetensors does not store.
    kept = {
        name: tensor.clone().contiguous()
        for name, tensor in match_weights(model, tensors, path).items()
    }
    write_model_directory(output, values, kept)
    return [output / CONFIG_FILE, output / WEIGHTS_FILE, *copy_tokenizer(directory, output)]


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: missing; convert reads a directory with {PICKLE_FILE}"
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not a pickle of weights alone, so nothing of it was loaded; {_ADVICE}"
        ) from error
    # A damaged file makes the unpickler fail wherever it happens to be (seen by altering bytes).
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as error:
        raise CheckpointError(
            f"{path}: damaged or not written by torch ({type(error).__name__}); {_ADVICE}"
        ) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise CheckpointError(f"{path}: expected named tensors, found something else; {_ADVICE}")
    return content
