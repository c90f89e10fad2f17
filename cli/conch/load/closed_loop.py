"""Closed-loop load: a fixed number of clients, each of which sends its next request after the answer to the last."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REFUSED_PAUSE_S = 0.01


@dataclass(frozen=True)
class Done:
    """Contents of an answered request."""

    texts: int
    tokens: int


@dataclass
class Load:
    """Counts from the first request to the last answer.

    Attributes:
        texts: Texts answered.
        tokens: Tokens of those texts.
        seconds: Seconds until the last answer.
        latencies_s: Latency of every answered request.
        errors: Number of failures by message.
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

    def summary(self) -> dict[str, Any]:
        """Return the load for JSON: counts, rates, percentiles of latency (None without answers), errors by message."""
        answered = bool(self.latencies_s)
        return {
            "seconds": self.seconds,
            "texts": self.texts,
            "tokens": self.tokens,
            "texts_per_s": self.texts_per_s,
            "tokens_per_s": self.tokens_per_s,
            "latency_ms": {f"p{p}": percentile(self.latencies_s, p) * 1e3 if answered else None for p in (50, 95, 99)},
            "errors": dict(self.errors.most_common()),
        }


async def closed_loop(
    send: Callable[[int], Awaitable[Done]],
    *,
    clients: int,
    seconds: float,
    on_answer: Callable[[Load], None] = lambda _: None,
) -> Load:
    """Run the load. Requests in flight at the end are awaited and counted, together with the time they take.

    Args:
        send: Sends request number 0, 1, 2, … and returns when it is answered; its exceptions are counted.
        clients: Number of concurrent clients.
        seconds: Time in which requests are sent.
        on_answer: Called after every answer with the counts so far.
    """
    load, numbers, begin = Load(), iter(range(1 << 62)), time.perf_counter()

    async def client() -> None:
        while (sent := time.perf_counter()) < begin + seconds:
            try:
                done = await send(next(numbers))
            except Exception as error:  # noqa: BLE001 - every failure is a result here
                load.errors[f"{type(error).__name__}: {error}"] += 1
                await asyncio.sleep(REFUSED_PAUSE_S)  # no tight loop against a server that refuses at once
                continue
            now = time.perf_counter()
            load.texts += done.texts
            load.tokens += done.tokens
            load.seconds = now - begin
            load.latencies_s.append(now - sent)
            on_answer(load)

    await asyncio.gather(*(client() for _ in range(clients)))
    return load


def percentile(values: list[float], percent: float) -> float:
    """Return a percentile, interpolated linearly; NaN of no values."""
    return float(np.percentile(values, percent)) if values else float("nan")
