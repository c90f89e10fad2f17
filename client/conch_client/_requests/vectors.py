"""Jobs that embed: one vector for each text, one for each of its tokens, or weights of a few tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from conch_contract import QUERY_PROMPT, check_space, space_of, units

from conch_client._errors import ServerError
from conch_client._requests.job import Job, refuse_rows
from conch_client._transport.tensors import infer_request, read_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import ModelInfo
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._inputs import Inputs
    from conch_client._requests.job import LoadedModel
    from conch_client._requests.options import TokenOptions, VectorOptions
    from conch_client._tokenization.rows import Rows
    from conch_client._tokenization.steps import Steps


class SparseVector(NamedTuple):
    """A vector that is 0 almost everywhere.

    Attributes:
        indices: int64 [k], ascending; for most models the ids of tokens.
        values: float32 [k], each above 0.
    """

    indices: NDArray[np.int64]
    values: NDArray[np.float32]


class ChunkVectors(NamedTuple):
    """The vectors of a document's chunks.

    Attributes:
        vectors: float32 [chunks, dimension], in their order.
        tokens: Tokens of the document, special ones included, which the server computed once for all chunks.
    """

    vectors: NDArray[np.float32]
    tokens: int


class EmbedJob(Job["NDArray[np.float32]"]):
    """One vector for each row."""

    def __init__(self, model: ModelInfo, rows: Rows, vectors: VectorOptions) -> None:
        super().__init__(model, rows)
        self._vectors = vectors

    @classmethod
    def prepare(
        cls, model: LoadedModel, inputs: Inputs, tokens: TokenOptions, vectors: VectorOptions
    ) -> Steps[EmbedJob]:
        """The job for these texts."""
        vectors.check(model.info)
        return cls(model.info, (yield from tokens.pooled_rows(model, inputs)), vectors)

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> NDArray[np.float32]:
        """float32 [n, dimension], in the order of the input."""
        vectors = self._output(responses, self._model.dimension or 0)
        refuse_rows(np.isnan(vectors).any(axis=1))
        return self._vectors.apply(vectors, self._model)


class ChunksJob(Job[ChunkVectors]):
    """One vector for each chunk of a document, which is one row."""

    def __init__(self, model: ModelInfo, rows: Rows, ends: Sequence[int], vectors: VectorOptions) -> None:
        super().__init__(model, rows)
        self._ends = np.asarray([ends], np.int64)
        self._vectors = vectors

    @classmethod
    def prepare(
        cls, model: LoadedModel, chunks: Sequence[str], tokens: TokenOptions, vectors: VectorOptions
    ) -> Steps[ChunksJob]:
        """The job for the chunks of a document."""
        vectors.check(model.info)
        prompt = model.info.prompt_text(tokens.prompt, tokens.prompt_name)
        rows, ends = yield from model.tokenizer.encode_chunks(prompt, chunks, max_length=model.info.max_length)
        return cls(model.info, rows, ends, vectors)

    def request(self, part: NDArray[np.intp]) -> pb.ModelInferRequest:
        """The one request."""
        model, matrix = self._model, self._rows.matrix(part)
        return infer_request(model.name, model.inputs, matrix, chunk_ends=self._ends)

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> ChunkVectors:
        """A vector for each chunk."""
        shape = (*self._ends.shape, self._model.dimension or 0)
        vectors = np.array(read_output(responses[0], self._model.output, shape)[0], np.float32)
        if np.isnan(vectors).any():
            raise ServerError(f"{self._model.name} has refused tokens of its own tokenizer; export it again")
        return ChunkVectors(self._vectors.apply(vectors, self._model), int(self._rows.lengths.sum()))


class TokenVectorsJob(Job["list[NDArray[np.float32]]"]):
    """One vector for each token."""

    def __init__(self, model: ModelInfo, rows: Rows, *, normalize: bool, query: bool | None) -> None:
        super().__init__(model, rows)
        self._normalize = normalize and not model.normalized
        self._query = query

    @classmethod
    def prepare(
        cls, model: LoadedModel, inputs: Inputs, tokens: TokenOptions, *, normalize: bool, expect_space: str | None
    ) -> Steps[TokenVectorsJob]:
        """The job for these texts."""
        check_space(expect_space, space_of(model.info, normalize=normalize), model.info.name)
        query = tokens.prompt_name == QUERY_PROMPT if inputs.rows is None else None
        return cls(model.info, (yield from tokens.rows(model, inputs)), normalize=normalize, query=query)

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> list[NDArray[np.float32]]:
        """float32 [tokens, dimension] for each text."""
        vectors: list[NDArray[np.float32]] = [np.empty((0, 0), np.float32)] * len(self._rows)
        for part, response in zip(self.parts, responses, strict=True):
            lengths = self._rows.lengths[part]
            shape = (len(part), int(lengths.max()), self._model.dimension or 0)
            matrix = np.asarray(read_output(response, self._model.output, shape), np.float32)
            for row, length, index in zip(matrix, lengths.tolist(), part.tolist(), strict=True):
                # A view would keep the padded matrix of the whole request alive.
                vectors[index] = row[:length].copy()
        vectors = self._compared(vectors)
        refuse_rows(np.array([bool(np.isnan(row[:, :1]).any()) for row in vectors]))
        return [units(row) for row in vectors] if self._normalize else vectors

    def _compared(self, vectors: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Without the tokens on the skip list, and without the first ones where the model leaves those out."""
        if self._model.skips_first:  # a text of one token keeps it, as where the server compares texts
            return [row[min(1, len(row) - 1) :] for row in vectors]
        rules = self._model.interaction
        if rules is None:
            return vectors
        rows = map(np.asarray, self._rows.tolist())
        kept = [rules.compared(ids, query=self._query) for ids in rows]
        return [row[compared] for row, compared in zip(vectors, kept, strict=True)]


class SparseJob(Job[list[SparseVector]]):
    """Weights of tokens of the vocabulary for each row."""

    def __init__(self, model: ModelInfo, rows: Rows, *, looked_up: bool) -> None:
        super().__init__(model, rows)
        self._runs = (model.query_model if looked_up else None) or model.name

    @classmethod
    def prepare(
        cls, model: LoadedModel, inputs: Inputs, tokens: TokenOptions, *, expect_space: str | None
    ) -> Steps[SparseJob]:
        """The job for these texts."""
        check_space(expect_space, space_of(model.info), model.info.name)
        looked_up = inputs.rows is None and tokens.looks_up(model.info)
        return cls(model.info, (yield from tokens.rows(model, inputs)), looked_up=looked_up)

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> list[SparseVector]:
        """A vector for each text."""
        vectors = [SparseVector(np.empty(0, np.int64), np.empty(0, np.float32))] * len(self._rows)
        for part, response in zip(self.parts, responses, strict=True):
            weights = np.asarray(read_output(response, "weights", (len(part), None)), np.float32)
            indices = np.asarray(read_output(response, "indices", weights.shape), np.int64)
            for index, row in zip(part.tolist(), zip(indices, weights, strict=True), strict=True):
                vectors[index] = _ascending(*row)
        refuse_rows(np.array([bool(np.isnan(vector.values).any()) for vector in vectors]))
        return vectors


def _ascending(indices: NDArray[np.int64], weights: NDArray[np.float32]) -> SparseVector:
    kept = np.flatnonzero(weights != 0)  # zeros pad the row to the length of the longest
    order = kept[np.argsort(indices[kept])]
    return SparseVector(indices[order], weights[order])
