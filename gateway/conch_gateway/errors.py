"""The gateway's errors, and the one table that says what each error looks like on the wire.

GatewayError
├ RequestError(message, param)
│ ├ MalformedBodyError    the body is not JSON
│ ├ WrongTypeError        JSON of another shape than the endpoint takes
│ ├ InvalidValueError     the right type, but a value that cannot be served
│ ├ BodyTooLargeError     more bytes than the gateway reads
│ └ UnsupportedCodingError  a Content-Encoding that is not read
├ UnauthenticatedError    no API key, or an unknown one
├ ForbiddenError          the API key is not for this
├ QuotaError              the API key has used what it may in a minute
├ CapacityError           the gateway is full
├ DeadlineError           the request took longer than it may
├ StoppingError           the gateway stopped before the request was done
├ LoadingError            the model is being loaded
├ UpstreamError           the other server that has the model failed
├ UpstreamBusyError       the other server that has the model takes no more
├ ModelsFileError         the models file is wrong
├ KeysError               the file of API keys cannot be read or written (never on the wire)
└ ListenError             the port cannot be had (never on the wire)
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import conch_client as cc
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect


class GatewayError(Exception):
    """Root of what the gateway raises by itself; the client's errors pass through unchanged."""


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
    """The body has more bytes than `max_body_bytes`."""


class UnsupportedCodingError(RequestError):
    """The body comes in a content coding that the gateway does not read."""


class UnauthenticatedError(GatewayError):
    """No API key came with the request, or one that is unknown or was revoked."""


class ForbiddenError(GatewayError):
    """The API key is good, but not for this."""


class QuotaError(GatewayError):
    """The API key has used its requests or tokens of this minute; there are more after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CapacityError(GatewayError):
    """As much is in flight as the settings allow, or the answer would take too long; come after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(GatewayError):
    """The request took longer than the settings, or its caller, allow; the message says which."""


class StoppingError(GatewayError):
    """The gateway is stopping, and the request outlasted the grace period."""


class LoadingError(GatewayError):
    """The model is being loaded, and the request cannot wait for it any longer."""


class UpstreamError(GatewayError):
    """The other server that has the model cannot be reached, failed, or answered nonsense."""


class UpstreamBusyError(GatewayError):
    """The other server that has the model takes no more requests now."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelsFileError(GatewayError):
    """The models file cannot be read, or says what cannot be."""


class KeysError(GatewayError):
    """The file of API keys, or the setting, cannot be read, or says what cannot be."""


class ListenError(GatewayError):
    """The address and port of the settings cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one class of errors is answered; `message` replaces the error's own where that would show internals."""

    status: int
    type: str
    code: str
    retry_after_s: int | None = None
    message: str | None = None


INVALID = "invalid_request_error"
UNAUTHENTICATED = "authentication_error"
FORBIDDEN = "permission_error"
BUSY = "rate_limit_error"
SERVER = "server_error"
_SEE_LOG = "the request failed inside the server; the server's log says why under this answer's x-request-id"

RULES: dict[type[Exception], Rule] = {
    MalformedBodyError: Rule(400, INVALID, "malformed_json"),
    InvalidValueError: Rule(400, INVALID, "invalid_value"),
    cc.InvalidInputError: Rule(400, INVALID, "invalid_value"),
    UnauthenticatedError: Rule(401, UNAUTHENTICATED, "invalid_api_key"),
    ForbiddenError: Rule(403, FORBIDDEN, "forbidden"),
    cc.ModelNotFoundError: Rule(404, INVALID, "model_not_found"),
    ModelsFileError: Rule(400, INVALID, "models_file"),
    BodyTooLargeError: Rule(413, INVALID, "body_too_large"),
    UnsupportedCodingError: Rule(415, INVALID, "unsupported_content_encoding"),
    WrongTypeError: Rule(422, INVALID, "wrong_type"),
    QuotaError: Rule(429, BUSY, "quota_exceeded"),
    CapacityError: Rule(429, BUSY, "overloaded"),
    cc.OverloadedError: Rule(
        429, BUSY, "overloaded", retry_after_s=1, message="the models' queues are full; retry later"
    ),
    UpstreamBusyError: Rule(429, BUSY, "upstream_overloaded", retry_after_s=1),
    UpstreamError: Rule(502, SERVER, "upstream_failed", retry_after_s=2),
    LoadingError: Rule(503, SERVER, "model_loading", retry_after_s=2),
    StoppingError: Rule(503, SERVER, "stopping", retry_after_s=1),
    cc.UnavailableError: Rule(
        503, SERVER, "unavailable", retry_after_s=2, message="the inference server cannot be reached; retry later"
    ),
    cc.DeadlineExceededError: Rule(
        504,
        SERVER,
        "deadline_exceeded",
        message="the models did not answer within CONCH_TIMEOUT_S; send fewer or shorter texts, or raise it",
    ),
    DeadlineError: Rule(504, SERVER, "deadline_exceeded"),
    ClientDisconnect: Rule(499, INVALID, "client_disconnected"),  # nobody is left to read it; for metrics
    cc.ServerError: Rule(500, SERVER, "inference_failed", message=_SEE_LOG),
    Exception: Rule(500, SERVER, "internal_error", message=_SEE_LOG),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as any dialect answers it."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


def problem_of(error: Exception) -> Problem:
    """Look an error up by its class, then by its bases; what nobody foresaw is a 500 without internals."""
    if isinstance(error, HTTPException):
        return _routing_problem(error)
    rule = next(RULES[base] for base in type(error).__mro__ if base in RULES)
    param: str | None = getattr(error, "param", None)
    if param is None and isinstance(error, cc.ModelNotFoundError):
        param = "model"
    retry_after_s = getattr(error, "retry_after_s", rule.retry_after_s)
    return Problem(rule.status, rule.type, rule.code, rule.message or str(error), param, retry_after_s)


def _routing_problem(error: HTTPException) -> Problem:
    phrase = HTTPStatus(error.status_code).phrase.lower()
    message = {
        404: "there is nothing at this path; GET /openapi.json lists what there is",
        405: "this path does not take that method; GET /openapi.json lists what it takes",
    }.get(error.status_code, error.detail)
    return Problem(error.status_code, INVALID, phrase.replace(" ", "_"), message)
