"""A request's context, from its headers and key, and its usage, which the inference service measures."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from time import perf_counter
from typing import Any

from starlette.types import Scope

from conch_gateway.auth.keys import ANYBODY, Key

_CONTEXT, _USAGE, _ERROR, _GONE = "conch.context", "conch.usage", "conch.error", "conch.gone"  # in the scope
_TEI_NAMES = {
    "tokenize": b"x-tokenization-time",
    "queue": b"x-queue-time",
    "inference": b"x-inference-time",
    "total": b"x-total-time",
}
_TIMEOUTS = (b"x-request-timeout-s", b"x-stainless-read-timeout", b"x-stainless-timeout")  # OpenAI's SDKs: the others
_EXPECT_SPACE, _SPACE_ID = b"x-conch-expect-space", b"x-conch-space-id"
_PRIORITY, _BACKGROUND = b"x-conch-priority", b"background"
_SECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{0,9})?")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Usage:
    """The texts, tokens and times of a request that a model has computed, or has failed to compute.

    Attributes:
        model: the model that computed it, by its own name.
        texts: number of texts or documents in the request.
        tokens: tokens of the texts; if the request failed or was given up, those that were computed by then.
        cache_hits: number of texts whose vectors were cached; None without a cache.
        space_id: vector space of the answer; None if it has no vectors, or the model's is not known.
        tokenize_s: seconds spent on tokenising; None if that was not reached, as for the next two.
        queue_s: seconds until its first call to the backend got a slot.
        inference_s: seconds from then to the last answer.
        truncated: number of texts that lost tokens; those whose vectors were cached do not count.
    """

    model: str
    texts: int
    tokens: int = 0
    cache_hits: int | None = None
    tokenize_s: float | None = None
    queue_s: float | None = None
    inference_s: float | None = None
    truncated: int = 0
    space_id: str | None = None

    @property
    def phases(self) -> dict[str, float]:
        """The seconds of each phase that was reached, by name."""
        phases = {"tokenize": self.tokenize_s, "queue": self.queue_s, "inference": self.inference_s}
        return {phase: spent for phase, spent in phases.items() if spent is not None}


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request, as its headers and its key describe it.

    Attributes:
        request_id: id that the caller sent, or one made here.
        caller: name of the key, or else the address.
        key: key that came with the request; `ANYBODY` or `NOBODY` without one.
        timeout_s: how long the caller says it waits for the answer; infinite if it does not say.
        expect_space: vector space that the caller's vectors are in; None if it does not say.
        started: when the headers had been read, by `time.perf_counter`.
        report: receives the usage when a model has computed the request, or has failed to.
        background: whether nobody waits for the answer.
    """

    request_id: str
    caller: str
    key: Key
    timeout_s: float
    expect_space: str | None
    started: float
    report: Callable[[Usage], None]
    background: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended, as metrics, access log and spans record it.

    Attributes:
        context: context of the request.
        method: its HTTP method.
        route: template of its path.
        status: status of the answer; None if there was none.
        usage: usage of the model; None if no model was asked.
        error: error that was answered; None for none.
    """

    context: RequestContext
    method: str
    route: str
    status: int | None
    usage: Usage | None
    error: Exception | None

    @property
    def total_s(self) -> float:
        """Seconds since the headers had been read."""
        return perf_counter() - self.context.started


def begin_request(scope: Scope) -> None:
    """Make the context of a request; the caller's `x-request-id` is taken over if it is safe to log and return."""
    headers = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    address = scope.get("client")
    scope[_CONTEXT] = RequestContext(
        request_id=given.decode() if _SANE_ID.fullmatch(given) else os.urandom(16).hex(),
        caller=address[0] if address else "",
        key=ANYBODY,
        timeout_s=_stated_timeout_s(headers),
        expect_space=headers[_EXPECT_SPACE].decode("latin-1") if _EXPECT_SPACE in headers else None,
        started=perf_counter(),
        report=partial(scope.__setitem__, _USAGE),
        background=headers.get(_PRIORITY) == _BACKGROUND,
    )


def identify(scope: Scope, **known: Any) -> None:
    """Replace the `key`, and the `caller` whom it stands for, in the context that the layers further in see."""
    scope[_CONTEXT] = replace(scope[_CONTEXT], **known)


def note_error(scope: Scope, error: Exception) -> None:
    """Keep the error that is answered for the records."""
    scope[_ERROR] = error


def note_hang_up(scope: Scope) -> None:
    """Record that the caller has disconnected."""
    scope[_GONE] = True


def has_hung_up(scope: Scope) -> bool:
    """Return whether the caller disconnected before the answer began."""
    return _GONE in scope


def path_of(scope: Scope) -> str:
    """Return the path of a request, without that of another server below which the application may be mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def context_of(request: Mapping[str, Any]) -> RequestContext:
    """Return the context that the middleware made for a request, which may be given by its scope."""
    context: RequestContext = request[_CONTEXT]
    return context


def usage_of(scope: Scope) -> Usage | None:
    """Return what the request took, once it has been computed or has failed; None if no model was asked."""
    return scope.get(_USAGE)


def end_request(scope: Scope, status: int | None) -> Ended:
    """Return the record of a request that ends now."""
    route = getattr(scope.get("route"), "path", "unmatched")
    # Taken out of the scope, to which both lead back: it would stay until the garbage is collected.
    context, error = scope.pop(_CONTEXT), scope.pop(_ERROR, None)
    return Ended(context, scope["method"], route, status, usage_of(scope), error)


def response_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the request's id, its times, the answer's vector space, and text-embeddings-inference's headers (ms)."""
    context, usage = scope[_CONTEXT], usage_of(scope)
    phases = {**(usage.phases if usage is not None else {}), "total": perf_counter() - context.started}
    timing = ", ".join(f"{phase};dur={1e3 * spent:.2f}" for phase, spent in phases.items())
    headers = [(b"x-request-id", context.request_id.encode()), (b"server-timing", timing.encode())]
    if usage is not None:
        headers += [(_TEI_NAMES[phase], b"%d" % (1e3 * spent)) for phase, spent in phases.items()]
        headers.append((b"x-compute-tokens", b"%d" % usage.tokens))
    if usage is not None and usage.space_id is not None:
        headers.append((_SPACE_ID, usage.space_id.encode()))
    return headers


def _stated_timeout_s(headers: Mapping[bytes, bytes]) -> float:
    """Read how many seconds a caller waits; nothing, nonsense and 0 (what OpenAI's SDKs round down) mean any number."""
    stated = next((headers[name] for name in _TIMEOUTS if name in headers), b"")
    return (float(stated) if _SECONDS.fullmatch(stated) else inf) or inf
