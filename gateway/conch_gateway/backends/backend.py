"""The protocol of a backend, which computes vectors and rankings; nothing else in the gateway knows how it does that.

Another backend is a module with a class of this protocol and a `KIND`, and a line in `kinds.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from conch_client import ModelInfo, Ranked, Replica, SparseVector, Token
from conch_contract import Task, Truncate
from pydantic import BaseModel

from conch_gateway.jobs import Answer, ClassificationJob, EmbeddingJob, Prediction, RerankJob, Vectors
from conch_gateway.scheduling.admission import Reservation


class Backend(Protocol):
    """A server of models; belongs to one event loop.

    Each method that computes first lets the request's reservation join the backend's backlog, which may raise
    CapacityError, and then makes every call in one of the backlog's slots. It raises InvalidInputError with the indices
    of the inputs at fault, without sending anything twice to find them; ConchError as the client does; and
    UpstreamError, UpstreamBusyError or DeadlineError where the backend is an upstream. If the model of `info` was
    replaced by another of its name, it raises ModelReplacedError, and the request begins anew.

    Attributes:
        edition: part of the cache's key of the vectors, for a backend whose model may change while `info` stays the
            same. None where `info` identifies the weights, so that vectors may be shared with other gateways.
    """

    edition: object

    @property
    def replicas(self) -> Sequence[Replica]:
        """The servers that share the work, as they stand now."""

    async def models(self) -> list[ModelInfo]:
        """Return all its models."""

    async def model(self, name: str) -> ModelInfo:
        """Return the facts of a model; raises ModelNotFoundError."""

    def tasks(self, info: ModelInfo) -> frozenset[Task]:
        """Return what a model does."""

    async def embed(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[Vectors]:
        """Return float32 [texts, dimension]."""

    async def embed_chunks(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[Vectors]:
        """Return float32 [texts, dimension] of texts that are the chunks of one document."""

    async def embed_tokens(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[list[Vectors]]:
        """Return float32 [tokens, dimension] for each text."""

    async def embed_sparse(
        self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation
    ) -> Answer[list[SparseVector]]:
        """Return term ids and weights for each text."""

    async def rerank(self, info: ModelInfo, job: RerankJob, reservation: Reservation) -> Answer[list[Ranked]]:
        """Return the best `top_n` documents by descending score."""

    async def classify(
        self, info: ModelInfo, job: ClassificationJob, reservation: Reservation
    ) -> Answer[list[list[Prediction]]]:
        """Return the labels of each input by descending score."""

    async def tokens(
        self, info: ModelInfo, texts: list[str], *, prompt_name: str | None, add_special_tokens: bool
    ) -> list[list[Token]]:
        """Split texts into tokens; raises InvalidValueError where the gateway does not have the tokenizer."""

    async def decode(self, info: ModelInfo, ids: Sequence[Sequence[int]], *, skip_special_tokens: bool) -> list[str]:
        """Join tokens to texts; raises as `tokens` does."""

    async def close(self) -> None:
        """Close its connections."""


class Kind(NamedTuple):
    """A kind of backend that a table of the models file makes.

    Attributes:
        table: the shape of the table.
        make: makes the backend of a public name, its table, and the default of `truncate`.
    """

    table: type[BaseModel]
    make: Callable[[str, Any, Truncate], Backend]
