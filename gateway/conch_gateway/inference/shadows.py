"""Shadow traffic: a second model embeds some of the requests for an alias, and its vectors are compared.

The second model's vectors are computed after the answer, one request at a time, with background priority. They are not
returned and use no quota. The results are metrics. No texts are kept, only recent vectors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import random
from time import perf_counter

import anyio
import numpy as np
from conch_contract import Task, units
from numpy.typing import NDArray

from conch_gateway.auth.keys import ANYBODY
from conch_gateway.background import end_all, start
from conch_gateway.errors import CapacityError
from conch_gateway.jobs import EmbeddingJob, Vectors, is_text
from conch_gateway.models.registry import Models, Shadow
from conch_gateway.scheduling.admission import Admission
from conch_gateway.telemetry.request import Usage
from conch_gateway.telemetry.shadows import ShadowMetrics

_CALLER = "conch-shadow"
_TEXTS = 8  # compared per request; as many as fit in one call
_TIMEOUT_S = 60.0
_RECENT, _FEWEST, _NEIGHBOURS = 256, 32, 10
_SAME = 1 - 1e-6  # cosine of the vectors of equal texts, but for rounding

_log = logging.getLogger("conch_gateway")


class Shadows:
    """Sends some requests to a shadow as well, and compares the vectors; belongs to one event loop.

    Args:
        models: know the shadows of aliases.
        admission: admission of all requests.
        metrics: metrics of the comparisons.
        draw: returns random numbers from 0 to 1; a request goes to the shadow if one is below its share.
    """

    def __init__(
        self,
        models: Models,
        admission: Admission,
        metrics: ShadowMetrics,
        draw: Callable[[], float] = random,
    ) -> None:
        self._models = models
        self._admission = admission
        self._metrics = metrics
        self._draw = draw
        self._recent: dict[tuple[str, str], Recent] = {}
        self._task: asyncio.Task[None] | None = None
        self._logged = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Cancel a running comparison at the end of the block."""
        try:
            yield
        finally:
            if self._task is not None:
                await end_all([self._task])

    def consider(self, job: EmbeddingJob, vectors: Vectors, usage: Usage) -> None:
        """Start a comparison if this request is drawn and the shadow is idle.

        Args:
            job: the job that was answered; jobs with token ids or shortened vectors are left out.
            vectors: vectors of the answer, float32 [texts, dimension].
            usage: usage of the request.
        """
        shadow = self._models.shadow_of(job.model)
        if shadow is None or not is_text(job.texts) or job.dimensions is not None or self._draw() >= shadow.share:
            return
        if self._task is not None and not self._task.done():
            self._metrics.count(usage.model, shadow.model, "dropped")
            return
        part = replace(job, texts=job.texts[:_TEXTS], model=None, expect_space=None)
        # A copy: a view would keep the vectors of all texts.
        asked = self._ask(shadow, part, vectors[:_TEXTS].copy(), usage)
        self._task = start(asked, "conch-shadow")

    async def _ask(self, shadow: Shadow, job: EmbeddingJob, vectors: Vectors, usage: Usage) -> None:
        model = usage.model
        try:
            with anyio.fail_after(_TIMEOUT_S):
                others, seconds = await self._embedded(shadow, job)
        except (CapacityError, TimeoutError):  # no slot for background work in time, or the model hangs
            self._metrics.count(model, shadow.model, "dropped")
        except Exception as error:  # noqa: BLE001 - no request depends on it
            self._metrics.count(model, shadow.model, "failed")
            # Only its class: the message of an upstream may repeat the text.
            if (kind := type(error).__name__) != self._logged:
                _log.warning("shadow %s of %s failed: %s", shadow.model, model, kind)
            self._logged = kind
        else:
            self._metrics.count(model, shadow.model, "compared")
            shadows = self._models.shadows
            self._recent = {pair: recent for pair, recent in self._recent.items() if pair[1] in shadows}
            recent = self._recent.setdefault((model, shadow.model), Recent())
            for agreement, correlation in recent.compare(vectors, others):
                self._metrics.observe(model, shadow.model, agreement, correlation)
            if usage.inference_s and not usage.cache_hits:
                ratio = (seconds / len(others)) / (usage.inference_s / usage.texts)
                self._metrics.observe_ratio(model, shadow.model, ratio)

    async def _embedded(self, shadow: Shadow, job: EmbeddingJob) -> tuple[Vectors, float]:
        """Return the shadow's vectors and its seconds of inference."""
        with self._admission.reserve(_CALLER, _CALLER, job.texts, background=True) as reservation:
            async with self._models.use(shadow.model, {Task.EMBEDDING}, ANYBODY) as served:
                reservation.asked, reservation.model = shadow.model, served.info.name
                began = perf_counter()
                answer = await served.backend.embed(served.info, job, reservation)
                seconds = perf_counter() - began
        return answer.given, seconds - (reservation.entry.waited_s or 0.0) - (answer.tokenize_s or 0.0)


class Recent:
    """Recent normalised vectors of two models for the same texts."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Vectors, Vectors]] = []
        self._next = 0

    def compare(self, ours: Vectors, theirs: Vectors) -> list[tuple[float, float]]:
        """Return, for each text, the share of nearest recent texts in common, and the correlation of cosines.

        The vectors are then added to the recent ones. Before there are enough of these, nothing is returned. A text
        whose vector is among them is left out: its copies would be its nearest texts for any two models.

        Args:
            ours: vectors of the first model, float32 [texts, dimension].
            theirs: vectors of the second model, float32 [texts, another dimension].
        """
        found = []
        for pair in zip(units(ours), units(theirs), strict=True):
            # A model that was replaced under its name may have another dimension.
            if self._pairs and [each.shape for each in pair] != [each.shape for each in self._pairs[0]]:
                self._pairs, self._next = [], 0
            if self._pairs:
                ours_with, theirs_with = (
                    np.stack(known) @ one for known, one in zip(zip(*self._pairs, strict=True), pair, strict=True)
                )
                if ours_with.max() > _SAME:
                    continue
                if len(self._pairs) >= _FEWEST:
                    found.append((_in_common(ours_with, theirs_with), _correlation(ours_with, theirs_with)))
            self._remember(pair)
        return found

    def _remember(self, pair: tuple[Vectors, Vectors]) -> None:
        if len(self._pairs) < _RECENT:
            self._pairs.append(pair)
        else:
            self._pairs[self._next] = pair
            self._next = (self._next + 1) % _RECENT


def _in_common(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    nearest = (set(np.argsort(-each)[:_NEIGHBOURS].tolist()) for each in (ours, theirs))
    return len(set.intersection(*nearest)) / _NEIGHBOURS


def _correlation(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    spread = float(ours.std() * theirs.std())
    return float(((ours - ours.mean()) * (theirs - theirs.mean())).mean()) / spread if spread else 0.0
