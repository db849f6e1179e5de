"""The engine of a scan on a Ray cluster: the same units, on actors that come and go.

Every node reads the inputs and writes parts to the output directory, which all of them see at the
same path; the process that scans joins the parts. Units and counts go through Ray, texts do not.

An actor holds a loaded scanner and has one unit at a time. Actors are asked for as long as units
wait, so that a cluster that grows is used and an autoscaler sees what is wanted. When an actor or
its node dies, its unit goes to another one.
"""

import contextlib
import os
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from export.cuda import CUDA, cuda_predict
from export.row_groups import Unit, UnitResult, UnitScanner
from export.scan import Engine, Outcome, model_hash, package_versions
from export.scan_dir import SCAN_FOLDER
from export.scanner import ScanConfig
from export.shards import ShardFile, stat_shard
from pii.detect import model_folder
from pii.workers import Crash, handled
from starencoder.errors import ConfigError, StarEncoderError, reason_of
from starencoder.files import write_whole
from starencoder.text import counted

Start = Callable[[ScanConfig], Callable[[Unit], UnitResult]]
"""Makes, on a node, what scans a unit."""

_MOST_TRIES = 3
"""Of a unit, each on another actor."""
_MOST_STARTING = 16
"""Actors that are asked for at once: what an autoscaler sees of the work."""
_MOST_BAD_STARTS = 5
"""Actors in a row that die before they are ready."""
_SECONDS_TO_CONNECT = 10.0
_SECONDS_TO_WAIT = 1.0
_SECONDS_BETWEEN_MESSAGES = 30.0
_STORE_BYTES = 100_000_000
"""Of Ray's object store on this machine: little goes through it."""
_TOKEN_FILE = "token"


def _open_scanner(config: ScanConfig) -> UnitScanner:
    """In an actor: on a GPU, which Ray shows it as the first, it has a session of its own."""
    on_gpu = config.device == CUDA
    return UnitScanner(config, cuda_predict(model_folder(config.model), 0) if on_gpu else None)


def ray_engine(
    output: Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    start: Start = _open_scanner,
    say: Callable[[str], object] = lambda message: None,
) -> Engine:
    """Actors on a Ray cluster, which is joined, or started on this machine, for the units' time.

    What is printed to stdout meanwhile is dropped: Ray prints there what is in its logs too. As
    the units begin, no other thread may look up a relative path.

    Args:
        output: The scan's output directory.
        address: `auto` (the cluster that runs on this machine, or RAY_ADDRESS), host:port, or
            `local` (start one); None: `auto` if there is one, else `local`.
        workers: Actors at a time; None: as many as there is room for.
        cpus: CPUs that Ray sets aside for each.
        gpus: GPUs that each gets; may be a part of one.
        start: Makes what scans a unit; pickled.
        say: Called with what the user may want to know: units that are tried again, and waiting.

    Raises:
        ConfigError: Nobody listens at the address. As the units begin: there is no cluster, or it
            has another version of Ray or Python.
    """
    flag = "--ray-address"
    if address in (None, "auto") and os.environ.get("RAY_ADDRESS"):
        flag, address = "RAY_ADDRESS", os.environ["RAY_ADDRESS"]
    if address not in (None, "auto", "local"):
        _check_reachable(flag, address)

    def run(config: ScanConfig, units: Sequence[Unit]) -> Generator[Outcome, None, None]:
        with (
            Path(os.devnull).open("w") as dropped,
            contextlib.redirect_stdout(dropped),
            _connected(flag, address, say),
            _shared_token(output) as token,
        ):
            named = config.model in ("tiny", "none")
            job = _Job(
                config=config if named else replace(config, model=_absolute(config.model)),
                start=start,
                token_file=token,
                token=token.read_text(),
                versions=package_versions(),
                model=model_hash(config),
                sample=_first_readable(units),
            )
            options = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
            yield from _Run(job, units, options, workers, say).outcomes()

    return run


@contextlib.contextmanager
def _sigterm_held() -> Iterator[None]:
    """SIGTERM waits for the end of the context: Ray swallows what its handler raises."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if held:
        signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def _connected(flag: str, address: str | None, say: Callable[[str], object]) -> Iterator[None]:
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        # Ray adds the current directory to where workers look for modules: it may be hostile.
        with contextlib.chdir(os.sep):
            if address is None:
                try:
                    _init(address="auto")
                except ConnectionError:
                    say("no Ray cluster runs here: starting one on this machine")
                    address = "local"
            if address == "local":
                _init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES)
            elif address is not None:
                _init(address=address)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ConfigError(f"{flag} {address}: {reason}") from error
    except SystemExit:  # Ray's own answer to SIGTERM
        signal.signal(signal.SIGTERM, on_sigterm)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        if signal.getsignal(signal.SIGTERM) is not on_sigterm:  # Ray has set its own
            signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(flag: str, address: str) -> None:
    """Refuse an address where nobody listens, for which Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"{flag} {address}: expected auto, local or host:port (Ray's client mode, ray://, is "
            "not supported: run the scan on a node of the cluster)"
        )
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise ConfigError(
            f"{flag} {address}: no Ray cluster answers there ({reason_of(error)}); start it with: "
            "ray start --head"
        ) from error


def _init(**arguments: Any) -> None:  # noqa: ANN401 - Ray's own
    ray.init(log_to_driver=False, logging_level="error", **arguments)


def _first_readable(units: Sequence[Unit]) -> ShardFile | None:
    for unit in units:
        with contextlib.suppress(OSError):
            stat_shard(unit.file)
            return _placed(unit).file
    return None


@contextlib.contextmanager
def _shared_token(output: Path) -> Iterator[Path]:
    """A file by which a node tells that it sees the output directory."""
    path = output.absolute() / SCAN_FOLDER / _TOKEN_FILE
    write_whole(path, secrets.token_hex(16).encode())
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _absolute(address: str) -> str:
    """As it is called from any current directory."""
    # Links are not followed: they may lead elsewhere on another machine.
    return address if "://" in address else str(Path(address).absolute())


def _placed(unit: Unit) -> Unit:
    """A unit for another process, on another machine."""
    spans = unit.spans
    return replace(
        unit,
        file=replace(unit.file, address=_absolute(unit.file.address)),
        spans=spans and replace(spans, address=_absolute(spans.address)),
        part=_absolute(unit.part),
    )


# --------------------------------------------------------------------------------------------------
# On the nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What an actor has to know before its first unit."""

    config: ScanConfig
    start: Start
    token_file: Path
    token: str
    versions: dict[str, str]
    model: str
    sample: ShardFile | None
    """A shard that every node must see."""


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    """As Ray has it."""
    address: str


class _Worker:
    """An actor. Errors are its answers: what it raises comes wrapped by Ray."""

    def start(self, job: _Job) -> _Node | StarEncoderError:
        """Load what scans; say where."""
        self._node = _Node(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address())
        try:
            _check_node(job)
            self._scan = job.start(job.config)
        except StarEncoderError as error:
            return self._named(error)
        return self._node

    def scan(self, unit: Unit) -> UnitResult | Crash | StarEncoderError:
        """Scan a row group."""
        try:
            return handled(self._scan, unit)
        except StarEncoderError as error:
            return self._named(error)

    def _named(self, error: StarEncoderError) -> StarEncoderError:
        return type(error)(f"node {self._node.address}: {error}")


def _check_node(job: _Job) -> None:
    """Refuse a node whose results would be lost, or would differ."""
    try:
        why = "" if job.token_file.read_text() == job.token else "another directory is there"
    except OSError as error:
        why = reason_of(error)
    if why:
        raise ConfigError(
            f"{job.token_file.parents[1]}: not the directory that the scan writes to ({why}); "
            "every node must see it at the same path, as on a shared file system"
        )
    here = package_versions()
    del here["python"]  # Ray has compared it
    differing = [
        f"{name} {version} (here: {job.versions.get(name)})"
        for name, version in here.items()
        if version != job.versions.get(name)
    ]
    if differing:
        raise ConfigError(
            f"has {', '.join(differing)}; install the same versions on every node, as the output "
            "may depend on them"
        )
    if model_hash(job.config) != job.model:
        raise ConfigError(
            f"{job.config.model}: not the same model as here; every node needs it, at the same path"
        )
    if job.sample is not None:
        try:
            stat_shard(job.sample)
        except OSError as error:
            raise ConfigError(
                f"{job.sample.address}: cannot be read ({reason_of(error)}); every node must see "
                "the inputs, at the same path"
            ) from error


# --------------------------------------------------------------------------------------------------
# Here


@dataclass(slots=True, eq=False)
class _Actor:
    handle: Any
    bad_starts: int
    """That it was asked for after: those of one moment, as when a node dies, count once."""
    node: _Node | None = None
    """None: not ready yet."""


@dataclass(slots=True, eq=False)
class _Task:
    unit: Unit
    """As it was given."""
    failures: list[_Node] = field(default_factory=list)
    """Where it was tried."""


class _Run:
    """Units on actors, until all have an outcome."""

    def __init__(
        self,
        job: _Job,
        units: Sequence[Unit],
        options: dict[str, object],
        workers: int | None,
        say: Callable[[str], object],
    ) -> None:
        self._job = job
        self._options = options
        self._most = len(units) if workers is None else workers
        self._say = say
        self._new = deque(map(_Task, units))
        self._again: list[_Task] = []
        self._starting: dict[ray.ObjectRef, _Actor] = {}
        self._idle: list[_Actor] = []
        self._working: dict[ray.ObjectRef, tuple[_Actor, _Task]] = {}
        self._bad_starts = 0
        self._told = time.monotonic()

    def outcomes(self) -> Generator[Outcome, None, None]:
        """The outcome of each unit, as they come."""
        try:
            while self._new or self._again or self._working:
                self._hand_out()
                self._ask_for_actors()
                self._tell_if_waiting()
                references = [*self._working, *self._starting]
                with _sigterm_held():
                    ready, _ = ray.wait(references, num_returns=1, timeout=_SECONDS_TO_WAIT)
                    answers = [(reference, _answer(reference)) for reference in ready]
                for reference, answer in answers:
                    if reference in self._starting:
                        self._take_actor(self._starting.pop(reference), answer)
                    else:
                        yield from self._take_result(*self._working.pop(reference), answer)
        finally:
            actors = [actor for actor, _ in self._working.values()]
            for actor in [*actors, *self._idle, *self._starting.values()]:
                _end(actor)

    def _hand_out(self) -> None:
        """Give waiting units to actors; those for which there is none go."""
        for actor in list(self._idle):
            task = self._next_for(actor)
            if task is not None:
                self._idle.remove(actor)
                reference = actor.handle.scan.remote(_placed(task.unit))
                self._working[reference] = (actor, task)
            elif not self._again:  # else it may be needed for one of these
                self._idle.remove(actor)
                _end(actor)

    def _next_for(self, actor: _Actor) -> _Task | None:
        """A unit for an actor; those that failed on its node wait for another if there is one."""
        ready = [*(other for other, _ in self._working.values()), *self._idle]
        elsewhere = {other.node for other in ready} - {actor.node}
        for task in self._again:
            if actor.node not in task.failures:
                self._again.remove(task)
                return task
        if self._new:
            return self._new.popleft()
        for task in self._again:
            if elsewhere <= set(task.failures):
                self._again.remove(task)
                return task
        return None

    def _ask_for_actors(self) -> None:
        waiting = len(self._new) + len(self._again)
        room = self._most - len(self._working) - len(self._idle)
        wanted = min(waiting - len(self._idle), room, _MOST_STARTING)
        while len(self._starting) > max(0, wanted):
            _end(self._starting.popitem()[1])
        for _ in range(wanted - len(self._starting)):
            actor = _Actor(ray.remote(_Worker).options(**self._options).remote(), self._bad_starts)
            self._starting[actor.handle.start.remote(self._job)] = actor

    def _tell_if_waiting(self) -> None:
        now = time.monotonic()
        if self._working or self._idle:
            self._told = now
        elif now - self._told >= _SECONDS_BETWEEN_MESSAGES:
            self._told = now
            there = ray.cluster_resources()
            self._say(
                "waiting for room on the Ray cluster: "
                f"{counted(len(self._new) + len(self._again), 'row group')}; a worker takes "
                f"{_resources(self._options['num_cpus'], self._options['num_gpus'])}"
                f", the cluster has {_resources(there.get('CPU', 0), there.get('GPU', 0))} in all"
            )

    def _take_actor(self, actor: _Actor, answer: _Node | StarEncoderError | RayError) -> None:
        if isinstance(answer, StarEncoderError):
            raise answer
        if isinstance(answer, RayTaskError):
            raise RuntimeError(f"in a worker:\n{answer}")
        if isinstance(answer, RayActorError) and answer.actor_init_failed:
            raise ConfigError(
                f"a node of the Ray cluster cannot load starencoder ({_last_line(answer)}); "
                "install the same version with its extra ray on every node"
            )
        if isinstance(answer, RayError):
            self._bad_starts = max(self._bad_starts, actor.bad_starts + 1)
            if self._bad_starts == _MOST_BAD_STARTS:
                raise ConfigError(
                    f"{_MOST_BAD_STARTS} workers in a row were lost before they could start; "
                    f"of the last, {_death(answer)}; see Ray's logs"
                ) from answer
            return
        self._bad_starts = 0
        actor.node = answer
        self._idle.append(actor)

    def _take_result(
        self,
        actor: _Actor,
        task: _Task,
        answer: UnitResult | Crash | StarEncoderError | RayError,
    ) -> Iterator[Outcome]:
        if isinstance(answer, StarEncoderError):
            _end(actor)
            raise answer
        if isinstance(answer, RayError):
            answer = Crash(f"the worker that read it was lost: {_death(answer)}")
        if not isinstance(answer, Crash):
            self._idle.append(actor)
            yield task.unit, answer
            return
        _end(actor)  # if it lives: what failed once, such as a GPU, may fail again
        assert actor.node is not None
        task.failures.append(actor.node)
        reason, _, details = answer.reason.partition("\n")
        reason = f"{reason} (try {len(task.failures)} of {_MOST_TRIES}, node {actor.node.address})"
        if len(task.failures) == _MOST_TRIES:
            yield task.unit, Crash(f"{reason}\n{details}".rstrip())
        else:
            self._again.append(task)
            self._say(f"{task.unit.file.relative}: row group {task.unit.group}: {reason}")


def _answer(reference: "ray.ObjectRef") -> Any:  # noqa: ANN401 - whatever the actor's method gives
    """What an actor's method gave, or why it did not."""
    try:
        return ray.get(reference)
    except RayError as error:
        return error


def _last_line(error: RayError) -> str:
    return str(error).strip().rpartition("\n")[2]


def _end(actor: _Actor) -> None:
    with contextlib.suppress(RayError):
        ray.kill(actor.handle)


def _resources(cpus: object, gpus: object) -> str:
    return f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")


def _death(error: RayError) -> str:
    """Why an actor is lost, without the names and the advice that Ray puts around it."""
    text = str(error)
    if isinstance(error, ActorUnavailableError):
        return "its node cannot be reached"
    if "its node has died" in text or "node was terminated" in text:
        return "its node died"
    if "connection error code" in text:
        return "it was killed or crashed, perhaps out of memory"
    detail = text.rpartition("Worker exit detail: ")[2]
    return " ".join(line.strip() for line in detail.splitlines() if line[:1] != "\t").rstrip(".")
