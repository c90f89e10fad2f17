"""All that gateways with one Redis share, as the settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import SecretStr

from conch_gateway.settings import GatewaySettings
from conch_gateway.shared.buckets import RedisBuckets
from conch_gateway.shared.store import Link, connect
from conch_gateway.shared.vectors import RedisVectors


class Shared(Collector):
    """Usage of keys and vectors in Redis; as a collector of metrics it says whether Redis answers."""

    def __init__(self, url: SecretStr, settings: GatewaySettings) -> None:
        """Raises SettingError for a URL that is none."""
        self._redis = connect(url)
        self.buckets = RedisBuckets(self._redis, settings.redis_prefix)
        self.vectors = RedisVectors(self._redis, settings.redis_prefix, settings.redis_ttl_s)
        self._links: list[Link] = [self.buckets.link, self.vectors.reading, self.vectors.writing]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Find out, and log, whether Redis answers; close the connections at the end."""
        async with self._redis:
            for link in self._links:
                await link.ask(self._redis.ping)
            yield
            for link in self._links:
                await link.finish()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        up = GaugeMetricFamily("conch_gateway_redis_up", "Whether Redis answers.", labels=("use",))
        for link in self._links:
            up.add_metric((link.use,), link.up)
        yield up
