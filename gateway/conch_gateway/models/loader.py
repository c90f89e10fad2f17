"""Which models of the repository are loaded, and when: at the start, by their first request, or by an administrator.

Triton's index is read every second, so that models are loaded again after Triton was restarted, and new ones of
the repository are found. Which names belong together is known by the export's convention.

Several Tritons are changed together. One that is away during a change, or comes later, catches up on its own, while
the others go on serving.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence, Set
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from conch_client import AsyncClient, DeadlineExceededError, ModelInfo, ModelNotFoundError, UnavailableError
from conch_contract import DERIVED, INNER_NAMES, derived_name, is_bridge_name, tokenizer_name

from conch_gateway.background import end_all, repeat, start
from conch_gateway.errors import LoadingError
from conch_gateway.models.local_model import LocalModel
from conch_gateway.models.triton_control import Index, TritonControl
from conch_gateway.settings import Load

_REFRESH_EVERY_S = 1.0
_CALL_TIMEOUT_S = 5.0
_CHANGE_TIMEOUT_S = 600.0  # gigabytes from a slow disk
_GONE_TIMEOUT_S = 600.0  # calls under way at a model end before it is unloaded
_POLL_S = 0.02
_ALIVE = frozenset({"READY", "LOADING", "UNLOADING"})
_LONGEST_WAIT_S = 30.0  # of a request for a model that is being loaded
_LOADING = "the model is being loaded; retry in a moment"  # without its name: the caller may know an alias only
_TOKENIZER = tokenizer_name("")
_DERIVED = ("", *(derived_name("", task) for task in DERIVED))

Work = Callable[[str, LocalModel], Coroutine[Any, Any, None]]
"""Loads or unloads a model at the Triton of an address."""

_AWAY = (UnavailableError, DeadlineExceededError)
_CATCH_UP_PAUSE_S = 30.0  # after a Triton could not load what others have: it serves meanwhile
_REMEMBERED_S = 86_400.0  # after its name has last had the address of a Triton

_log = logging.getLogger("conch_gateway")


class Loader:
    """Loads and unloads through Triton's control; belongs to one event loop."""

    def __init__(
        self,
        control: TritonControl,
        client: AsyncClient,
        probe: Callable[[ModelInfo, float], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        """`probe` has a model compute one word; a request waits for a model at most `timeout_s`."""
        self._control = control
        self._client = client
        self._probe = probe
        self._policy_of: Callable[[str], Load] = lambda _: "start"
        self._timeout_s = min(timeout_s, _LONGEST_WAIT_S)
        self._names: set[str] = set()
        self._models: dict[str, LocalModel] = {}
        self._missed: dict[tuple[str, str], float] = {}
        """Changes that Tritons have missed, and when each of these was last known."""
        self._catching_up: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._retry_at: dict[tuple[str, str], float] = {}

    @property
    def models(self) -> list[LocalModel]:
        """Every model of the repository, by name, as of the last refresh."""
        return sorted(self._models.values(), key=lambda model: model.name)

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[None]:
        """Hold a model loaded and unchanged; names that the repository does not have are let through.

        Raises:
            LoadingError: it is not loaded in time; it will be.
            ModelNotFoundError: only an administrator may load it, and none has.
            ServerError: it cannot be loaded.
        """
        model = await self._find(name)
        if model is None:
            yield
            return
        await self._until_loaded(model)
        # Nothing is awaited in between, so no change can begin before the model counts as used.
        with model.used():
            try:
                yield
            except ModelNotFoundError as error:  # Triton was restarted since the last refresh
                model.loaded = False
                raise LoadingError(_LOADING) from error

    async def load(self, name: str) -> LocalModel:
        """Load a model, or anew from the disk if it is loaded, and return when it has computed a probe.

        Raises:
            ModelNotFoundError: the repository does not have it.
            ServerError: it cannot be loaded.
        """
        return await self._change(name, loaded=True)

    async def unload(self, name: str) -> LocalModel:
        """Unload a model that no request uses any more, and return when its memory is free; raises as `load` does."""
        return await self._change(name, loaded=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read Triton's index every second inside the block; cancel changes that are under way at its end."""
        refreshing = start(
            repeat(self._refresh, _REFRESH_EVERY_S, "reading the index of the model repository"), "conch-loader"
        )
        try:
            yield
        finally:
            changes = [model.change for model in self.models if model.change is not None]
            await end_all([refreshing, *changes, *self._catching_up.values()])
            await self._control.close()

    def apply_policies(self, policy_of: Callable[[str], Load]) -> None:
        """Load models from now on when this says of their name."""
        self._policy_of = policy_of
        for model in self._models.values():
            # What an administrator has unloaded stays so where the policy is the one that it was.
            if (policy := policy_of(model.name)) != model.policy:
                model.policy, model.wanted = policy, model.wanted or policy == "start"

    async def _refresh(self) -> None:
        if not self._client.replicas:  # names are looked up by the client's first call
            await self._client.is_ready()
        indexes = await self._control.indexes(_CALL_TIMEOUT_S)
        self._forget()
        self._names = {entry for index in indexes.values() for entry in index}
        names = {entry.removesuffix(_TOKENIZER) for entry in self._names if entry.endswith(_TOKENIZER)}
        self._models = {name: self._models.get(name) or LocalModel(name, self._policy_of(name)) for name in names}
        for model in self._models.values():
            # During a change the index shows its steps; whether the model is loaded is known at the change's end.
            if model.change is None:
                having = {url for url, index in indexes.items() if self._is_loaded(model, index)}
                model.loaded = any((url, model.name) not in self._missed for url in having)
                self._catch_up(model, having, indexes.keys() - having)
            if model.is_due:
                model.begin(self._load, loaded=True)

    def _forget(self) -> None:
        """Forget Tritons that are gone for good. One that is away may come back as it was, at the same address."""
        now, known = monotonic(), {replica.url for replica in self._client.replicas}
        seen = {place: now if place[0] in known else at for place, at in self._missed.items()}
        self._missed = {place: at for place, at in seen.items() if now - at < _REMEMBERED_S}
        self._retry_at = {place: at for place, at in self._retry_at.items() if at > now}

    def _is_loaded(self, model: LocalModel, index: Index) -> bool:
        return all(index.get(name) == "READY" for name in self._triton_models(model))

    def _catch_up(self, model: LocalModel, having: Set[str], lacking: Set[str]) -> None:
        """Bring Tritons to where the others are: those that missed a change, and those that lack what others have.

        Only those that answer: one that is gone for good has nothing to catch up with.
        """
        missed = {url for url in having | lacking if (url, model.name) in self._missed}
        for url in missed | (lacking if model.loaded and model.wanted else set()):
            place = url, model.name
            if place not in self._catching_up and monotonic() >= self._retry_at.get(place, 0.0):
                work = self._load_at if model.wanted else self._unload_at
                self._catching_up[place] = start(self._do_alone(place, work, model), f"catching up with {model.name}")

    async def _do_alone(self, place: tuple[str, str], work: Work, model: LocalModel) -> None:
        try:
            await work(place[0], model)
            self._missed.pop(place, None)
            await self._client.is_ready()
        except _AWAY:
            raise
        except Exception:
            self._retry_at[place] = monotonic() + _CATCH_UP_PAUSE_S
            raise
        finally:
            del self._catching_up[place]

    async def _find(self, name: str) -> LocalModel | None:
        if not self._names:
            await self._refresh()
        return self._root(name) if name in self._names else None

    async def _until_loaded(self, model: LocalModel) -> None:
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        # A loop: before a waiting request goes on, the next change may have begun.
        while model.change is not None or not model.loaded:
            if model.change is None and not (model.wanted or model.policy == "lazy"):
                msg = f"model {model.name!r} is not loaded; an administrator can: POST /admin/models/{model.name}/load"
                raise ModelNotFoundError(msg)
            change = model.change or model.begin(self._load, loaded=True)
            # `wait` never cancels: the change goes on for others when this request gives up.
            done, _ = await asyncio.wait({change}, timeout=deadline - asyncio.get_running_loop().time())
            if not done:
                raise LoadingError(_LOADING)
            change.result()

    async def _change(self, name: str, *, loaded: bool) -> LocalModel:
        await self._refresh()
        model = self._models.get(name)
        if model is None:
            msg = f"the repository has no model {name!r}; it has: {', '.join(sorted(self._models)) or 'none'}"
            raise ModelNotFoundError(msg)
        while model.change is not None:
            await asyncio.wait({model.change})
        # An administrator who hangs up does not leave a model half changed.
        await asyncio.shield(model.begin(self._load if loaded else self._unload, loaded=loaded))
        return model

    async def _load(self, model: LocalModel) -> None:
        began = monotonic()
        await self._everywhere(self._load_at, model)
        await self._client.is_ready()  # makes the client read anew what is served
        for info in await self._client.models():
            if info.name in self._triton_models(model):
                await self._probe(info, self._timeout_s)
        model.load_s = monotonic() - began
        _log.info("loaded %s in %.1f s", model.name, model.load_s)

    async def _unload(self, model: LocalModel) -> None:
        await self._everywhere(self._unload_at, model)
        await self._client.is_ready()
        _log.info("unloaded %s", model.name)

    async def _everywhere(self, work: Work, model: LocalModel) -> None:
        """Do it at every Triton; one that cannot be reached will catch up. Raises if it fails at one, or at all."""
        catching_up = [task for (_, name), task in self._catching_up.items() if name == model.name]
        await asyncio.gather(*catching_up, return_exceptions=True)
        urls = list(await self._control.indexes(_CALL_TIMEOUT_S))
        ends = await asyncio.gather(*(work(url, model) for url in urls), return_exceptions=True)
        failures = {url: end for url, end in zip(urls, ends, strict=True) if end is not None}
        away = {url for url, failure in failures.items() if isinstance(failure, _AWAY)}
        for failure in failures.values():
            if len(away) == len(urls) or not isinstance(failure, _AWAY):
                raise failure
        known = {replica.url for replica in self._client.replicas}
        for url in urls:
            self._missed.pop((url, model.name), None)
        self._missed |= dict.fromkeys(((url, model.name) for url in (known - set(urls)) | away), monotonic())

    async def _load_at(self, url: str, model: LocalModel) -> None:
        for name in self._triton_models(model):  # one by one: Triton does not say which model of an ensemble failed
            await self._control.load(url, name, _CHANGE_TIMEOUT_S)

    async def _unload_at(self, url: str, model: LocalModel) -> None:
        names = self._triton_models(model)
        # Ensembles before the models that they call, so that no ensemble is served without its parts.
        for name in reversed(names):
            await self._control.unload(url, name, _CHANGE_TIMEOUT_S)
        # Triton's answer only says that unloading has begun; memory is free once the index says so.
        deadline = monotonic() + _GONE_TIMEOUT_S
        while await self._is_any_alive(url, names):
            if monotonic() > deadline:
                msg = f"Triton has not unloaded {model.name} within {_GONE_TIMEOUT_S:g} s; start it again if it hangs"
                raise DeadlineExceededError(msg)
            await asyncio.sleep(_POLL_S)

    async def _is_any_alive(self, url: str, names: Sequence[str]) -> bool:
        index = await self._control.index(url, _CALL_TIMEOUT_S)
        return any(index.get(name) in _ALIVE for name in names)

    def _triton_models(self, model: LocalModel) -> list[str]:
        """Return the names of the Triton models that belong to a model: inner ones before the ensembles of them.

        The tokenizer comes after the others: should a new encoder not load, the old one still has its own tokenizer.
        """
        bridges = sorted(name for name in self._names if _is_bridge(name, model.name) and self._root(name) is model)
        public = [*(f"{model.name}{suffix}" for suffix in _DERIVED), *bridges]
        inner = [name for name in self._names if name.rpartition(".")[0] in public and self._root(name) is None]
        inner.sort(key=lambda name: (name.endswith(_TOKENIZER), name))
        return [*inner, *(name for name in public if name in self._names)]

    def _root(self, name: str) -> LocalModel | None:
        """Return the model that has this public name, or from which the one that has it was derived."""
        derived_from = (name.removesuffix(suffix) for suffix in _DERIVED if name.endswith(suffix))
        # The longest first: of `a-as-b` and `a`, the former has the bridge `a-as-b-as-c`.
        bridged_from = (each for each in sorted(self._models, key=len, reverse=True) if _is_bridge(name, each))
        candidates = (*derived_from, *bridged_from)
        return next((self._models[candidate] for candidate in candidates if candidate in self._models), None)


def _is_bridge(name: str, base: str) -> bool:
    return is_bridge_name(name, base) and name.rpartition(".")[2] not in INNER_NAMES
