"""Triton kept alive: started, watched, started again when it dies or hangs, and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING

from conch_server._backoff import Backoff
from conch_server._cores import fit_to_cores
from conch_server._drain import until_idle
from conch_server._errors import ServingError, StartError
from conch_server._failure import explain, has_failed
from conch_server._log import TritonLog
from conch_server._ports import check_free
from conch_server._probe import Probe
from conch_server._processes import dead_among, stubs_of
from conch_server._repository import check_repository
from conch_server._run import TritonRun
from conch_server._wheel import find_wheel

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from conch_server._settings import ServerSettings

logger = logging.getLogger("conch_server")
# Between two looks at a server that is starting.
START_POLL_S = 0.02
LOG_POLL_S = 0.2
OTHERS_S = 0.5  # from the first model that is not loaded to the last that is still waited for
STUBS_POLL_S = 0.1  # looking into /proc is cheap, and a dead stub fails requests until it is noticed


class Supervisor:
    """An async context manager inside which Triton serves.

    Entering raises a ServingError when Triton cannot start. After that a Triton that dies, or answers no health check,
    is started again, with a growing back-off and however often that fails, until the context is left.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.restarts = 0
        self.models: list[str] = []
        log_path = settings.run_directory.absolute() / f"triton-{settings.triton_grpc_port}.log"
        self.log = TritonLog(log_path, kept=settings.triton_log_files)
        self._backoff = Backoff(settings.restart_backoff_s, settings.restart_backoff_max_s, settings.restart_forget_s)
        self._run: TritonRun | None = None
        self._ready_at = 0.0
        self._probe: Probe | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def grpc_url(self) -> str:
        """`host:port` of Triton's gRPC endpoint."""
        return f"{self.settings.triton_host}:{self.settings.triton_grpc_port}"

    async def wait(self) -> None:
        """Wait until the context is left; raises ServingError when Triton is not watched any more before that."""
        if self._watcher is None:
            return
        await asyncio.wait({self._watcher})
        error = None if self._watcher.cancelled() else self._watcher.exception()
        if error is not None:
            raise ServingError(f"Triton is no longer watched: {error!r}") from error

    def abort(self) -> None:
        """Kill Triton in the middle of what it does, if it runs; to be followed by leaving the context."""
        if self._run is not None:
            self._run.abort()

    async def __aenter__(self) -> Self:
        """Start Triton and return when it is ready, with every model unless the gateway loads them."""
        self._preflight()
        await self._launch()
        self._watcher = asyncio.create_task(self._watch(), name="conch-supervisor")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching, let requests in flight finish, leave nothing behind; cancelled, do not let them."""
        try:
            if self._watcher is not None:
                self._watcher.cancel()
                await asyncio.wait({self._watcher})
            if self._run is not None:
                await self._stop(self._run)
        finally:
            if self._run is not None:
                await asyncio.shield(self._end(self._run, kill=True))

    def _preflight(self) -> None:
        settings = self.settings
        self._wheel = find_wheel()
        models = check_repository(settings.model_repository)
        self.models = models if settings.triton_admin_key is None else []
        check_free(settings.triton_host, settings.triton_grpc_port, "CONCH_TRITON_GRPC_PORT")
        if settings.triton_metrics_port:
            check_free(settings.triton_host, settings.triton_metrics_port, "CONCH_TRITON_METRICS_PORT")
        self.log.rotate()

    async def _launch(self) -> None:
        """Start tritonserver and wait for its models; nothing is left of it when this raises."""
        fit_to_cores(self.settings.model_repository, self.settings.triton_cores or len(os.sched_getaffinity(0)))
        run = await TritonRun.start(self.settings, self._wheel, self.log)
        self._probe = Probe(
            self.settings.triton_host,
            self.settings.triton_grpc_port,
            run.name,
            self.models,
            timeout_s=self.settings.probe_timeout_s,
        )
        try:
            await self._until_ready(run, self._probe)
        except BaseException:
            await asyncio.shield(self._end(run, kill=True))
            raise
        self._run, self._ready_at = run, time.monotonic()

    async def _until_ready(self, run: TritonRun, probe: Probe) -> None:
        deadline = time.monotonic() + self.settings.start_timeout_s
        ended = asyncio.ensure_future(run.wait())
        failed = asyncio.ensure_future(self._until_failed())
        try:
            while (unready := await probe.unready()) or not await probe.alive():
                await asyncio.wait({ended}, timeout=START_POLL_S)
                if ended.done() or failed.done():
                    raise StartError(self._why(ended.result() if ended.done() else 1))
                if time.monotonic() > deadline:
                    limit = f"{self.settings.start_timeout_s:g} s; raise CONCH_START_TIMEOUT_S or look at its log"
                    raise StartError(f"Triton has not loaded {', '.join(unready)} within {limit}: {self.log.path}")
        finally:
            ended.cancel()
            failed.cancel()

    async def _until_failed(self) -> None:
        """Return once a model has not been loaded, and the others that fail have had time to be named.

        Triton itself loads all others first, and takes seconds to unload them before it ends.
        """
        while not has_failed(self.log.last_lines()):  # noqa: ASYNC110 - Triton tells nobody else
            await asyncio.sleep(LOG_POLL_S)
        await asyncio.sleep(OTHERS_S)

    async def _watch(self) -> None:
        """Start Triton again whenever it is lost. Only cancellation ends this: what fails is logged and tried again."""
        while True:
            try:
                if self._run is not None:
                    await self._until_lost(self._run)
                await self._restart()
            except ServingError as error:  # noqa: PERF203
                logger.error("Triton could not be started again, the next attempt follows: %s", error)
            except Exception:
                logger.exception("watching over Triton failed; it goes on")
                await asyncio.sleep(STUBS_POLL_S)

    async def _restart(self) -> None:
        uptime_s = 0.0
        if self._run is not None:
            uptime_s = time.monotonic() - self._ready_at
            await self._end(self._run, kill=True)
        await asyncio.sleep(self._backoff.next_s(uptime_s))
        await self._launch()
        self.restarts += 1
        logger.warning("Triton serves again (restart %s)", self.restarts)

    async def _until_lost(self, run: TritonRun) -> None:
        """Return once Triton has ended, lost a stub, or answered none of the checks."""
        ended = asyncio.ensure_future(run.wait())
        failures, probed = 0, time.monotonic()
        stubs, dead = stubs_of(run.pid), frozenset[int]()
        try:
            while failures < self.settings.probe_failures:
                await asyncio.wait({ended}, timeout=min(STUBS_POLL_S, self.settings.probe_interval_s))
                if ended.done():
                    logger.error("%s; it is started again", self._why(ended.result()))
                    return
                dead, before = dead_among(stubs, run.pid), dead
                if dead & before:  # one that Triton has unloaded is not seen twice
                    logger.error("a model instance has died; Triton is started again (its log: %s)", self.log.path)
                    return
                if time.monotonic() - probed >= self.settings.probe_interval_s:
                    failures = 0 if self._probe and await self._probe.alive() else failures + 1
                    probed, stubs = time.monotonic(), stubs_of(run.pid)
            logger.error("Triton answered none of %s health checks; it is killed and started again", failures)
        finally:
            ended.cancel()

    def _why(self, status: int) -> str:
        return f"{explain(status, self.log.last_lines())} (its log: {self.log.path})"

    async def _stop(self, run: TritonRun) -> None:
        """End Triton when it has nothing left to do, or, within the exit timeout, in the middle of it."""
        # An idle Triton has nothing to save, and its own orderly exit takes seconds.
        await self._end(run, kill=await until_idle(run.pid, self.settings.exit_timeout_s))

    async def _end(self, run: TritonRun, *, kill: bool) -> None:
        if self._probe is not None:
            await self._probe.close()
            self._probe = None
        await (run.kill() if kill else run.stop())
        self._run = None
