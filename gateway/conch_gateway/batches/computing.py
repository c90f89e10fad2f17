"""What the rest of the gateway lends to batches: paths of the API without HTTP, keys and their quotas, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from conch_gateway.auth.keys import Key
from conch_gateway.errors import Problem
from conch_gateway.telemetry.request import RequestContext, Usage


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path.

    Attributes:
        answer: returns the content of the answer to a line, given as in the input; raises what the path would.
        error_body: makes the content of an answer that is an error.
    """

    answer: Callable[[bytes, RequestContext], Awaitable[Any]]
    error_body: Callable[[Problem], Mapping[str, Any]]


class Quota(Protocol):
    """What keys may use."""

    def has_spare(self, key: Key) -> bool:
        """Whether a key can spare tokens for what is not urgent."""

    def spend(self, key: Key, tokens: int) -> None:
        """Count tokens; a negative number gives some back."""


@dataclass(frozen=True, slots=True)
class Computing:
    """How lines are computed.

    Attributes:
        endpoints: that lines may name, by path.
        holder: returns the key of an owner; None where there is none any more.
        quota: of the keys.
        count: takes what a model has computed, for metrics.
    """

    endpoints: Mapping[str, Endpoint]
    holder: Callable[[str], Key | None]
    quota: Quota
    count: Callable[[Usage, Exception | None], None]
