"""How long a scan may take: a sample of it, measured, times the rest."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

from export.row_groups import Unit, UnitScanner
from export.scan import Plan
from export.shards import Unreadable
from pii.tagger import Predict

_SECONDS = 10.0
_SAMPLES = 8
"""Row groups, spread evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a scan takes."""

    shards: int
    unreadable: int
    row_groups: int
    rows: int
    text_bytes: int
    """Of the text column, without compression."""
    sample_bytes: int
    bytes_per_second: float
    """Of one process; 0: no text in the sample."""
    workers: int
    device: str
    """`cpu` or `cuda`."""
    seconds: float
    """Of the whole scan, if each process is as fast as one alone."""
    cost: float | None
    """In the currency of the price."""


def estimate(
    plan: Plan, *, workers: int, price: float | None, predict: Predict | None = None
) -> Estimate:
    """Scan a sample of a plan's row groups for some seconds; nothing is written.

    Args:
        plan: What there is to do.
        workers: Processes.
        price: Of the machine for one hour.
        predict: See `UnitScanner`.
    """
    units = list(_spread(plan))
    scanner = UnitScanner(plan.config, predict)
    scanned, seconds = 0, 0.0
    for unit in units:
        started = time.perf_counter()
        try:
            scanned += scanner.sample(unit, _SECONDS / len(units))
        except Unreadable:
            continue  # the scan names it
        seconds += time.perf_counter() - started
    rate = scanned / seconds if seconds else 0.0
    whole = plan.text_bytes / rate / workers if rate else 0.0
    return Estimate(
        shards=len(plan.shards),
        unreadable=len(plan.unreadable),
        row_groups=sum(len(shard.rows) for shard in plan.shards.values()),
        rows=plan.rows,
        text_bytes=plan.text_bytes,
        sample_bytes=scanned,
        bytes_per_second=rate,
        workers=workers,
        device=plan.config.device,
        seconds=whole,
        cost=None if price is None else price * whole / 3600,
    )


def _spread(plan: Plan) -> Iterator[Unit]:
    """Some row groups of all."""
    total = sum(len(shard.rows) for shard in plan.shards.values())
    groups = (
        Unit(file=shard.file, group=group, spans=plan.spans.get(relative), part="")
        for relative, shard in plan.shards.items()
        for group in range(len(shard.rows))
    )
    return itertools.islice(groups, 0, None, max(1, -(-total // _SAMPLES)))


def estimate_text(found: Estimate) -> str:
    """An estimate as lines."""
    left_out = f" ({found.unreadable} more cannot be scanned)" if found.unreadable else ""
    lines = [
        f"to scan: {found.shards} shards{left_out}, {found.row_groups} row groups, "
        f"{found.rows} rows, {found.text_bytes / 1e6:.1f} MB of text",
    ]
    if found.bytes_per_second:
        lines.append(
            f"measured: {found.bytes_per_second / 1e6:.3f} MB/s with one process, "
            f"on {found.sample_bytes / 1e6:.1f} MB of it"
        )
        lines.append(f"estimate: {_duration(found.seconds)} with {found.workers} processes")
        if found.device == "cuda":
            lines.append("more, if the GPUs are busy all the time before that many processes are")
    else:
        lines.append("estimate: none, as the sample holds no text to scan")
    if found.cost is not None:
        lines.append(f"cost: {found.cost:.2f}")
    return "".join(f"{line}\n" for line in lines)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
