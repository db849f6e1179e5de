"""A tagger on GPUs: one server process for each, which the workers of a scan send their chunks to.

worker: `ServedModel` (a predict callable) -- chunks --> server: `BatchQueue` -> padded batch ->
runner -> float16 probabilities -- rows of its chunks --> worker.

The driver starts the servers (`serve_model`) and watches them. One that dies, fails or hangs is
started again once; then the scan stops, with all finished row groups kept. A server ends with the
driver; a worker that dies costs it nothing.

What a chunk gets does not depend on the other chunks, on how they are spread over workers or
servers, or on timing, as far as this module goes: every length has one shape of batch (see
`export.batching`). On a GPU that leaves the library's kernels, which are chosen by the shape; rows
of a batch should be computed alike whatever their place (docs/gpu.md, Measured). Two exceptions:
after a batch ran out of memory its shape has half the rows, and GPUs of different kinds in one run
compute differently; either can change last bits.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import AuthenticationError, Pipe, current_process, parent_process
from multiprocessing.connection import Client, Connection, Listener, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from export.batching import (
    BatchPlan,
    BatchQueue,
    Runner,
    Waiting,
    flatten,
    make_request,
    run_batch,
    unflatten,
)
from pii.tagger import Probs
from pii.workers import start_process
from starencoder.errors import DeviceError, OutputError, StarEncoderError
from starencoder.files import write_whole

_SECONDS_TO_START = 600.0
_SECONDS_TO_RUN = 300.0
"""For one batch; the first on a new kind of GPU may have its kernels compiled."""
_SECONDS_TO_END = 5.0
_SECONDS_BETWEEN_TRIES = 0.05
_HUNG = 75
"""Exit code of a server whose device has hung."""
_MOST_TRIES = 3
"""To have one request answered; each is one more server lost, or a bug."""

# --------------------------------------------------------------------------------------------------
# the server's process


def _serve(report: Connection, address: str, start: Callable[[], Runner], plan: BatchPlan) -> None:
    """Answer the workers' requests until the driver is gone or the runner fails.

    Args:
        report: Takes the runner's description when it is ready; an error if it is not.
        address: Where the workers connect to.
        start: Makes the runner; called in this process's main thread, which alone uses it.
        plan: How it is fed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    server = _Server(plan)
    threading.Thread(target=server.watch, args=(Path(address).parent,), daemon=True).start()
    try:
        runner = start()
        server.listen(address)
        report.send(_Ready(str(runner)))
        server.run(runner)
    except StarEncoderError as error:
        failure: StarEncoderError = error
    except Exception as error:  # a GPU fails in many ways
        reason = (str(error).splitlines() or ["no reason given"])[0]
        failure = DeviceError(f"{type(error).__name__}: {reason}")
    with contextlib.suppress(OSError):
        report.send(failure)
    # No clean-up: a GPU that has failed may not come back from it, and the workers wait.
    os._exit(1)


@dataclass(frozen=True, slots=True)
class _Ready:
    description: str


class _Server:
    def __init__(self, plan: BatchPlan) -> None:
        self._plan = plan
        self._waiting: Waiting = BatchQueue(plan.shapes)
        self._news = threading.Condition()
        self._busy_since: float | None = None
        """When the batch began that is computed."""

    def listen(self, address: str) -> None:
        listener = Listener(
            address, family="AF_UNIX", backlog=64, authkey=current_process().authkey
        )
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def run(self, runner: Runner) -> None:
        """Compute batches. Rows are handed out while the next one is computed."""
        with ThreadPoolExecutor(1) as pool:
            handing_out: Future[None] | None = None
            while True:
                if handing_out is not None and not self._waiting:
                    handing_out.result()  # should it have failed, nobody may wait for its rows
                with self._news:
                    self._news.wait_for(lambda: len(self._waiting))
                self._busy_since = time.monotonic()
                hand_out = run_batch(runner, self._plan, self._waiting, self._news)
                self._busy_since = None
                if handing_out is not None:
                    handing_out.result()
                handing_out = pool.submit(hand_out) if hand_out else None

    def watch(self, folder: Path) -> None:
        """End this process when the device has hung; or the driver is gone, who had `folder`."""
        parent = parent_process()
        assert parent is not None
        while parent.is_alive():
            parent.join(1.0)
            since = self._busy_since
            if since is not None and time.monotonic() - since > _SECONDS_TO_RUN:
                os._exit(_HUNG)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except (OSError, EOFError, AuthenticationError):  # a worker that died as it connected
                time.sleep(_SECONDS_BETWEEN_TRIES)
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        """A worker's requests, one after the other; it waits for each."""
        with connection, contextlib.suppress(OSError, EOFError):
            while True:
                message = np.frombuffer(connection.recv_bytes(), np.int32)
                count = int(message[0])
                lengths, ids = message[1 : count + 1], message[count + 1 :]
                request = make_request(lengths, ids, self._plan.num_tags)
                with self._news:
                    for index, length in enumerate(lengths.tolist()):
                        self._waiting.add((request, index), length)
                    self._news.notify()
                request.done.wait()
                connection.send_bytes(request.probs.data)


# --------------------------------------------------------------------------------------------------
# the driver's side


class _Keeper:
    """Starts a server, and once more if it ends by itself."""

    def __init__(
        self,
        name: str,
        address: Path,
        start: Callable[[], Runner],
        plan: BatchPlan,
        say: Callable[[str], object],
    ) -> None:
        self._name, self._address, self._say = name, address, say
        self._arguments = (str(address), start, plan)
        self._lock = threading.Lock()
        self._stopping = False
        self._process: BaseProcess | None = None
        self._report: Connection
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def launch(self) -> None:
        with self._lock:
            if self._stopping:
                return
            self._address.unlink(missing_ok=True)  # of one that was killed
            self._report, theirs = Pipe(duplex=False)
            self._process = start_process(_serve, (theirs, *self._arguments))
            theirs.close()

    def wait_ready(self) -> None:
        """Wait until it has its runner.

        Raises:
            StarEncoderError: What its start raised, or a DeviceError.
        """
        try:
            if not self._report.poll(_SECONDS_TO_START):
                raise DeviceError(f"{self._name}: not ready in {_SECONDS_TO_START:.0f} seconds")
            message = self._report.recv()
        except (EOFError, OSError):
            raise DeviceError(f"{self._name}: its server {self._how_it_ended()}") from None
        if isinstance(message, DeviceError):
            raise DeviceError(f"{self._name}: {message}")
        if isinstance(message, StarEncoderError):
            raise message
        self._say(f"{self._name}: {message.description}")

    def watch(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()
        if self._thread.is_alive():
            self._thread.join()
        elif self._process is not None:
            self._process.join()

    def _watch(self) -> None:
        reason = self._wait_for_end()
        if not self._stopping:
            self._say(f"{self._name}: {reason}; starting it again")
            try:
                self.launch()
                self.wait_ready()
                reason = f"{self._wait_for_end()}, the second time"
            except (StarEncoderError, OSError) as error:
                reason = f"{reason}, and does not start again ({error})"
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.join()
            if self._stopping:
                return
            message = (
                f"{self._name}: {reason}; what is finished is kept: "
                "run the same command again to go on from there"
            )
            try:
                write_whole(_failure_file(self._address), message.encode())
            except OutputError:
                shutil.rmtree(self._address.parent)  # says it too, with less words

    def _wait_for_end(self) -> str:
        """Why it ended."""
        assert self._process is not None
        wait([self._process.sentinel])
        with contextlib.suppress(EOFError, OSError):
            if self._report.poll(0):
                return f"it failed ({self._report.recv()})"
        return f"its server {self._how_it_ended()}"

    def _how_it_ended(self) -> str:
        assert self._process is not None
        self._process.join(_SECONDS_TO_END)
        code = self._process.exitcode
        if code == _HUNG:
            return f"did not get on for {_SECONDS_TO_RUN:.0f} seconds"
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with code {code}"


def _failure_file(address: Path) -> Path:
    """Holds why a server is not there any more; until it exists, the server comes back."""
    return address.with_suffix(".failed")


@contextlib.contextmanager
def serve_model(
    starts: Mapping[str, Callable[[], Runner]],
    plan: BatchPlan,
    *,
    say: Callable[[str], object] = lambda message: None,
) -> Iterator["ServedModel"]:
    """Run a server for each runner, for as long as the context lasts.

    Args:
        starts: By the name that messages have for it: what makes the runner, pickled.
        plan: How the runners are fed.
        say: Takes what happens, a line at a time; called from other threads too.

    Raises:
        StarEncoderError: A runner's own, at the first start.
        DeviceError: A server does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="starencoder-"))  # for this user alone
    addresses = [folder / str(index) for index in range(len(starts))]
    keepers = [
        _Keeper(name, address, start, plan, say)
        for address, (name, start) in zip(addresses, starts.items(), strict=True)
    ]
    try:
        for keeper in keepers:
            keeper.launch()
        for keeper in keepers:
            keeper.wait_ready()
        for keeper in keepers:
            keeper.watch()
        yield ServedModel(addresses, plan)
    finally:
        for keeper in keepers:
            keeper.stop()
        shutil.rmtree(folder, ignore_errors=True)


class ServedModel:
    """A predict callable that asks the servers in turn.

    It goes by pickle to processes that the driver starts, and connects there.
    """

    def __init__(self, addresses: Sequence[Path], plan: BatchPlan) -> None:
        """Connect to nothing yet.

        Args:
            addresses: Of the servers.
            plan: Theirs.
        """
        self._addresses, self._plan = addresses, plan
        self._connections: dict[Path, Connection] = {}
        self._turn = os.getpid()

    def __reduce__(self) -> tuple[object, ...]:
        return ServedModel, (self._addresses, self._plan)

    def __call__(self, chunks: Sequence[Sequence[int]]) -> list[Probs]:
        """The probabilities of each chunk.

        Raises:
            DeviceError: The server has failed for good, or gives what are no probabilities.
        """
        lengths, ids = flatten(chunks, self._plan.shapes[-1].seq)
        if not len(lengths):
            return []
        message = np.concatenate([np.array([len(lengths)], np.int32), lengths, ids])
        self._turn += 1
        address = self._addresses[self._turn % len(self._addresses)]
        for _ in range(_MOST_TRIES):
            try:
                connection = self._connections.get(address) or self._connect(address)
                connection.send_bytes(message.data)
                answer = connection.recv_bytes()
            except (EOFError, OSError):  # it is gone: another takes its place, or says why not
                self._connections.pop(address, None)
                continue
            probs = np.frombuffer(answer, np.float16).reshape(-1, self._plan.num_tags)
            return unflatten(probs, lengths)
        raise DeviceError(
            f"no server answered a request of {len(lengths)} chunks in {_MOST_TRIES} tries"
        )

    def _connect(self, address: Path) -> Connection:
        driver = parent_process()
        while True:
            with contextlib.suppress(OSError, EOFError):
                key = current_process().authkey
                self._connections[address] = Client(str(address), family="AF_UNIX", authkey=key)
                return self._connections[address]
            # Where there is nobody to start it again, waiting would have no end.
            if _failure_file(address).exists():
                raise DeviceError(_failure_file(address).read_text("utf-8"))
            if not address.parent.exists() or (driver is not None and not driver.is_alive()):
                raise DeviceError("the scan that this process belongs to has ended")
            time.sleep(_SECONDS_BETWEEN_TRIES)
