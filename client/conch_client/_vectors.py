"""What is more than one number a dimension: a vector for every token of a text, or weights of a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from conch_client._embed import refuse_rows
from conch_client._plan import plan_batches
from conch_client._wire import infer_request, read_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import ModelInfo
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._embed import TokenOptions
    from conch_client._inputs import Inputs
    from conch_client._jobs import LoadedModel
    from conch_client._rows import Rows
    from conch_client._steps import Steps


class SparseVector(NamedTuple):
    """A vector that is 0 almost everywhere.

    Attributes:
        indices: int64 [k], ascending; for most models the ids of tokens.
        values: float32 [k], each above 0.
    """

    indices: NDArray[np.int64]
    values: NDArray[np.float32]


class _RowsJob:
    """What both kinds share; see ``_jobs.Job``."""

    def __init__(self, model: ModelInfo, rows: Rows) -> None:
        self._model = model
        self._rows = rows
        self.parts = plan_batches(rows.lengths, max_rows=model.max_rows)

    def request(self, part: NDArray[np.intp]) -> pb.ModelInferRequest:
        """The request for these rows."""
        return infer_request(self._model, self._rows.matrix(part))


class TokenVectorsJob(_RowsJob):
    """Embeds every token by itself."""

    def __init__(self, model: ModelInfo, rows: Rows, *, normalize: bool) -> None:
        super().__init__(model, rows)
        self._normalize = normalize and not model.normalized

    @classmethod
    def prepare(
        cls, model: LoadedModel, inputs: Inputs, tokens: TokenOptions, *, normalize: bool
    ) -> Steps[TokenVectorsJob]:
        """The job for these texts."""
        return cls(model.info, (yield from tokens.rows(model, inputs)), normalize=normalize)

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> list[NDArray[np.float32]]:
        """float32 [tokens, dimension] for each text."""
        vectors: list[NDArray[np.float32]] = [np.empty((0, 0), np.float32)] * len(self._rows)
        for part, response in zip(self.parts, responses, strict=True):
            lengths = self._rows.lengths[part]
            shape = (len(part), int(lengths.max()), self._model.dimension or 0)
            matrix = np.asarray(read_output(response, self._model.output, shape), np.float32)
            for row, length, index in zip(matrix, lengths.tolist(), part.tolist(), strict=True):
                vectors[index] = row[:length].copy()
        vectors = self._compared(vectors)
        refuse_rows(self._model, np.array([bool(np.isnan(row[:, :1]).any()) for row in vectors]))
        return [_units(row) for row in vectors] if self._normalize else vectors

    def _compared(self, vectors: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        rules = self._model.interaction
        if rules is None:
            return vectors
        each = zip(vectors, self._rows.tolist(), strict=True)
        return [row[rules.compared(np.asarray(ids))] for row, ids in each]


class SparseJob(_RowsJob):
    """Weighs the words of a text."""

    @classmethod
    def prepare(cls, model: LoadedModel, inputs: Inputs, tokens: TokenOptions) -> Steps[SparseJob]:
        """The job for these texts."""
        return cls(model.info, (yield from tokens.rows(model, inputs)))

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> list[SparseVector]:
        """A vector for each text."""
        vectors = [SparseVector(np.empty(0, np.int64), np.empty(0, np.float32))] * len(self._rows)
        for part, response in zip(self.parts, responses, strict=True):
            weights = np.asarray(read_output(response, "weights", (len(part), None)), np.float32)
            indices = np.asarray(read_output(response, "indices", weights.shape), np.int64)
            for index, row in zip(part.tolist(), zip(indices, weights, strict=True), strict=True):
                vectors[index] = _ascending(*row)
        refuse_rows(self._model, np.array([bool(np.isnan(vector.values).any()) for vector in vectors]))
        return vectors


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _ascending(indices: NDArray[np.int64], weights: NDArray[np.float32]) -> SparseVector:
    kept = np.flatnonzero(weights != 0)  # the others fill the row up
    order = kept[np.argsort(indices[kept])]
    return SparseVector(indices[order], weights[order])
