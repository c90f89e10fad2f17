"""Redis as gateways use it: asked for a moment at most, and never needed to answer a request.

A call that fails, or takes too long, has no answer, and whoever made it goes on without one. Redis is then left alone
for a second, after which a single call finds out whether it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import TypeVar

import anyio
from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from conch_gateway.background import start
from conch_gateway.errors import SettingError

PATIENCE_S = 0.1
"""The longest that a request waits for Redis in one call."""
PAUSE_S = 1.0
"""How long Redis is left alone after a call without an answer."""

_CONNECTIONS = 16

_log = logging.getLogger("conch_gateway")
Answer = TypeVar("Answer")


def connect(url: SecretStr) -> Redis:
    """Return a client, which connects with its first call.

    Raises:
        SettingError: the URL is none; the message does not show it, as it may hold a password.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url.get_secret_value(),
            max_connections=_CONNECTIONS,
            timeout=PATIENCE_S,
            # A connection that Redis closed while it was idle is noticed by the next call, which is made once more.
            retry=Retry(NoBackoff(), 1),
        )
        # Options in the URL go to connections, which are made, and may refuse them, much later.
        pool.connection_kwargs["decode_responses"] = False
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError):
        msg = (
            "CONCH_REDIS_URL is not the URL of a Redis; write redis://:PASSWORD@HOST:6379/0, rediss:// for TLS or "
            "unix:///PATH, with special characters of the password percent-encoded"
        )
        raise SettingError(msg) from None
    return Redis.from_pool(pool)


class Link:
    """One use of Redis. Each fails for itself: a Redis that is full can still be read.

    Args:
        redis: the client.
        use: what it is used for, for metrics.
        otherwise: what is the case while Redis gives no answer, for the log.
        clock: returns seconds.

    Attributes:
        up: whether Redis answers.
    """

    def __init__(self, redis: Redis, use: str, otherwise: str, clock: Callable[[], float] = monotonic) -> None:
        self.redis = redis
        self.use = use
        self.up = True
        self._otherwise = otherwise
        self._clock = clock
        self._ask_again_at = clock()
        self._unawaited: set[asyncio.Task[object]] = set()

    async def ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Return what Redis answers to a call, or None where it does not within `PATIENCE_S`."""
        now, was_up = self._clock(), self.up
        if not was_up:
            if now < self._ask_again_at:
                return None
            self._ask_again_at = now + PAUSE_S  # for all others: this call finds out
        try:
            with anyio.fail_after(PATIENCE_S):
                answer = await call()
        except Exception as error:  # noqa: BLE001 - the client raises ValueError, too, for answers that are not Redis'
            self._note_failure(error)
            return None
        # Only by a call that was made to find out: one that was made before another failed says nothing new.
        if not was_up:
            self.up = True
            _log.info("Redis answers again (%s)", self.use)
        return answer

    def tell(self, *calls: Callable[[], Awaitable[object]]) -> None:
        """Make calls for whose answers nobody waits, one after another: all at once, each would wait for the others."""
        task = start(self._ask_all(calls), f"calls to Redis ({self.use})")
        self._unawaited.add(task)
        task.add_done_callback(self._unawaited.discard)

    async def finish(self) -> None:
        """Wait for the calls for whose answers nobody waits."""
        if self._unawaited:
            await asyncio.wait(self._unawaited)

    async def _ask_all(self, calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
        for call in calls:
            await self.ask(call)

    def _note_failure(self, error: Exception) -> None:
        self._ask_again_at = self._clock() + PAUSE_S
        if self.up:
            self.up = False
            reason = str(error) or f"no answer within {PATIENCE_S:g} s"
            _log.warning("Redis cannot be used (%s): %s; until it can be, %s", self.use, reason, self._otherwise)
