"""How long models of the repository took to load, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from conch_gateway.models.loader import Loader


class LoadTimes(Collector):
    """The last load of each model that the gateway has had Triton load; None loads none."""

    def __init__(self, loader: Loader | None) -> None:
        self._loader = loader

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge, by model."""
        seconds = GaugeMetricFamily(
            "conch_gateway_model_load_seconds",
            "The model's last load, from Triton being told to its first answer; where the gateway loads models.",
            labels=("model",),
        )
        for model in self._loader.models if self._loader is not None else ():
            if model.load_s is not None:
                seconds.add_metric((model.name,), model.load_s)
        yield seconds
