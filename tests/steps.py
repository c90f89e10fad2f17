"""Runs work that comes in steps to its end, as a client does."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from conch_client._tokenization.steps import Stepper

if TYPE_CHECKING:
    from conch_client._tokenization.steps import Steps
    from conch_client._transport.deadline import Deadline

Result = TypeVar("Result")


def finish(steps: Steps[Result], deadline: Deadline) -> Result:
    stepper = Stepper(steps)
    while stepper.step():
        deadline.remaining_s()
    return stepper.result
