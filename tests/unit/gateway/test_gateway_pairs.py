"""Pairs of texts that are scored by ranking."""

from __future__ import annotations

from typing import Any

import anyio.lowlevel
from conch_client import Ranked
from conch_gateway.inference.pairs import pair_scores
from conch_gateway.jobs import Answer, PairJob, RerankJob


class Ranking:
    """A backend that notes how many queries it ranks at a time."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def rerank(self, _: Any, job: RerankJob, __: Any) -> Answer[list[Ranked]]:
        self.running += 1
        self.most = max(self.most, self.running)
        await anyio.lowlevel.checkpoint()
        self.running -= 1
        return Answer([Ranked(0, float(job.query))], tokens=1)


async def test_thousands_of_queries_are_not_begun_at_once() -> None:
    backend: Any = Ranking()
    job = PairJob(pairs=[(str(number), "text") for number in range(2048)])
    nothing: Any = None

    answer = await pair_scores(job, nothing, backend, nothing)

    assert answer.given == list(range(2048))
    assert 2 <= backend.most <= 64
