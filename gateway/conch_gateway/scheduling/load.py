"""How much work the gateway has for each model, and how long it would wait: what replicas are added and removed by.

Nothing is counted along the way: what is in flight is looked at when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from conch_gateway.scheduling.admission import Admission
from conch_gateway.scheduling.slots import Entry, Slots

UNKNOWN = ""
"""Stands for the model of requests that wait for a backend to say which models it has."""


@dataclass(slots=True)
class Load:
    """The work for one model.

    Attributes:
        waiting_requests: whose first call still waits for a slot, or that have no backend to wait for yet.
        waiting_tokens: in calls that wait for a slot, of whichever request; estimated where they are not counted yet.
        running_requests: the others.
        running_tokens: of all requests, without those that wait.
        predicted_wait_s: until the calls that wait now have been computed, at the throughput measured so far. A model
            shares its backend's throughput with the backend's other models, so their calls count as well. No less than
            the time that the oldest waiting request has waited: it tells of a backend whose throughput is not known,
            which does not answer, or which is not there.
    """

    waiting_requests: int = 0
    waiting_tokens: int = 0
    running_requests: int = 0
    running_tokens: int = 0
    predicted_wait_s: float = 0.0


def loads(admission: Admission) -> dict[str, Load]:
    """Return the load of each model that has requests in flight, by its own name, or `UNKNOWN`.

    Background work is left out: it may wait for hours, and nobody is to be alarmed by that.
    """
    found: dict[str, Load] = {}
    queues: dict[Slots, _Queue] = {}
    for reservation in admission.reservations:
        if reservation.background:
            continue
        load = found.setdefault(reservation.model, Load())
        waits, waiting_tokens = True, reservation.tokens
        if reservation.joined:
            slots = reservation.slots
            queue = queues[slots] = queues.get(slots) or _Queue.of(slots)
            waits, waiting_tokens = reservation.entry.waited_s is None, queue.tokens[reservation.entry]
            load.predicted_wait_s = max(load.predicted_wait_s, queue.cleared_s)
        load.waiting_tokens += waiting_tokens
        load.running_tokens += reservation.tokens - waiting_tokens
        if waits:
            load.waiting_requests += 1
            load.predicted_wait_s = max(load.predicted_wait_s, admission.now() - reservation.since)
        else:
            load.running_requests += 1
    return found


class _Queue(NamedTuple):
    """The calls that wait for one backend: tokens by request, and the seconds until all are computed."""

    tokens: Counter[Entry]
    cleared_s: float

    @classmethod
    def of(cls, slots: Slots) -> _Queue:
        tokens = slots.waiting_tokens()
        return cls(tokens, slots.seconds_for(tokens.total()) or 0.0)
