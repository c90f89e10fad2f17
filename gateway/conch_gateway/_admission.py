"""How much may be in flight: full means a quick 429 instead of a queue that only ends in deadlines."""

from collections.abc import Iterator
from contextlib import contextmanager

from conch_gateway.errors import CapacityError
from conch_gateway.settings import GatewaySettings


class Admission:
    """Counts the requests and texts being computed. One event loop's: not thread-safe."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._max_requests = settings.max_in_flight_requests
        self._max_texts = settings.max_in_flight_texts
        self.requests = 0
        self.texts = 0

    @contextmanager
    def admit(self, texts: int) -> Iterator[None]:
        """Hold room for one request of so many texts.

        Raises:
            CapacityError: there is no room now.
        """
        if self.requests >= self._max_requests or self.texts + texts > self._max_texts:
            msg = (
                f"the gateway is full ({self.requests} requests with {self.texts} texts in flight); "
                "retry after a pause or send fewer texts at once"
            )
            raise CapacityError(msg)
        self.requests += 1
        self.texts += texts
        try:
            yield
        finally:
            self.requests -= 1
            self.texts -= texts
