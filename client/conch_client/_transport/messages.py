"""Messages of calls that end without an answer."""

from __future__ import annotations

SESSION_CLOSED = "the client is closed; create a new one"
MODEL_KEEPS_CHANGING = (
    "the model was replaced again and again while the call ran; try again when the deployment is over"
)
GIVEN_UP = "the server does not answer any more; its calls were given up"
NO_ADDRESSES = "{} has no address now; check the name, or that a server is up"
MODEL_REPLACED = "no server has this version of the model any more; begin anew with the model's name"
OTHER_LOOP = "the client belongs to the event loop of its first call, and this is another; make a client for each loop"
NOT_READY = "no model became ready in time; see the server's log, or raise timeout_s"
BEGUN_AGAIN = "watching over servers failed; it begins again"
