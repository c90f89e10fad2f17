"""Load from a fixed number of clients, each of which sends its next request when it has its answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Done:
    """One request that was answered: what it held."""

    texts: int
    tokens: int


@dataclass
class Load:
    """What happened between the first and the last answer after warming up.

    Attributes:
        texts: answered.
        tokens: of those texts.
        seconds: in which they were.
        latencies_s: of every request that was answered.
        errors: what went wrong, and how often.
    """

    texts: int = 0
    tokens: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def texts_per_s(self) -> float:
        """Texts answered in a second."""
        return self.texts / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens answered in a second."""
        return self.tokens / self.seconds if self.seconds else 0.0


async def closed_loop(
    send: Callable[[int], Awaitable[Done]],
    *,
    clients: int,
    seconds: float,
    warm_up_s: float = 0.0,
    on_answer: Callable[[Load], None] = lambda _: None,
) -> Load:
    """Run the load.

    Args:
        send: sends request number 0, 1, 2, … and returns when it is answered; what it raises is counted.
        clients: how many send at the same time.
        seconds: measured time.
        warm_up_s: time before that, which is not counted.
        on_answer: called after every request with what there is so far.
    """
    load, numbers = Load(), iter(range(1 << 62))
    begin = time.perf_counter() + warm_up_s
    end = begin + seconds

    async def client() -> None:
        while (sent := time.perf_counter()) < end:
            try:
                done = await send(next(numbers))
            except Exception as error:  # noqa: BLE001 - every failure is a result here
                load.errors[f"{type(error).__name__}: {error}"] += 1
                await asyncio.sleep(0.01)  # a server that refuses at once is not asked in a tight loop
                continue
            now = time.perf_counter()
            if begin <= now <= end:
                _count(load, done, now - sent, now - begin)
                on_answer(load)

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = seconds
    return load


def _count(load: Load, done: Done, latency_s: float, elapsed_s: float) -> None:
    load.texts += done.texts
    load.tokens += done.tokens
    load.seconds = elapsed_s
    load.latencies_s.append(latency_s)


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed, interpolated linearly; NaN of no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
