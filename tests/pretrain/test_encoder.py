"""The encoder in the repository, on this project's own sources, which it has never seen."""

import warnings
from pathlib import Path

import pytest
import torch

from pretrain.config import load_config
from starencoder.checkpoint import load_pretraining
from starencoder.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "pretrain" / "models" / "tiny"


@pytest.fixture(scope="module")
def chunks():
    """Chunks of 126 tokens of source files, between `<cls>` and `<sep>`, `(n, 128)`."""
    tokenizer = load_tokenizer(DIRECTORY)
    rows = []
    for path in sorted((ROOT / "pii").glob("[a-d]*.py")):
        ids = list(tokenizer.encode(path.read_text(encoding="utf-8")).ids)
        rows += [
            [tokenizer.cls_id, *ids[start : start + 126], tokenizer.sep_id]
            for start in range(0, len(ids) - 126, 126)
        ]
    return torch.tensor(rows)


def test_it_guesses_hidden_tokens_of_code_it_has_never_seen(chunks):
    model, tokenizer = load_pretraining(DIRECTORY), load_tokenizer(DIRECTORY)
    hidden = torch.zeros_like(chunks, dtype=torch.bool)
    hidden[:, 5:-5:7] = True
    with torch.inference_mode():
        logits = model(chunks.masked_fill(hidden, tokenizer.mask_id)).mlm_logits
    right = (logits.argmax(-1) == chunks)[hidden].float().mean()
    most_frequent = (chunks[hidden] == chunks[hidden].mode().values).float().mean()
    assert len(chunks) > 50
    assert right > 0.2
    assert right > 4 * most_frequent


def test_transformers_computes_the_same_from_it(chunks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForPreTraining.from_pretrained(DIRECTORY, dtype=torch.float32)
    with torch.inference_mode():
        expected = theirs.eval()(chunks[:4])
        found = load_pretraining(DIRECTORY)(chunks[:4])
    torch.testing.assert_close(found.mlm_logits, expected.prediction_logits, rtol=1e-4, atol=1e-4)


def test_it_has_the_shape_and_the_tokens_of_the_embedded_tagger_and_fits_the_repository():
    config = load_config(str(DIRECTORY / "run.toml"))
    encoder = config.model.encoder(vocab_size=16_384, pad_id=16_380)
    assert load_pretraining(DIRECTORY).config == encoder
    tagger = ROOT / "pii" / "models" / "tiny"
    assert (DIRECTORY / "tokenizer.json").read_bytes() == (tagger / "tokenizer.json").read_bytes()
    assert all(path.stat().st_size < 20_000_000 for path in DIRECTORY.iterdir())
