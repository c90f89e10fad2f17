"""Calls without their I/O, for programs that run the graphs themselves: texts to requests, and responses to answers.

    model = load(info, tokenizer_json, max_rows=8)
    job = embedding(model, texts, dimensions=256)
    vectors = job.result([run(job.request(part)) for part in job.parts])

Options, results and errors are those of ``Client``'s calls, because they are made by the same code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from conch_client._errors import Item
from conch_client._inputs import Inputs, check_text, check_texts
from conch_client._requests.job import Job, LoadedModel
from conch_client._requests.options import TokenOptions, VectorOptions
from conch_client._requests.rerank import RerankQuestion, rerank_job
from conch_client._requests.vectors import EmbedJob, SparseJob, TokenVectorsJob
from conch_client._tokenization.steps import Stepper
from conch_client._tokenization.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import ModelInfo, Truncate

    from conch_client._requests.rerank import Ranking
    from conch_client._tokenization.steps import Steps

__all__ = ["Job", "LoadedModel", "embedding", "load", "ranking", "sparse", "token_vectors"]

Result = TypeVar("Result")


def load(info: ModelInfo, tokenizer_json: bytes, *, max_rows: int) -> LoadedModel:
    """A model and its tokenizer.

    Args:
        info: The model.
        tokenizer_json: Bytes of its ``tokenizer.json``.
        max_rows: Most rows of a request, instead of those that Triton takes.

    Raises:
        ServerError: The bytes are no tokenizer that this release of ``tokenizers`` can read.
    """
    return LoadedModel(replace(info, max_rows=max_rows), TextTokenizer(tokenizer_json))


def embedding(
    model: LoadedModel,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    dimensions: int | None = None,
    truncate: Truncate = "end",
    normalize: bool = True,
) -> EmbedJob:
    """One vector for each text, as by ``Client.embed``."""
    tokens, vectors = TokenOptions(prompt, prompt_name, truncate), VectorOptions(dimensions, normalize)
    return _result(EmbedJob.prepare(model, _inputs(texts), tokens, vectors))


def token_vectors(
    model: LoadedModel,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    truncate: Truncate = "end",
    normalize: bool = True,
) -> TokenVectorsJob:
    """One vector for each token, as by ``Client.embed_tokens``."""
    tokens = TokenOptions(prompt, prompt_name, truncate)
    steps = TokenVectorsJob.prepare(model, _inputs(texts), tokens, normalize=normalize, expect_space=None)
    return _result(steps)


def sparse(
    model: LoadedModel,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    truncate: Truncate = "end",
) -> SparseJob:
    """Weights of tokens of the vocabulary, as by ``Client.embed_sparse``."""
    tokens = TokenOptions(prompt, prompt_name, truncate)
    return _result(SparseJob.prepare(model, _inputs(texts), tokens, expect_space=None))


def ranking(
    model: LoadedModel,
    query: str,
    documents: Sequence[str],
    *,
    top_n: int | None = None,
    instruction: str | None = None,
    raw_scores: bool = False,
    truncate: Truncate = "end",
) -> Job[Ranking]:
    """Documents by how well they answer a query, as by ``Client.rerank``."""
    checked = check_text(query, Item("query")), check_texts(documents, "documents")
    return _result(rerank_job(model, RerankQuestion(*checked, top_n, raw_scores, truncate, instruction)))


def _inputs(texts: Sequence[str]) -> Inputs:
    return Inputs(check_texts(texts), None)


def _result(steps: Steps[Result]) -> Result:
    stepper = Stepper(steps)
    while stepper.step():
        pass
    return stepper.result
