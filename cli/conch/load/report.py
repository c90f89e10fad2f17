"""Result of `conch bench`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch.load.closed_loop import percentile

if TYPE_CHECKING:
    from conch.load.closed_loop import Load


@dataclass(frozen=True)
class Report:
    """The result of `conch bench`, as `--json` writes it.

    Attributes:
        url: what was asked.
        model: which model of it.
        concurrency: clients that asked at the same time.
        batch: texts in one request.
        seconds: from the first request to the last answer.
        texts: answered.
        tokens: computed for them, special tokens included.
        texts_per_s: texts / seconds.
        tokens_per_s: tokens / seconds.
        latency_ms: of a request: p50, p95, p99; None if none was answered.
        errors: how often each failure happened.
    """

    url: str
    model: str
    concurrency: int
    batch: int
    seconds: float
    texts: int
    tokens: int
    texts_per_s: float
    tokens_per_s: float
    latency_ms: dict[str, float | None]
    errors: dict[str, int]


def report_of(load: Load, *, url: str, model: str, concurrency: int, batch: int) -> Report:
    """Return the result of a load."""
    some = bool(load.latencies_s)
    return Report(
        url=url,
        model=model,
        concurrency=concurrency,
        batch=batch,
        seconds=load.seconds,
        texts=load.texts,
        tokens=load.tokens,
        texts_per_s=load.texts_per_s,
        tokens_per_s=load.tokens_per_s,
        latency_ms={f"p{p}": percentile(load.latencies_s, p) * 1e3 if some else None for p in (50, 95, 99)},
        errors=dict(load.errors.most_common()),
    )
