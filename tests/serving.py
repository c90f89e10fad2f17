"""`conch serve` as its users start it: a process of its own, on free ports, with a folder of its own.

Tests start the product this way and no other: under its own event loop, with its own command line and settings.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx
import psutil

from tests.waiting import until

if TYPE_CHECKING:
    from typing_extensions import Self

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
NOWHERE = "http://127.0.0.1:9"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
# Below what Linux gives to outgoing connections, which could otherwise take a port before its server does.
PORTS = range(20_000, 32_000)
# However the tests end (by SIGKILL, or by a time limit that ends the process), the kernel ends what they have started.
# It does so when the thread ends that has started it; tests start servers in threads that end earlier than the tests.
WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL")
_STARTER = ThreadPoolExecutor(1, "starts-conch-serve")


ON_ANY_MACHINE = {
    "CONCH_CANARY_INTERVAL_S": "0",  # some tests count what models have computed
    "CONCH_TRITON_CORES": "2",  # and some need requests that have to wait for an instance, however many cores there are
}
"""Settings of each `conch serve` that states no others."""
OF_THIS_MACHINE = {"CONCH_TRITON_CORES": ""}
"""The setting of one that computes on all cores of this machine, as it does where nothing is set."""


class NotServingError(Exception):
    """`conch serve` ended, or was not ready in time, when it should have started; the message is what it said."""

    def __init__(self, status: int | None, said: str) -> None:
        super().__init__(f"conch serve ended with status {status}: {said}")
        self.status = status
        self.said = said


class Serving:
    """One `conch serve`: entered, it is ready; left, it has been stopped by SIGTERM.

    It ends at the latest when the process of the tests does, whatever ends that.

    `repository` is served, or, where that is None, the Triton of `CONCH_TRITON_URL`. `folder` gets the run directory
    and all output. `flags` and `environment` are those of the command; `CONCH_` variables of this process are not
    handed on. `start` may be called again after `stop` or `kill`: the ports stay the same.

    Attributes:
        http: client of its gateway, whenever one runs.
    """

    def __init__(self, repository: Path | None, folder: Path, *flags: str, **environment: str) -> None:
        self.port, self.grpc_port, self.metrics_port = free_ports(3)
        self.run_directory = folder / "run"
        self.triton_log = self.run_directory / f"triton-{self.grpc_port}.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.grpc_url = environment.get("CONCH_TRITON_URL", f"127.0.0.1:{self.grpc_port}")
        self.metrics_url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        self._outputs = (folder / "stdout", folder / "stderr")
        options: dict[str, object] = {} if "--no-gateway" in flags else {"port": self.port}
        if "CONCH_TRITON_URL" not in environment:
            options |= {"triton-grpc-port": self.grpc_port, "triton-metrics-port": self.metrics_port}
            options |= {"run-directory": self.run_directory, "repository": repository}
        self._command = [
            *WITH_ITS_PARENT,
            # A library that is preloaded into more programs than the last leaves shared memory behind.
            *("env", *(f"{name}={value}" for name, value in {**ON_ANY_MACHINE, **environment}.items())),
            *(sys.executable, "-m", "conch", "serve"),
            *(f"--{name}={value}" for name, value in options.items()),
            *flags,
        ]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCH_")}
        # A company's proxy that leads nowhere: what is on this machine is never asked through it.
        self._environment = {**inherited, "COLUMNS": "200", "http_proxy": NOWHERE, "https_proxy": NOWHERE}
        # Of no connection that outlives a gateway, and without certificates, which each call of `httpx.get` reads anew.
        transport = httpx.HTTPTransport(verify=False, limits=httpx.Limits(max_keepalive_connections=0))
        self.http = httpx.Client(base_url=self.url, transport=transport, timeout=60)
        self._process: subprocess.Popen[bytes] | None = None
        self._begins = (0, 0)

    @property
    def pid(self) -> int:
        """Process id of `conch serve`: gateway and supervisor."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        assert self._process is not None, "it was never started"
        return self._process.poll()

    @property
    def printed(self) -> str:
        """What it has written to standard output since it was started."""
        return self._read(0)

    @property
    def said(self) -> str:
        """What it has written to standard error since it was started: its log, and its errors."""
        return self._read(1)

    @property
    def warden(self) -> psutil.Process:
        """The process that owns tritonserver; raises LookupError when there is none at the moment."""
        return _only(child for child in self._children() if any("_warden" in word for word in _cmdline(child)))

    @property
    def triton(self) -> psutil.Process:
        """The tritonserver; raises LookupError when there is none at the moment."""
        return _only(child for child in self._children() if Path(*_cmdline(child)[:1]).name == "tritonserver")

    @property
    def stubs(self) -> list[psutil.Process]:
        """The processes of the model instances."""
        return self.triton.children()

    @property
    def family(self) -> list[psutil.Process]:
        """Every process of this deployment that runs now, `conch serve` included."""
        return [psutil.Process(self.pid), *self._children()]

    def launch(self) -> Self:
        """Start the process and return at once."""
        self.run_directory.mkdir(parents=True, exist_ok=True)
        self._begins = (_size(self._outputs[0]), _size(self._outputs[1]))
        with self._outputs[0].open("ab") as output, self._outputs[1].open("ab") as errors:
            self._process = _STARTER.submit(self._spawn, output, errors).result()
        return self

    def start(self) -> Self:
        """Start the process and return when it has said that it serves; raises NotServingError."""
        self.launch()
        try:
            until(lambda: "conch serves" in self.printed or self.status is not None, START_TIMEOUT_S)
            if self.status is not None:
                raise NotServingError(self.status, self.said)
        except BaseException:
            self.kill()
            raise
        return self

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until it ends by itself; return its exit status."""
        assert self._process is not None, "it was never started"
        return self._process.wait(timeout_s)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait until it has, and return its exit status; one that does not end in time is killed."""
        self.signal(number)
        try:
            return self.wait()
        except BaseException:  # it did not stop in time, or the test was interrupted meanwhile
            self.kill()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to `conch serve`."""
        assert self._process is not None, "it was never started"
        self._process.send_signal(number)

    def kill(self) -> None:
        """End `conch serve` as the kernel would when memory runs out; its warden then ends Triton."""
        self.signal(signal.SIGKILL)
        self.wait()

    def ready(self) -> bool:
        """Whether `/health/ready` answers 200."""
        try:
            return self.http.get("/health/ready", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def leftovers(self) -> list[str]:
        """What is left of it once it has ended: processes, run folders, shared memory regions."""
        folder = str(self.run_directory)
        processes = [
            process.info["name"]
            for process in psutil.process_iter(["name", "cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(folder in argument for argument in process.info["cmdline"] or ())
        ]
        regions = [region.name for region in SHARED_MEMORY.glob(f"conch-{self.pid}-*")]
        return [*processes, *regions, *(run.name for run in self.run_directory.glob("*conch-*"))]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            self.stop()

    def _spawn(self, output: BinaryIO, errors: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=self._environment,
            # Ctrl-C in the terminal is for the tests, which stop what they have started.
            start_new_session=True,
        )

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _read(self, output: int) -> str:
        with self._outputs[output].open("rb") as file:
            file.seek(self._begins[output])
            return file.read().decode(errors="replace")


def alive(process: psutil.Process) -> bool:
    """Whether it runs; what only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, and that no other tests get as long as this process lives."""
    free: list[int] = []
    while len(free) < count:
        port = random.choice(PORTS)  # noqa: S311
        with socket.socket() as probe, socket.socket(socket.AF_UNIX) as reservation:
            try:
                reservation.bind(f"\0conch-tests-port-{port}")  # in Linux's abstract namespace, without a file
            except OSError:
                continue
            if probe.connect_ex(("127.0.0.1", port)):
                reservation.detach()  # stays open until the process ends
                free.append(port)
    return free


def _only(processes: Any) -> psutil.Process:
    found = next(iter(processes), None)
    if found is None:
        raise LookupError("there is no such process at the moment")
    process: psutil.Process = found
    return process


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
