"""The demo: make a sample tree, find what it holds, show one diff, write the redacted copy.

The sample tree lies in `examples/sample`. What looks like a live key is put together here, when
the demo runs, so that no push scanner stops this repository.
"""

import random
import re
import shutil
import string
import sys
import time
from pathlib import Path

import cli

SAMPLE = Path(__file__).parent / "sample"
OUTPUT = Path("demo-output")
SHOWN_DIFF = Path("app") / "mailer.py"

_ALPHANUMERIC = string.ascii_letters + string.digits
# What stands for each %%marker%% of the sample: alphabet and length, after a prefix.
_VALUES = {
    "random_token": ("", _ALPHANUMERIC, 40),
    "random_password": ("", string.ascii_letters + string.digits + "!#%&*+-?", 14),
    "hex_key": ("", "0123456789abcdef", 32),
    "github_token": ("gh" + "p_", _ALPHANUMERIC, 36),
    "url_password": ("", string.ascii_lowercase + string.digits, 12),
    "base64_key": ("", _ALPHANUMERIC + "+/", 43),
    "env_password": ("", _ALPHANUMERIC, 16),
    "aws_key_id": ("AK" + "IA", string.ascii_uppercase + "234567", 16),
    "aws_secret": ("", _ALPHANUMERIC + "+/", 40),
    "curl_password": ("", _ALPHANUMERIC, 12),
    "header_key": ("", "0123456789abcdef", 40),
}


def make_sample(folder: Path) -> None:
    """Copy the sample tree into a new folder, its markers replaced by made-up values."""
    if folder.exists():
        shutil.rmtree(folder)
    for source in sorted(SAMPLE.rglob("*")):
        if source.is_file():
            target = folder / source.relative_to(SAMPLE)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = re.sub(r"%%(\w+)%%", _value, source.read_text(encoding="utf-8"))
            target.write_text(text, encoding="utf-8", newline="\n")


def _value(marker: re.Match[str]) -> str:
    # Seeded by the marker: every run plants the same values.
    rng = random.Random(marker[1])
    if marker[1] == "pem_body":
        lines = ["".join(rng.choices(_ALPHANUMERIC + "+/", k=64)) for _ in range(6)]
        return "MI" + "IC" + "\n".join(lines)
    prefix, alphabet, length = _VALUES[marker[1]]
    return prefix + "".join(rng.choices(alphabet, k=length))


def _run(*arguments: str) -> None:
    print(f"\n$ starencoder {' '.join(arguments)}", flush=True)
    code = cli.main(arguments)
    if code:
        sys.exit(code)


def main() -> None:
    """Run the demo in the current directory."""
    sample, redacted = OUTPUT / "sample", OUTPUT / "redacted"
    make_sample(sample)
    if redacted.exists():
        shutil.rmtree(redacted)
    started = time.perf_counter()
    _run("detect", str(sample), "--show-values", "--exit-zero")
    _run("redact", str(sample / SHOWN_DIFF), "--diff")
    _run("redact", str(sample), "--output", str(redacted))
    seconds = time.perf_counter() - started
    print(f"\nDone in {seconds:.1f} s. Everything found above is made up.")
    print(f"Sample tree:   {sample}")
    print(f"Redacted copy: {redacted}")


if __name__ == "__main__":
    main()
