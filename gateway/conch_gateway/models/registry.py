"""Resolves public names: finds the model that a request means, and keeps it loaded until the request is answered.

A name is a model of the repository, a model of another backend, or an alias of either. Names are resolved only here.
To a caller whose key does not open a model, it does not exist.
"""

from __future__ import annotations

from asyncio import Lock
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Set
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

from conch_client import ModelInfo, ModelNotFoundError, Replica
from conch_contract import Task

from conch_gateway.auth.keys import Key
from conch_gateway.backends.backend import Backend, Kind
from conch_gateway.errors import InvalidValueError, LoadingError, ModelsFileError
from conch_gateway.jobs import RERANKING
from conch_gateway.models.loader import Loader
from conch_gateway.models.models_file import ModelsFile, read_models_file
from conch_gateway.models.uses import Uses
from conch_gateway.settings import GatewaySettings, Load

LATEST = ":latest"  # Ollama's clients put it behind a name that has no tag


@dataclass(frozen=True, slots=True)
class Served:
    """The model that a request means.

    Attributes:
        info: its facts, under its own name.
        name: what the caller is told: its own name, or what was asked for where the caller's key opens that alone.
        asked: the name that was asked for.
        backend: that has it.
        space: facts of the model whose vectors those of this one can be compared with: its own, unless it answers the
            queries of an alias for another one.
        of_two: whether the name stands for two models, and the purpose of a text chooses between them.
    """

    info: ModelInfo
    name: str
    asked: str
    backend: Backend
    space: ModelInfo
    of_two: bool


class Shadow(NamedTuple):
    """A model that also gets a share of the requests for another one."""

    model: str
    share: float


class Models:
    """Everything that can be asked for by name.

    Attributes:
        repository: the backend of the models that no table of the models file has.
        loader: loads and unloads them, where that is allowed.
    """

    def __init__(
        self, settings: GatewaySettings, repository: Backend, loader: Loader | None, kinds: Mapping[str, Kind]
    ) -> None:
        """Read the models file, whose tables may make backends of these kinds.

        Raises:
            ModelsFileError: it is wrong, or needs what is not set.
        """
        self.repository = repository
        self.loader = loader
        self._kinds = kinds
        self._settings = settings
        self._others: dict[str, Backend] = {}
        self._uses = Uses()
        self._reloading = Lock()
        self._file = ModelsFile()
        self._adopt(self._read())

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Keep models loaded as they should be; close all backends at the end."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            if self.loader is not None:
                await stack.enter_async_context(self.loader.running())
            yield

    async def reload(self) -> None:
        """Read the models file again, and let it count once every model that an alias stands for is loaded.

        Requests that have begun keep the model that they began with; a backend that the file names no more is closed
        when they have been answered. If this raises, nothing has changed. Of two readings the later one counts.

        Raises:
            ModelsFileError: the file is wrong, or names a model that there is not.
            ServerError: a model that it names cannot be loaded.
        """
        async with self._reloading:
            file = self._read()
            await self._check_targets(file)
            self._adopt(file)

    @asynccontextmanager
    async def use(self, name: str | None, tasks: Set[Task], key: Key, *, query: bool = False) -> AsyncIterator[Served]:
        """Choose the model of that name, for queries or for other texts, and keep it loaded meanwhile.

        A model that does something else stands for the one derived from it that does one of the tasks. Without a name,
        the one of the settings is chosen if the key opens it, or else the first by name that it opens and that fits: of
        the repository's models, of other backends', of aliases.

        Raises:
            InvalidValueError: the model does something else, or has vectors of another length than that of documents.
            ModelNotFoundError: no such model is served, or the key does not open it.
            LoadingError: it is being loaded.
            UnavailableError: the backend cannot be reached.
        """
        asked = await self._default(tasks, key) if name is None else name
        with _discreet(asked, key):
            model = self._resolved(asked, key, query=query)
            public = self._public(asked)
            documents, queries = (self._file.resolve(public, query=each) for each in (False, True))
            # Both, as what is not loaded has no facts; in one order, so that no two requests wait for each other.
            first, second = sorted((model, documents))
            async with self._kept(first), self._kept(second) if second != first else nullcontext():
                info = await self._facts(asked, model, tasks)
                space = info if documents == model else await self._space(asked, info, documents, tasks)
                told = info.name if key.opens(info.name) else asked
                with self._uses.of(backend := self._backend_of(model)):
                    yield Served(info, told, asked, backend, space, of_two=documents != queries)

    async def describe(self, name: str, key: Key) -> ModelInfo:
        """Return the facts of what a public name stands for, loaded or not, under that name; raises as `use` does."""
        with _discreet(name, key):
            model = self._resolved(name, key)
            return _known_as(name, await self._backend_of(model).model(model), key)

    async def listed(self, key: Key) -> list[ModelInfo]:
        """Return what the key opens, by public name: an alias has the facts of the model that it stands for."""
        return [_known_as(name, info, key) for name, info in sorted((await self._opened(key)).items())]

    @property
    def aliases(self) -> dict[str, str]:
        """The model that each alias stands for."""
        return {name: table.model for name, table in sorted(self._file.aliases.items())}

    @property
    def shadows(self) -> set[str]:
        """The models that a share of the requests for another one also goes to."""
        return {table.shadow for table in self._file.aliases.values() if table.shadow is not None}

    def shadow_of(self, asked: str | None) -> Shadow | None:
        """Return the model that a share of the requests for this name also goes to; without a name, for the default."""
        name = asked or self._settings.embedding_model or ""
        table = self._file.aliases.get(name) or self._file.aliases.get(name.removesuffix(LATEST))
        return Shadow(table.shadow, table.shadow_share) if table is not None and table.shadow is not None else None

    @property
    def others(self) -> list[str]:
        """Names of the models that other backends have."""
        return sorted(self._others)

    def replicas(self) -> list[tuple[str, Replica]]:
        """Return each server that computes, with `triton` or the public name of the model that it has."""
        backends = [("triton", self.repository), *sorted(self._others.items())]
        return [(name, replica) for name, backend in backends for replica in backend.replicas]

    @property
    def may_be_empty(self) -> bool:
        """Whether it is in order that no model of the repository is loaded."""
        return bool(self._others) or (self.loader is not None and bool(self.loader.models))

    def missing(self) -> dict[str, str]:
        """Return models that should be loaded and are not, and why."""
        models = self.loader.models if self.loader is not None else []
        return {model.name: model.fault or "being loaded" for model in models if model.wanted and not model.loaded}

    def _read(self) -> ModelsFile:
        shapes = {mark: kind.table for mark, kind in self._kinds.items()}
        file = read_models_file(self._settings.models_file, shapes)
        late = [name for name, table in file.local.items() if table.load != "start"]
        if self.loader is None and (late or self._settings.load != "start"):
            msg = (
                f"{', '.join(late) or 'CONCH_LOAD'}: models can be loaded later than at the start only if Triton lets "
                "the gateway; set CONCH_TRITON_ADMIN_KEY for both"
            )
            raise ModelsFileError(msg)
        return file

    def _adopt(self, file: ModelsFile) -> None:
        truncate = self._settings.truncate
        others = {name: self._kinds[mark].make(name, table, truncate) for name, (mark, table) in file.backends.items()}
        retired, self._file, self._others = self._others, file, others
        self._uses.retire(retired.values())
        if self.loader is not None:
            self.loader.apply_policies(self._policy_of)

    async def _check_targets(self, file: ModelsFile) -> None:
        """Have every model loaded that an alias stands for; raises as `reload` does."""
        named = {alias.answering(query=query): name for name, alias in file.aliases.items() for query in (False, True)}
        try:
            for target in named.keys() - file.backends.keys():
                async with self._kept(target):
                    await self.repository.model(target)
        except ModelNotFoundError as error:
            raise ModelsFileError(f"the models file is wrong: [{named[target]}] {error}") from error

    def _policy_of(self, name: str) -> Load:
        return self._file.local[name].load if name in self._file.local else self._settings.load

    async def _close(self) -> None:
        await self._uses.end()
        for backend in (*self._others.values(), self.repository):
            await backend.close()

    def _backend_of(self, model: str) -> Backend:
        return self._others.get(model, self.repository)

    def _kept(self, name: str) -> AbstractAsyncContextManager[None]:
        if self.loader is None or name in self._others:
            return nullcontext()
        return self.loader.using(name)

    async def _facts(self, asked: str, model: str, tasks: Set[Task]) -> ModelInfo:
        return await self._fitting(asked, await self._backend_of(model).model(model), tasks)

    async def _space(self, asked: str, queries: ModelInfo, model: str, tasks: Set[Task]) -> ModelInfo:
        """Return the facts of the model that embeds documents, whose vectors are those that are searched."""
        documents = await self._facts(asked, model, tasks)
        if None not in (lengths := {queries.dimension, documents.dimension}) and len(lengths) > 1:
            msg = (
                f"model {asked!r} has vectors of {queries.dimension} numbers for queries and of {documents.dimension} "
                "for documents, which cannot be compared: correct the models file"
            )
            raise InvalidValueError(msg, param="model")
        return documents

    def _resolved(self, name: str, key: Key, *, query: bool = False) -> str:
        name = self._public(name)
        model = self._file.resolve(name, query=query)
        if not key.opens(name, model):
            raise _unopened(name, key)
        return model

    def _public(self, name: str) -> str:
        """Return the name without Ollama's tag, unless the models file has it with one."""
        known = name in self._file.aliases or name in self._file.backends
        return name if known else name.removesuffix(LATEST)

    async def _opened(self, key: Key) -> dict[str, ModelInfo]:
        """Return the models by public name, as far as the key opens them; aliases come last."""
        own: dict[str, ModelInfo] = {}
        for backend in (self.repository, *(self._others[name] for name in self.others)):
            own |= {info.name: info for info in await backend.models()}
        aliases = {alias: own[model] for alias, model in self.aliases.items() if model in own}
        return {name: info for name, info in {**own, **aliases}.items() if key.opens(name, info.name)}

    async def _default(self, tasks: Set[Task], key: Key) -> str:
        chosen = self._chosen(tasks)
        if chosen is not None and key.opens(chosen, self._file.resolve(chosen)):
            return chosen
        if fitting := await self._openly_fitting(tasks, key):
            return next((name for name, info in fitting.items() if info.ready), next(iter(fitting)))
        if missing := [name for name in self.missing() if key.opens(name)]:
            raise LoadingError(f"{', '.join(missing)} is being loaded; retry in a moment")
        if key.models is not None:
            msg = f"no model for {_or(tasks)} is served to key {key.name!r}, which is for: {_and(key.models)}"
            raise ModelNotFoundError(msg)
        raise ModelNotFoundError(f"no model for {_or(tasks)} is served; export one into the model repository")

    def _chosen(self, tasks: Set[Task]) -> str | None:
        """Return the default model of the settings for these tasks, if they name one."""
        embedding, rerank = self._settings.embedding_model, self._settings.rerank_model
        if tasks >= {Task.EMBEDDING, *RERANKING}:  # any model will do
            return embedding or rerank
        if tasks & RERANKING:
            return rerank
        return None if Task.CLASSIFICATION in tasks else embedding

    async def _openly_fitting(self, tasks: Set[Task], key: Key) -> dict[str, ModelInfo]:
        """Return the models that the key opens and that do one of the tasks, or else whose derived model does."""
        opened = await self._opened(key)
        bases = {info.base for info in await self.repository.models() if info.task in tasks}
        direct = {name: info for name, info in opened.items() if self._does(info) & tasks}
        return direct or {name: info for name, info in opened.items() if info.name in bases}

    async def _fitting(self, asked: str, info: ModelInfo, tasks: Set[Task]) -> ModelInfo:
        if self._does(info) & tasks:
            return info
        for derived in await self._backend_of(info.name).models():
            if derived.base == info.name and derived.task in tasks:
                return derived
        does, fix = _or(self._does(info)), "GET /v1/models lists all"
        if tasks == {Task.LATE_CHUNKING}:
            fix = "export it with --late-chunking, if it pools by the mean"
        if info.name in self._others:
            fix = "if the upstream has it for that, declare it in the models file: task, vector_types"
        raise InvalidValueError(f"model {asked!r} is for {does}, not for {_or(tasks)}; {fix}", param="model")

    def _does(self, info: ModelInfo) -> Set[Task]:
        return self._backend_of(info.name).tasks(info)


@contextmanager
def _discreet(name: str, key: Key) -> Iterator[None]:
    """Keep an error from telling which models there are to a caller who may use some of them only."""
    try:
        yield
    except ModelNotFoundError as error:
        if key.models is None:
            raise
        raise _unopened(name, key) from error


def _unopened(name: str, key: Key) -> ModelNotFoundError:
    """Return the error of a name that the key does not open, the same whether or not there is such a model."""
    return ModelNotFoundError(
        f"no model {name!r} is served to key {key.name!r}, which is for: {_and(key.models or ())}"
    )


def _known_as(name: str, info: ModelInfo, key: Key) -> ModelInfo:
    base = info.base if info.base is not None and key.opens(info.base) else None
    return replace(info, name=name, base=base)


def _and(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _or(tasks: Set[Task]) -> str:
    return " or ".join(sorted(tasks))
