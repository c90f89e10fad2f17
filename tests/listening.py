"""A gateway in a thread of its own, for tests that speak to its port."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import uvloop
from conch_gateway import Gateway, GatewaySettings

from tests.unit.gateway.conftest import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def listening(**settings: Any) -> Iterator[int]:
    """The port of a gateway with these settings, which ends with the block."""
    loop = uvloop.new_event_loop()
    gateway = Gateway(GatewaySettings(port=0, **settings), client=StandIn())
    loop.run_until_complete(gateway.start())
    running = threading.Thread(target=loop.run_forever)
    running.start()
    try:
        yield int(gateway.url.rpartition(":")[2])
    finally:
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()
