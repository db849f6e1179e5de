"""Our encoder against transformers' BERT with the same random weights, and each other's files."""

import json
import os
import warnings

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pii.predict import load_torch_predict
from starencoder.checkpoint import (
    load_pretraining,
    load_tagger,
    save_pretraining,
    save_tagger,
)
from starencoder.config import EncoderConfig, TaggerConfig
from starencoder.model import PretrainingModel, TokenClassifier

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

LIMIT = 1e-5


def config(**changes):
    values = {
        "vocab_size": 53,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 64,
        "max_positions": 24,
        "pad_id": 49,
    }
    return EncoderConfig(**{**values, **changes})


CONFIGS = {
    "usual": config(),
    "one layer, one head": config(num_layers=1, num_heads=1, hidden_size=8),
    "three layers, odd heads": config(
        num_layers=3, num_heads=7, hidden_size=7 * 9, intermediate_size=45
    ),
    "one position": config(max_positions=1),
    "odd vocabulary and positions": config(vocab_size=101, max_positions=37, pad_id=0),
    "four segments": config(type_vocab_size=4, layer_norm_eps=1e-5),
}


def randomised(model, seed=0):
    """Every parameter random, biases and layer norms too, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return model.eval()


def theirs(encoder_config, architecture, **more):
    values = TaggerConfig(encoder=encoder_config, id2label={0: "O"}).to_json()
    for key in ("id2label", "label2id", "pii"):
        del values[key]
    return randomised(
        getattr(transformers, architecture)(transformers.BertConfig(**values, **more))
    )


def batches(encoder_config):
    """(ids, mask, segments) of a batch of one, of many, of the longest and of mixed lengths."""
    generator = torch.Generator().manual_seed(3)
    longest = encoder_config.max_positions
    for batch, seq in [(1, 1), (1, longest), (5, longest), (3, max(1, longest // 2))]:
        ids = torch.randint(0, encoder_config.vocab_size, (batch, seq), generator=generator)
        segments = torch.randint(
            0, encoder_config.type_vocab_size, (batch, seq), generator=generator
        )
        lengths = torch.randint(1, seq + 1, (batch,), generator=generator)
        yield ids, torch.ones_like(ids), segments
        yield ids, (torch.arange(seq) < lengths[:, None]).long(), segments


def assert_close(found, expected, mask=None):
    """Real tokens and padding looked at apart, so that the one cannot hide the other."""
    assert found.shape == expected.shape
    if mask is None:
        assert (found - expected).abs().max() <= LIMIT
        return
    for kind in (mask.bool(), ~mask.bool()):
        if kind.any():
            assert (found - expected)[kind].abs().max() <= LIMIT


def hidden_states(encoder, *arguments):
    states = []
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output: states.append(output))
        for module in (encoder.embeddings, *encoder.encoder.layer)
    ]
    output = encoder(*arguments)
    for handle in handles:
        handle.remove()
    return states, output


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_their_pretraining_directory_computes_the_same_in_ours(name, tmp_path):
    reference = theirs(CONFIGS[name], "BertForPreTraining")
    reference.save_pretrained(tmp_path)
    ours = load_pretraining(tmp_path)
    for ids, mask, segments in batches(CONFIGS[name]):
        expected = reference(
            input_ids=ids, attention_mask=mask, token_type_ids=segments, output_hidden_states=True
        )
        pooled = reference.bert(ids, mask, segments).pooler_output
        found = ours(ids, mask, segments)
        states, output = hidden_states(ours.bert, ids, mask, segments)
        assert_close(found.mlm_logits, expected.prediction_logits, mask)
        assert_close(found.nsp_logits, expected.seq_relationship_logits)
        assert_close(output.pooled, pooled)
        assert len(states) == len(expected.hidden_states)
        for state, expected_state in zip(states, expected.hidden_states, strict=True):
            assert_close(state, expected_state, mask)
        assert_close(output.hidden, expected.hidden_states[-1], mask)


@pytest.mark.parametrize("num_labels", [1, 13])
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_their_tagger_directory_computes_the_same_in_ours(name, num_labels, tmp_path):
    labels = {index: f"T{index}" for index in range(num_labels)}
    reference = theirs(CONFIGS[name], "BertForTokenClassification", id2label=labels)
    reference.save_pretrained(tmp_path)
    ours, stated = load_tagger(tmp_path)
    assert stated.id2label == labels
    for ids, mask, segments in batches(CONFIGS[name]):
        expected = reference(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits
        assert_close(ours(ids, mask, segments), expected, mask)
        assert_close(ours(ids, mask), reference(input_ids=ids, attention_mask=mask).logits, mask)


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_our_directories_load_in_theirs_without_a_missing_or_unexpected_tensor(name, tmp_path):
    pretraining = randomised(PretrainingModel(CONFIGS[name]))
    tagger = randomised(TokenClassifier(CONFIGS[name], num_labels=3))
    save_pretraining(pretraining, tmp_path / "pretraining")
    save_tagger(
        tagger, tmp_path / "tagger", id2label={0: "O", 1: "B-KEY", 2: "I-KEY"}, pii={"a": 1}
    )

    reference, info = transformers.AutoModelForPreTraining.from_pretrained(
        tmp_path / "pretraining", output_loading_info=True
    )
    assert not any(info.values()), info
    tag_reference, info = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path / "tagger", output_loading_info=True
    )
    assert not any(info.values()), info
    assert tag_reference.config.id2label == {0: "O", 1: "B-KEY", 2: "I-KEY"}
    for ids, mask, segments in batches(CONFIGS[name]):
        expected = reference(input_ids=ids, attention_mask=mask, token_type_ids=segments)
        found = pretraining(ids, mask, segments)
        assert_close(found.mlm_logits, expected.prediction_logits, mask)
        assert_close(found.nsp_logits, expected.seq_relationship_logits)
        expected = tag_reference(input_ids=ids, attention_mask=mask, token_type_ids=segments)
        assert_close(tagger(ids, mask, segments), expected.logits, mask)


def test_gradients_are_theirs_too(tmp_path):
    reference = theirs(CONFIGS["usual"], "BertForPreTraining")
    reference.save_pretrained(tmp_path)
    ours = load_pretraining(tmp_path)
    ids, mask, segments = list(batches(CONFIGS["usual"]))[5]
    targets = ids.where(mask.bool() & (ids % 3 == 0), -100)
    is_next = torch.arange(len(ids)) % 2
    reference(
        input_ids=ids,
        attention_mask=mask,
        token_type_ids=segments,
        labels=targets,
        next_sentence_label=is_next,
    ).loss.backward()
    output = ours(ids, mask, segments)
    loss = torch.nn.functional.cross_entropy
    (
        loss(output.mlm_logits.flatten(0, 1), targets.flatten()) + loss(output.nsp_logits, is_next)
    ).backward()
    expected = dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-5, msg=name
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_their_token_classification_pipeline_runs_on_our_tagger(tmp_path):
    text = 'api_key = "abc123"  # owner: Jörg\nfor i in range(10): print(i)\n'
    specials = ["<pad>", "<sep>", "<cls>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [text] * 3,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    labels = {0: "O", 1: "B-KEY", 2: "I-KEY"}
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    model = TokenClassifier(
        config(vocab_size=size, max_positions=64, pad_id=0, initializer_range=0.5), num_labels=3
    )
    save_tagger(model, tmp_path, id2label=labels, pii={})
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})
    )
    pipeline = transformers.pipeline(
        "token-classification", model=str(tmp_path), ignore_labels=[], device="cpu"
    )

    found = pipeline(text)

    encoding = tokenizer.encode(text)
    (probs,) = load_torch_predict(tmp_path)([encoding.ids])
    assert [(each["start"], each["end"]) for each in found] == encoding.offsets
    assert [each["entity"] for each in found] == [labels[index] for index in probs.argmax(axis=1)]
    np.testing.assert_allclose([each["score"] for each in found], probs.max(axis=1), atol=LIMIT)
    assert len({each["entity"] for each in found}) > 1
