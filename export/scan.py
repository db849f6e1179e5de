"""Scan parquet shards: plan, hand row groups to an engine, join what comes back, keep account.

find_shards -> plan_scan -> scan: an engine (processes here, or Ray) runs `UnitScanner` on each
row group, this process joins the parts of a shard to its output as soon as the last one is there.
"""

import functools
import hashlib
import json
import platform
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from pyarrow import parquet

from export.row_groups import (
    NOT_SELECTED,
    Unit,
    UnitResult,
    UnitScanner,
    write_part,
)
from export.scan_dir import (
    DoneShard,
    DoneUnit,
    ScanDirectory,
    is_scan,
    read_run,
    write_shard,
)
from export.scanner import ScanConfig
from export.shards import (
    ColumnNames,
    Shard,
    Unreadable,
    find_shards,
    hash_file,
    open_row_groups,
    output_schema,
    read_shards,
)
from export.tally import Tally
from pii.detect import model_folder
from pii.files import shown_path
from pii.router import ROUTER_FILE
from pii.session import ONNX_FILES
from pii.tagger import Predict
from pii.workers import Crash, run_unordered
from starencoder.config import CONFIG_FILE
from starencoder.errors import ConfigError, DataError
from starencoder.files import check_outputs
from starencoder.tokenizer import TOKENIZER_FILE

FORMAT = 1
"""Of run.json, the journal and the manifest."""

Outcome = tuple[Unit, UnitResult | Crash]
Engine = Callable[[ScanConfig, Sequence[Unit]], Generator[Outcome, None, None]]
"""Scans row groups, in any order. It may change the current directory until the first is done."""

_MODEL_FILES = (CONFIG_FILE, TOKENIZER_FILE, *ONNX_FILES.values(), ROUTER_FILE)
_PACKAGES = ("starencoder", "pyarrow", "onnxruntime", "onnxruntime-gpu", "tokenizers", "numpy")
_MOST_JOINS = 2
"""Shards that wait to be joined; more would let their parts pile up on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a scan has to do."""

    config: ScanConfig
    inputs: tuple[str, ...]
    """As they were given."""
    shards: Mapping[str, Shard]
    """By their place in the output, in the order of the inputs."""
    unreadable: Mapping[str, str]
    """Shards that cannot be scanned, and why."""
    spans: Mapping[str, Shard]
    """With `from_spans`: the shard that holds the spans, by the place in the output."""
    limits: Mapping[str, Sequence[int]]
    """With a limit: rows to scan of each row group."""

    @property
    def rows(self) -> int:
        """Rows of the shards, those beyond a limit among them: all of them are read."""
        return sum(sum(shard.rows) for shard in self.shards.values())

    @property
    def text_bytes(self) -> int:
        """Bytes of the texts to scan, as the footers count them."""
        return sum(
            self.text_bytes_of(relative, group, rows)
            for relative in self.shards
            for group, rows in enumerate(self.rows_to_scan(relative))
        )

    def text_bytes_of(self, relative: str, group: int, rows: int) -> int:
        """The share of some rows in the texts of a row group."""
        shard = self.shards[relative]
        return shard.text_bytes[group] * rows // max(1, shard.rows[group])

    def rows_to_scan(self, relative: str) -> Sequence[int]:
        """Of each row group of a shard."""
        return self.limits.get(relative) or self.shards[relative].rows

    def units(self) -> Iterator[Unit]:
        """All row groups, in order; where their parts go is not said yet."""
        for relative, shard in self.shards.items():
            limits = self.limits.get(relative)
            for group in range(len(shard.rows)):
                yield Unit(
                    file=shard.file,
                    group=group,
                    spans=self.spans[relative].file if relative in self.spans else None,
                    limit=limits[group] if limits else None,
                )


@dataclass(frozen=True, slots=True)
class Account:
    """What a scan has done, earlier runs included."""

    tally: Tally
    shards: int
    """Finished."""
    problems: Mapping[str, str]
    """Shards that could not be finished, and why."""
    manifest: Path


def plan_scan(inputs: Sequence[str], config: ScanConfig) -> Plan:
    """See what there is to do.

    Raises:
        ConfigError: No shard is found, or none can be scanned.
        DataError, MissingExtraError: See `find_shards`.
    """
    files = find_shards(inputs)
    shards: dict[str, Shard] = {}
    unreadable: dict[str, str] = {}
    for file, shard in read_shards(
        files,
        config.columns,
        needs_languages=bool(config.languages),
        may_have_spans=bool(config.from_spans),
    ):
        if isinstance(shard, Shard):
            shards[file.relative] = shard
        else:
            unreadable[file.relative] = str(shard)
    if not shards:
        file = files[0]
        raise ConfigError(
            f"{shown_path(file.address)}: {unreadable[file.relative]}"
            + (f" (nor can the other {len(files) - 1} be scanned)" if len(files) > 1 else "")
        )
    spans = _find_spans(shards, unreadable, config) if config.from_spans else {}
    limits: dict[str, list[int]] = {}
    if config.limit is not None:
        left = config.limit
        for relative in list(shards):
            if not left:
                del shards[relative]
                continue
            own: list[int] = []
            for rows in shards[relative].rows:
                own.append(min(rows, left))
                left -= own[-1]
            limits[relative] = own
    return Plan(
        config=config,
        inputs=tuple(inputs),
        shards=shards,
        unreadable=unreadable,
        spans=spans,
        limits=limits,
    )


def _find_spans(
    shards: dict[str, Shard], unreadable: dict[str, str], config: ScanConfig
) -> dict[str, Shard]:
    """The shards of an earlier scan that belong to some; those without one are unreadable."""
    _check_annotation(config)
    files = find_shards([config.from_spans])
    found: dict[str, Shard] = {}
    names = ColumnNames(text=config.columns.text)
    wanted = [file for file in files if file.relative in shards]
    for file, shard in read_shards(wanted, names, may_have_spans=True):
        rows = shards[file.relative].rows
        if isinstance(shard, Shard) and shard.has_spans and shard.rows == rows:
            found[file.relative] = shard
    for relative in [name for name in shards if name not in found]:
        unreadable[relative] = f"no shard with spans of the same rows in {config.from_spans}"
        del shards[relative]
    if not shards:
        raise ConfigError(
            f"{config.from_spans}: has no shard with spans of the same rows as one of the inputs; "
            "expected the output of starencoder scan --mode annotate of the same inputs"
        )
    return found


def _check_annotation(config: ScanConfig) -> None:
    """Refuse the spans of a scan that redacted, or read another column.

    Shards that lie in no scan's directory, which others have put together, do not say.
    """
    address = config.from_spans.removeprefix("file://")
    if "://" in address:
        return
    folder = Path(address).absolute()
    scans = [path for path in (folder, *folder.parents) if is_scan(path)]
    made = read_run(scans[0]).get("config") if scans else None
    if not isinstance(made, dict):
        return
    if made.get("mode") != "annotate":
        raise ConfigError(
            f"{config.from_spans}: holds redacted texts, which its spans are none of; expected the "
            "output of starencoder scan --mode annotate"
        )
    column = made["columns"]["text"]
    if column != config.columns.text:
        raise ConfigError(
            f"{config.from_spans}: its spans are those of the column {column}, not of "
            f"{config.columns.text}; give --text-column {column}, or annotate the other column"
        )


def describe_run(plan: Plan) -> dict[str, object]:
    """What the output depends on, as JSON objects."""
    config = asdict(plan.config)
    del config["model"], config["from_spans"]  # the same ones may lie elsewhere
    return {
        "format": FORMAT,
        "config": config,
        "config_hash": _hash_json(config),
        "model_hash": model_hash(plan.config),
        "spans_hash": _hash_json(
            {relative: [shard.file.size, shard.footer] for relative, shard in plan.spans.items()}
        )
        if plan.spans
        else "none",
        "versions": package_versions(),
        "inputs": [
            {
                "shard": relative,
                "size": shard.file.size,
                "footer": shard.footer,
                "rows": sum(shard.rows),
                "row_groups": len(shard.rows),
            }
            for relative, shard in plan.shards.items()
        ]
        # They may be read later; under a limit, other rows would be scanned then.
        + [
            {"shard": relative, "size": 0, "footer": None, "rows": 0, "row_groups": 0}
            for relative in (plan.unreadable if plan.config.limit is None else ())
        ],
    }


def model_hash(config: ScanConfig) -> str:
    """What tells a model from others, wherever it lies."""
    if config.from_spans:
        return "spans"
    if config.model == "none":
        return "none"
    return _hash_files(model_folder(config.model), _MODEL_FILES)


def _hash_json(values: Mapping[str, object]) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _hash_files(folder: Path, names: Sequence[str]) -> str:
    """SHA-256 over files of a folder, by name and content; those that are missing are left out."""
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        if path.is_file():
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Versions, on this machine, of what the output may depend on."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def local_engine(
    jobs: int,
    predict: Predict | None = None,
    *,
    say: Callable[[str], object] = lambda message: None,
) -> Engine:
    """Processes on this machine; one job: this process.

    Args:
        jobs: Their number.
        predict: See `UnitScanner`; it is pickled.
        say: Told of each row group that has to be scanned again, and why.
    """

    def run(config: ScanConfig, units: Sequence[Unit]) -> Generator[Outcome, None, None]:
        start = functools.partial(UnitScanner, config, predict)
        crashed = []
        # In any order: what is finished is in the journal at once, whatever happens next.
        with closing(run_unordered(start, units, jobs=jobs)) as results:
            for index, result in results:
                if isinstance(result, Crash):
                    unit = units[index]
                    say(
                        f"{shown_path(unit.file.relative)}: row group {unit.group} is scanned "
                        f"again: {result.reason}"
                    )
                    crashed.append(unit)
                else:
                    yield units[index], result
        # Again, each alone: what ran out of memory beside others may not do so then.
        for unit in crashed:
            # One job would be this process, which must not die of it.
            with closing(run_unordered(start, [unit], jobs=2)) as results:
                yield unit, next(results)[1]

    return run


def scan(
    plan: Plan,
    output: Path,
    engine: Engine,
    *,
    on_progress: Callable[[Tally], object] = lambda tally: None,
) -> Account:
    """Scan what is not done yet.

    Args:
        plan: What to do.
        output: The output directory.
        engine: Runs the units.
        on_progress: Called with what was counted, first in all that an earlier run has done, then
            in each row group.

    Raises:
        ConfigError: The directory holds something else than this scan's output, or lies in an
            input.
        OutputError: It cannot be written, or another scan writes to it.
    """
    local = (path.removeprefix("file://") for path in plan.inputs)
    check_outputs([output], [Path(path) for path in local if "://" not in path], folders=True)
    with closing(ScanDirectory(output)) as directory:
        directory.begin(describe_run(plan))
        return _Driver(plan, directory, on_progress).run(engine)


class _Driver:
    """Hands out the units and joins the parts of shards whose units are all done."""

    def __init__(
        self, plan: Plan, directory: ScanDirectory, on_progress: Callable[[Tally], object]
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._on_progress = on_progress
        self._relative = {shard.file: relative for relative, shard in plan.shards.items()}
        self._units, self._finished = directory.done(plan.shards)
        self._problems = dict(plan.unreadable)
        self._joins: deque[tuple[str, Future[DoneShard]]] = deque()

    def run(self, engine: Engine) -> Account:
        """Scan, join and give the account."""
        config, directory = self._plan.config, self._directory
        directory.append("start", units=sum(len(s.rows) for s in self._plan.shards.values()))
        for relative, problem in self._plan.unreadable.items():
            directory.append("problem", shard=relative, problem=problem)
        earlier = Tally()
        for tally in [
            *(shard.tally for shard in self._finished.values()),
            *(unit.tally for unit in self._units.values()),
        ]:
            earlier.add(tally)
        self._on_progress(earlier)
        units = list(self._pending())
        pending = {self._relative[unit.file] for unit in units}
        complete = [x for x in self._plan.shards if x not in pending and x not in self._finished]
        for relative in self._finished:
            directory.remove_parts(relative)
        with ThreadPoolExecutor(1) as joiner:
            if units:
                with closing(engine(config, units)) as outcomes:
                    for unit, outcome in outcomes:
                        self._take(unit, outcome, joiner)
            # Not before the units: as they begin, an engine may change the current directory.
            for relative in complete:
                self._join_if_done(relative, joiner)
            while self._joins:
                self._take_join()
        return self._account()

    def _pending(self) -> Iterator[Unit]:
        for unit in self._plan.units():
            relative = self._relative[unit.file]
            if relative not in self._finished and (relative, unit.group) not in self._units:
                part = self._directory.part(relative, unit.group)
                yield replace(unit, part=str(part))

    def _take(self, unit: Unit, outcome: UnitResult | Crash, joiner: ThreadPoolExecutor) -> None:
        relative = self._relative[unit.file]
        if isinstance(outcome, Crash) or outcome.problem:
            problem = outcome.reason if isinstance(outcome, Crash) else outcome.problem
            self._fail(relative, f"row group {unit.group}: {problem}")
            return
        self._directory.append(
            "unit",
            shard=relative,
            group=unit.group,
            seconds=round(outcome.seconds, 4),
            part_bytes=outcome.part_bytes,
            tally=outcome.tally.to_json(),
        )
        self._units[relative, unit.group] = DoneUnit(outcome.tally, outcome.part_bytes)
        self._on_progress(outcome.tally)
        self._join_if_done(relative, joiner)

    def _fail(self, relative: str, problem: str) -> None:
        self._problems.setdefault(relative, problem)
        self._directory.append("problem", shard=relative, problem=problem)

    def _join_if_done(self, relative: str, joiner: ThreadPoolExecutor) -> None:
        shard = self._plan.shards[relative]
        if all((relative, group) in self._units for group in range(len(shard.rows))):
            self._joins.append((relative, joiner.submit(self._join, relative)))
        while len(self._joins) > _MOST_JOINS or (self._joins and self._joins[0][1].done()):
            self._take_join()

    def _join(self, relative: str) -> DoneShard:
        """Write a shard's output; runs beside the units."""
        shard = self._plan.shards[relative]
        parts = [self._directory.part(relative, group) for group in range(len(shard.rows))]
        if not parts:
            parts = [self._directory.part(relative, 0)]
            with open_row_groups(shard.file) as opened:
                schema = output_schema(opened.schema_arrow)
            with write_part(parts[0], schema):
                pass
        sha256 = hash_file(shard.file)
        size = write_shard(parts, self._directory.output(relative), self._plan.config.columns.text)
        tally = Tally()
        for group in range(len(shard.rows)):
            tally.add(self._units[relative, group].tally)
        return DoneShard(tally, sha256, size)

    def _take_join(self) -> None:
        relative, join = self._joins.popleft()
        try:
            done = join.result()
        except Unreadable as error:
            self._fail(relative, str(error))
            return
        self._directory.append(
            "shard",
            shard=relative,
            sha256=done.sha256,
            output_bytes=done.output_bytes,
            tally=done.tally.to_json(),
        )
        self._finished[relative] = done
        for group in range(len(self._plan.shards[relative].rows)):
            del self._units[relative, group]
        self._directory.remove_parts(relative)

    def _account(self) -> Account:
        """Check the rows of every output, count, and write the manifest."""
        tally = Tally()
        inputs = []
        for relative, shard in self._plan.shards.items():
            done = self._finished.get(relative)
            if done is None:
                self._problems.setdefault(
                    relative, "not all of its row groups came back; run again"
                )
                continue
            self._check_rows(relative, shard, done)
            tally.add(done.tally)
            inputs.append(
                {
                    "shard": relative,
                    "size": shard.file.size,
                    "sha256": done.sha256,
                    "rows": done.tally.rows_in,
                    "row_groups": len(shard.rows),
                    "output_rows": done.tally.rows_out,
                    "output_bytes": done.output_bytes,
                }
            )
        manifest = self._directory.write_manifest(
            {
                **describe_run(self._plan),
                "inputs": inputs,
                **tally.to_json(),
                "problems": dict(sorted(self._problems.items())),
            }
        )
        return Account(tally, len(inputs), dict(self._problems), manifest)

    def _check_rows(self, relative: str, shard: Shard, done: DoneShard) -> None:
        path = self._directory.output(relative)
        with path.open("rb") as file:
            rows = parquet.read_metadata(file).num_rows
        tally = done.tally
        left_out = tally.not_scanned[NOT_SELECTED] if self._plan.config.drop_unselected else 0
        if not sum(shard.rows) == tally.rows_in == rows + left_out or rows != tally.rows_out:
            raise DataError(
                f"{shown_path(path)}: has {rows} rows, {left_out} were left out, the shard has "
                f"{sum(shard.rows)}; please report this, and delete the file to have it made again"
            )
