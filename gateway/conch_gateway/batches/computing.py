"""The interface of batches to the rest of the gateway: endpoints of the API without HTTP, keys, quotas, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from conch_gateway.auth.keys import Key
from conch_gateway.errors import Problem
from conch_gateway.telemetry.request import RequestContext, Usage


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of the API, called without HTTP.

    Attributes:
        answer: takes a line of the input file; returns the body of the response, or raises what the endpoint would.
        control: returns a copy of a line with one random word as its only text, to test the model with.
        error_body: returns the body of an error response.
    """

    answer: Callable[[bytes, RequestContext], Awaitable[Any]]
    control: Callable[[bytes], bytes]
    error_body: Callable[[Problem], Mapping[str, Any]]


class Quota(Protocol):
    """Token quotas of keys."""

    def spare_in_s(self, key: Key) -> float:
        """Return the seconds until a key has tokens left for background work; 0 if it has."""

    def expecting(self, key: Key, tokens: int) -> AbstractContextManager[None]:
        """Count tokens that a line may take inside the block."""

    def spend(self, key: Key, tokens: int) -> None:
        """Count tokens that a line has taken."""


@dataclass(frozen=True, slots=True)
class Computing:
    """The functions of the gateway by which lines are computed.

    Attributes:
        endpoints: those that lines may name, by path.
        holder: returns the key with this name; None if it was revoked.
        quota: the quotas of keys.
        count: counts the usage of a model in the metrics.
    """

    endpoints: Mapping[str, Endpoint]
    holder: Callable[[str], Key | None]
    quota: Quota
    count: Callable[[Usage, Exception | None], None]
