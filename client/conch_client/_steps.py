"""Long work in steps of at most a tenth of a second or so, between which its caller minds the time, and others'."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from conch_client._deadline import Deadline

Result = TypeVar("Result")
Steps = Generator[None, None, Result]
"""Work that pauses after every step and returns its result."""


class Stepper(Generic[Result]):
    """Does work step by step.

    Attributes:
        result: What the work has returned; only once it is done.
    """

    result: Result

    def __init__(self, steps: Steps[Result]) -> None:
        self._steps = steps

    def step(self) -> bool:
        """Does one step; returns whether there is more to do."""
        try:
            next(self._steps)
        except StopIteration as end:
            self.result = end.value
            return False
        return True


def finish(steps: Steps[Result], deadline: Deadline) -> Result:
    """The result of work that nobody else waits for; raises DeadlineExceededError between steps."""
    stepper = Stepper(steps)
    while stepper.step():
        deadline.remaining_s()
    return stepper.result
