"""Everything the client raises, and the one place where a gRPC status becomes an error.

ConchError                      the root; also raised when a closed client is used
├── InvalidInputError           an input cannot be served as it is (also a ValueError)
│   └── NotComputedError        the model answered NaN for an input
├── SpaceError                  the answer would be in another vector space than the caller expects
├── ModelNotFoundError          the server has no such model
├── UnavailableError            the server cannot be reached, is stopping, or the model is not loaded; retried
│   └── ModelReplacedError      no server has the version of the model that the call is for
├── OverloadedError             the server's queue is full; not retried: come back later
├── DeadlineExceededError       the call's time ran out
└── ServerError                 the server failed, or its answer is none that a conch model gives
"""

from __future__ import annotations

from typing import NamedTuple

import grpc
from conch_contract import ConchError, InvalidInputError


class NotComputedError(InvalidInputError):
    """The model answered NaN for an input: it has a token id outside the vocabulary, or the model is damaged."""


class ModelNotFoundError(ConchError):
    """The server has no such model; the message lists those it has."""


class UnavailableError(ConchError):
    """The server cannot be reached, is stopping, or the model is not loaded."""


class ModelReplacedError(UnavailableError):
    """No server has the version of the model that the call is for any more; begin anew with the model's name."""


class NotLoadedError(UnavailableError):
    """The server lives, but has not loaded the model, or an instance has died. Internal: others are not affected."""


class OverloadedError(ConchError):
    """The server's queue is full; slow down and try again later."""


class DeadlineExceededError(ConchError):
    """The call did not finish within its ``timeout_s``."""


class ServerError(ConchError):
    """The server failed, or answered something that no conch model answers."""


class RestrictedError(ServerError):
    """The server answers this only to holders of its key. Internal: the client then uses another request."""


class Item(NamedTuple):
    """A text, document, pair or row of the caller's, as errors name it.

    Attributes:
        name: Such as ``texts[3]``.
        indices: Its position in the caller's list; empty for the query.
    """

    name: str
    indices: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: str, index: int, suffix: str = "") -> Item:
        """Item of the caller's list of that name; ``suffix`` says what it was joined with."""
        return cls(f"{values}[{index}]{suffix}", (index,))

    @classmethod
    def text(cls, index: int) -> Item:
        """Item of ``texts``."""
        return cls.of("texts", index)

    @classmethod
    def document(cls, index: int, suffix: str = "") -> Item:
        """Item of ``documents``; ``suffix`` says what it was joined with."""
        return cls.of("documents", index, suffix)

    def error(self, problem: str) -> InvalidInputError:
        """The error about this item; ``problem`` is the rest of the sentence."""
        return InvalidInputError(f"{self.name} {problem}", self.indices)


QUERY, CHUNKS, PROMPT = Item("the query"), Item("the chunks"), Item("the prompt")

# As onnxruntime, C++, the kernel, numpy and Python say it.
_OUT_OF_MEMORY = ("Failed to allocate", "bad_alloc", "Cannot allocate memory", "Unable to allocate", "MemoryError")
# Triton says more in its message than in its status: a full queue, too long a wait in it and a model that is not loaded
# are all UNAVAILABLE, and releases differ in what status an unknown model gets. The first match wins.
_BY_MESSAGE: tuple[tuple[str, type[ConchError], str], ...] = (
    ("Exceeds maximum queue size", OverloadedError, "the server's queue is full; try again later"),
    ("Request timeout expired", OverloadedError, "the request waited too long in the server's queue; try again later"),
    ("This protocol is restricted", RestrictedError, "the server wants its key for this"),
    ("is not at ready state", NotLoadedError, "the model is not loaded"),
    ("has no available versions", NotLoadedError, "the model is not loaded"),
    ("unknown model", ModelNotFoundError, "the server has no such model"),
    # INTERNAL, as what a graph does wrong is, though the same request succeeds a moment later or once there is room.
    ("Stub process", NotLoadedError, "an instance of the model has died"),
    ("increase the shared memory pool", OverloadedError, "the server has no shared memory left for the request"),
    *((words, OverloadedError, "the server has no memory left for the request") for words in _OUT_OF_MEMORY),
)

_BY_STATUS: dict[grpc.StatusCode, tuple[type[ConchError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidInputError, "the server refused the request"),
    grpc.StatusCode.OUT_OF_RANGE: (InvalidInputError, "the server refused the request"),
    grpc.StatusCode.NOT_FOUND: (ModelNotFoundError, "the server has no such model"),
    grpc.StatusCode.UNAVAILABLE: (UnavailableError, "the server cannot be reached or is stopping"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (OverloadedError, "the server has no room for the request; try again later"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        DeadlineExceededError,
        "no answer in time; raise timeout_s or send less at once",
    ),
    grpc.StatusCode.CANCELLED: (ConchError, "the call was cancelled, or the client was closed while it ran"),
}


def error_from_status(code: grpc.StatusCode, details: str | None) -> ConchError:
    """The typed error for a gRPC status.

    Args:
        code: Status of the failed call.
        details: The server's message, which the error's message repeats.
    """
    details = (details or "").strip()
    for fragment, kind, meaning in _BY_MESSAGE:
        if fragment in details:
            return kind(f"{meaning} ({details})")
    kind, meaning = _BY_STATUS.get(code, (ServerError, f"the server failed with {code.name}"))
    return kind(f"{meaning} ({details or code.name})")


def error_from_rpc(failure: grpc.RpcError) -> ConchError:
    """The typed error for a failed call of either gRPC flavour (both carry ``code()`` and ``details()``)."""
    return error_from_status(failure.code(), failure.details())
