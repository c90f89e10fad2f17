"""Metrics of the embedded Triton: its starts, its restarts and its memory, from the supervisor that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class Supervisor(Protocol):
    """The supervisor of an embedded Triton (`conch_server.Supervisor`).

    Attributes:
        start_s: seconds that the last start took until every model was ready.
        restarts: how often it was started again.
    """

    start_s: float
    restarts: int

    @property
    def memory_bytes(self) -> int:
        """Resident memory of Triton and its model instances."""


class EmbeddedTriton(Collector):
    """The metrics of one supervisor's Triton, as they are when Prometheus asks."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        supervisor = self._supervisor
        yield GaugeMetricFamily(
            "conch_server_start_seconds",
            "The embedded Triton's last start, until every model was ready.",
            supervisor.start_s,
        )
        yield CounterMetricFamily(
            "conch_server_restarts", "How often the embedded Triton was started again.", supervisor.restarts
        )
        yield GaugeMetricFamily(
            "conch_server_resident_memory_bytes",
            "Resident memory of the embedded Triton and its model instances; shared pages count in each.",
            supervisor.memory_bytes,
        )
