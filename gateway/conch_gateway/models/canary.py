"""Canaries: each embedding model embeds a known text, and a metric says how far its vector is from the right one.

An export writes a text, and the vector that the authors' library has for it, into its report. A served model whose
vector points elsewhere has other weights, another tokenizer or a broken kernel. Its answers look like any others, so
nothing else would notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import time
from typing import NamedTuple

from conch_client import ModelInfo, NotComputedError
from conch_contract import REPORT, KnownAnswer, Task
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from conch_gateway.backends.triton import Triton
from conch_gateway.background import end_all, repeat, start

_TIMEOUT_S = 60.0  # long texts may be ahead of it


class _Asked(NamedTuple):
    """When a model answered last, with which cosine; if it never did, when it was asked first."""

    at: float  # Unix time
    cosine: float | None = None


class Canaries(Collector):
    """Runs the canaries periodically, and exposes their cosines as metrics.

    Args:
        triton: serves the models.
        repository: model repository whose reports have the known answers. They are read each time, as models may be
            exported anew. None for no canaries.
        interval_s: seconds between two runs; 0 for no canaries.
    """

    def __init__(self, triton: Triton, repository: Path | None, interval_s: float) -> None:
        self._triton = triton
        self._repository = repository
        self._interval_s = interval_s
        self._asked: dict[str, _Asked] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the canaries inside the block; a failure is logged, and the next run comes at its time."""
        if self._repository is None or not self._interval_s:
            yield
            return
        asking = repeat(partial(self.ask, self._repository), self._interval_s, "comparing models with known answers")
        task = start(asking, "conch-canary")
        try:
            yield
        finally:
            await end_all([task])

    async def ask(self, repository: Path) -> None:
        """Compare every embedding model that is loaded once; raises the first failure after all were compared."""
        served = [info for info in await self._triton.models() if info.ready and info.task == Task.EMBEDDING]
        began = time()
        ends = await asyncio.gather(*(self._compare(info, repository) for info in served), return_exceptions=True)
        # Models that are no longer served, or have no known answer, are forgotten. One that fails keeps its last time,
        # which an alert looks at.
        self._asked = {
            info.name: end if isinstance(end, _Asked) else self._asked.get(info.name, _Asked(began))
            for info, end in zip(served, ends, strict=True)
            if end is not None
        }
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _compare(self, info: ModelInfo, repository: Path) -> _Asked | None:
        """Return the model's answer; None if its report has no known one."""
        known = await asyncio.to_thread(KnownAnswer.read, repository / info.name / REPORT)
        if known is None:
            return None
        try:
            cosine = known.cosine(await self._triton.vector(info, known.text, _TIMEOUT_S))
        except NotComputedError:
            cosine = 0.0
        return _Asked(time(), cosine)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, by model."""
        cosine = GaugeMetricFamily(
            "conch_gateway_canary_cosine",
            "Cosine of the model's vector of a known text with its authors' vector; 0 for NaN.",
            labels=("model",),
        )
        asked_at = GaugeMetricFamily(
            "conch_gateway_canary_timestamp_seconds",
            "Unix time of the model's last answer to the canary; of the first canary, if it has answered none.",
            labels=("model",),
        )
        for model, asked in self._asked.items():
            asked_at.add_metric((model,), asked.at)
            if asked.cosine is not None:
                cosine.add_metric((model,), asked.cosine)
        interval = GaugeMetricFamily(
            "conch_gateway_canary_interval_seconds",
            "CONCH_CANARY_INTERVAL_S, the time between canaries.",
            self._interval_s,
        )
        yield from (cosine, asked_at, interval)
