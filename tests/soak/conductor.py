"""One run from its models to its result: starts everything, lets the faults happen, and watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import psutil
from conch_contract import usable_cores
from conch_gateway.auth import keys

from tests.serving import Serving, free_ports
from tests.soak import clock, isolation, models, report
from tests.soak.happenings import Scene
from tests.soak.journal import Journal
from tests.soak.orders import Orders
from tests.soak.proxy import Proxy
from tests.soak.record import Record, Strike
from tests.soak.supervision import Supervised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.soak.faults import Fault

CALM_S = 5.0  # before the first fault, and after the last
MEMORY_EVERY_S = 5.0
LOAD_ENDS_S = 60.0


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        seconds: how long the load lasts.
        per_s: questions a second.
        seed: of the load.
        faults: what happens, in order.
        every_s: seconds from one fault to the next.
    """

    seconds: float
    per_s: float
    seed: int
    faults: Sequence[Fault]
    every_s: float


class Run:
    """What is started for a plan; `record` can be watched while it runs.

    Args:
        plan: what happens.
        folder: for logs, and for the models where they are made.
        stop: ends it early.
        made: the models; otherwise it makes them.
    """

    def __init__(self, plan: Plan, folder: Path, stop: asyncio.Event, made: models.Models | None = None) -> None:
        self.plan = plan
        self.record = Record()
        self.phase = "exporting the models"
        self._folder = folder
        self._stop = stop
        self._made = made

    @property
    def asks(self) -> bool:
        """Whether the load has begun, so that there is something to tell."""
        return bool(self.record.surfaces)

    async def __call__(self) -> dict[str, Any]:
        """Run it and return the result; a stop that is asked for ends it early and in order."""
        made = self._made
        if made is None:
            made = await asyncio.to_thread(models.make, self._folder)
        key, stranger, operator = (_key(self._keys_file, name) for name in ("load", "stranger", "operator"))
        self._models_file.write_text(f'["{models.ALIAS}"]\nmodel = "{models.DENSE}"\n', encoding="utf-8")
        first = Serving(made.repository, self._folder / "first", **self._environment)
        (self._folder / "first").mkdir()
        if isolation.is_isolated():
            isolation.mount(first.run_directory)
        try:
            async with AsyncExitStack() as stack:
                scene = await self._set_up(stack, first, made.repository, stranger, operator)
                begin, end = await self._perform(scene, made, key)
            left = first.leftovers()
        finally:
            if isolation.is_isolated():
                left_in_memory = [region.name for region in isolation.SHARED_MEMORY.iterdir()]
                isolation.unmount(first.run_directory)
        left += [region for region in left_in_memory if region not in left] if isolation.is_isolated() else []
        return report.result(self.record, begin, end, scene.supervised.down, left)

    async def _set_up(
        self, stack: AsyncExitStack, first: Serving, repository: Path, stranger: str, operator: str
    ) -> Scene:
        self.phase = "starting conch serve"
        supervised = await stack.enter_async_context(Supervised(first))
        await supervised.until_ready()
        (proxy_port,) = free_ports(1)
        proxy = await stack.enter_async_context(Proxy(proxy_port, ("127.0.0.1", first.grpc_port)))
        library, clock_file = clock.library(), self._folder / "clock"
        of_clock = {} if library is None else clock.environment(library, clock_file)
        environment = {**self._environment, **of_clock, "CONCH_TRITON_URL": f"127.0.0.1:{proxy_port}"}
        (self._folder / "second").mkdir()
        second = Supervised(Serving(None, self._folder / "second", **environment))
        self._second = await stack.enter_async_context(second)
        await second.until_ready()
        headers = {"Authorization": f"Bearer {operator}"}
        http = httpx.AsyncClient(base_url=first.url, headers=headers, timeout=30, trust_env=False)
        return Scene(
            supervised=supervised,
            proxy=proxy,
            operator=await stack.enter_async_context(http),
            repository=repository,
            models_file=self._models_file,
            keys_file=self._keys_file,
            clock_file=None if library is None else clock_file,
            stranger=stranger,
        )

    async def _perform(self, scene: Scene, made: models.Models, key: str) -> tuple[float, float]:
        """Start the load, and the faults once it knows the known values; return when both began and ended."""
        self.phase = "computing the known values"
        orders = Orders(
            url=scene.serving.url,
            grpc_url=scene.serving.grpc_url,
            proxied_url=self._second.serving.url,
            key=key,
            per_s=self.plan.per_s,
            seconds=self.plan.seconds,
            seed=self.plan.seed,
            folders={name: str(path) for name, path in asdict(made).items()},
        )
        load = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.load", orders.as_json()),
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            start_new_session=True,
        )
        return await self._conduct(load, scene)

    async def _conduct(self, load: asyncio.subprocess.Process, scene: Scene) -> tuple[float, float]:
        """Let the faults happen while the load asks, and raise what went wrong with either of them."""
        knows = asyncio.Event()
        reading = asyncio.create_task(self._read(load, knows))
        done, _ = await asyncio.wait([reading, asyncio.create_task(knows.wait())], return_when=asyncio.FIRST_COMPLETED)
        if reading in done:
            await reading
            raise RuntimeError("the load has ended before it asked anything")
        begin = time.monotonic()
        self.phase = "no fault yet"
        meanwhile = [asyncio.create_task(self._strike_all(scene, begin)), asyncio.create_task(self._weigh(scene))]
        failing = asyncio.create_task(asyncio.wait(meanwhile, return_when=asyncio.FIRST_EXCEPTION))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([reading, failing, stopping], return_when=asyncio.FIRST_COMPLETED)
        end = min(time.monotonic(), begin + self.plan.seconds)
        self.phase = "waiting for the last answers"
        if not reading.done():
            load.terminate()
        for task in (*meanwhile, failing, stopping):
            task.cancel()
        ended = await asyncio.gather(*meanwhile, return_exceptions=True)
        with anyio.fail_after(LOAD_ENDS_S):
            await reading
        for failure in ended:
            if isinstance(failure, Exception):  # and not that it was cancelled
                raise failure
        return begin, end

    async def _read(self, load: asyncio.subprocess.Process, knows: asyncio.Event) -> None:
        assert load.stdout is not None
        async for line in load.stdout:
            self.record.take(json.loads(line))
            if self.asks:
                knows.set()
        status = await load.wait()
        if status:
            raise RuntimeError(f"the load has ended with status {status}; it says above why")

    async def _strike_all(self, scene: Scene, begin: float) -> None:
        journals = [Journal(self._folder / which / "stderr", self._folder) for which in ("first", "second")]
        for journal in journals:
            journal.news()
        for number, fault in enumerate(self.plan.faults):
            await asyncio.sleep(max(0.0, begin + CALM_S + number * self.plan.every_s - time.monotonic()))
            why_not = fault.impossible(scene)
            if why_not is not None:
                self.record.left_out[fault.name] = why_not
                continue
            await scene.supervised.until_ready()  # a fault on top of another would be seen as one
            self.phase = fault.name
            strike = Strike(fault.name, time.monotonic())
            self.record.strikes.append(strike)
            try:
                await self._strike(fault, strike, scene)
                await asyncio.sleep(max(0.0, strike.begin + 0.9 * self.plan.every_s - time.monotonic()))
            finally:
                strike.log = list(dict.fromkeys(line for journal in journals for line in journal.news()))

    async def _strike(self, fault: Fault, strike: Strike, scene: Scene) -> None:
        try:
            async with fault.happening(scene):
                await asyncio.sleep(fault.lasts_s)
        except (AssertionError, LookupError, OSError, httpx.HTTPError, psutil.Error) as error:
            strike.trouble = f"{type(error).__name__}: {error}"
        finally:
            strike.mended = time.monotonic()

    async def _weigh(self, scene: Scene) -> None:
        """Measure the memory while everything runs; a deployment that is being started again is not compared."""
        while True:
            await asyncio.sleep(MEMORY_EVERY_S)
            with contextlib.suppress(LookupError):
                before = scene.serving.triton.pid
                mb = await asyncio.to_thread(scene.supervised.pss_mb)
                if scene.serving.triton.pid == before and await asyncio.to_thread(scene.serving.ready):
                    self.record.memory_mb.append((time.monotonic(), mb))

    @property
    def _environment(self) -> dict[str, str]:
        files = {"CONCH_API_KEYS_FILE": str(self._keys_file), "CONCH_MODELS_FILE": str(self._models_file)}
        return {**files, "CONCH_TRITON_CORES": str(usable_cores())}

    @property
    def _keys_file(self) -> Path:
        return self._folder / "keys.json"

    @property
    def _models_file(self) -> Path:
        return self._folder / "models.toml"


def _key(file: Path, name: str) -> str:
    return keys.create_key(file, name, admin=name == "operator")
