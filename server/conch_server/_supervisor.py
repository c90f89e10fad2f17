"""Triton kept alive: started, watched, restarted when it dies or hangs, and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, TryAgain, retry, wait_exponential, wait_fixed

from conch_server._cores import fit_to_cores
from conch_server._errors import ServingError, StartError
from conch_server._failure import ending, explain, has_failed
from conch_server._loading import awaited
from conch_server._log import TritonLog
from conch_server._preflight import check_free, check_repository
from conch_server._probe import Probe
from conch_server._processes import memory_of, until_idle, until_one_dies
from conch_server._run import TritonRun, remove_leftovers
from conch_server._wheel import find_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tenacity import RetryCallState
    from typing_extensions import Self

    from conch_server._settings import ServerSettings

logger = logging.getLogger("conch_server")
START_POLL_S = 0.02
LOG_POLL_S = 0.2
SAY_EVERY_S = 10.0  # what a start is waiting for; most have ended before the first time
CANCEL_AGAIN_S = 10.0  # before Python 3.11 a cancellation is lost that comes together with the end of a time-out
OTHERS_S = 0.5  # time for further models to fail after the first, so that the error names them too
LOOK_AGAIN_S = 0.1


def _log_failure(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ServingError):
        logger.error("Triton could not be started again, the next attempt follows: %s", error)
    elif not isinstance(error, TryAgain):
        logger.error("watching over Triton failed; it goes on", exc_info=error)


class Supervisor:
    """An async context manager inside which Triton serves.

    Entering raises a ServingError when Triton cannot start. After that a Triton that dies, or answers no health check,
    is restarted, with a growing back-off and however often that fails, until the context is left.

    Args:
        settings: Of the embedded Triton.
        cores: Number of cores that it may compute on, where the settings state none.
        is_replica: Whether others serve the same: Triton stops taking requests at once, which go to those.

    Attributes:
        restarts: how often it was started again.
        start_s: seconds that the last start took until every model was ready.
    """

    def __init__(self, settings: ServerSettings, cores: int, *, is_replica: bool = False) -> None:
        self.settings = settings
        self._cores = settings.triton_cores or cores
        self._is_replica = is_replica
        self.restarts = 0
        self.start_s = 0.0
        self.models: list[str] = []
        log_path = settings.run_directory.absolute() / f"triton-{settings.triton_grpc_port}.log"
        self.log = TritonLog(log_path, kept=settings.triton_log_files)
        self._run: TritonRun | None = None
        self._ready_at = 0.0
        self._probe: Probe | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def grpc_url(self) -> str:
        """`host:port` of Triton's gRPC endpoint."""
        return f"{self.settings.triton_host}:{self.settings.triton_grpc_port}"

    @property
    def memory_bytes(self) -> int:
        """Resident memory of Triton and its model instances; shared pages count in each. 0 while it is away."""
        return 0 if self._run is None else memory_of(self._run.pid)

    async def wait(self) -> None:
        """Wait until the context is left; raise ServingError if Triton ceases to be watched before that."""
        if self._watcher is None:
            return
        await asyncio.wait({self._watcher})
        error = None if self._watcher.cancelled() else self._watcher.exception()
        if error is not None:
            raise ServingError(f"Triton is no longer watched: {error!r}") from error

    def abort(self) -> None:
        """Kill Triton and the requests in flight, if it runs; leave the context after that."""
        if self._run is not None:
            self._run.abort()

    async def __aenter__(self) -> Self:
        """Start Triton and return when it is ready, with every model unless the gateway loads them."""
        self._preflight()
        self._watcher = asyncio.create_task(self._watch(await self._launch()), name="conch-supervisor")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching, let requests in flight finish (unless this is cancelled), and leave nothing behind."""
        try:
            while self._watcher is not None and not self._watcher.done():
                self._watcher.cancel()
                await asyncio.wait({self._watcher}, timeout=CANCEL_AGAIN_S)
            if self._run is not None:
                # Once idle it is killed: it has nothing to save, and its own orderly exit takes seconds. A replica is
                # never idle as long as it says that it is ready.
                idle = not self._is_replica and await until_idle(self._run.pid, self.settings.exit_timeout_s)
                await self._end(self._run, kill=idle)
        finally:
            if self._run is not None:
                # Also where leaving itself is cancelled: nothing may be left behind.
                await asyncio.shield(self._end(self._run, kill=True))

    def _preflight(self) -> None:
        settings = self.settings
        self._wheel = find_wheel()
        check_repository(settings.model_repository)
        check_free(settings.triton_host, settings.triton_grpc_port, "CONCH_TRITON_HOST", "CONCH_TRITON_GRPC_PORT")
        if settings.triton_metrics_port:
            check_free(
                settings.triton_host, settings.triton_metrics_port, "CONCH_TRITON_HOST", "CONCH_TRITON_METRICS_PORT"
            )
        remove_leftovers(settings, self.log)
        self.log.rotate()

    async def _launch(self) -> TritonRun:
        """Start tritonserver and return when its models are ready; nothing is left of it when this raises."""
        if self.settings.triton_admin_key is None:  # else Triton loads none; they may have changed since the last start
            self.models = check_repository(self.settings.model_repository)
        fit_to_cores(self.settings.model_repository, self._cores)
        began = time.monotonic()
        run = await TritonRun.start(self.settings, self._wheel, self.log, self._cores)
        self._probe = Probe(self.settings, run.name, self.models)
        try:
            await self._until_ready(run, self._probe)
        except BaseException:
            # A start that is cancelled must not leave a tritonserver that nobody watches.
            await asyncio.shield(self._end(run, kill=True))
            raise
        self._run, self._ready_at = run, time.monotonic()
        self.start_s = self._ready_at - began
        return run

    async def _until_ready(self, run: TritonRun, probe: Probe) -> None:
        began = said = time.monotonic()
        ended = asyncio.ensure_future(run.wait())
        failed = asyncio.ensure_future(self._until_failed())
        try:
            # With no models to wait for, nothing is unready; another server may have the port: `alive` checks its name.
            while (unready := await probe.unready()) or not await probe.alive():
                await asyncio.wait({ended}, timeout=START_POLL_S)
                if ended.done() or failed.done():
                    # After a failed load Triton still runs; its log then names the model, and no status is needed.
                    raise StartError(self._why(ended.result() if ended.done() else 1))
                now = time.monotonic()
                if now - began > self.settings.start_timeout_s:
                    fix = f"raise CONCH_START_TIMEOUT_S or look at its log: {self.log.path}"
                    raise StartError(f"{self._unready(unready, self.settings.start_timeout_s)}; {fix}")
                if now - said > SAY_EVERY_S:
                    said = now
                    logger.info("%s", self._unready(unready, round(now - began)))
        finally:
            ended.cancel()
            failed.cancel()

    def _unready(self, models: Sequence[str], after_s: float) -> str:
        doing = awaited(models, len(self.models), self.log.last_lines(), self.settings.model_repository)
        return f"Triton is not ready after {after_s:g} s: {doing}"

    async def _until_failed(self) -> None:
        """Return once the log names a model that failed to load, and others have had time to fail as well.

        Triton itself loads all others first, and takes seconds to unload them before it ends.
        """
        while not has_failed(self.log.last_lines()):  # noqa: ASYNC110  the log is all there is to look at
            await asyncio.sleep(LOG_POLL_S)
        await asyncio.sleep(OTHERS_S)

    async def _watch(self, run: TritonRun) -> None:
        """Restart Triton whenever it is lost; only cancellation ends this."""
        settings = self.settings
        wait = wait_exponential(settings.restart_backoff_s, settings.restart_backoff_max_s)
        await self._until_lost(run)
        while True:  # after a run of `restart_forget_s` the waits begin anew; the first restart is immediate
            async for attempt in AsyncRetrying(wait=wait, before_sleep=_log_failure):
                with attempt:
                    run = await self._launch()
                    self.restarts += 1
                    logger.warning("Triton serves again (restart %s)", self.restarts)
                    if await self._until_lost(run) < settings.restart_forget_s:
                        # Counts as a failed attempt, so that a Triton that keeps dying is started ever more rarely.
                        raise TryAgain

    # A look at Triton that fails says nothing about Triton, so it is repeated and costs no restart.
    @retry(wait=wait_fixed(LOOK_AGAIN_S), before_sleep=_log_failure)
    async def _until_lost(self, run: TritonRun) -> float:
        """Wait until Triton has been lost, end what is left of it, and return for how many seconds it has served."""
        ended = asyncio.ensure_future(run.wait())
        try:
            logger.error("%s", await self._loss(run, ended))
        finally:
            ended.cancel()
        served_s = time.monotonic() - self._ready_at
        await self._end(run, kill=True)
        return served_s

    async def _loss(self, run: TritonRun, ended: asyncio.Future[int]) -> str:
        """Wait until Triton has ended, lost a stub or answered none of the health checks; return which."""
        settings, failures = self.settings, 0
        died = asyncio.ensure_future(until_one_dies(run.pid, settings.probe_interval_s))
        losses: set[asyncio.Future[Any]] = {ended, died}
        try:
            while failures < settings.probe_failures:
                await asyncio.wait(losses, timeout=settings.probe_interval_s, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    how = ending(ended.result(), self.log.last_lines())
                    return f"{how} (its log: {self.log.path}); it is started again"
                if died.done():
                    died.result()  # raises where processes could not be looked at
                    return f"a model instance has died; Triton is started again (its log: {self.log.path})"
                failures = 0 if self._probe and await self._probe.alive() else failures + 1
                self.log.limit()
        finally:
            died.cancel()
        return f"Triton answered none of {failures} health checks; it is killed and started again"

    def _why(self, status: int) -> str:
        return f"{explain(status, self.log.last_lines())} (its log: {self.log.path})"

    async def _end(self, run: TritonRun, *, kill: bool) -> None:
        if self._probe is not None:
            await self._probe.close()
            self._probe = None
        await (run.kill() if kill else run.stop())
        self._run = None
