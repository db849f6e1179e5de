from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.config import DataConfig, PrepareConfig, SourceConfig
from pretrain.prepare import prepare
from pretrain.rows import Vocabulary
from starencoder.tokenizer import save_tokenizer, train_tokenizer

# Threads that wait for each other while other tests have the cores take ten times as long.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory):
    """A directory with a tokenizer of 400 tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    sources = Path(__file__).parents[2] / "starencoder"
    texts = [path.read_text(encoding="utf-8") for path in sorted(sources.glob("*.py"))]
    save_tokenizer(train_tokenizer(texts, 400), folder)
    return folder


@pytest.fixture(scope="session")
def shards_dir(tmp_path_factory, tokenizer_dir):
    """Token shards of this project's own sources: Python, Markdown and TOML."""
    folder = tmp_path_factory.mktemp("shards")
    data = DataConfig(directory=str(folder / "data"), tokenizer=str(tokenizer_dir))
    root = Path(__file__).parents[2]
    texts = folder / "texts"
    for path in [
        *(root / "pii").glob("*.py"),
        *root.glob("*.md"),
        *(root / "pretrain").rglob("*.toml"),
    ]:
        texts.mkdir(exist_ok=True)
        (texts / path.name).write_bytes(path.read_bytes())
    sources = (SourceConfig(path=str(texts), format="files"),)
    prepare(PrepareConfig(sources=sources, held_out=0.2, workers=1), data, seed=1)
    return folder / "data"


class MemoryDocuments:
    """Documents of random ids between 10 and 199, of which those below 30 end a line."""

    vocabulary = Vocabulary(
        size=200,
        pad_id=0,
        cls_id=1,
        sep_id=2,
        mask_id=3,
        special_ids=(0, 1, 2, 3, 4),
        line_ends=(np.arange(200) >= 10) & (np.arange(200) < 30),
    )

    def __init__(self, lengths, seed=0):
        self.lengths = np.array(lengths, np.int64)
        rng = np.random.default_rng(seed)
        self.texts = [rng.integers(10, 200, length).astype(np.uint16) for length in lengths]

    def __len__(self):
        return len(self.texts)

    def tokens(self, document, start, stop):
        return self.texts[document][start:stop]

    @classmethod
    def like_source_files(cls, count):
        """Lengths spread like those of source files: log-normal, 700 on average."""
        lengths = np.random.default_rng(0).lognormal(np.log(700) - 0.72, 1.2, count)
        return cls(np.maximum(lengths, 16).astype(int).tolist())


@pytest.fixture(scope="session")
def memory_documents():
    return MemoryDocuments
