"""A unified diff of a redacted text, as `git apply` and `patch -p1` take it.

The lines that changed are known from the replacements, so nothing is searched for: the time is
linear, whatever the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pii.redact import Redaction

_CONTEXT = 3

# As git quotes names: those with control characters, quotes, backslashes or bytes beyond ASCII.
_TO_QUOTE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_SHORT_ESCAPES = {
    **{b"\a": b"\\a", b"\b": b"\\b", b"\t": b"\\t", b"\n": b"\\n", b"\v": b"\\v"},
    **{b"\f": b"\\f", b"\r": b"\\r", b'"': b'\\"', b"\\": b"\\\\"},
}


@dataclass(frozen=True, slots=True)
class _Block:
    """Whole lines that changed: `[old_start, old_end)` became `[new_start, new_end)`."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def unified_diff(name: bytes, text: str, redaction: Redaction, *, mark: str = "") -> str:
    r"""Write a text's redaction as a diff; empty if nothing was replaced.

    Args:
        name: The file's path below where the diff is to be applied, with slashes.
        text: The original. Lines end at \n only, as for git.
        redaction: What became of it.
        mark: A byte order mark that both files begin with.
    """
    blocks = _changed_blocks(text, redaction)
    if not blocks:
        return ""
    old_name, new_name = _quoted(b"a/" + name), _quoted(b"b/" + name)
    # A tab ends a name with spaces for `patch`, which else takes what follows for a date.
    tab = "\t" if b" " in name else ""
    lines = [
        f"diff --git {old_name} {new_name}\n",
        f"--- {old_name}{tab}\n",
        f"+++ {new_name}{tab}\n",
    ]
    old_line, counted, line_shift = 1, 0, 0
    for hunk in _hunks(text, blocks):
        first = _back(text, hunk[0].old_start, counted)
        last = _ahead(text, hunk[-1].old_end)
        old_line += text.count("\n", counted, first)
        body: list[str] = []
        old_count = new_count = 0
        position = first
        for block in hunk:
            common = list(_lines(text, position, block.old_start, mark))
            removed = list(_lines(text, block.old_start, block.old_end, mark))
            added = list(_lines(redaction.text, block.new_start, block.new_end, mark))
            body += [f" {line}" for line in common]
            body += [f"-{line}" for line in removed]
            body += [f"+{line}" for line in added]
            old_count += len(common) + len(removed)
            new_count += len(common) + len(added)
            position = block.old_end
        rest = list(_lines(text, position, last, mark))
        body += [f" {line}" for line in rest]
        old_count, new_count = old_count + len(rest), new_count + len(rest)
        lines.append(
            f"@@ -{_range(old_line, old_count)} +{_range(old_line + line_shift, new_count)} @@\n"
        )
        lines += body
        line_shift += new_count - old_count
        old_line += old_count
        counted = last
    return "".join(lines)


def _changed_blocks(text: str, redaction: Redaction) -> list[_Block]:
    blocks: list[_Block] = []
    shift = 0
    for replacement in redaction.replacements:
        span = replacement.span
        free = blocks[-1].old_end if blocks else 0
        old_start = text.rfind("\n", free, max(free, span.start)) + 1 or free
        new_start, old_end = old_start + shift, free
        if blocks and old_start == free:
            previous = blocks.pop()
            old_start, new_start = previous.old_start, previous.new_start
        if span.end >= old_end:
            old_end = text.find("\n", span.end) + 1 or len(text)
        shift += (replacement.end - replacement.start) - (span.end - span.start)
        blocks.append(_Block(old_start, old_end, new_start, old_end + shift))
    return blocks


def _hunks(text: str, blocks: list[_Block]) -> Iterator[list[_Block]]:
    """Blocks whose context would touch or overlap share a hunk."""
    hunk = [blocks[0]]
    for block in blocks[1:]:
        if text.count("\n", hunk[-1].old_end, block.old_start) <= 2 * _CONTEXT:
            hunk.append(block)
        else:
            yield hunk
            hunk = [block]
    yield hunk


def _back(text: str, position: int, limit: int) -> int:
    """Where the context before a position begins."""
    for _ in range(_CONTEXT):
        if position <= limit:
            break
        position = text.rfind("\n", limit, position - 1) + 1 or limit
    return position


def _ahead(text: str, position: int) -> int:
    """Where the context after a position ends."""
    for _ in range(_CONTEXT):
        position = text.find("\n", position) + 1 or len(text)
    return position


def _lines(text: str, start: int, end: int, mark: str) -> Iterator[str]:
    if start == 0 and end:
        text, end = mark + text[:end], end + len(mark)
    while start < end:
        stop = text.find("\n", start, end) + 1
        if not stop:
            yield text[start:end] + "\n\\ No newline at end of file\n"
            return
        yield text[start:stop]
        start = stop


def _range(line: int, count: int) -> str:
    if count == 1:
        return str(line)
    return f"{line if count else line - 1},{count}"


def _quoted(name: bytes) -> str:
    quoted = _TO_QUOTE.sub(
        lambda match: _SHORT_ESCAPES.get(match[0], b"\\%03o" % match[0][0]), name
    )
    return f'"{quoted.decode("ascii")}"' if quoted != name else name.decode("ascii")
