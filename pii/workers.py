"""Tasks over several processes, results in the order of the tasks.

Unlike the standard pools: a worker that dies (out of memory, a crash in native code) and a handler
that fails cost the one task they were at, which is named; workers end when the parent is gone,
however it went; and an interrupted parent leaves none behind.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Generic, TypeVar

from starencoder.errors import StarEncoderError

if TYPE_CHECKING:
    import multiprocessing.process

Task = TypeVar("Task")
Result = TypeVar("Result")

_SECONDS_TO_STOP = 5.0

_MOST_LOST_STARTS = 3
"""Of all workers together: one that is killed while it starts has no task that it could cost."""

_STARTING = threading.RLock()
"""Held while the environment is changed for a process that starts."""


@dataclass(frozen=True, slots=True)
class Crash:
    """In place of a result: the worker died at this task, or failed."""

    reason: str
    """Holds nothing of the task. Its first line says what happened; a traceback may follow."""

    @staticmethod
    def of_exit(code: int) -> "Crash":
        """Of a worker that died; `code` is as `multiprocessing` has it, negative for a signal."""
        if code >= 0:
            return Crash(f"the process that read it ended with code {code}")
        name = signal.Signals(-code).name
        hint = ", perhaps out of memory" if name == "SIGKILL" else ""
        return Crash(f"the process that read it was killed by {name}{hint}")

    @staticmethod
    def of_error(error: Exception) -> "Crash":
        """Of a handler that failed; the error's own message might quote what it failed at."""
        frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
        return Crash(f"internal error, please report it: {type(error).__name__}\n{frames}")


@dataclass(frozen=True, slots=True)
class _Failure:
    error: BaseException


def default_jobs() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_ordered(
    start: Callable[[], Callable[[Task], Result]],
    tasks: Sequence[Task],
    *,
    jobs: int,
    first: Sequence[int] = (),
) -> Generator[Result | Crash, None, None]:
    """Handle tasks, in this process for one job, else in `jobs` new ones.

    Args:
        start: Called once in each process; returns what handles a task. Both are pickled.
        tasks: Pickled one by one.
        jobs: Number of processes.
        first: Indices of tasks that several processes take before all others, in this order: long
            ones, which taken last would leave the other processes idle.

    Yields:
        The results in the order of the tasks.

    Raises:
        StarEncoderError: Whatever of it a handler raised; any other error becomes a `Crash`.
        RuntimeError: The handler could not be made, with the worker's traceback.
    """
    done: dict[int, Result | Crash] = {}
    upcoming = 0
    with contextlib.closing(run_unordered(start, tasks, jobs=jobs, first=first)) as results:
        for index, result in results:
            done[index] = result
            while upcoming in done:
                yield done.pop(upcoming)
                upcoming += 1


def run_unordered(
    start: Callable[[], Callable[[Task], Result]],
    tasks: Sequence[Task],
    *,
    jobs: int,
    first: Sequence[int] = (),
) -> Generator[tuple[int, Result | Crash], None, None]:
    """Like `run_ordered`, but each result as soon as it is there, with the index of its task."""
    if jobs == 1:
        handle = start()
        for index, task in enumerate(tasks):
            yield index, handled(handle, task)
        return
    pool = _Pool(start, tasks, first)
    try:
        pool.add_workers(min(jobs, len(tasks)))
        left = len(tasks)
        while left:
            for index, result in pool.next_results():
                left -= 1
                yield index, result
    finally:
        pool.stop()


class _Pool(Generic[Task, Result]):
    def __init__(
        self,
        start: Callable[[], Callable[[Task], Result]],
        tasks: Sequence[Task],
        first: Sequence[int],
    ) -> None:
        import multiprocessing

        self._context = multiprocessing.get_context("spawn")
        self._start = start
        self._tasks = tasks
        self._upcoming = deque(first)
        taken = frozenset(first)
        self._upcoming.extend(index for index in range(len(tasks)) if index not in taken)
        self._lost_starts = 0
        self._workers: dict[Connection, tuple[multiprocessing.process.BaseProcess, int | None]] = {}

    def add_workers(self, count: int) -> None:
        with _interrupts_held():
            for _ in range(count):
                ours, theirs = self._context.Pipe()
                process = start_process(_work, (theirs, self._start))
                theirs.close()
                self._workers[ours] = (process, None)

    def next_results(self) -> Iterator[tuple[int, Result | Crash]]:
        """Wait for news from the workers and give them their next tasks."""
        from multiprocessing.connection import wait

        failure: BaseException | None = None
        for connection in wait(list(self._workers)):
            assert isinstance(connection, Connection)
            process, index = self._workers[connection]
            try:
                message = connection.recv()
            except (EOFError, ConnectionError):
                process.join(_SECONDS_TO_STOP)
                del self._workers[connection]
                code = process.exitcode or 0
                if index is None:
                    self._lost_starts += 1
                    if self._lost_starts > _MOST_LOST_STARTS:
                        raise RuntimeError(f"a worker could not start: code {code}") from None
                    self.add_workers(1)
                    continue
                if self._upcoming:
                    self.add_workers(1)
                yield index, Crash.of_exit(code)
                continue
            if isinstance(message, _Failure):
                failure = message.error
                continue
            self._give_next(connection)
            if index is not None:
                yield index, message
        if failure is not None:  # last: what others have finished must not be lost
            raise failure

    def _give_next(self, connection: Connection) -> None:
        process, _ = self._workers[connection]
        if not self._upcoming:
            connection.close()
            del self._workers[connection]
            process.join(_SECONDS_TO_STOP)
            return
        index = self._upcoming.popleft()
        self._workers[connection] = (process, index)
        with contextlib.suppress(ConnectionError):  # it died: the next wait finds out
            connection.send(self._tasks[index])

    def stop(self) -> None:
        for process, _ in self._workers.values():
            process.terminate()
        for process, _ in self._workers.values():
            process.join(_SECONDS_TO_STOP)
            if process.exitcode is None:
                process.kill()
                process.join()
        self._workers.clear()


def start_process(
    target: Callable[..., object], arguments: tuple[object, ...]
) -> "multiprocessing.process.BaseProcess":
    """Start a new interpreter that calls `target`; it ends with this process at the latest."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(
        target=target, args=arguments, daemon=True
    )
    with _safe_path(), _interrupts_held():
        process.start()
    return process


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """A starting worker looks for no modules in the current directory.

    It may be the tree that is scanned, and hostile: its `multiprocessing.py` would run. Once a
    worker has started, it has its parent's search path.
    """
    with _STARTING:
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ["PYTHONSAFEPATH"]
            else:
                os.environ["PYTHONSAFEPATH"] = before


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A Ctrl-C waits: a starting worker must not get it before it can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # It would let interrupts through again if it were started below. It is a process too.
    with _safe_path():
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def handled(handle: Callable[[Task], Result], task: Task) -> Result | Crash:
    """Handle a task; an error that is none of ours becomes a `Crash`.

    Raises:
        StarEncoderError: Whatever of it the handler raised.
    """
    try:
        return handle(task)
    except StarEncoderError:
        raise
    except Exception as error:  # a bug must not cost the other tasks
        return Crash.of_error(error)


def _work(connection: Connection, start: Callable[[], Callable[[Task], Result]]) -> None:
    # Ctrl-C reaches the whole process group; the parent decides and sends SIGTERM, upon which
    # this unwinds, so that temporary files go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        handle = start()
        connection.send(None)
        while True:
            connection.send(handled(handle, connection.recv()))
    except (EOFError, ConnectionError):
        return  # the parent has no more tasks, or is gone
    except Exception as error:
        known = isinstance(error, StarEncoderError)
        sent = error if known else RuntimeError(f"in a worker:\n{traceback.format_exc()}")
        with contextlib.suppress(ConnectionError):
            connection.send(_Failure(sent))
