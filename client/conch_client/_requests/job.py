"""A job is one call's work without its I/O: the requests to send, and what their answers amount to.

Both sessions run jobs the same way: ``result([send(request(part)) for part in parts])``, several parts at once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from conch_client._errors import NotComputedError
from conch_client._requests.plan import plan_batches
from conch_client._transport.tensors import infer_request, read_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import ModelInfo
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._tokenization.rows import Rows
    from conch_client._tokenization.tokenizer import TextTokenizer

Result = TypeVar("Result")


class LoadedModel(NamedTuple):
    """A served model and its tokenizer."""

    info: ModelInfo
    tokenizer: TextTokenizer


class Job(Generic[Result]):
    """Runs a model over token rows.

    Attributes:
        parts: The rows of each request; may be empty where nothing has to be sent.
    """

    def __init__(self, model: ModelInfo, rows: Rows, parts: list[NDArray[np.intp]] | None = None) -> None:
        self._model = model
        self._runs = model.name
        self._rows = rows
        self.parts = plan_batches(rows.lengths, max_rows=model.max_rows) if parts is None else parts

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row: int64 [n]."""
        return self._rows.lengths

    @property
    def truncated(self) -> tuple[int, ...]:
        """Numbers of the rows whose text lost tokens, ascending."""
        return self._rows.truncated

    def request(self, part: NDArray[np.intp]) -> pb.ModelInferRequest:
        """The request for one of the parts; made when it is about to be sent."""
        return infer_request(self._runs, self._model.inputs, self._rows.matrix(part))

    def tokens(self, part: NDArray[np.intp]) -> int:
        """Tokens that the server computes for one of the parts."""
        return int(self._rows.lengths[part].sum())

    def _output(self, responses: Sequence[pb.ModelInferResponse], width: int) -> NDArray[np.float32]:
        """The model's output for all rows, in their order: float32 [n, width]."""
        output = np.empty((len(self._rows), width), np.float32)
        for part, response in zip(self.parts, responses, strict=True):
            output[part] = read_output(response, self._model.output, (len(part), width))
        return output

    @abstractmethod
    def result(self, responses: Sequence[pb.ModelInferResponse]) -> Result:
        """The result of the call, from the responses in the order of ``parts``."""


Prepare = Callable[[LoadedModel], Generator[None, None, Job[Result]]]
"""Makes a call's job once the model is known: tokenises, checks, plans. No I/O, but real work, done in steps."""


def refuse_rows(refused: NDArray[np.bool_]) -> None:
    """Raises NotComputedError for texts that the server could not compute, which are NaN in its answer: bool [n]."""
    indices = np.flatnonzero(refused).tolist()
    if indices:
        raise NotComputedError(
            f"the model refused text(s) {indices}: a token id is outside its vocabulary; "
            "use its own tokenizer (Client.tokenize), or send the text",
            indices,
        )
