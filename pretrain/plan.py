"""What a run will cost, before anything is spent: tokens, FLOPs, memory, hours, money.

All of it is arithmetic on the configuration; nothing is loaded. One multiply-add is 2 FLOPs, the
backward pass is twice the forward pass, and only useful work counts: real tokens, logits at masked
positions. This is how the trainer's MFU is computed too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pretrain.config import PretrainConfig, RunConfig, check_batch, largest_divisor
from starencoder.config import PRESETS, EncoderConfig
from starencoder.errors import ConfigError
from starencoder.names import check_name
from starencoder.text import amount, duration

MASTER_BYTES = 4
"""Of a weight, a gradient and each Adam moment: float32, whatever the precision of the matmuls."""

_FORWARD_AND_BACKWARD = 3
_RESERVED_SHARE = 0.08
"""Of a GPU's memory: CUDA context, libraries, fragments between tensors. A rule of thumb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as its maker states it."""

    bf16_flops: float
    """Dense peak per second, without sparsity."""
    memory: float
    """Bytes."""
    source: str


GPUS: Mapping[str, Gpu] = {
    "a10": Gpu(bf16_flops=125e12, memory=24e9, source="NVIDIA A10 data sheet"),
    "l40s": Gpu(bf16_flops=362e12, memory=48e9, source="NVIDIA L40S data sheet"),
    "a100-40gb": Gpu(bf16_flops=312e12, memory=40e9, source="NVIDIA A100 data sheet"),
    "a100": Gpu(bf16_flops=312e12, memory=80e9, source="NVIDIA A100 data sheet"),
    "h100": Gpu(bf16_flops=989e12, memory=80e9, source="NVIDIA H100 data sheet, SXM"),
    "h200": Gpu(bf16_flops=989e12, memory=141e9, source="NVIDIA H200 data sheet, SXM"),
    "b200": Gpu(bf16_flops=2250e12, memory=180e9, source="NVIDIA HGX B200 data sheet"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFlops:
    """FLOPs to train on one token, forward and backward."""

    body: float
    """The layers' matrices."""
    attention: float
    """Scores and weighted sums."""
    head: float
    """The MLM head at masked positions, shared among all tokens."""

    @property
    def total(self) -> float:
        """The sum."""
        return self.body + self.attention + self.head


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run takes on given GPUs. Sizes in bytes."""

    gpu: str
    gpus: int
    mfu: float
    run: RunConfig
    encoder: EncoderConfig
    parameters: int
    micro_batches: int
    """Per GPU and step."""
    seq_length: int
    tokens: int
    """Positions of all rows: packing fills 99 % of them or more."""
    token_flops: TokenFlops
    total_flops: float
    memory: Mapping[str, float]
    """Bytes per GPU by purpose."""
    most_micro_rows: int
    """Rows per micro-batch that fit into the GPU; 0: not even one."""
    tokens_per_second: float
    """Of all GPUs together."""
    hours: float
    """Training only, without evaluation, start and restarts."""
    cost: float | None
    """In the currency of the price; None without one."""
    disk_bytes: int
    """Most that the checkpoints take."""


def peak_flops(name: str) -> float | None:
    """A GPU's bf16 peak per second by the name that its driver gives it; None if not listed."""
    # By whole words: an A100 is no A10.
    words = re.split(r"\W+", name.lower())
    known = [gpu.bf16_flops for key, gpu in GPUS.items() if key.partition("-")[0] in words]
    return known[0] if known else None


def num_parameters(config: EncoderConfig) -> int:
    """Weights of a `PretrainingModel`; the MLM output matrix is the token embedding."""
    hidden, inner = config.hidden_size, config.intermediate_size
    square, norm = hidden * hidden + hidden, 2 * hidden
    table = config.vocab_size + config.max_positions + config.type_vocab_size
    layer = 4 * square + 2 * hidden * inner + inner + hidden + 2 * norm
    heads = square + norm + config.vocab_size + 2 * hidden + 2
    return table * hidden + norm + config.num_layers * layer + square + heads


def disk_bytes(config: EncoderConfig, kept_checkpoints: int) -> int:
    """Most that a run's checkpoints take: those that are kept, and one being written."""
    return (kept_checkpoints + 1) * 3 * MASTER_BYTES * num_parameters(config)


def flops_per_token(config: EncoderConfig, context: float, mask_share: float) -> TokenFlops:
    """Training FLOPs per token; the 657.4 M of StarEncoder's shape at 1,024 tokens and 15 %.

    Args:
        config: The architecture.
        context: Tokens that a token attends to, on average: a row's length, or in packed rows the
            sum of the squared lengths of the pieces over the sum of the lengths.
        mask_share: Share of tokens at which logits are computed.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    twice = 2 * _FORWARD_AND_BACKWARD
    return TokenFlops(
        body=twice * config.num_layers * (4 * hidden * hidden + 2 * hidden * inner),
        attention=twice * config.num_layers * 2 * context * hidden,
        head=twice * mask_share * (hidden * config.vocab_size + hidden * hidden),
    )


def plan(config: PretrainConfig, *, gpu: str, gpus: int, mfu: float, price: float | None) -> Plan:
    """Work out what a run takes, with the vocabulary of the architecture's preset.

    Args:
        config: The run.
        gpu: A name in `GPUS`.
        gpus: How many, over all machines.
        mfu: Share of the GPUs' bf16 peak that is assumed to be reached, in (0, 1].
        price: Of one GPU for one hour; None if it does not matter.

    Raises:
        ConfigError: The GPU is not known, a number is out of range, the rows do not fit the model
            or cannot be divided among the GPUs.
    """
    device = GPUS[check_name("GPU", gpu, GPUS)]
    run, mask_share = config.run, config.data.mask_share
    if gpus < 1:
        raise ConfigError(f"gpus must be 1 or more, got {gpus}")
    if not 0 < mfu <= 1:
        raise ConfigError(f"mfu must be in (0, 1], such as 0.4, got {mfu}")
    if price is not None and not 0 <= price < float("inf"):
        raise ConfigError(f"price must be 0 or more, got {price}")
    check_batch(run, gpus)
    encoder = config.model.encoder(
        vocab_size=PRESETS[config.model.architecture].vocab_size, pad_id=0
    )
    seq_length = config.seq_length(encoder)
    parameters = num_parameters(encoder)
    tokens = run.steps * run.batch_rows * seq_length
    token_flops = flops_per_token(encoder, seq_length, mask_share)
    rate = mfu * gpus * device.bf16_flops
    hours = tokens * token_flops.total / rate / 3600
    fixed = _fixed_memory(parameters, device, gpus=gpus, precision=run.precision)
    per_row = _row_memory(encoder, seq_length, mask_share, precision=run.precision)
    room = device.memory - sum(fixed.values())
    return Plan(
        gpu=gpu,
        gpus=gpus,
        mfu=mfu,
        run=run,
        encoder=encoder,
        parameters=parameters,
        micro_batches=run.batch_rows // (run.micro_rows * gpus),
        seq_length=seq_length,
        tokens=tokens,
        token_flops=token_flops,
        total_flops=tokens * token_flops.total,
        memory={**fixed, **{name: run.micro_rows * size for name, size in per_row.items()}},
        most_micro_rows=max(0, int(room // sum(per_row.values()))),
        tokens_per_second=rate / token_flops.total,
        hours=hours,
        cost=None if price is None else hours * gpus * price,
        disk_bytes=disk_bytes(encoder, run.keep_checkpoints),
    )


def plan_text(plan: Plan) -> str:
    """A plan as a table to read, with what to change where it does not fit."""
    encoder, flops = plan.encoder, plan.token_flops
    device = GPUS[plan.gpu]
    used = sum(plan.memory.values())
    shape = f"{encoder.num_layers} layers x {encoder.hidden_size}, {encoder.num_heads} heads"
    rows: list[tuple[str, str]] = [
        ("model", f"{shape}, vocabulary {encoder.vocab_size:,}"),
        ("parameters", f"{plan.parameters:,}"),
        (
            "step",
            f"{plan.run.batch_rows:,} rows x {plan.seq_length:,} tokens; "
            f"{plan.micro_batches} x {plan.run.micro_rows} rows per GPU",
        ),
        ("tokens", f"{amount(plan.tokens)} in {plan.run.steps:,} steps"),
        (
            "FLOPs per token",
            f"{amount(flops.total)} (layers {amount(flops.body)}, attention "
            f"{amount(flops.attention)}, MLM head {amount(flops.head)})",
        ),
        ("FLOPs", f"{plan.total_flops:.3g}"),
        ("memory per GPU", f"{amount(used, 'B')} of {amount(device.memory, 'B')} (estimate)"),
        *((f"  {name}", amount(size, "B")) for name, size in plan.memory.items()),
        (
            "disk",
            f"{amount(plan.disk_bytes, 'B')} for checkpoints: {plan.run.keep_checkpoints} kept and "
            f"one being written",
        ),
        (
            "hardware",
            f"{plan.gpus} x {plan.gpu} at {plan.mfu:.0%} MFU of {device.bf16_flops / 1e12:,.0f} "
            f"TFLOP/s ({device.source})",
        ),
        (
            "speed",
            f"{plan.tokens_per_second:,.0f} tokens/s, {plan.tokens_per_second / plan.gpus:,.0f} "
            f"per GPU",
        ),
        ("time", f"{duration(3600 * plan.hours)}, {plan.hours * plan.gpus:,.1f} GPU-hours"),
    ]
    if plan.cost is not None:
        rows.append(("cost", f"{plan.cost:,.2f}"))
    lines = [f"{name:<26}{value}" for name, value in rows]
    if used > device.memory:
        lines.append(f"does not fit: {_what_to_lower(plan)}")
    if plan.run.precision == "fp32":
        lines.append("run.precision is fp32: the MFU is meant of the bf16 peak all the same")
    lines.append("time is that of training alone, at the MFU given; tokens count full rows")
    return "\n".join(lines) + "\n"


def _what_to_lower(plan: Plan) -> str:
    if not plan.most_micro_rows:
        return "not even one row fits; take a smaller model or a GPU with more memory"
    fitting = largest_divisor(plan.run.batch_rows // plan.gpus, plan.most_micro_rows)
    return f"lower run.micro_rows from {plan.run.micro_rows} to {fitting}"


def _fixed_memory(parameters: int, device: Gpu, *, gpus: int, precision: str) -> dict[str, float]:
    """Bytes that do not depend on the rows."""
    sizes = {
        "weights": MASTER_BYTES * parameters,
        "gradients": MASTER_BYTES * parameters,
        "Adam moments": 2 * MASTER_BYTES * parameters,
        # torch's DDP reduces copies of the gradients.
        "all-reduce buckets": MASTER_BYTES * parameters if gpus > 1 else 0,
        "bf16 copy of weights": 2 * parameters if precision == "bf16" else 0,
        "reserved": _RESERVED_SHARE * device.memory,
    }
    return {name: float(size) for name, size in sizes.items() if size}


def _row_memory(
    config: EncoderConfig, seq_length: int, mask_share: float, *, precision: str
) -> dict[str, float]:
    """Bytes per row that the backward pass needs, nothing being computed again.

    Per token and layer: inputs of all matrices, queries, keys and values, and GELU's input in the
    matmuls' precision; inputs of both layer norms in float32; a byte per value for each of the two
    dropouts. Attention is one of the kernels that keep no scores. Per masked position: the
    logits, and in float32 a copy, their log-softmax and its gradient.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    width = 2 if precision == "bf16" else 4
    dropout = 2 * hidden if config.hidden_dropout else 0
    layer = width * (6 * hidden + 2 * inner) + 4 * 2 * hidden + dropout
    logits = mask_share * (width + 3 * 4) * config.vocab_size
    return {"activations": seq_length * config.num_layers * layer, "logits": seq_length * logits}
