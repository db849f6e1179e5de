"""A BERT encoder in plain PyTorch, with heads for MLM, NSP and token classification.

Parameter names are those of Hugging Face's BERT, so that state dicts pass in both directions.

Shapes:
    batch   sequences in a batch
    seq     tokens of the longest sequence; shorter ones are padded
    hidden  config.hidden_size
    head    config.hidden_size / config.num_heads
    vocab   config.vocab_size
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from starencoder.config import EncoderConfig


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """What the encoder computes."""

    hidden: Tensor
    """One vector per token, `(batch, seq, hidden)`."""
    pooled: Tensor | None
    """One vector per sequence, `(batch, hidden)`, in (-1, 1); None without a pooler."""


@dataclass(frozen=True, slots=True)
class PretrainingOutput:
    """Logits of the two pretraining tasks."""

    mlm_logits: Tensor
    """`(batch, seq, vocab)`."""
    nsp_logits: Tensor
    """`(batch, 2)`; `config.nsp_is_next_index` says which column means "B follows A"."""


class Embeddings(nn.Module):
    """Token, position and segment embeddings, summed and normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_positions, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, input_ids: Tensor, segment_ids: Tensor | None) -> Tensor:
        """Ids `(batch, seq)` to vectors `(batch, seq, hidden)`."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        if segment_ids is None:
            segments = self.token_type_embeddings.weight[0]
        else:
            segments = self.token_type_embeddings(segment_ids)
        # This order of the two sums is Hugging Face's: it keeps the rounding the same.
        total = self.word_embeddings(input_ids) + segments + self.position_embeddings(positions)
        normed: Tensor = self.dropout(self.LayerNorm(total))
        return normed


class SelfAttention(nn.Module):
    """Scaled dot-product attention of every token to every real token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout_probability = config.attention_dropout
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, key_mask: Tensor | None) -> Tensor:
        """`hidden`: `(batch, seq, hidden)`; `key_mask`: bool `(batch, 1, 1, seq)`, true if real."""
        context = F.scaled_dot_product_attention(
            self._split_heads(self.query(hidden)),
            self._split_heads(self.key(hidden)),
            self._split_heads(self.value(hidden)),
            attn_mask=key_mask,
            dropout_p=self.dropout_probability if self.training else 0.0,
        )
        return context.transpose(1, 2).flatten(2)

    def _split_heads(self, projected: Tensor) -> Tensor:
        """`(batch, seq, hidden)` to `(batch, num_heads, seq, head)`."""
        batch, seq, _ = projected.shape
        return projected.view(batch, seq, self.num_heads, -1).transpose(1, 2)


class ResidualOutput(nn.Module):
    """Project a sublayer's result back, add the sublayer's input, normalise (post-layer-norm)."""

    def __init__(self, config: EncoderConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, result: Tensor, residual: Tensor) -> Tensor:
        """`result` is `(batch, seq, width)`; `residual` and the return `(batch, seq, hidden)`."""
        normed: Tensor = self.LayerNorm(self.dropout(self.dense(result)) + residual)
        return normed


class Attention(nn.Module):
    """Self-attention sublayer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = ResidualOutput(config, config.hidden_size)

    def forward(self, hidden: Tensor, key_mask: Tensor | None) -> Tensor:
        """`(batch, seq, hidden)` to the same shape."""
        attended: Tensor = self.output(self.self(hidden, key_mask), hidden)
        return attended


class Intermediate(nn.Module):
    """First half of the feed-forward sublayer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """`(batch, seq, hidden)` to `(batch, seq, intermediate)`."""
        return F.gelu(self.dense(hidden))


class Block(nn.Module):
    """One layer: attention, then feed-forward."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config, config.intermediate_size)

    def forward(self, hidden: Tensor, key_mask: Tensor | None) -> Tensor:
        """`(batch, seq, hidden)` to the same shape."""
        attended = self.attention(hidden, key_mask)
        result: Tensor = self.output(self.intermediate(attended), attended)
        return result


class Layers(nn.Module):
    """The stack of layers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, hidden: Tensor, key_mask: Tensor | None) -> Tensor:
        """`(batch, seq, hidden)` to the same shape."""
        for block in self.layer:
            hidden = block(hidden, key_mask)
        return hidden


class Pooler(nn.Module):
    """The first token's vector, projected: what NSP reads."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """`(batch, seq, hidden)` to `(batch, hidden)`."""
        return torch.tanh(self.dense(hidden[:, 0]))


class Encoder(nn.Module):
    """Token ids to one vector per token, and one per sequence if there is a pooler."""

    def __init__(self, config: EncoderConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config)
        self.pooler = Pooler(config) if pooler else None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
    ) -> EncoderOutput:
        """Encode a padded batch.

        Args:
            input_ids: `(batch, seq)`, seq at most `config.max_positions`.
            attention_mask: `(batch, seq)`, 1 or true for a real token; all real when left out. The
                vectors of padding are finite but mean nothing.
            segment_ids: `(batch, seq)`, 0 for segment A and 1 for B; all 0 when left out.
        """
        key_mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        hidden = self.encoder(self.embeddings(input_ids, segment_ids), key_mask)
        return EncoderOutput(hidden, None if self.pooler is None else self.pooler(hidden))


class MlmTransform(nn.Module):
    """The projection in front of the MLM output matrix."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """`(..., hidden)` to the same shape."""
        normed: Tensor = self.LayerNorm(F.gelu(self.dense(hidden)))
        return normed


class MlmHead(nn.Module):
    """Logits over the vocabulary; the output matrix is the token embedding, passed in."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.transform = MlmTransform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """Vectors `(..., hidden)` and the embedding `(vocab, hidden)` to logits `(..., vocab)`."""
        return F.linear(self.transform(hidden), word_embeddings, self.bias)


class PretrainingHeads(nn.Module):
    """Both pretraining heads."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.predictions = MlmHead(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class PretrainingModel(nn.Module):
    """An encoder with masked-language-model and next-sentence heads (Devlin et al. 2018, 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Encoder(config)
        self.cls = PretrainingHeads(config)
        self.apply(_initialiser(config.initializer_range))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
    ) -> PretrainingOutput:
        """Logits of both tasks; the arguments are those of `Encoder.forward`."""
        output = self.bert(input_ids, attention_mask, segment_ids)
        return PretrainingOutput(
            self.mlm_logits(output.hidden), self.cls.seq_relationship(output.pooled)
        )

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Vectors `(..., hidden)`, for instance of the masked tokens alone, to `(..., vocab)`."""
        logits: Tensor = self.cls.predictions(hidden, self.bert.embeddings.word_embeddings.weight)
        return logits


class TokenClassifier(nn.Module):
    """An encoder without pooler, and one linear layer over its vectors."""

    def __init__(self, config: EncoderConfig, *, num_labels: int) -> None:
        super().__init__()
        self.config = config
        self.bert = Encoder(config, pooler=False)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        self.apply(_initialiser(config.initializer_range))

    @property
    def num_labels(self) -> int:
        """Number of tags a token can get."""
        return self.classifier.out_features

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits `(batch, seq, num_labels)`; the arguments are those of `Encoder.forward`."""
        output = self.bert(input_ids, attention_mask, segment_ids)
        logits: Tensor = self.classifier(self.dropout(output.hidden))
        return logits


def _initialiser(std: float) -> Callable[[nn.Module], None]:
    """BERT's initial weights: normal(0, std), biases 0, layer norms 1 and 0."""

    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    return initialise
