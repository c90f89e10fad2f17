"""Metrics of every server: each Triton, and each server of an upstream, as they are when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from conch_client import Replica
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STATES = ("serving", "not-ready", "trial", "out")
_LABELS = ("backend", "replica")


class ReplicaMetrics(Collector):
    """Labels are names that the operator has given: `triton`, or an upstream's model; and addresses."""

    def __init__(self, replicas: Callable[[], Iterable[tuple[str, Replica]]]) -> None:
        """`replicas` returns each server that there is now, with the name of its backend."""
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        state = GaugeMetricFamily(
            "conch_gateway_replica_state", "1 for the state that the server is in.", labels=(*_LABELS, "state")
        )
        calls = GaugeMetricFamily("conch_gateway_replica_calls", "Calls to the server under way.", labels=_LABELS)
        tokens = GaugeMetricFamily(
            "conch_gateway_replica_tokens", "Cost in tokens of the calls to the server under way.", labels=_LABELS
        )
        ended = CounterMetricFamily(
            "conch_gateway_replica_ended", "Calls to the server that have ended.", labels=(*_LABELS, "outcome")
        )
        ejections = CounterMetricFamily(
            "conch_gateway_replica_ejections",
            "Times that the server was taken out of service.",
            labels=(*_LABELS, "reason"),
        )
        for backend, replica in self._replicas():
            place = backend, replica.url
            for name in STATES:
                state.add_metric((*place, name), float(name == replica.state))
            calls.add_metric(place, replica.calls)
            tokens.add_metric(place, replica.tokens)
            for outcome, number in replica.outcomes.items():
                ended.add_metric((*place, outcome), number)
            for reason, number in replica.ejections.items():
                ejections.add_metric((*place, reason), number)
        yield from (state, calls, tokens, ended, ejections)
