"""The access log: one JSON object for each request; names, numbers and times, and nothing that a user has sent."""

from __future__ import annotations

import logging
from time import perf_counter

import orjson

from conch_gateway.errors import problem_of
from conch_gateway.telemetry.trace import Trace

_log = logging.getLogger("conch_gateway.access")


def log_access(trace: Trace, route: str) -> None:
    """Write the line of a request that has ended; what does not apply to it is left out."""
    line = {
        "request_id": trace.request_id,
        "route": route,
        "status": trace.status,
        "caller": trace.caller,
        "error": None if trace.error is None else problem_of(trace.error).code,
        "model": trace.model,
        "texts": trace.texts or None,
        "tokens": trace.tokens or None,
        "cache_hits": trace.cache_hits,
        **{f"{phase}_ms": round(1e3 * spent, 2) for phase, spent in trace.phases.items()},
        "total_ms": round(1e3 * (perf_counter() - trace.started), 2),
    }
    _log.info("%s", orjson.dumps({name: value for name, value in line.items() if value is not None}).decode())
