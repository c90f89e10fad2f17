"""Triton kept alive: started, watched, started again when it dies or hangs, and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from typing import TYPE_CHECKING

from ._backoff import Backoff
from ._drain import until_idle
from ._errors import ServingError, StartError
from ._log import TritonLog
from ._ports import check_free
from ._probe import Probe
from ._processes import dead_among, stubs_of
from ._repository import check_repository
from ._run import TritonRun
from ._wheel import find_wheel

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from ._settings import ServerSettings

logger = logging.getLogger("conch_server")
# Between two looks at a server that is starting.
START_POLL_S = 0.02
STUBS_POLL_S = 0.1  # looking into /proc is cheap, and a dead stub fails requests until it is noticed


class State(enum.Enum):
    """Where the supervised Triton is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"


class Supervisor:
    """An async context manager inside which Triton serves.

    Entering raises a ServingError when Triton cannot start. After that a Triton that dies, or answers no health check,
    is started again, with a growing back-off, until the context is left.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.state = State.STOPPED
        self.restarts = 0
        self.models: list[str] = []
        log_path = settings.run_directory.absolute() / f"triton-{settings.triton_grpc_port}.log"
        self.log = TritonLog(log_path, kept=settings.triton_log_files)
        self._backoff = Backoff(settings.restart_backoff_s, settings.restart_backoff_max_s, settings.restart_forget_s)
        self._run: TritonRun | None = None
        self._probe: Probe | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def grpc_url(self) -> str:
        """`host:port` of Triton's gRPC endpoint."""
        return f"{self.settings.triton_host}:{self.settings.triton_grpc_port}"

    @property
    def pid(self) -> int | None:
        """Process id of the tritonserver that runs now."""
        return self._run.pid if self._run else None

    async def ready(self) -> bool:
        """Whether Triton answers now, and every model that it loads at the start is ready."""
        return self._probe is not None and await self._probe.alive() and not await self._probe.unready()

    async def __aenter__(self) -> Self:
        """Start Triton and return when it is ready, with every model unless the gateway loads them."""
        self.state = State.STARTING
        try:
            self._preflight()
            self._run = await self._launch()
        except BaseException:
            self.state = State.STOPPED
            raise
        self.state = State.READY
        self._watcher = asyncio.create_task(self._watch(self._run))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching, let requests in flight finish, leave nothing behind."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        if self._run is not None:
            await self._stop(self._run)
        self.state = State.STOPPED

    def _preflight(self) -> None:
        settings = self.settings
        self._wheel = find_wheel()
        models = check_repository(settings.model_repository)
        self.models = models if settings.triton_admin_key is None else []
        check_free(settings.triton_host, settings.triton_grpc_port, "CONCH_TRITON_GRPC_PORT")
        if settings.triton_metrics_port:
            check_free(settings.triton_host, settings.triton_metrics_port, "CONCH_TRITON_METRICS_PORT")
        self.log.rotate()

    async def _launch(self) -> TritonRun:
        """Start tritonserver and wait for its models; nothing is left of it when this raises."""
        run = await TritonRun.start(self.settings, self._wheel, self.log)
        self._probe = Probe(
            self.settings.triton_host,
            self.settings.triton_grpc_port,
            self.models,
            timeout_s=self.settings.probe_timeout_s,
        )
        try:
            await self._until_ready(run, self._probe)
        except BaseException:
            await asyncio.shield(self._end(run, kill=True))
            raise
        return run

    async def _until_ready(self, run: TritonRun, probe: Probe) -> None:
        deadline = time.monotonic() + self.settings.start_timeout_s
        ended = asyncio.ensure_future(run.wait())
        try:
            while (unready := await probe.unready()) or not await probe.alive():
                await asyncio.wait({ended}, timeout=START_POLL_S)
                if ended.done():
                    raise StartError(f"Triton ended with status {ended.result()}:\n{self.log.tail()}")
                if time.monotonic() > deadline:
                    late = f"after {self.settings.start_timeout_s:g} s (CONCH_START_TIMEOUT_S)"
                    raise StartError(f"Triton has not loaded {', '.join(unready) or '-'} {late}:\n{self.log.tail()}")
        finally:
            ended.cancel()

    async def _watch(self, run: TritonRun) -> None:
        while True:
            began = time.monotonic()
            await self._until_lost(run)
            self.state = State.RESTARTING
            await self._end(run, kill=True)
            run = await self._relaunch(time.monotonic() - began)
            self.state = State.READY

    async def _until_lost(self, run: TritonRun) -> None:
        """Return once Triton has ended, lost a stub, or answered none of the checks."""
        ended = asyncio.ensure_future(run.wait())
        failures, probed = 0, time.monotonic()
        stubs, dead = stubs_of(run.pid), frozenset[int]()
        try:
            while failures < self.settings.probe_failures:
                await asyncio.wait({ended}, timeout=min(STUBS_POLL_S, self.settings.probe_interval_s))
                if ended.done():
                    logger.error(
                        "Triton ended with status %s and is started again\n%s", ended.result(), self.log.tail()
                    )
                    return
                dead, before = dead_among(stubs, run.pid), dead
                if dead & before:  # one that Triton has unloaded is not seen twice
                    logger.error("a model instance has died; Triton is started again\n%s", self.log.tail())
                    return
                if time.monotonic() - probed >= self.settings.probe_interval_s:
                    failures = 0 if self._probe and await self._probe.alive() else failures + 1
                    probed, stubs = time.monotonic(), stubs_of(run.pid)
            logger.error("Triton answered none of %s health checks; it is killed and started again", failures)
        finally:
            ended.cancel()

    async def _relaunch(self, uptime_s: float) -> TritonRun:
        while True:
            await asyncio.sleep(self._backoff.next_s(uptime_s))
            began = time.monotonic()
            try:
                self._run = await self._launch()
            except ServingError:
                logger.exception("Triton could not be started again; the next attempt follows")
                uptime_s = time.monotonic() - began
                continue
            self.restarts += 1
            logger.warning("Triton serves again (restart %s)", self.restarts)
            return self._run

    async def _stop(self, run: TritonRun) -> None:
        """End Triton when it has nothing left to do, or, within the exit timeout, in the middle of it."""
        idle = False
        try:
            idle = await until_idle(run.pid, self.settings.exit_timeout_s)
        finally:
            # An idle Triton has nothing to save, and its own orderly exit takes seconds.
            await self._end(run, kill=idle)

    async def _end(self, run: TritonRun, *, kill: bool) -> None:
        if self._probe is not None:
            await self._probe.close()
            self._probe = None
        await (run.kill() if kill else run.stop())
        self._run = None
