"""Loads: requests with their times, and their outcomes."""

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
    """A request: the time at which it is sent, and the lengths of its texts in tokens."""

    at_s: float
    lengths: tuple[int, ...]


class Answering(Protocol):
    """A target of requests."""

    async def answer(self, lengths: Sequence[int]) -> None:
        """Answer a request with texts of these lengths.

        Raises:
            CapacityError: The request was refused.
            ConchError: The request failed.
        """


@dataclass
class Outcome:
    """The outcome of a load.

    Attributes:
        sent: Requests sent.
        refused: Requests that were refused by admission.
        failed: Requests that failed otherwise.
        tokens: Tokens answered.
        answered_at_s: Time of each answer.
        latencies_s: Latency of each answer.
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
        """Send one request and record its outcome."""
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
    per_s: float, lengths: Sequence[int], *, seconds: float, seed: int, begin_s: float = 0.0
) -> Iterator[Request]:
    """Yield requests with one text at random moments (a Poisson process), with lengths drawn from a sample.

    Args:
        per_s: Mean requests per second.
        lengths: The sample, in tokens.
        seconds: Time in which requests are sent.
        seed: Equal seeds give equal requests.
        begin_s: Time from which requests are sent.
    """
    source = random.Random(seed)  # noqa: S311 - no secret
    at_s = begin_s + source.expovariate(per_s)
    while at_s < begin_s + seconds:
        yield Request(at_s, tuple(source.choices(lengths, k=1)))
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
