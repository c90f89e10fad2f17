"""Requests that a deployment gets, when, and what became of them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from conch_client import ConchError
from conch_gateway.errors import CapacityError

from conch.simulation.clock import now_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Request(NamedTuple):
    """A request: when it is sent, and the tokens of each of its texts."""

    at_s: float
    lengths: tuple[int, ...]


class Answering(Protocol):
    """What answers requests."""

    async def answer(self, lengths: Sequence[int]) -> None:
        """Return when texts of so many tokens are answered.

        Raises:
            CapacityError: They were refused.
            ConchError: They failed.
        """


@dataclass
class Outcome:
    """What became of a load.

    Attributes:
        sent: Requests sent.
        refused: Requests refused for want of room.
        failed: Requests that failed otherwise.
        tokens: Tokens answered.
        answered_at_s: When each answered request had its answer.
        latencies_s: How long each of them took.
    """

    sent: int = 0
    refused: int = 0
    failed: int = 0
    tokens: int = 0
    answered_at_s: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Requests answered."""
        return len(self.latencies_s)

    @property
    def per_s(self) -> float:
        """Requests answered in a second, from the first request to the last answer."""
        return self.answered / max(self.answered_at_s) if self.answered_at_s else 0.0

    def latency_s(self, percent: float, since_s: float = 0.0) -> float:
        """Return a percentile of the latencies of requests sent since then; infinite without any."""
        counted = [
            latency for at, latency in zip(self.answered_at_s, self.latencies_s, strict=True) if at - latency >= since_s
        ]
        return float(np.percentile(counted, percent)) if counted else float("inf")

    async def watch(self, target: Answering, lengths: Sequence[int]) -> None:
        """Send one request and take note of what becomes of it."""
        self.sent += 1
        sent_at = now_s()
        try:
            await target.answer(lengths)
        except CapacityError:
            self.refused += 1
        except ConchError:
            self.failed += 1
        else:
            self.tokens += sum(lengths)
            self.answered_at_s.append(now_s())
            self.latencies_s.append(now_s() - sent_at)


def poisson(
    per_s: float, lengths: Sequence[int], *, seconds: float, seed: int, texts: int = 1, begin_s: float = 0.0
) -> Iterator[Request]:
    """Requests at random moments, with lengths drawn from a sample.

    Args:
        per_s: Requests in a second, in the mean.
        lengths: The sample, in tokens.
        seconds: How long requests are sent.
        seed: The same requests for the same one.
        texts: Texts in a request.
        begin_s: When the first may be sent.
    """
    source = random.Random(seed)  # noqa: S311 - no secret
    at_s = begin_s + source.expovariate(per_s)
    while at_s < begin_s + seconds:
        yield Request(at_s, tuple(source.choices(lengths, k=texts)))
        at_s += source.expovariate(per_s)


async def open_loop(target: Answering, requests: Iterable[Request]) -> Outcome:
    """Send requests when they are due, whether or not earlier ones are answered, and wait for all of them."""
    outcome, tasks = Outcome(), set()
    for request in requests:
        await asyncio.sleep(request.at_s - now_s())
        task = asyncio.create_task(outcome.watch(target, request.lengths))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return outcome


async def closed_loop(target: Answering, lengths: Sequence[int], *, clients: int, seconds: float) -> Outcome:
    """Let clients send single texts one after the other, each as soon as the last is answered; lengths by turns."""
    outcome, numbers = Outcome(), iter(range(1 << 62))

    async def client() -> None:
        while now_s() < seconds:
            await outcome.watch(target, [lengths[next(numbers) % len(lengths)]])

    await asyncio.gather(*(client() for _ in range(clients)))
    return outcome
