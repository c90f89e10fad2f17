"""Metrics of shadow traffic: how far the shadow model agrees with the model that answers."""

from __future__ import annotations

from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

Outcome = Literal["compared", "dropped", "failed"]
_OUTCOMES: tuple[Outcome, ...] = ("compared", "dropped", "failed")
_SHARES = tuple(tenth / 10 for tenth in range(11))
_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_LABELS = ("model", "shadow")


class ShadowMetrics:
    """Metrics by the model that answers and its shadow."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "conch_gateway_shadow_requests",
            "Requests that were drawn for the shadow: compared, dropped because it was busy, or failed.",
            (*_LABELS, "outcome"),
            registry=registry,
        )
        histogram = partial(Histogram, labelnames=_LABELS, registry=registry)
        self._agreement = histogram(
            "conch_gateway_shadow_agreement",
            "Share of a text's ten nearest recent texts that both models have in common.",
            buckets=_SHARES,
        )
        self._correlation = histogram(
            "conch_gateway_shadow_correlation",
            "Correlation of both models' cosines of a text with recent texts; below 0 counts as 0.",
            buckets=_SHARES,
        )
        self._ratio = histogram(
            "conch_gateway_shadow_time_ratio",
            "Ratio of the shadow's inference time per text to that of the answer.",
            buckets=_RATIOS,
        )

    def count(self, model: str, shadow: str, outcome: Outcome) -> None:
        """Count a request."""
        # All series exist from the start, because a rate misses the first increase of a new series.
        for each in _OUTCOMES:
            self._requests.labels(model, shadow, each)
        for histogram in (self._agreement, self._correlation, self._ratio):
            histogram.labels(model, shadow)
        self._requests.labels(model, shadow, outcome).inc()

    def observe(self, model: str, shadow: str, agreement: float, correlation: float) -> None:
        """Record the agreement on one text."""
        self._agreement.labels(model, shadow).observe(agreement)
        self._correlation.labels(model, shadow).observe(max(0.0, correlation))

    def observe_ratio(self, model: str, shadow: str, ratio: float) -> None:
        """Record the ratio of the shadow's time to that of the answer."""
        self._ratio.labels(model, shadow).observe(ratio)
