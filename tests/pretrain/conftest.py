from pathlib import Path

import pytest

from starencoder.tokenizer import save_tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory):
    """A directory with a tokenizer of 400 tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    sources = Path(__file__).parents[2] / "starencoder"
    texts = [path.read_text(encoding="utf-8") for path in sorted(sources.glob("*.py"))]
    save_tokenizer(train_tokenizer(texts, 400), folder)
    return folder
