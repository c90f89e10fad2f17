"""The state of one of several servers, as users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Replica(NamedTuple):
    """One of a client's servers, as it stood when it was asked for.

    Attributes:
        url: Its address.
        state: ``serving``; ``not-ready``, as the server says itself; ``out``, after failures; ``trial``, when it gets
            a call to show that it works again.
        calls: Requests for computing that are under way.
        tokens: Their cost in tokens, that of a request beside its tokens included.
        outcomes: Requests that have ended: ``answered``, ``refused``, ``busy``, ``failed``, ``lost``, ``abandoned``.
        ejections: How often it was taken out of service, by reason.
        instances: Instances of the encoder of each model that it has ready; None where it does not say.
    """

    url: str
    state: str
    calls: int
    tokens: float
    outcomes: Mapping[str, int]
    ejections: Mapping[str, int]
    instances: Mapping[str, int | None]
