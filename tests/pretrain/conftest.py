from pathlib import Path

import pytest

from pretrain.config import DataConfig, PrepareConfig, SourceConfig
from pretrain.prepare import prepare
from starencoder.tokenizer import save_tokenizer, train_tokenizer


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
