"""Long work as a generator of short steps, between which its caller checks the deadline and other calls run."""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, TypeVar

Result = TypeVar("Result")
Steps = Generator[None, None, Result]
"""Work that pauses after every step, which takes at most a tenth of a second or so, and returns its result."""


class Stepper(Generic[Result]):
    """Runs work step by step.

    Attributes:
        result: What the work returned; set when it is done.
    """

    result: Result

    def __init__(self, steps: Steps[Result]) -> None:
        self._steps = steps

    def step(self) -> bool:
        """Runs one step; returns whether there is more to do."""
        try:
            next(self._steps)
        # Caught where the step ran, which may be a thread of a pool: a future cannot carry StopIteration.
        except StopIteration as end:
            self.result = end.value
            return False
        return True
