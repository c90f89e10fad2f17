"""What is asked for, in the gateway's own words; every dialect is translated into these."""

from __future__ import annotations

from dataclasses import dataclass

from conch_gateway.api.fields.texts import Texts
from conch_gateway.settings import Truncate


@dataclass(frozen=True, slots=True)
class EmbeddingJob:
    """Texts (or token ids, taken as they are) and what to do with them; None leaves it to the settings or the model.

    Attributes:
        normalize: whether vectors have length 1; false is refused for models whose vectors always have.
        counted: whether there may be no more texts than the settings say; Ollama knows no such limit.
    """

    texts: Texts
    model: str | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    dimensions: int | None = None
    truncate: Truncate | None = None
    normalize: bool | None = True
    counted: bool = True


@dataclass(frozen=True, slots=True)
class RerankJob:
    """A query and documents; None leaves an option to the settings or the model, `top_n` None returns all.

    Attributes:
        document_tokens: most tokens of a document; what a longer one has beyond is not read.
    """

    query: str
    documents: list[str]
    model: str | None = None
    top_n: int | None = None
    raw_scores: bool = False
    truncate: Truncate | None = None
    document_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class PairJob:
    """Pairs of a query and a document; None leaves an option to the settings or the model."""

    pairs: list[tuple[str, str]]
    model: str | None = None
    raw_scores: bool = False
    truncate: Truncate | None = None
