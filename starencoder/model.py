"""A BERT encoder in plain PyTorch, with heads for MLM, NSP and token classification.

Parameter names are those of Hugging Face's BERT, so that state dicts pass in both directions.

Shapes:
    batch   sequences in a batch
    seq     tokens of the longest sequence; shorter ones are padded
    hidden  config.hidden_size
    head    config.hidden_size / config.num_heads
    vocab   config.vocab_size
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from starencoder.config import EncoderConfig


@dataclass(frozen=True, slots=True)
class PackedRuns:
    """Sequences that lie one after another in the rows of a batch; each attends to itself only.

    For the varlen kernel, which needs a GPU: it reads no padding and no mask.
    """

    bounds: Tensor
    """Where each run starts in the batch's `batch * seq` tokens, and the end; int32 `(runs + 1,)`.
    A run never crosses a row's end; padding is a run of its own."""
    longest: int
    """No run has more tokens."""


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

    def forward(
        self, input_ids: Tensor, segment_ids: Tensor | None, position_ids: Tensor | None
    ) -> Tensor:
        """Ids `(batch, seq)` to vectors `(batch, seq, hidden)`."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)
        if segment_ids is None:
            segments = self.token_type_embeddings.weight[0]
        else:
            segments = self.token_type_embeddings(segment_ids)
        # This order of the two sums is Hugging Face's: it keeps the rounding the same.
        total = self.word_embeddings(input_ids) + segments + self.position_embeddings(position_ids)
        normed: Tensor = self.dropout(self.LayerNorm(total))
        return normed


class SelfAttention(nn.Module):
    """Scaled dot-product attention, of every token to those that a mask or runs let it see."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout_probability = config.attention_dropout
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, visible: Tensor | PackedRuns | None) -> Tensor:
        """`(batch, seq, hidden)` to the same shape.

        `visible` is bool and broadcasts to `(batch, num_heads, seq, seq)`, true where the token of
        the row may see the token of the column.
        """
        query, key, value = (
            projection(hidden).unflatten(2, (self.num_heads, -1))
            for projection in (self.query, self.key, self.value)
        )
        if isinstance(visible, PackedRuns):
            return self._attend_in_runs(query, key, value, visible)
        context = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=visible,
            dropout_p=self.dropout_probability if self.training else 0.0,
        )
        return context.transpose(1, 2).flatten(2)

    def _attend_in_runs(
        self, query: Tensor, key: Tensor, value: Tensor, runs: PackedRuns
    ) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        if self.training and self.dropout_probability:
            raise ValueError("the varlen kernel has no dropout; use a mask, or attention_dropout 0")
        context = varlen_attn(
            query.flatten(0, 1),
            key.flatten(0, 1),
            value.flatten(0, 1),
            runs.bounds,
            runs.bounds,
            runs.longest,
            runs.longest,
        )
        assert isinstance(context, Tensor)  # it returns more only when asked to
        return context.view_as(query).flatten(2)


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

    def forward(self, hidden: Tensor, visible: Tensor | PackedRuns | None) -> Tensor:
        """`(batch, seq, hidden)` to the same shape."""
        attended: Tensor = self.output(self.self(hidden, visible), hidden)
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

    def forward(self, hidden: Tensor, visible: Tensor | PackedRuns | None) -> Tensor:
        """`(batch, seq, hidden)` to the same shape."""
        attended = self.attention(hidden, visible)
        result: Tensor = self.output(self.intermediate(attended), attended)
        return result


class Layers(nn.Module):
    """The stack of layers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, hidden: Tensor, visible: Tensor | PackedRuns | None) -> Tensor:
        """`(batch, seq, hidden)` to the same shape."""
        for block in self.layer:
            hidden = block(hidden, visible)
        return hidden


class Pooler(nn.Module):
    """The first token's vector, projected: what NSP reads."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """Vectors of first tokens `(..., hidden)` to the same shape."""
        return torch.tanh(self.dense(first))


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
        """Encode a padded batch, one sequence per row.

        Args:
            input_ids: `(batch, seq)`, seq at most `config.max_positions`.
            attention_mask: `(batch, seq)`, 1 or true for a real token; all real when left out. The
                vectors of padding are finite but mean nothing.
            segment_ids: `(batch, seq)`, 0 for segment A and 1 for B; all 0 when left out.
        """
        visible = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        hidden = self.encoder(self.embeddings(input_ids, segment_ids, None), visible)
        return EncoderOutput(hidden, None if self.pooler is None else self.pooler(hidden[:, 0]))

    def encode_packed(
        self,
        input_ids: Tensor,
        segment_ids: Tensor,
        position_ids: Tensor,
        visible: Tensor | PackedRuns,
    ) -> Tensor:
        """Encode rows that hold several sequences; return vectors `(batch, seq, hidden)`.

        Args:
            input_ids: `(batch, seq)`.
            segment_ids: `(batch, seq)`, 0 or 1.
            position_ids: `(batch, seq)`, counting from 0 in every sequence.
            visible: Bool `(batch, 1, seq, seq)`, true where two tokens are of one sequence, or the
                sequences' bounds.
        """
        vectors: Tensor = self.encoder(
            self.embeddings(input_ids, segment_ids, position_ids), visible
        )
        return vectors


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

    def nsp_logits(self, first: Tensor) -> Tensor:
        """Vectors of first tokens `(..., hidden)` to `(..., 2)`."""
        assert self.bert.pooler is not None
        logits: Tensor = self.cls.seq_relationship(self.bert.pooler(first))
        return logits

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


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take numbers too small for a usual exponent as 0 while the body runs.

    A young model makes many of them, and each costs a CPU a hundred times the usual.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
