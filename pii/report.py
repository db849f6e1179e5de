"""Findings as a table, JSON lines or CSV, and the fingerprints that stand for their values."""

import csv
import functools
import hashlib
import hmac
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pii.files import escaped
from pii.spans import Span

PUBLIC_SALT = b"starencoder.public-salt.1"
"""Salt of fingerprints while there is no baseline with a random one."""

FIELDS = (
    *("path", "start", "end", "line", "column", "label", "kind", "score", "source"),
    "fingerprint",
)
"""Of a finding in JSON lines and CSV, in this order; `value` follows where values are shown."""

# 4 MiB and about 10 ms a guess: a leaked report does not give its passwords away for nothing.
_SCRYPT_COST = 1 << 12
_WIDEST_VALUE = 60
"""Columns of a table's value; JSON lines and CSV have it whole."""
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A span of a file as it is reported."""

    path: str
    span: Span
    line: int
    """Counted from 1; lines end at \\n, \\r\\n or \\r."""
    column: int
    """Counted from 1, in code points."""
    fingerprint: str = ""
    """16 hexadecimal digits, the same for the same label and value; empty where not asked for."""
    value: str | None = None
    """Only where values are to be shown."""

    def row(self) -> dict[str, str | int | float]:
        """The finding's fields by name, in their order."""
        span = self.span
        fields: tuple[str | int | float, ...] = (
            *(self.path, span.start, span.end, self.line, self.column),
            *(span.label, span.kind, span.score, span.source, self.fingerprint),
        )
        row = dict(zip(FIELDS, fields, strict=True))
        return row if self.value is None else {**row, "value": self.value}


def findings_of(
    path: str,
    text: str,
    spans: Iterable[Span],
    *,
    with_fingerprints: bool,
    with_values: bool,
) -> list[Finding]:
    """Place a text's spans (in the order of their start) on its lines."""
    line_ends = _LINE_END.finditer(text)
    upcoming = next(line_ends, None)
    line, line_start = 1, 0
    found = []
    for span in spans:
        while upcoming is not None and upcoming.end() <= span.start:
            line, line_start = line + 1, upcoming.end()
            upcoming = next(line_ends, None)
        value = text[span.start : span.end]
        found.append(
            Finding(
                path=path,
                span=span,
                line=line,
                column=span.start - line_start + 1,
                fingerprint=fingerprint(span.label, value) if with_fingerprints else "",
                value=value if with_values else None,
            )
        )
    return found


@functools.lru_cache(maxsize=4096)
def fingerprint(label: str, value: str, salt: bytes = PUBLIC_SALT) -> str:
    """64 bits of HMAC-SHA256 over label and value, as 16 hexadecimal digits.

    A password is stretched with scrypt first, as it may be short enough to be guessed.
    """
    secret = value.encode("utf-8", "surrogatepass")
    if label == "PASSWORD":
        secret = hashlib.scrypt(secret, salt=salt, n=_SCRYPT_COST, r=8, p=1, dklen=32)
    message = label.encode() + b"\0" + secret
    return hmac.digest(salt, message, hashlib.sha256)[:8].hex()


def jsonl_lines(findings: Iterable[Finding]) -> str:
    """One JSON object a line, in ASCII; bytes of a path that are not UTF-8 are lone surrogates."""
    return "".join(json.dumps(finding.row()) + "\n" for finding in findings)


def csv_header(*, with_values: bool) -> str:
    """The names of the columns."""
    return _csv_lines([(*FIELDS, "value") if with_values else FIELDS])


def csv_lines(findings: Iterable[Finding]) -> str:
    """One finding a record.

    A path or value that a spreadsheet would take for a formula (it begins with = + - @, a tab or a
    carriage return) gets a ' in front; JSON lines have them as they are.
    """
    return _csv_lines(
        [
            _no_formula(cell) if name in ("path", "value") else cell
            for name, cell in finding.row().items()
        ]
        for finding in findings
    )


def _csv_lines(rows: Iterable[Iterable[str | int | float]]) -> str:
    buffer = io.StringIO(newline="")
    # All strings quoted: the writer itself would leave a lone carriage return bare.
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return buffer.getvalue()


def _no_formula(cell: str | int | float) -> str | int | float:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r")) else cell


def _shortened(value: str) -> str:
    """A value for one cell of a table: a PEM body would fill a screen."""
    return value if len(value) <= _WIDEST_VALUE else f"{value[: _WIDEST_VALUE - 1]}…"


def table_lines(findings: Sequence[Finding]) -> str:
    """One file's findings under its path, aligned; empty without findings.

    Paths and values are escaped, so that neither can steer a terminal.
    """
    if not findings:
        return ""
    places = [f"{finding.line}:{finding.column}" for finding in findings]
    width = max(8, *(len(place) for place in places))
    sources = max(len(finding.span.source) for finding in findings)
    lines = [escaped(findings[0].path)]
    for place, finding in zip(places, findings, strict=True):
        span = finding.span
        kind = "" if span.kind == "real" else span.kind
        line = f"  {place:>{width}}  {span.label:<10}  {span.score:.2f}  {span.source:<{sources}}"
        line += f"  {kind:<7}"
        if finding.value is not None:
            line += f"  {_shortened(escaped(finding.value))}"
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n\n"
