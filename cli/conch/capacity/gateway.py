"""Measures one gateway: requests with one text each, alone and under load, and the processor time that they take."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch.capacity.profile import RequestLoad, latency_ms
from conch.load.closed_loop import Done, closed_loop
from conch.load.http import Address
from conch.load.target import BenchError, target_of
from conch.load.texts import Lengths, synthetic_texts

if TYPE_CHECKING:
    from conch.capacity.engine import EngineProbe

CLIENTS = 32
WARM_UP_S = 0.25
_PROCESSOR_S = re.compile(rb"^process_cpu_seconds_total (\S+)$", re.MULTILINE)
_CACHED = re.compile(rb'^conch_gateway_cache_texts_total\{.*result="hit".*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class _Counted:
    """Counters of a gateway since it started: processor time of its process, and texts whose vectors were cached."""

    processor_s: float
    cached: float


class GatewayProbe:
    """Measures one model of a gateway, whose Triton another probe measures."""

    def __init__(self, url: str, model: str, triton: EngineProbe, key: str | None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._model = model
        self._triton = triton
        self._key = key

    async def measure(self, tokens: int, clients: int, pause_s: float, seconds: float) -> RequestLoad:
        """Measure requests with one text of so many tokens, each sent `pause_s` after the client's last answer.

        Raises:
            BenchError: The gateway cannot be measured.
        """
        texts = synthetic_texts(Lengths(tokens, tokens), 64)
        latencies_s: list[float] = []
        async with target_of(self.url, self._model, [[text] for text in texts], clients, self._key) as target:

            async def send(number: int) -> Done:
                await asyncio.sleep(pause_s)
                sent = time.perf_counter()
                done = await target.send(number)
                latencies_s.append(time.perf_counter() - sent)
                return done

            await closed_loop(send, clients=clients, seconds=WARM_UP_S)
            latencies_s.clear()
            before, calls = await self._counted(), await self._triton.counted()
            sender_s = time.process_time()
            load = await closed_loop(send, clients=clients, seconds=seconds)
            sender_s = time.process_time() - sender_s
            after = await self._counted()
            counted = (await self._triton.counted()).since(calls)
        if load.errors:
            raise BenchError(f"{self.url}: {next(iter(load.errors))}")
        if after.cached > before.cached:
            raise BenchError(f"{self.url} answers from its cache; start it without CONCH_CACHE_MB to measure it")
        if not (counted.calls and counted.runs):
            raise BenchError(f"{self.url} sends nothing to the Triton that was measured; name its own by --triton-url")
        return RequestLoad(
            tokens=round(load.tokens / load.texts),
            clients=clients,
            pause_ms=1e3 * pause_s,
            per_s=load.texts_per_s,
            latency_ms=latency_ms(latencies_s),
            texts_per_call=load.texts / counted.calls,
            gateway_ms=1e3 * (after.processor_s - before.processor_s) / load.texts,
            sender_ms=1e3 * sender_s / load.texts,
            run_ms=counted.run_ns / counted.runs / 1e6,
        )

    async def _counted(self) -> _Counted:
        page = await Address.of(f"{self.url}/metrics", self._key).get()
        processor_s = _PROCESSOR_S.search(page)
        if processor_s is None:
            raise BenchError(f"{self.url}/metrics has no process_cpu_seconds_total; measure a gateway of this release")
        return _Counted(float(processor_s[1]), sum(map(float, _CACHED.findall(page))))
