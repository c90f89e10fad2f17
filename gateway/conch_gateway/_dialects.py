"""How each dialect speaks of errors: a route class and the description of its body; OpenAI's is the base, `Route`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from conch_gateway._route import Route
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


class JinaError(BaseModel):
    """Jina's shape of an error and Cohere's together, for the path that both have."""

    message: str
    detail: str


class JinaRoute(Route):
    """Speaks of errors as Jina and Cohere do, whose first version shares Jina's path."""

    error_model: ClassVar[type[BaseModel]] = JinaError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"message", "detail"}`, both the same."""
        return {"message": problem.message, "detail": problem.message}


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


def _tei_type(status: int) -> TeiErrorType:
    if status == 429:
        return "Overloaded"
    if status == 503:
        return "Unhealthy"
    return "Backend" if status >= 500 else "Validation"
