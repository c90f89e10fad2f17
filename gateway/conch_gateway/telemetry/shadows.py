"""Metrics of shadow traffic: how far a model that answers nobody yet agrees with the one that answers."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

Outcome = Literal["compared", "dropped", "failed"]
_OUTCOMES: tuple[Outcome, ...] = ("compared", "dropped", "failed")
_SHARES = tuple(tenth / 10 for tenth in range(11))
_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_LABELS = ("model", "shadow")


class ShadowMetrics:
    """The metrics, by the model that answered and its shadow."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "conch_gateway_shadow_requests",
            "Requests that were to go to the shadow as well: compared, dropped for want of time, or failed.",
            (*_LABELS, "outcome"),
            registry=registry,
        )
        self._agreement = Histogram(
            "conch_gateway_shadow_agreement",
            "Share of a text's ten nearest recent texts that both models have in common.",
            _LABELS,
            buckets=_SHARES,
            registry=registry,
        )
        self._correlation = Histogram(
            "conch_gateway_shadow_correlation",
            "Correlation of both models' cosines of a text with recent texts; below 0 counts as 0.",
            _LABELS,
            buckets=_SHARES,
            registry=registry,
        )
        self._ratio = Histogram(
            "conch_gateway_shadow_time_ratio",
            "The shadow's time for inference to that of the answer, a text each.",
            _LABELS,
            buckets=_RATIOS,
            registry=registry,
        )

    def count(self, model: str, shadow: str, outcome: Outcome) -> None:
        """Count a request."""
        # From the start, because a rate misses the step from nothing to a first value.
        for each in _OUTCOMES:
            self._requests.labels(model, shadow, each)
        for histogram in (self._agreement, self._correlation, self._ratio):
            histogram.labels(model, shadow)
        self._requests.labels(model, shadow, outcome).inc()

    def observe(self, model: str, shadow: str, agreement: float, correlation: float) -> None:
        """Record how far both agree on one text."""
        self._agreement.labels(model, shadow).observe(agreement)
        self._correlation.labels(model, shadow).observe(max(0.0, correlation))

    def observe_ratio(self, model: str, shadow: str, ratio: float) -> None:
        """Record how long the shadow took, relative to the answer."""
        self._ratio.labels(model, shadow).observe(ratio)
