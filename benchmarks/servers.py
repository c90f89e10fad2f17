"""Servers under load: conch as `conch serve` runs it, infinity as its users run it. Both listen on loopback only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST = "127.0.0.1"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.02


class ServerError(Exception):
    """A server ended or does not answer; the message names its log."""


class Server:
    """A process that serves until stopped.

    Args:
        command: what to start.
        log: file for what it prints.
        question: URL and body of a first request; it serves once that is answered.
        folder: where to start it.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        question: tuple[str, bytes | None],
        folder: Path,
        environment: dict[str, str],
    ) -> None:
        self._log, self._question = log, question
        began = time.perf_counter()
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env=os.environ | environment,
                start_new_session=True,
            )
        self._wait()
        self.start_s = time.perf_counter() - began

    def memory_mb(self) -> dict[str, float]:
        """Resident MB (1e6 bytes) of it and its children: each page once (PSS), and as often as mapped (RSS).

        `children_pss` leaves out the process that was started.
        """
        parent = psutil.Process(self._process.pid)
        found = [process.memory_full_info() for process in (parent, *parent.children(recursive=True))]
        return {
            "pss": sum(one.pss for one in found) / 1e6,
            "children_pss": sum(one.pss for one in found[1:]) / 1e6,
            "rss": sum(one.rss for one in found) / 1e6,
            "processes": len(found),
        }

    def first_process_mb(self) -> float:
        """Return resident MB (1e6 bytes) of the first process, without its children."""
        return float(psutil.Process(self._process.pid).memory_info().rss / 1e6)

    def reset_peak(self) -> None:
        """Reset the peak memory of the first process."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak_mb(self) -> float:
        """Return the peak of resident MB (1e6 bytes) of the first process since the reset."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6

    def busy_s(self) -> tuple[float, float]:
        """Return the seconds that its threads and its children's have run, and that they have waited for a core."""
        parent = psutil.Process(self._process.pid)
        processes = (parent, *parent.children(recursive=True))
        times = [process.cpu_times() for process in processes]  # with those of threads that have ended
        threads = [path for one in processes for path in Path(f"/proc/{one.pid}/task").glob("*/schedstat")]
        return sum(time.user + time.system for time in times), sum(map(_waited_s, threads))

    def stop(self) -> None:
        """Send SIGTERM; kill remaining processes after a while."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(*self._question):
            if self._process.poll() is not None:
                raise ServerError(f"{self._process.args!r} ended with {self._process.returncode}; see {self._log}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"{self._process.args!r} gave no answer in {START_TIMEOUT_S:.0f} s; see {self._log}")
            time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Return free ports of the loopback address."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(url: str, body: bytes | None) -> bool:
    request: Any = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _waited_s(schedstat: Path) -> float:
    """Return the seconds that a runnable thread had no core; 0 once it has ended."""
    try:
        return int(schedstat.read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        return 0.0
