"""The one way from texts to what is not one dense vector each: a vector for every token, or a weight for every term."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np
from conch_client import InvalidInputError, ModelInfo, SparseVector
from numpy.typing import NDArray

from conch_gateway.api.fields.texts import Texts, is_text
from conch_gateway.backends.answers import Answer
from conch_gateway.backends.upstream import Upstream
from conch_gateway.concurrency import all_of
from conch_gateway.errors import InvalidValueError
from conch_gateway.inference.embedding import check_normalize
from conch_gateway.inference.jobs import EmbeddingJob
from conch_gateway.inference.prompts import Prompt, choose_prompt
from conch_gateway.models.registry import Models
from conch_gateway.models.tasks import MULTI_VECTOR, SPARSE
from conch_gateway.scheduling.admission import Admission, Hold, estimated_tokens
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.trace import Trace

_MOST_NUMBERS = 2**22  # of an answer: 16 MiB of float32, and five times as much in JSON

Vector = TypeVar("Vector")
Ask = Callable[..., Awaitable[list[Vector]]]  # a call of the client: texts, and options by name
AskUpstream = Callable[[Upstream, EmbeddingJob, Trace], Awaitable[Answer[list[Vector]]]]


@dataclass(frozen=True, slots=True)
class Represented(Generic[Vector]):
    """The answer: one item for each text; `tokens` counts real tokens, special ones included."""

    model: str
    vectors: list[Vector]
    tokens: int


class Representer:
    """Computes token vectors and sparse vectors within the limits of the settings."""

    def __init__(self, settings: GatewaySettings, models: Models, admission: Admission) -> None:
        self._settings = settings
        self._models = models
        self._admission = admission
        self._turns = admission.turns

    async def embed_tokens(self, job: EmbeddingJob, trace: Trace) -> Represented[NDArray[np.float32]]:
        """Return float32 [tokens, dimension] for each text, of the named model or of the one derived from it.

        Raises:
            InvalidValueError: too many texts, dimensions, or a model that gives no token vectors.
            CapacityError: the gateway is full.
            UpstreamError: as `Upstream` raises them, and UpstreamBusyError.
            ConchError: as the client raises them.
        """
        ask = partial(self._models.client.embed_tokens, normalize=job.normalize is True)
        return await self._compute(job, trace, MULTI_VECTOR, ask, Upstream.embed_tokens)

    async def embed_sparse(self, job: EmbeddingJob, trace: Trace) -> Represented[SparseVector]:
        """Return term ids and weights for each text, of the named model or of the one derived from it.

        Raises:
            InvalidValueError: too many texts, dimensions, or a model that gives no sparse vectors.
            CapacityError: the gateway is full.
            UpstreamError: as `Upstream` raises them, and UpstreamBusyError.
            ConchError: as the client raises them.
        """
        return await self._compute(job, trace, SPARSE, self._models.client.embed_sparse, Upstream.embed_sparse)

    async def _compute(
        self,
        job: EmbeddingJob,
        trace: Trace,
        tasks: frozenset[str],
        ask: Ask[Vector],
        ask_upstream: AskUpstream[Vector],
    ) -> Represented[Vector]:
        self._check(job)
        with self._admission.admit(job.texts, trace) as hold:
            async with self._models.use(job.model, tasks, trace.key) as choice:
                self._admission.know(choice.info)
                check_normalize(job, choice.info)
                hold.stand_in_line(choice.line)
                trace.enter(choice.info.name, len(job.texts))
                if choice.upstream is None:
                    vectors = await self._ask_triton(job, choice.info, trace, hold, ask)
                else:
                    with trace.inferring():
                        answer = await ask_upstream(choice.upstream, job, trace)
                    vectors, trace.tokens = answer.given, answer.tokens
                return Represented(choice.name, vectors, trace.tokens)

    async def _ask_triton(
        self, job: EmbeddingJob, info: ModelInfo, trace: Trace, hold: Hold, ask: Ask[Vector]
    ) -> list[Vector]:
        trace.tokens = await self._count_tokens(job, info, trace)
        hold.correct(trace.tokens)
        if info.task in MULTI_VECTOR:
            _check_size(trace.tokens, info)
        with trace.inferring():
            ask = partial(ask, **self._options(job, info), request_id=trace.request_id)
            return await self._in_turns(job.texts, info, trace, ask)

    async def _in_turns(self, texts: Texts, info: ModelInfo, trace: Trace, ask: Ask[Vector]) -> list[Vector]:
        """Compute call by call, so that others get a turn in between."""
        parts = [texts[begin : begin + info.max_rows] for begin in range(0, len(texts), info.max_rows)]
        with self._turns.share(trace, large=len(parts) > 1) as share:

            async def compute(part: Texts) -> list[Vector]:
                async with self._turns.turn(share, estimated_tokens(part, info.max_length)):
                    return await ask(part)

            try:
                return list(chain.from_iterable(await all_of(map(compute, parts))))
            except InvalidInputError:
                if len(parts) == 1:
                    raise
                return await compute(texts)  # texts were counted within their part; of the whole, the client says which

    def _options(self, job: EmbeddingJob, info: ModelInfo) -> dict[str, Any]:
        prompt = choose_prompt(info, job.prompt_name, job.input_type) if is_text(job.texts) else Prompt(None, None)
        return {
            "model": info.name,
            **prompt._asdict(),
            "truncate": job.truncate or self._settings.truncate,
            "timeout_s": self._settings.timeout_s,
        }

    async def _count_tokens(self, job: EmbeddingJob, info: ModelInfo, trace: Trace) -> int:
        """Count what the answer does not tell: a token may have no vector, and several one term."""
        if not is_text(job.texts):
            return sum(map(len, job.texts))
        started = perf_counter()
        ids = await self._models.client.tokenize(job.texts, **self._options(job, info))
        trace.tokenize_s = perf_counter() - started
        return sum(map(len, ids))

    def _check(self, job: EmbeddingJob) -> None:
        if len(job.texts) > self._settings.max_inputs:
            msg = f"{len(job.texts)} inputs are too many; send at most {self._settings.max_inputs} in one request"
            raise InvalidValueError(msg, param="input")
        if job.dimensions is not None:
            msg = "dimensions: only dense vectors can be shortened; leave it out"
            raise InvalidValueError(msg, param="dimensions")
        if job.prompt_name is not None and not is_text(job.texts):
            msg = "prompt_name: a prompt can be put before text only, not before token ids; send text or leave it out"
            raise InvalidValueError(msg, param="prompt_name")


def _check_size(tokens: int, info: ModelInfo) -> None:
    most = _MOST_NUMBERS // (info.dimension or 1)
    if tokens > most:
        msg = (
            f"{tokens} tokens are too many, as each gets a vector; with model {info.name!r} send at most {most} in one "
            "request"
        )
        raise InvalidValueError(msg, param="input")
