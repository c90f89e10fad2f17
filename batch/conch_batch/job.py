"""The description of a run: frozen values, which are pickled to every worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from conch_contract import Truncate

OnError = Literal["record", "stop"]


class Numbers(str, Enum):
    """Type of a vector's numbers; equal to its spelling."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    """`round(127 x)`, for vectors of length 1, as the gateway's `int8`."""
    BINARY = "binary"
    """Bits `x >= 0`, eight to a byte, the most significant first, as the gateway's `ubinary`."""

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return self.value


class TextRows(str, Enum):
    """Unit of a text file that becomes a row; equal to its spelling."""

    FILE = "file"
    PARAGRAPH = "paragraph"
    LINE = "line"

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Vectors of a column of texts.

    Attributes:
        text: name of the column.
        prompt: text put before each; "" for none, None for the model's default.
        prompt_name: name of one of the model's prompts instead.
        dimensions: length to which dense vectors are cut.
        numbers: type of the numbers of vectors that are not sparse.
        normalize: whether these vectors get length 1; False only for models that were exported without normalisation.
        truncate: end at which texts that are too long lose tokens; with "none" they fail.
    """

    text: str = "text"
    prompt: str | None = None
    prompt_name: str | None = None
    dimensions: int | None = None
    numbers: Numbers = Numbers.FLOAT32
    normalize: bool = True
    truncate: Truncate = "end"


@dataclass(frozen=True, kw_only=True)
class Reranking:
    """Rankings of a column of lists of documents by a column of queries.

    Attributes:
        query: column of the queries.
        documents: column of the lists.
        top_n: most documents of a ranking; None for all.
        instruction: what to look for, for rerankers that read one.
        raw_scores: logits of a cross-encoder instead of their sigmoids.
        truncate: as in `Embedding`.
    """

    query: str = "query"
    documents: str = "documents"
    top_n: int | None = None
    instruction: str | None = None
    raw_scores: bool = False
    truncate: Truncate = "end"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run over a corpus.

    Attributes:
        inputs: files, folders or patterns, also as URLs that fsspec knows.
        output: folder of the shards, also as a URL.
        task: what is computed.
        model: name of the model.
        repository: folder of the model's graphs; not used with a server.
        server: address of a gateway that computes instead, `http://…`.
        api_key: API key for that gateway.
        prefix: put before the names of the columns that are added.
        shard_rows: rows of a shard; None to derive the number from the input.
        text_rows: unit of a text file that becomes a row.
        on_error: whether a row that fails is written to a side file or stops the run.
    """

    inputs: tuple[str, ...]
    output: str
    task: Embedding | Reranking
    model: str
    repository: Path = field(default_factory=lambda: Path("model_repository"))
    server: str | None = None
    api_key: str | None = field(default=None, repr=False)
    prefix: str = ""
    shard_rows: int | None = None
    text_rows: TextRows = TextRows.FILE
    on_error: OnError = "record"
