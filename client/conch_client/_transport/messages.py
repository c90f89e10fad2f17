"""Messages of connections."""

from __future__ import annotations

SESSION_CLOSED = "the client is closed; create a new one"
GIVEN_UP = "the server does not answer any more; its calls were given up"
OTHER_LOOP = "the client belongs to the event loop of its first call, and this is another; make a client for each loop"
BEGUN_AGAIN = "watching over servers failed; it begins again"
