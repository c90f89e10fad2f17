"""Whether requests would be answered now: every model must say it is ready and then answer a tiny request in time.

Triton's own readiness stays true while an instance hangs, so each model has to compute one word. A busy server is not
a broken one: a full queue counts as an answer, and while requests are in flight a model has more time for its word,
since every instance may be computing a text of thousands of tokens, which takes half a minute. Upstreams are not
probed: that may cost money, and one that is away must not take this gateway out of service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

import anyio
from conch_client import ConchError, DeadlineExceededError, ModelInfo, OverloadedError, UnavailableError

from conch_gateway.auth.keys import Key
from conch_gateway.backends.triton import Triton
from conch_gateway.background import start
from conch_gateway.concurrency import all_of
from conch_gateway.errors import problem_of
from conch_gateway.models.registry import Models
from conch_gateway.scheduling.admission import Admission
from conch_gateway.settings import GatewaySettings

_log = logging.getLogger("conch_gateway")
_KEEP_S = 1.0  # probes arriving faster than this share one answer


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of probing all models.

    Attributes:
        faults: of each model, by name; None for none.
        fault: of the whole.
    """

    faults: Mapping[str, str | None]
    fault: str | None = None

    @property
    def ready(self) -> bool:
        """True if there is nothing against it."""
        return self.fault is None and all(fault is None for fault in self.faults.values())

    def shown_to(self, key: Key) -> dict[str, Any]:
        """Return `models`, which says of each model that the key opens whether it answered, and `reasons` why not."""
        opened = {name: fault for name, fault in self.faults.items() if key.opens(name)}
        return {
            "models": {name: fault is None for name, fault in opened.items()},
            "reasons": [
                *([] if self.fault is None else [self.fault]),
                *(f"{name}: {fault}" for name, fault in opened.items() if fault is not None),
            ],
        }


class _Probe(NamedTuple):
    """A probe under way: when it was sent, and the task that returns the fault it found, or None."""

    asked_at: float
    answer: asyncio.Task[str | None]


class Readiness:
    """Probes the models of Triton, at most once a second."""

    def __init__(self, settings: GatewaySettings, triton: Triton, models: Models, admission: Admission) -> None:
        self._triton = triton
        self._models = models
        self._admission = admission
        self._timeout_s = settings.readiness_timeout_s
        self._busy_timeout_s = settings.readiness_busy_timeout_s
        self._requests_wait = settings.triton_wait_s > 0
        self._unanswered: dict[str, _Probe] = {}
        self._logged: dict[str | None, str] = {}  # by model, that of Triton by None
        self._verdict = Verdict({}, "not asked yet")
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def verdict(self) -> Verdict:
        """Return the state of all models, at most a second old; never raises for a Triton that is away."""
        async with self._asking:
            if monotonic() - self._asked_at >= _KEEP_S:
                self._verdict = await self._ask()
                self._asked_at = monotonic()
        return self._verdict

    async def _ask(self) -> Verdict:
        try:
            with anyio.fail_after(self._timeout_s):
                infos = await self._triton.models()
        except (TimeoutError, DeadlineExceededError, UnavailableError) as error:
            # Requests wait for a Triton that is being started, and a load balancer must not keep them away; where the
            # address of one that has ended answers nothing at all, the time runs out.
            if self._requests_wait:
                return Verdict({})
            in_time = isinstance(error, TimeoutError)
            reason = f" within {self._timeout_s} s" if in_time else f": {self._told(error)}"
            return Verdict({}, f"Triton did not list its models{reason}")
        except ConchError as error:
            return Verdict({}, f"Triton did not list its models: {self._told(error)}")
        names = {info.name for info in infos}
        self._logged = {name: message for name, message in self._logged.items() if name in names}
        self._unanswered = {
            name: probe for name, probe in self._unanswered.items() if name in names or not probe.answer.done()
        }
        faults = dict(zip((info.name for info in infos), await all_of(self._fault, infos), strict=True))
        faults |= self._models.missing()
        if not (faults or self._models.may_be_empty):
            return Verdict({}, "Triton serves no model that conch exported")
        return Verdict(faults)

    async def _fault(self, info: ModelInfo) -> str | None:
        if not info.ready:
            return "not loaded"
        probe = self._unanswered.get(info.name) or self._start_probe(info)
        # A late probe stays in Triton's queue: sent anew each time, it would never be computed.
        await asyncio.wait({probe.answer}, timeout=max(0.0, probe.asked_at + self._timeout_s - monotonic()))
        if not probe.answer.done():
            busy = self._admission.requests > 0
            if busy and monotonic() - probe.asked_at < self._busy_timeout_s:
                return None
            return f"no answer within {self._busy_timeout_s if busy else self._timeout_s:g} s"
        del self._unanswered[info.name]
        return probe.answer.result()

    def _start_probe(self, info: ModelInfo) -> _Probe:
        answer = start(self._answer(info), f"the readiness probe of {info.name}")
        self._unanswered[info.name] = probe = _Probe(monotonic(), answer)
        return probe

    async def _answer(self, info: ModelInfo) -> str | None:
        try:
            await self._triton.probe(info, self._busy_timeout_s)
        except OverloadedError:
            return None
        except ConchError as error:
            return self._told(error, info.name)
        self._logged.pop(info.name, None)
        return None

    def _told(self, error: Exception, model: str | None = None) -> str:
        """Return what anybody may read about an error; the log has its message, which may name addresses and paths."""
        if self._logged.get(model) != str(error):  # not with every probe
            self._logged[model] = str(error)
            _log.warning("not ready: %s: %s", "Triton" if model is None else f"model {model!r}", error)
        return f"{problem_of(error).code}; the gateway's log says more"
