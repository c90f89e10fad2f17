"""The load: a process of its own that asks on a schedule, whatever has come back, and checks every answer.

It reads its orders as JSON from its only argument and writes a JSON object a line: `known` once the known values are
there, `right` with the counts of a second, and `other` for every question that was not answered rightly. Moments are
those of the machine's monotonic clock, which its parent reads too. `late` says how late questions were asked, which
must be next to nothing: a load that is slow itself says nothing of what it asks.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import orjson
import uvloop

from tests.soak import expectations, plain
from tests.soak.grpc_calls import CALLS, Clients
from tests.soak.models import Models
from tests.soak.orders import Orders
from tests.soak.outcomes import Answer, Kind, of_answer, of_error
from tests.soak.rest import ASKINGS, REFUSED
from tests.soak.texts import QUERIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.soak.known import Known

THROUGH_PROXY = "another gateway, "
ASKED_THROUGH_PROXY = ("OpenAI, base64, by alias", "Cohere /v2/rerank, late interaction")
DEADLINE_S = 40.0  # the gateway's own is 30 s
GRPC_DEADLINE_S = 30.0
KEPT_ALIVE_S = 3.0  # less than the gateway keeps an idle connection, so that nobody hangs up on a question


@dataclass
class Tally:
    """Counts of right answers by the second in which they were asked for, told once the second is over."""

    _right: dict[int, Counter[str]] = field(default_factory=dict)
    _slowest_s: dict[int, float] = field(default_factory=dict)
    _late_s: list[float] = field(default_factory=list)

    def late(self, seconds: float) -> None:
        """Count how much later than it was due a question is asked."""
        self._late_s.append(seconds)

    def add(self, surface: str, kind: Kind, begin: float, said: str) -> None:
        """Count a right answer, or tell of any other at once."""
        end = time.monotonic()
        if kind is not Kind.RIGHT:
            tell("other", surface=surface, kind=kind.value, begin=begin, end=end, said=said)
            return
        second = int(begin)
        self._right.setdefault(second, Counter())[surface] += 1
        self._slowest_s[second] = max(self._slowest_s.get(second, 0.0), end - begin)

    def tell_until(self, moment: float) -> None:
        """Tell of the seconds before a moment."""
        for second in [second for second in self._right if second < moment]:
            tell("right", second=second, counts=self._right.pop(second), slowest_s=self._slowest_s.pop(second))

    def tell_late(self) -> None:
        """Tell how late questions were asked, half of them and all but one of a hundred."""
        in_order = sorted(self._late_s)
        if in_order:
            tell("late", p50_s=in_order[len(in_order) // 2], p99_s=in_order[len(in_order) * 99 // 100])


def tell(event: str, **what: Any) -> None:
    """Write a line for the parent."""
    print(json.dumps({"event": event, **what}), flush=True)


class Load:
    """Everything that is asked."""

    def __init__(
        self, known: Known, clients: Clients, gateway: aiohttp.ClientSession, proxied: aiohttp.ClientSession
    ) -> None:
        self._known = known
        self.tally = Tally()
        self._ask: dict[str, Callable[[random.Random], Awaitable[tuple[Kind, str]]]] = {
            **{surface: self._rest(gateway, surface) for surface in ASKINGS},
            **{THROUGH_PROXY + surface: self._rest(proxied, surface) for surface in ASKED_THROUGH_PROXY},
            **{surface: self._grpc(clients, surface) for surface in CALLS},
        }

    @property
    def surfaces(self) -> list[str]:
        """Names of what is asked."""
        return list(self._ask)

    async def one(self, surface: str, chance: random.Random) -> None:
        """Ask once, check the answer and count it."""
        begin = time.monotonic()
        try:
            with anyio.fail_after(DEADLINE_S):
                kind, said = await self._ask[surface](chance)
        except Exception as error:  # noqa: BLE001  whatever a client raises is an outcome
            kind, said = of_error(error)
        self.tally.add(surface, kind, begin, said)

    def _rest(self, http: aiohttp.ClientSession, surface: str) -> Any:
        refusals = REFUSED if "refused" in surface else ()

        async def ask(chance: random.Random) -> tuple[Kind, str]:
            question = ASKINGS[surface](self._known, chance)
            async with http.post(question.path, data=orjson.dumps(question.body)) as response:
                answer = Answer(response.status, response.headers.get("retry-after", ""), await response.read())
            return of_answer(question, answer, refusals)

        return ask

    def _grpc(self, clients: Clients, surface: str) -> Any:
        async def ask(chance: random.Random) -> tuple[Kind, str]:
            await CALLS[surface](clients, self._known, chance)
            return Kind.RIGHT, ""

        return ask


async def open_loop(load: Load, orders: Orders, stop: asyncio.Event) -> None:
    """Ask at random moments, every surface as often as any other, then wait for what is still under way."""
    chance = random.Random(orders.seed)  # noqa: S311
    asked: set[asyncio.Task[None]] = set()
    begin = due = time.monotonic()
    waiting: list[str] = []
    while not stop.is_set() and (now := time.monotonic()) < begin + orders.seconds:
        while due <= now:
            load.tally.late(now - due)
            waiting = waiting or chance.sample(load.surfaces, len(load.surfaces))
            of_its_own = random.Random(chance.getrandbits(32))  # noqa: S311
            task = asyncio.create_task(load.one(waiting.pop(), of_its_own))
            asked.add(task)
            task.add_done_callback(asked.discard)
            due += chance.expovariate(orders.per_s)
        load.tally.tell_until(now - DEADLINE_S)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    if asked:
        await asyncio.wait(asked)
    load.tally.tell_until(time.monotonic() + 1)
    load.tally.tell_late()


async def run(orders: Orders) -> None:
    """Learn the known values, say so, and ask."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    made = Models(**{name: Path(folder) for name, folder in orders.folders.items()})
    quiet = plain.connect(orders.grpc_url)
    known = await expectations.learn(made, quiet, QUERIES)
    await quiet.close()
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(Clients(orders.grpc_url, timeout_s=GRPC_DEADLINE_S))
        gateways = [await stack.enter_async_context(_http(url, orders.key)) for url in (orders.url, orders.proxied_url)]
        load = Load(known, clients, *gateways)
        for surface in load.surfaces:  # everybody is connected, and knows its models, before the schedule begins
            await load.one(surface, random.Random(0))  # noqa: S311
        tell("known", surfaces=load.surfaces)
        await open_loop(load, orders, stop)


def _http(url: str, key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        url,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=DEADLINE_S),
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_ALIVE_S),
    )


if __name__ == "__main__":
    uvloop.run(run(Orders(**json.loads(sys.argv[1]))))
