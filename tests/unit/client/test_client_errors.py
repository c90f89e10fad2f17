"""gRPC statuses and Triton's messages become the error that says what to do."""

from __future__ import annotations

import conch_client
import grpc
import pytest
from conch_client import (
    ConchError,
    DeadlineExceededError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from conch_client._errors import NotLoadedError, error_from_status
from conch_client._transport.deadline import Backoff, Deadline

Status = grpc.StatusCode


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (Status.UNAVAILABLE, "failed to connect to all addresses", UnavailableError),
        (Status.UNAVAILABLE, "in ensemble 'm', Exceeds maximum queue size", OverloadedError),
        (Status.UNAVAILABLE, "Request timeout expired", OverloadedError),
        (Status.UNAVAILABLE, "Request for unknown model: 'm' version 1 is not at ready state", NotLoadedError),
        (Status.UNAVAILABLE, "Request for unknown model: 'm' has no available versions", NotLoadedError),
        (Status.NOT_FOUND, "Request for unknown model: 'm' is not found", ModelNotFoundError),
        (Status.INVALID_ARGUMENT, "Request for unknown model: 'm' is not found", ModelNotFoundError),
        (Status.INVALID_ARGUMENT, "inference request batch-size must be <= 8 for 'm'", InvalidInputError),
        (Status.DEADLINE_EXCEEDED, "Deadline Exceeded", DeadlineExceededError),
        (Status.RESOURCE_EXHAUSTED, "too large", OverloadedError),
        (Status.INTERNAL, "onnxruntime error", ServerError),
        (Status.INTERNAL, "in ensemble 'm', Stub process 'first_0' is not healthy.", NotLoadedError),
        (Status.INTERNAL, "Failed to increase the shared memory pool size for key 'x' to 9 bytes", OverloadedError),
        (Status.INTERNAL, "Failed to allocate memory for requested buffer of size 9", OverloadedError),
        (Status.INTERNAL, "model 'm' failed: std::bad_alloc", OverloadedError),
        (Status.INTERNAL, "Failed to create new mapped region for 'x'. Cannot allocate memory", OverloadedError),
        (Status.INTERNAL, "model 'm' failed: Unable to allocate 3.00 MiB for an array", OverloadedError),
        (Status.INTERNAL, "model 'm' failed: MemoryError", OverloadedError),
        (Status.UNIMPLEMENTED, "", ServerError),
        (Status.CANCELLED, "Channel closed!", ConchError),
    ],
)
def test_a_status_becomes_its_error(status: grpc.StatusCode, message: str, kind: type[ConchError]) -> None:
    error = error_from_status(status, message)
    assert type(error) is kind
    assert message in str(error)


def test_every_error_is_a_conch_error() -> None:
    errors = [getattr(conch_client, name) for name in conch_client.__all__ if name.endswith("Error")]
    assert len(errors) == 10
    assert all(issubclass(error, ConchError) for error in errors)


def test_waiting_times_grow_and_end_with_the_retries() -> None:
    backoff = Backoff(3, Deadline(60))
    failure = UnavailableError("away")
    first, second, third = (backoff.next_delay_s(failure) for _ in range(3))
    assert 0.05 <= first <= 0.1 <= second <= 0.2 <= third <= 0.4
    with pytest.raises(UnavailableError, match="away"):
        backoff.next_delay_s(failure)


def test_nobody_waits_beyond_the_deadline() -> None:
    with pytest.raises(UnavailableError):
        Backoff(3, Deadline(0.04)).next_delay_s(UnavailableError("away"))


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), True, "3"])
def test_a_timeout_is_a_positive_number_of_seconds(timeout_s: float) -> None:
    with pytest.raises(InvalidInputError, match="timeout_s must be a positive number"):
        Deadline(timeout_s)
