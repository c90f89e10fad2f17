"""The one way from texts to vectors, whatever dialect asked: check, admit, tokenise, infer, count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np
from conch_client import InvalidInputError, ModelInfo, UnavailableError
from numpy.typing import NDArray

from conch_gateway.api.fields.texts import is_text
from conch_gateway.backends.coalescer import Coalescer, Options
from conch_gateway.backends.upstream import Upstream
from conch_gateway.errors import InvalidValueError
from conch_gateway.inference.cache import VectorCache
from conch_gateway.inference.jobs import EmbeddingJob
from conch_gateway.inference.prompts import choose_prompt
from conch_gateway.models.registry import Choice, Models
from conch_gateway.models.tasks import EMBEDDING
from conch_gateway.scheduling.admission import Admission, Hold, estimated_tokens
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.trace import Trace

_STARTS = 3  # how often a job may begin anew because its model was replaced


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer: `vectors` is float32 [texts, dimension]; `tokens` counts real tokens, special ones included."""

    model: str
    vectors: NDArray[np.float32]
    tokens: int


class Embedder:
    """Computes embedding jobs within the limits of the settings."""

    def __init__(self, settings: GatewaySettings, models: Models, admission: Admission) -> None:
        self._settings = settings
        self._client = client = models.client
        self._models = models
        self._admission = admission
        self._coalescer = Coalescer(client, admission.turns, settings.timeout_s)
        self._cache = VectorCache(settings.cache_mb * 2**20)

    async def embed(self, job: EmbeddingJob, trace: Trace) -> Embedded:
        """Compute one job and write what it took into the trace.

        Raises:
            InvalidValueError: too many texts, more dimensions than the model has, a prompt it lacks.
            CapacityError: the gateway is full.
            UpstreamError: as `Upstream` raises them, and UpstreamBusyError.
            ConchError: as the client raises them.
        """
        self._check_count(job)
        # Admitted first: who waits for a model to be loaded takes up room as well.
        with self._admission.admit(job.texts, trace) as hold:
            async with self._models.use(job.model, EMBEDDING, trace.key) as choice:
                self._admission.know(choice.info)
                _check_dimensions(job.dimensions, choice.info)
                check_normalize(job, choice.info)
                trace.enter(choice.info.name, len(job.texts))
                vectors = await self._vectors(job, choice, trace, hold)
                return Embedded(choice.name, vectors, trace.tokens)

    async def _vectors(self, job: EmbeddingJob, choice: Choice, trace: Trace, hold: Hold) -> NDArray[np.float32]:
        info = choice.info
        if not is_text(job.texts):
            _check_no_prompt(job)
        if choice.upstream is not None:
            return await self._ask(job, choice.upstream, trace, hold)
        if not is_text(job.texts):
            hold.stand_in_line(choice.line)
            trace.tokens = hold.tokens
            return await self._infer(job, job.texts, info, trace)
        for _ in range(_STARTS):
            lookup = self._cache.look_up(job.texts, self._variant(job, info))
            trace.cache_hits = lookup.hits
            if lookup.missing:
                hold.stand_in_line(choice.line)
            ids = await self._tokenize(job, job.texts, lookup.missing, info, trace)
            hold.correct(sum(map(len, ids)))
            vectors = await self._infer(job, ids, info, trace)
            # Ids of one tokenizer mean nothing to a model with another, and a model may be replaced in between.
            served = await self._client.model(info.name)
            if served == info:
                vectors, trace.tokens = lookup.complete(vectors, list(map(len, ids)))
                return vectors
            info = served
        msg = f"model {info.name!r} was replaced again and again; retry when the deployment is over"
        raise UnavailableError(msg)

    async def _tokenize(
        self, job: EmbeddingJob, given: list[str], missing: list[str], info: ModelInfo, trace: Trace
    ) -> list[list[int]]:
        if not missing:
            return []
        started = perf_counter()
        prompt = choose_prompt(info, job.prompt_name, job.input_type)
        tokenize = partial(
            self._client.tokenize,
            model=info.name,
            prompt=prompt.prompt,
            prompt_name=prompt.prompt_name,
            truncate=job.truncate or self._settings.truncate,
            timeout_s=self._settings.timeout_s,
        )
        try:
            ids = await tokenize(missing)
        except InvalidInputError:
            await tokenize(given)  # says which of the texts that were given it is
            raise
        trace.tokenize_s = perf_counter() - started
        return ids

    async def _infer(
        self, job: EmbeddingJob, ids: list[list[int]], info: ModelInfo, trace: Trace
    ) -> NDArray[np.float32]:
        if not ids:
            return np.empty((0, 0), np.float32)
        options = Options(info.name, job.dimensions, normalize=job.normalize is not False)
        with trace.inferring():
            return await self._coalescer.embed(ids, options, info.max_rows, trace)

    async def _ask(self, job: EmbeddingJob, upstream: Upstream, trace: Trace, hold: Hold) -> NDArray[np.float32]:
        """Have the other server that has the model compute what is not known.

        How many tokens each text has is its to know, so that none are counted for texts that are known.
        """
        if not is_text(job.texts):
            hold.stand_in_line(upstream.line)
            return await self._ask_all(job, upstream, trace)
        lookup = self._cache.look_up(job.texts, self._variant(job, upstream.edition))
        trace.cache_hits = lookup.hits
        hold.correct(estimated_tokens(lookup.missing, upstream.info.max_length))
        vectors = np.empty((0, 0), np.float32)
        if lookup.missing:
            hold.stand_in_line(upstream.line)
            try:
                vectors = await self._ask_all(replace(job, texts=lookup.missing), upstream, trace)
            except InvalidValueError:
                if lookup.missing != job.texts:
                    await upstream.embed(job, trace)  # says which of the texts that were given it is
                raise
        vectors, _ = lookup.complete(vectors, [0] * len(lookup.missing))
        return vectors

    async def _ask_all(self, job: EmbeddingJob, upstream: Upstream, trace: Trace) -> NDArray[np.float32]:
        with trace.inferring():
            answer = await upstream.embed(job, trace)
        trace.tokens = answer.tokens
        return answer.given

    def _variant(self, job: EmbeddingJob, source: object) -> object:
        """All that a text's vector depends on beside the text: where it comes from, and what is done with it."""
        return source, replace(job, texts=[], model=None, truncate=job.truncate or self._settings.truncate)

    def _check_count(self, job: EmbeddingJob) -> None:
        if job.counted and len(job.texts) > self._settings.max_inputs:
            msg = f"{len(job.texts)} inputs are too many; send at most {self._settings.max_inputs} in one request"
            raise InvalidValueError(msg, param="input")


def _check_dimensions(dimensions: int | None, info: ModelInfo) -> None:
    if dimensions is not None and info.dimension is not None and dimensions > info.dimension:
        msg = f"dimensions: model {info.name!r} has {info.dimension}; ask for at most as many"
        raise InvalidValueError(msg, param="dimensions")


def check_normalize(job: EmbeddingJob, info: ModelInfo) -> None:
    """Raise InvalidValueError where vectors are wanted as the model makes them, and they are normalised as served."""
    if job.normalize is False and info.normalized:
        msg = (
            f"normalize: {info.name!r} is served with normalisation built in; send true, or export the model with "
            "--no-normalize"
        )
        raise InvalidValueError(msg, param="normalize")


def _check_no_prompt(job: EmbeddingJob) -> None:
    if job.prompt_name is not None:
        msg = "prompt_name: a prompt can be put before text only, not before token ids; send text or leave it out"
        raise InvalidValueError(msg, param="prompt_name")
