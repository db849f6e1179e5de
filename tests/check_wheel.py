"""Build the wheel, read its list of files, install it elsewhere and use it. `make test` runs this.

The wheel is made from a copy of what git tracks or would track, so that a build folder left over
from before, or an ignored file, cannot get in.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("starencoder", "pii", "pretrain", "export")
MODEL = "pii/models/tiny"
DATA = {
    "starencoder/py.typed",
    "pii/py.typed",
    "pii/name_parts.toml",
    "pii/synthesis.toml",
    "pii/pseudo_label.toml",
    "pii/label_map.toml",
    "pii/gold/annotations.jsonl",
    *(f"pretrain/presets/{name}.toml" for name in ("debug", "starencoder-125m", "tiny")),
    *(f"{MODEL}/{name}" for name in ("README.md", "packages.toml", "recipe.toml")),
    *(f"{MODEL}/{name}" for name in ("unannotated.toml", "router_packages.toml")),
    *(f"{MODEL}/{name}" for name in ("config.json", "tokenizer.json", "tokenizer_config.json")),
    f"{MODEL}/onnx/model_int8.onnx",
    f"{MODEL}/onnx/router.onnx",
}
LARGEST_FILE = 20_000_000
NOT_NEEDED = ("torch", "transformers", "datasets", "accelerate", "seqeval", "onnx", "safetensors")

EMAIL = "marta.lindqvist@corp-mail.net"
NAME = "Marta Lindqvist"
SAMPLE = f"# Author: {NAME} <{EMAIL}>\nLIMIT = 7\n"


class WheelError(Exception):
    """The wheel is not as it should be."""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            wheel = build(folder)
            count = check_files(wheel)
            check_installed(install(wheel, folder), folder)
        except WheelError as error:
            sys.stderr.write(f"check_wheel: {error}\n")
            return 1
        size = wheel.stat().st_size / 1e6
        sys.stdout.write(
            f"{wheel.name}: {count} files, {size:.1f} MB; installed and used from elsewhere\n"
        )
    return 0


def run(command: list[str | Path], cwd: Path, *, expected: int = 0) -> str:
    """Run a command of which one exit code is expected; return its stdout."""
    # Nothing of this checkout or of the user's own settings helps.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONUTF8"] = "1"
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != expected:
        shown = " ".join(str(part) for part in command)
        raise WheelError(
            f"{shown}: exit code {done.returncode}, expected {expected}\n"
            f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def tracked_files() -> list[str]:
    """What git tracks, or would track, and is there."""
    command: list[str | Path] = ["git", "ls-files", "-z", "--cached", "--others"]
    names = run([*command, "--exclude-standard"], ROOT).split("\0")
    return sorted({name for name in names if name and (ROOT / name).is_file()})


def build(folder: Path) -> Path:
    source, output = folder / "source", folder / "dist"
    for name in tracked_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    run([sys.executable, "-m", "build", "--wheel", "--outdir", output, source], folder)
    wheels = list(output.iterdir())
    if len(wheels) != 1 or not wheels[0].name.endswith("-py3-none-any.whl"):
        found = ", ".join(wheel.name for wheel in wheels)
        raise WheelError(f"expected one wheel for any platform, the build made: {found}")
    return wheels[0]


def check_files(wheel: Path) -> int:
    """Hold the wheel against the checkout, both ways; return its number of files."""
    modules = {
        name for name in tracked_files() if name.endswith(".py") and name.startswith(PACKAGES)
    }
    expected = {"cli.py", *modules, *DATA}
    with zipfile.ZipFile(wheel) as archive:
        infos = archive.infolist()
    found = {info.filename for info in infos if ".dist-info/" not in info.filename}
    problems = [f"{name}: missing from the wheel" for name in sorted(expected - found)]
    problems += [f"{name}: does not belong in the wheel" for name in sorted(found - expected)]
    problems += [
        f"{info.filename}: {info.file_size} bytes, at most {LARGEST_FILE} go into the wheel"
        for info in infos
        if info.file_size > LARGEST_FILE
    ]
    if not any(info.filename.endswith(".dist-info/licenses/LICENSE") for info in infos):
        problems.append("LICENSE: missing from the wheel")
    if problems:
        raise WheelError("\n".join(problems))
    return len(infos)


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel as a user does, into an environment of its own; return its programs."""
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip: list[str | Path] = [programs / "python", "-m", "pip", "install", "--quiet"]
    run([*pip, "-c", ROOT / "constraints.txt", f"{wheel}[cpu]"], folder)
    return programs


def check_installed(programs: Path, folder: Path) -> None:
    """Run the installed command in a folder that has nothing to do with the checkout."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.py").write_text(SAMPLE, encoding="utf-8", newline="")
    program = programs / "starencoder"

    present = run(
        [
            programs / "python",
            "-c",
            "import importlib.util as u, sys; "
            "print(*(name for name in sys.argv[1:] if u.find_spec(name)))",
            *NOT_NEEDED,
        ],
        elsewhere,
    ).split()
    if present:
        raise WheelError(f"installing the extra cpu brought {', '.join(present)}: not needed there")

    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    expect("--version", run([program, "--version"], elsewhere), f"starencoder {version}\n")
    if "detect" not in run([program, "--help"], elsewhere):
        raise WheelError("starencoder --help does not name the command detect")

    start = SAMPLE.index(EMAIL)
    email = ("EMAIL", start, start + len(EMAIL), "pattern:email")
    name = ("NAME", SAMPLE.index(NAME), SAMPLE.index(NAME) + len(NAME), "model")
    expect("detect --model none", detect(program, elsewhere, "--model", "none"), [email])
    expect("detect", detect(program, elsewhere), [name, email])

    redacted = SAMPLE.replace(EMAIL, "<EMAIL>")
    none = run([program, "redact", "--model", "none", "a.py"], elsewhere)
    expect("redact --model none", none, redacted)
    expect("redact", run([program, "redact", "a.py"], elsewhere), redacted.replace(NAME, "<NAME>"))


def detect(program: Path, folder: Path, *arguments: str) -> list[tuple[str, int, int, str]]:
    lines = run([program, "detect", "--format", "jsonl", *arguments, "a.py"], folder, expected=1)
    rows = [json.loads(line) for line in lines.splitlines()]
    return [(row["label"], row["start"], row["end"], row["source"]) for row in rows]


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WheelError(f"starencoder {what}: expected {expected!r}, got {found!r}")


if __name__ == "__main__":
    sys.exit(main())
