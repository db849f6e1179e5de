"""How well keys and passwords are found, beside CredSweeper on the same annotated documents.

    python -m venv build/credsweeper && build/credsweeper/bin/pip install credsweeper
    python benchmarks/secret_scanners.py GOLD --credsweeper build/credsweeper/bin/credsweeper

Every document is written to a file of its own, under the name it has in its package, because
CredSweeper goes by names too; it runs once over all of them with its defaults. What it reports is
scored by the code of `starencoder pii evaluate`, as is our detector: precision, recall and F1 with
80 % mutual overlap, for KEY and PASSWORD alone. Placeholders are neither wanted nor punished.

Its rules for passwords are PASSWORD, all others KEY. Where that would cost it something that is no
question of finding, it is read kindly: the armour of a private key is cut off, because our
annotations have none; several rules on one value are one finding; and there is a second row
without its rule UUID, which reports identifiers.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from pii.annotations import Document, read_annotated
from pii.evaluate import evaluate
from pii.predictions import write_predictions
from pii.spans import Span, resolve_overlaps

INSTALL = "python -m venv build/credsweeper && build/credsweeper/bin/pip install credsweeper"
LABELS = ("KEY", "PASSWORD")
PASSWORD_RULES = frozenset(
    {
        "Password",
        "SQL Password",
        "CMD Password",
        "CURL User Password",
        "PASSWD_PAIR",
        "ID_PASSWD_PAIR",
        "ID_PAIR_PASSWD_PAIR",
        "IP_ID_PASSWORD_TRIPLE",
        # Their values are passwords too.
        "URL Credentials",
        "CMD ConvertTo-SecureString",
    }
)
PEM_RULE = "PEM Private Key"
UUID_RULE = "UUID"

# As CredSweeper counts lines.
_LINE_END = re.compile(r"\r\n|\r|\n")
_PRIVATE_KEY = re.compile(
    r"(?:\s*-----BEGIN [^-]*-----)?(?:\s|\\[nr])*"
    r"(?P<body>.*?)"
    r"(?:\s|\\[nr])*(?:-----END [^-]*-----\s*)?",
    re.DOTALL,
)


def main() -> None:
    """Print what was found by rule, a table of scores, and by how much we are ahead."""
    parser = argparse.ArgumentParser(description="Keys and passwords, beside CredSweeper.")
    parser.add_argument("gold", help="annotated documents, as for starencoder pii evaluate")
    parser.add_argument("--credsweeper", default="credsweeper", metavar="EXECUTABLE")
    parser.add_argument("--model", default="tiny", help="of ours; default: tiny")
    options = parser.parse_args()
    executable = shutil.which(options.credsweeper)
    if executable is None:
        sys.exit(f"{options.credsweeper}: not found; install it by itself and name it:\n{INSTALL}")
    annotations = read_annotated(options.gold)
    documents = annotations.documents
    if annotations.report.left_out:
        print(f"left out: {dict(annotations.report.left_out)}")
    with tempfile.TemporaryDirectory() as folder:
        # It runs in another folder.
        report = run_credsweeper(Path(executable).absolute(), documents, Path(folder))
        findings = [read_findings(report, number, doc) for number, doc in enumerate(documents)]
        peer = said_version(executable)
        files = []
        for name, rule in ((peer, ""), (f"{peer} without {UUID_RULE}", UUID_RULE)):
            files.append(Path(folder) / name)
            spans = [merged(one, without=rule) for one in findings]
            write_predictions(documents, spans, files[-1])
        evaluation = evaluate(documents, [options.model], files=files)
    ours = f"starencoder {version('starencoder')}"
    names = {str(path): path.name for path in files}
    names |= {name: f"{ours} {name}" for name in (options.model, "none")}
    print(f"{len(documents)} documents; {peer} reports by rule: {rule_counts(findings)}")
    print(f"{'':38} {'':8} {'prec':>6} {'recall':>6} {'f1':>6}  {'95 %':13} support")
    for label in LABELS:
        for scored in evaluation.scored:
            scores = scored.labels[label]
            low, high = scores.f1_interval
            print(
                f"{names[scored.name]:38} {label:8} {scores.overlap.precision:6.3f} "
                f"{scores.overlap.recall:6.3f} {scores.overlap.f1:6.3f}  "
                f"{f'{low:.3f}-{high:.3f}':13} {scores.support:7d}"
            )
    for comparison in evaluation.comparisons:
        for label in LABELS:
            ahead = comparison.labels[label]
            low, high = ahead.interval
            print(
                f"{names[comparison.first]} less {names[comparison.second]}: "
                f"{label} {ahead.value:+.3f} ({low:+.3f} to {high:+.3f}, p {ahead.p:.4f})"
            )


def run_credsweeper(
    executable: Path, documents: Sequence[Document], folder: Path
) -> list[Mapping[str, Any]]:
    """Write the documents, each to a folder with its number, and scan them; the JSON report."""
    for number, document in enumerate(documents):
        path = folder / "documents" / str(number) / (PurePosixPath(document.path).name or "text")
        path.parent.mkdir(parents=True)
        path.write_bytes(document.text.encode())
    command = [str(executable), "--path", "documents", "--save-json", "report.json", "--no-stdout"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{executable} failed with code {done.returncode}: {done.stderr.strip()}")
    report: list[Mapping[str, Any]] = json.loads((folder / "report.json").read_text("utf-8"))
    return report


def said_version(executable: str) -> str:
    """Name and version of a command, as it says them."""
    done = subprocess.run([executable, "--version"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Finding:
    """A span that a rule of CredSweeper found."""

    rule: str
    span: Span


def read_findings(
    report: Sequence[Mapping[str, Any]], number: int, document: Document
) -> list[Finding]:
    """The spans a report has for the document that was written with a number.

    A private key is one span over all its lines; of other rules every value is a span. Values that
    stand nowhere in the document, because they were decoded from it, are said and left out.
    """
    found = []
    for entry in report:
        values = entry["line_data_list"]
        if PurePosixPath(values[0]["path"]).parts[1] != str(number):
            continue
        rule = entry["rule"]
        places = [place for value in values if (place := locate(document.text, value))]
        if len(places) < len(values):
            print(f"{document.id}: {rule}: a value does not stand in the text; left out")
        if rule == PEM_RULE and places:
            places = [without_armour(document.text, places[0][0], places[-1][1])]
        label = "PASSWORD" if rule in PASSWORD_RULES else "KEY"
        found += [
            Finding(rule, Span(start=start, end=end, label=label, source="credsweeper"))
            for start, end in places
            if start < end
        ]
    return found


def locate(text: str, value: Mapping[str, Any]) -> tuple[int, int] | None:
    """Start and end in a text of a value with its line (from 1) and offsets in it (from 0).

    Its offsets count for what stands there; else where it first stands in its line, or in the text.
    """
    wanted = value["value"]
    line_start, line_end = line_bounds(text, value["line_num"])
    start = line_start + value["value_start"]
    if value["value_start"] < 0 or not text.startswith(wanted, start):
        start = text.find(wanted, line_start, line_end)
        start = text.find(wanted) if start < 0 else start
    return None if start < 0 or not wanted else (start, start + len(wanted))


def line_bounds(text: str, number: int) -> tuple[int, int]:
    """Start and end of a line (from 1); `(0, 0)` where there is none."""
    ends = [*_LINE_END.finditer(text)]
    starts = [0, *(end.end() for end in ends)]
    stops = [*(end.start() for end in ends), len(text)]
    return (starts[number - 1], stops[number - 1]) if 0 < number <= len(starts) else (0, 0)


def without_armour(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave the BEGIN and END lines out of a private key."""
    match = _PRIVATE_KEY.fullmatch(text, start, end)
    return match.span("body") if match else (start, end)


def merged(findings: Sequence[Finding], *, without: str = "") -> list[Span]:
    """The spans of all rules but one, of which no two overlap."""
    return resolve_overlaps(finding.span for finding in findings if finding.rule != without)


def rule_counts(findings: Sequence[Sequence[Finding]]) -> str:
    """How many spans each rule found, the most frequent first."""
    counts = Counter(finding.rule for of_document in findings for finding in of_document)
    return ", ".join(f"{rule} {count}" for rule, count in counts.most_common()) or "none"


if __name__ == "__main__":
    main()
