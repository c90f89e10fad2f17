"""The load of each model: its waiting and running work, and the predicted wait by which replicas are added and removed.

Nothing is counted while requests run: the load is computed from what is in flight when a metric is read.
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
        waiting_requests: requests whose first call still waits for a slot, or that have no backend to wait for yet.
        waiting_tokens: tokens of calls that wait for a slot, of any request; estimated until they are counted.
        running_requests: the other requests.
        running_tokens: tokens of all requests, without those that wait.
        predicted_wait_s: seconds until the calls that wait now have been computed, at the throughput measured so far.
            The models of a backend share its throughput, so the calls of all of them count. It is no less than the
            time that the oldest waiting request has waited, which also shows a backend whose throughput is not known,
            which does not answer, or which is not there.
    """

    waiting_requests: int = 0
    waiting_tokens: int = 0
    running_requests: int = 0
    running_tokens: int = 0
    predicted_wait_s: float = 0.0


def loads(admission: Admission) -> dict[str, Load]:
    """Return the load of each model that has requests in flight, by its own name, or `UNKNOWN`.

    Background work is left out: it may wait for hours, which is no reason for an alert.
    """
    found: dict[str, Load] = {}
    queues: dict[Slots, _Queue] = {}
    for reservation in admission.reservations:
        if reservation.background:
            continue
        load = found.setdefault(reservation.model, Load())
        waits, waiting_tokens = True, reservation.tokens
        if reservation.backlog is not None:
            slots = reservation.backlog.slots
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
