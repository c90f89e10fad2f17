"""The gateway's errors, and the one table that says with which status and code each is answered.

GatewayError
├ RequestError(message, param)
│ ├ MalformedBodyError
│ ├ WrongTypeError
│ ├ InvalidValueError
│ ├ BodyTooLargeError
│ └ UnsupportedCodingError
├ RetryLaterError(message, retry_after_s)
│ ├ QuotaError
│ ├ CapacityError
│ └ UpstreamBusyError
├ UnauthenticatedError
├ ForbiddenError
├ NotStoredError
├ ConflictError
├ StorageError
├ DatabaseError
├ CrashError
├ DeadlineError
├ StoppingError
├ LoadingError
├ UpstreamError
├ LoopError
├ ModelsFileError
├ KeysError     (ends the process before it listens)
├ SettingError  (ends the process before it listens)
└ ListenError   (ends the process before it listens)
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import conch_client as cc
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect


class GatewayError(Exception):
    """Root of the errors that the gateway raises itself; the client's errors pass through unchanged."""


class RequestError(GatewayError):
    """The request cannot be served as it is; `param` is the field at fault, where there is one."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MalformedBodyError(RequestError):
    """The body is not JSON."""


class WrongTypeError(RequestError):
    """The body is JSON, but a field is missing or of another JSON type than the endpoint takes."""


class InvalidValueError(RequestError):
    """The types are right, but a value cannot be served."""


class BodyTooLargeError(RequestError):
    """The body has more bytes than `CONCH_MAX_BODY_BYTES`, or more values than a request needs."""


class UnsupportedCodingError(RequestError):
    """The body comes in a content coding that the gateway does not read."""


class RetryLaterError(GatewayError):
    """The request may succeed after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaError(RetryLaterError):
    """The API key has used its requests or tokens of this minute."""


class CapacityError(RetryLaterError):
    """As much is in flight as the settings allow, or the request would wait too long."""


class UpstreamBusyError(RetryLaterError):
    """The upstream that has the model takes no more requests now."""


class UnauthenticatedError(GatewayError):
    """No API key came with the request, or one that is unknown or was revoked."""


class ForbiddenError(GatewayError):
    """The API key is valid, but does not permit this."""


class NotStoredError(GatewayError):
    """There is no such file or batch, or it is another key's."""


class ConflictError(GatewayError):
    """The file or batch is in a state in which this cannot be done."""


class StorageError(GatewayError):
    """The key has as many files, bytes or batches as it may."""


class DatabaseError(GatewayError):
    """The database of files and batches cannot be reached, or failed."""


class CrashError(GatewayError):
    """The server of the model ended or failed each time that it computed this line of a batch."""


class DeadlineError(GatewayError):
    """The request took longer than the settings, or its caller, allow; the message says which."""


class StoppingError(GatewayError):
    """The gateway is stopping, and the request outlasted the grace period."""


class LoadingError(GatewayError):
    """The model is being loaded, and the request cannot wait for it any longer."""


class UpstreamError(GatewayError):
    """The upstream that has the model cannot be reached, failed, or sent an answer that cannot be used."""


class LoopError(GatewayError):
    """The request has come back to a gateway that it came through, by an upstream's address in a models file."""


class ModelsFileError(GatewayError):
    """The models file cannot be read, or is invalid."""


class KeysError(GatewayError):
    """The file or setting of API keys cannot be read or written, or is invalid."""


class SettingError(GatewayError):
    """A setting is invalid, needs what is not installed, or names what is not there or not the gateway's."""


class ListenError(GatewayError):
    """The gateway cannot listen on the address and port of the settings."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The HTTP answer to one class of errors.

    Attributes:
        status: of HTTP.
        code: names the kind of error for programs.
        retry_after_s: when to try again, for errors that do not say it themselves.
        message: replaces the error's own, which would show internals.
    """

    status: int
    code: str
    retry_after_s: int | None = None
    message: str | None = None


_SEE_LOG = "the request failed inside the server; the server's log says why under this answer's x-request-id"
_QUEUES_FULL = "the models' queues are full; retry later"
_UNREACHABLE = "the inference server cannot be reached; retry later"
_STORE_AWAY = "the database of files and batches cannot be used now; retry later"
_TOO_SLOW = "the models did not answer within CONCH_TIMEOUT_S; send fewer or shorter texts, or raise it"

RULES: dict[type[Exception], Rule] = {
    MalformedBodyError: Rule(400, "malformed_json"),
    InvalidValueError: Rule(400, "invalid_value"),
    cc.InvalidInputError: Rule(400, "invalid_value"),
    cc.NotComputedError: Rule(400, "invalid_value"),
    UnauthenticatedError: Rule(401, "invalid_api_key"),
    ForbiddenError: Rule(403, "forbidden"),
    StorageError: Rule(403, "storage_quota_exceeded"),
    NotStoredError: Rule(404, "not_found"),
    cc.ModelNotFoundError: Rule(404, "model_not_found"),
    ModelsFileError: Rule(400, "models_file"),
    BodyTooLargeError: Rule(413, "body_too_large"),
    UnsupportedCodingError: Rule(415, "unsupported_content_encoding"),
    WrongTypeError: Rule(422, "wrong_type"),
    cc.SpaceError: Rule(409, "space_mismatch"),
    ConflictError: Rule(409, "conflict"),
    QuotaError: Rule(429, "quota_exceeded"),
    CapacityError: Rule(429, "overloaded"),
    cc.OverloadedError: Rule(429, "overloaded", retry_after_s=1, message=_QUEUES_FULL),
    UpstreamBusyError: Rule(429, "upstream_overloaded"),
    UpstreamError: Rule(502, "upstream_failed", retry_after_s=2),
    LoopError: Rule(508, "loop_detected"),
    LoadingError: Rule(503, "model_loading", retry_after_s=2),
    StoppingError: Rule(503, "stopping", retry_after_s=1),
    DatabaseError: Rule(503, "storage_unavailable", retry_after_s=2, message=_STORE_AWAY),
    cc.ModelReplacedError: Rule(503, "unavailable", retry_after_s=1),
    cc.UnavailableError: Rule(503, "unavailable", retry_after_s=2, message=_UNREACHABLE),
    cc.DeadlineExceededError: Rule(504, "deadline_exceeded", message=_TOO_SLOW),
    DeadlineError: Rule(504, "deadline_exceeded"),
    ClientDisconnect: Rule(499, "client_disconnected"),  # nobody is left to read it; for metrics
    cc.ServerError: Rule(500, "inference_failed", message=_SEE_LOG),
    CrashError: Rule(500, "server_crashed"),
    Exception: Rule(500, "internal_error", message=_SEE_LOG),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it goes to the caller, before a dialect makes its body of it."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


def problem_of(error: Exception) -> Problem:
    """Look up an error by its class, then by its bases; an unforeseen one becomes a 500 that shows no internals."""
    if isinstance(error, HTTPException):
        return _routing_problem(error)
    rule = next(RULES[base] for base in type(error).__mro__ if base in RULES)
    param: str | None = getattr(error, "param", None)
    if param is None and isinstance(error, cc.ModelNotFoundError):
        param = "model"
    retry_after_s = getattr(error, "retry_after_s", rule.retry_after_s)
    return Problem(rule.status, rule.code, rule.message or str(error), param, retry_after_s)


def _routing_problem(error: HTTPException) -> Problem:
    phrase = HTTPStatus(error.status_code).phrase.lower()
    message = {
        404: "there is nothing at this path; GET /openapi.json lists what there is",
        405: "this path does not take that method; GET /openapi.json lists what it takes",
    }.get(error.status_code, error.detail)
    return Problem(error.status_code, phrase.replace(" ", "_"), message)
