"""What is learnt about one request: a single record that feeds the headers, the metrics and the log."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from time import perf_counter

from starlette.requests import HTTPConnection
from starlette.types import Scope

from conch_gateway.auth.keys import ANYBODY, Key

_KEY = "conch.trace"
_TEI_NAMES = {
    "tokenize": b"x-tokenization-time",
    "queue": b"x-queue-time",
    "inference": b"x-inference-time",
    "total": b"x-total-time",
}
_TIMEOUTS = (b"x-request-timeout-s", b"x-stainless-read-timeout", b"x-stainless-timeout")  # OpenAI's SDKs: the others
_SECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{0,9})?")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Trace:
    """One request, from its headers to its last byte; durations in seconds.

    Attributes:
        request_id: the caller's, or one made here.
        caller: who asks: the name of the key, or the address.
        key: what the caller has identified with, or what stands for it.
        started: when the headers had been read.
        timeout_s: how long the caller says it waits for the answer; infinite if it does not say.
        status: of the answer, once it has begun.
        model: that was asked.
        texts: in the request.
        tokens: of the texts.
        cache_hits: how many of the texts were known from before; None without a cache.
        tokenize_s: spent on turning texts into tokens.
        queue_s: until the first call, to Triton or another server, had its turn.
        inference_s: from there to the last answer.
        error: what went wrong.
        cancelled: why the work was given up: the caller hung up, or its time was up.
    """

    request_id: str
    caller: str = ""
    key: Key = ANYBODY
    started: float = field(default_factory=perf_counter)
    timeout_s: float = inf
    status: int | None = None
    model: str | None = None
    texts: int = 0
    tokens: int = 0
    cache_hits: int | None = None
    tokenize_s: float | None = None
    queue_s: float | None = None
    inference_s: float | None = None
    error: Exception | None = None
    cancelled: Exception | None = None

    def enter(self, model: str, texts: int) -> None:
        """Note what the request turned out to want."""
        self.model, self.texts = model, texts

    @contextmanager
    def inferring(self) -> Iterator[None]:
        """Time the block, whose wait for its turn is timed apart."""
        started = perf_counter()
        yield
        self.inference_s = perf_counter() - started - (self.queue_s or 0.0)

    @property
    def phases(self) -> dict[str, float]:
        """What the time was spent on, as far as it is known."""
        phases = {"tokenize": self.tokenize_s, "queue": self.queue_s, "inference": self.inference_s}
        return {phase: spent for phase, spent in phases.items() if spent is not None}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`x-request-id`, `server-timing`, and the headers of text-embeddings-inference; all times in milliseconds."""
        phases = {**self.phases, "total": perf_counter() - self.started}
        timing = ", ".join(f"{phase};dur={1e3 * spent:.2f}" for phase, spent in phases.items())
        headers = [(b"x-request-id", self.request_id.encode()), (b"server-timing", timing.encode())]
        if self.model is not None:
            headers += [(_TEI_NAMES[phase], b"%d" % (1e3 * spent)) for phase, spent in phases.items()]
            headers.append((b"x-compute-tokens", b"%d" % self.tokens))
        return headers


def begin_trace(scope: Scope) -> Trace:
    """Start the record of a request; the caller's `x-request-id` is taken over if it is safe to log and return."""
    headers = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    address = scope.get("client")
    trace = Trace(given.decode() if _SANE_ID.fullmatch(given) else os.urandom(16).hex(), address[0] if address else "")
    trace.timeout_s = _stated_timeout_s(headers)
    scope[_KEY] = trace
    return trace


def trace_of(connection: HTTPConnection) -> Trace:
    """Return the record that the middleware began for this request."""
    trace: Trace = connection.scope[_KEY]
    return trace


def _stated_timeout_s(headers: Mapping[bytes, bytes]) -> float:
    """Read how many seconds a caller waits; nothing, nonsense and 0 (what OpenAI's SDKs round down) mean any number."""
    stated = next((headers[name] for name in _TIMEOUTS if name in headers), b"")
    return (float(stated) if _SECONDS.fullmatch(stated) else inf) or inf
