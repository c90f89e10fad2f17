"""The access log: one JSON object for each request; names, numbers and times, and nothing that a user has sent."""

from __future__ import annotations

import logging

import orjson

from conch_gateway.errors import problem_of
from conch_gateway.telemetry.request import Ended

_log = logging.getLogger("conch_gateway.access")


def log_access(ended: Ended) -> None:
    """Write the line of a request that has ended; what does not apply to it is left out."""
    usage = ended.usage
    line: dict[str, str | float | None] = {
        "request_id": ended.context.request_id,
        "route": ended.route,
        "status": ended.status,
        "caller": ended.context.caller,
        "error": None if ended.error is None else problem_of(ended.error).code,
    }
    if usage is not None:
        line |= {"model": usage.model, "texts": usage.texts, "tokens": usage.tokens or None}
        line |= {"cache_hits": usage.cache_hits, "truncated": usage.truncated or None}
        line |= {f"{phase}_ms": round(1e3 * spent, 2) for phase, spent in usage.phases.items()}
    line["total_ms"] = round(1e3 * ended.total_s, 2)
    _log.info("%s", orjson.dumps({name: value for name, value in line.items() if value is not None}).decode())
