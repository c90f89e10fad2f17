"""How each dialect speaks of errors: a route class and the description of its body; OpenAI's is the base, `Route`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from conch_gateway.api.route import ErrorEnvelope, Route
from conch_gateway.errors import Problem

TeiErrorType = Literal["Validation", "Overloaded", "Unhealthy", "Backend"]


class CohereError(BaseModel):
    """Cohere's shape of an error."""

    message: str


class CohereRoute(Route):
    """Speaks of errors as Cohere does."""

    error_model: ClassVar[type[BaseModel]] = CohereError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"message"}`."""
        return {"message": problem.message}


class SharedError(ErrorEnvelope):
    """OpenAI's shape of an error, Voyage's and Jina's `detail` and Cohere's `message` in one."""

    message: str
    detail: str


class SharedRoute(Route):
    """Speaks of errors as all those do who share a path: OpenAI, Voyage, Jina, vLLM and Cohere's first version."""

    error_model: ClassVar[type[BaseModel]] = SharedError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"error", "message", "detail"}`."""
        return {**super().error_body(problem), "message": problem.message, "detail": problem.message}


class TeiError(BaseModel):
    """The shape of an error of text-embeddings-inference."""

    error: str
    error_type: TeiErrorType


class TeiRoute(Route):
    """Speaks of errors as text-embeddings-inference does."""

    error_model: ClassVar[type[BaseModel]] = TeiError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"error", "error_type"}`."""
        return {"error": problem.message, "error_type": _tei_type(problem.status)}


class OllamaError(BaseModel):
    """Ollama's shape of an error."""

    error: str


class OllamaRoute(Route):
    """Speaks of errors as Ollama does."""

    error_model: ClassVar[type[BaseModel]] = OllamaError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"error"}`."""
        return {"error": problem.message}


# Who answers at paths where there is nothing; OpenAI's dialect elsewhere.
DIALECT_OF_PREFIX: Mapping[str, type[Route]] = {"/api/": OllamaRoute, "/v2/": CohereRoute}


def _tei_type(status: int) -> TeiErrorType:
    if status == 429:
        return "Overloaded"
    if status == 503:
        return "Unhealthy"
    return "Backend" if status >= 500 else "Validation"
