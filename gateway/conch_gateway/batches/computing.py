"""The interface of batches to the rest of the gateway: endpoints of the API without HTTP, keys, quotas, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conch_gateway.auth.keys import Key
from conch_gateway.auth.quota import Quotas
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
    quota: Quotas
    count: Callable[[Usage, Exception | None], None]
