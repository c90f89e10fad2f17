"""What became of a question: answered rightly, refused in order, or anything worse."""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import grpc
import orjson
from conch_client import ConchError, DeadlineExceededError, OverloadedError, UnavailableError
from tritonclient.utils import InferenceServerException

from tests.soak.known import WrongAnswerError

if TYPE_CHECKING:
    from tests.soak.rest import Question


class Kind(str, enum.Enum):
    """The kinds, with the HTTP status where a gRPC status means the same."""

    RIGHT = "right"
    OVERLOADED = "429"
    UNAVAILABLE = "503"
    LATE = "504"
    DISCONNECTED = "disconnected"
    WRONG = "wrong"
    HUNG = "hung"
    UNCLEAN = "unclean"


CLEAN = frozenset({Kind.OVERLOADED, Kind.UNAVAILABLE, Kind.LATE})
"""Refusals that say when to come again, or that time was up."""
_BY_STATUS = {429: Kind.OVERLOADED, 503: Kind.UNAVAILABLE, 504: Kind.LATE}
_BY_CODE = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.OVERLOADED,
    grpc.StatusCode.UNAVAILABLE: Kind.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Kind.LATE,
}
_BY_CLASS = {
    OverloadedError: Kind.OVERLOADED,
    UnavailableError: Kind.UNAVAILABLE,
    DeadlineExceededError: Kind.LATE,
}


class Answer(NamedTuple):
    """What a gateway has answered."""

    status: int
    retry_after: str
    body: bytes


def of_answer(question: Question, answer: Answer, refusals: tuple[int, ...]) -> tuple[Kind, str]:
    """Judge an answer of the gateway; `refusals` are the statuses that this question must get, if not 200.

    Raises:
        WrongAnswerError: the answer is not the known value.
    """
    if answer.status in refusals and _says_why(answer):
        return Kind.RIGHT, ""
    if answer.status == 200:
        question.check(orjson.loads(answer.body))
        return Kind.RIGHT, ""
    kind = _BY_STATUS.get(answer.status, Kind.UNCLEAN)
    if not _says_why(answer) or (kind in {Kind.OVERLOADED, Kind.UNAVAILABLE} and not _says_when(answer)):
        kind = Kind.UNCLEAN
    return kind, f"{answer.status} {answer.body[:300].decode(errors='replace')}"


def of_error(error: BaseException) -> tuple[Kind, str]:
    """Judge what a client raised instead of an answer."""
    said = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, asyncio.TimeoutError):
        return Kind.HUNG, said
    if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        return Kind.DISCONNECTED, said
    if isinstance(error, ConchError):
        return _BY_CLASS.get(type(error), Kind.UNCLEAN), said
    if isinstance(error, InferenceServerException):
        return _kserve(error), said
    if isinstance(error, (WrongAnswerError, LookupError, TypeError, ValueError)):
        return Kind.WRONG, said
    return Kind.UNCLEAN, said


# Triton itself says INTERNAL for these, which a plain client cannot tell from a fault of the graph but by the message.
_BY_MESSAGE = {
    "Stub process": Kind.UNAVAILABLE,
    "has no available versions": Kind.UNAVAILABLE,
    "increase the shared memory pool": Kind.OVERLOADED,
}


def _kserve(error: InferenceServerException) -> Kind:
    kind = next((kind for fragment, kind in _BY_MESSAGE.items() if fragment in str(error)), None)
    if kind is not None:
        return kind
    code = next((code for code in _BY_CODE if str(code) == error.status()), None)
    return Kind.UNCLEAN if code is None else _BY_CODE[code]


def _says_why(answer: Answer) -> bool:
    """Whether the body is an error of any dialect, with a message."""
    try:
        body: Any = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(body, dict):
        return False
    error = body.get("error", body.get("message"))
    message = error.get("message") if isinstance(error, dict) else error
    return isinstance(message, str) and bool(message)


def _says_when(answer: Answer) -> bool:
    return answer.retry_after.isdigit()
