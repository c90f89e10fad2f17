"""Processes on this machine, which end with the one that has started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter, deque
from contextlib import contextmanager
from multiprocessing import Pipe, connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conch_batch.errors import EngineError
from conch_batch.processes.pool import NEEDS, Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_COMMAND = (
    "import sys; descriptor, *sys.path = sys.argv[1:]; from conch_batch.processes import child; "
    "child.main(int(descriptor))"
)
"""Takes over the module search path of this process; `python -c` alone would look in the working directory first."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPUS = Path("/proc/driver/nvidia/gpus")


@contextmanager
def started(worker: type[Any], arguments: Sequence[Any], *, cores: int, threads: int, on_gpu: bool) -> Iterator[_Local]:
    """Processes until the end of the block, which kills those that are there.

    Args:
        worker: class whose method `compute` is called with one shard after another.
        arguments: arguments of its constructor.
        cores: cores that all may use.
        threads: cores of each.
        on_gpu: whether each needs a GPU of its own.

    Raises:
        EngineError: there is no room for one.
    """
    gpus = _gpus()
    processes = _Local((worker, arguments), gpus if on_gpu else [""] * (cores // threads))
    if not processes.room:
        wanted = "a GPU" if on_gpu else f"{threads} cores (--threads)"
        raise EngineError(f"a process needs {wanted}; there are {cores} cores and {len(gpus)} GPUs here")
    try:
        yield processes
    finally:
        processes.kill()


class _Process:
    """A process that was started.

    Args:
        gpu: its GPU; empty if it needs none.

    Attributes:
        connection: messages to it and from it.
        sent: shards that it has not answered.
    """

    def __init__(self, gpu: str) -> None:
        self.gpu, self.sent = gpu, deque[object]()
        self.connection, theirs = Pipe()
        descriptor = theirs.fileno()
        command = [sys.executable, "-c", _COMMAND, str(descriptor), *sys.path]
        environment = os.environ | ({_VISIBLE: gpu} if gpu else {})
        with theirs, _without_interrupts():
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, pass_fds=(descriptor,))

    def send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it is dead, as the next event will say
            self.connection.send(message)

    def status(self) -> int:
        """Wait for its end; its exit status, or the negative number of a signal."""
        self.connection.close()  # at which it ends, if it has not yet
        return self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self.status()


class _Local:
    """See `conch_batch.processes.pool.Processes`.

    Args:
        first: what each process is sent first.
        gpus: the GPU of each process that there is room for; empty texts if they need none.
    """

    def __init__(self, first: tuple[type[Any], Sequence[Any]], gpus: Sequence[str]) -> None:
        self.room = len(gpus)
        self._first, self._gpus = first, gpus
        self._processes: dict[Any, _Process] = {}
        """By their connections."""

    def start(self) -> _Process:
        used = Counter(process.gpu for process in self._processes.values())
        try:
            process = _Process(min(self._gpus, key=lambda gpu: used[gpu]))
        except OSError as error:
            raise EngineError(f"a process that computes cannot be started: {error}") from error
        self._processes[process.connection] = process
        return process

    def send(self, process: _Process, shard: object) -> None:
        process.sent.append(shard)
        process.send(shard)

    def wait(self) -> Event:
        (ready, *_) = connection.wait(list(self._processes))
        process = self._processes[ready]
        try:
            answer = process.connection.recv()
        except (EOFError, OSError):
            return self._ended(process)
        if answer is None:
            process.send(self._first)
            return Event(process)
        return Event(process, process.sent.popleft(), answer)

    def kill(self) -> None:
        """End all processes."""
        while self._processes:
            self._processes.popitem()[1].kill()

    def _ended(self, process: _Process) -> Event:
        """The end of a process; raises EngineError where it was not killed, since another one would end alike."""
        del self._processes[process.connection]
        status = process.status()
        if status >= 0:
            raise EngineError(f"a process that computes has ended (exit status {status}): {NEEDS}")
        return Event(process, died=f"killed by {signal.Signals(-status).name}")


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT in this thread, and for good in processes that are started meanwhile: Ctrl-C is for this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA knows them by."""
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        return [name for name in visible.split(",") if name not in {"", "-1"}]
    return [str(number) for number in range(len(list(_GPUS.glob("*"))))]
