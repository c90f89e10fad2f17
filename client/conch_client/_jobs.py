"""A job is one call's work without its I/O: what to send, part by part, and what the answers amount to.

Both clients run jobs the same way: ``result([send(request(part)) for part in parts])``, several parts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from conch_contract import ModelInfo
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._tokenizer import TextTokenizer

Result = TypeVar("Result", covariant=True)  # noqa: PLC0105 - named for what it is


class LoadedModel(NamedTuple):
    """A served model and its tokenizer."""

    info: ModelInfo
    tokenizer: TextTokenizer


class Job(Protocol[Result]):
    """One call's work."""

    @property
    def parts(self) -> Sequence[NDArray[np.intp]]:
        """The rows of each request; may be empty where nothing has to be sent."""

    def request(self, part: NDArray[np.intp]) -> pb.ModelInferRequest:
        """The request for one of the parts; made when it is about to be sent."""

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> Result:
        """What the call returns, from the responses in the order of ``parts``."""


class Prepare(Protocol[Result]):
    """Makes a call's job once the model is known: tokenises, checks, plans. No I/O, but real work, done in steps."""

    def __call__(self, model: LoadedModel) -> Generator[None, None, Job[Result]]:
        """The job for this model."""
