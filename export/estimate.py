"""How long a scan may take: a sample of it, measured, times the rest."""

import time
from dataclasses import dataclass

from export.row_groups import UnitScanner
from export.scan import Plan
from export.shards import Unreadable
from pii.tagger import Predict
from starencoder.text import counted, duration

_SECONDS = 10.0
_SAMPLES = 8
"""Row groups, spread evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a scan takes."""

    shards: int
    unreadable: int
    row_groups: int
    """With rows to scan."""
    rows: int
    """To read; rows of languages that are not selected among them."""
    text_bytes: int
    """Of the texts to scan."""
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
    groups = [unit for unit in plan.units() if unit.limit != 0]
    units = groups[:: max(1, -(-len(groups) // _SAMPLES))]
    scanner = UnitScanner(plan.config, predict)
    scanned, expected, seconds = 0, 0, 0.0
    for unit in units:
        started = time.perf_counter()
        try:
            tally = scanner.sample(unit, _SECONDS / len(units))
        except Unreadable:
            continue  # the scan names it
        seconds += time.perf_counter() - started
        scanned += tally.text_bytes
        rows = tally.rows_in if unit.limit is None else min(tally.rows_in, unit.limit)
        expected += plan.text_bytes_of(unit.file.relative, unit.group, rows)
    rate = scanned / seconds if seconds else 0.0
    # The footers count equal texts once, and those of languages that are not selected too.
    text_bytes = round(plan.text_bytes * scanned / expected) if expected else 0
    whole = text_bytes / rate / workers if rate else 0.0
    return Estimate(
        shards=len(plan.shards),
        unreadable=len(plan.unreadable),
        row_groups=len(groups),
        rows=sum(sum(plan.rows_to_scan(relative)) for relative in plan.shards),
        text_bytes=text_bytes,
        sample_bytes=scanned,
        bytes_per_second=rate,
        workers=workers,
        device=plan.config.device,
        seconds=whole,
        cost=None if price is None else price * whole / 3600,
    )


def estimate_text(found: Estimate) -> str:
    """An estimate as lines."""
    left_out = f" ({found.unreadable} more cannot be scanned)" if found.unreadable else ""
    lines = [
        f"to scan: {counted(found.shards, 'shard')}{left_out}, "
        f"{counted(found.row_groups, 'row group')}, {counted(found.rows, 'row')}, "
        f"{found.text_bytes / 1e6:.1f} MB of text",
    ]
    if found.bytes_per_second:
        lines.append(
            f"measured: {found.bytes_per_second / 1e6:.3f} MB/s with one process, "
            f"on {found.sample_bytes / 1e6:.1f} MB of it"
        )
        processes = counted(found.workers, "process", "processes")
        lines.append(f"estimate: {duration(found.seconds)} with {processes}")
        if found.device == "cuda":
            lines.append("more, if the GPUs are busy all the time before that many processes are")
    else:
        lines.append("estimate: none, as the sample holds no text to scan")
    if found.cost is not None:
        lines.append(f"cost: {found.cost:.2f}")
    return "".join(f"{line}\n" for line in lines)
