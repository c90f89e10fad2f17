"""Which model a request means, and that it stays there meanwhile; public names mean something only here.

A name is a model of the repository, an alias of one, or a model of another server. What the repository's models are is
the client's to know, which remembers Triton's answer for seconds.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace

from conch_client import AsyncClient, ModelInfo, ModelNotFoundError

from conch_gateway._loader import loader_of
from conch_gateway._models_file import Load, ModelsFile, read_models_file
from conch_gateway._upstream import Upstream
from conch_gateway.errors import InvalidValueError, LoadingError, ModelsFileError
from conch_gateway.settings import GatewaySettings

Tasks = frozenset[str]


class Models:
    """Everything that can be asked for by name.

    Attributes:
        client: asks Triton.
        upstreams: models of other servers, by public name.
        loader: loads and unloads, where Triton lets it.
    """

    def __init__(self, settings: GatewaySettings, client: AsyncClient) -> None:
        """Read the models file; raises ModelsFileError when it is wrong or needs what is not set."""
        self.client = client
        self.upstreams: Mapping[str, Upstream] = {}
        self.loader = loader_of(settings, client, self._policy_of)
        self._settings = settings
        self._retired: list[Upstream] = []
        self._file = ModelsFile()
        self._adopt(self._read())

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Keep the client open, and models loaded as they should be."""
        async with self.client, AsyncExitStack() as stack:
            stack.push_async_callback(self._close_upstreams)
            if self.loader is not None:
                await stack.enter_async_context(self.loader.running())
            yield

    async def reload(self) -> None:
        """Read the models file again, and let it count once every model that an alias stands for is loaded.

        Requests that have begun keep the model that they began with. If this raises, nothing has changed.

        Raises:
            ModelsFileError: the file is wrong.
            ServerError: a model that it names cannot be loaded.
        """
        file = self._read()
        for target in {alias.model for alias in file.aliases.values()} - file.upstreams.keys():
            async with self._kept(target):
                await self.client.model(target)
        self._adopt(file)

    @asynccontextmanager
    async def use(self, name: str | None, tasks: Tasks) -> AsyncIterator[ModelInfo]:
        """Choose the model of that name, or the first by name that does one of the tasks, and keep it meanwhile.

        A model that does something else stands for the one derived from it that does one of the tasks. The model's
        `name` is the one to ask Triton for, whatever alias was given.

        Raises:
            InvalidValueError: the model does something else.
            ModelNotFoundError: no such model is served.
            LoadingError: it is being loaded.
            UnavailableError: Triton cannot be reached.
        """
        name = self._file.resolve(name) if name is not None else (await self._first(tasks)).name
        async with self._kept(name):
            yield await self._fitting(await self.describe(name), tasks)

    async def describe(self, name: str) -> ModelInfo:
        """Return the model that a public name stands for, loaded or not; raises as `use` does."""
        name = self._file.resolve(name)
        if name in self.upstreams:
            return self.upstreams[name].info
        return await self.client.model(name)

    async def listed(self) -> list[ModelInfo]:
        """Return what may be asked for, by public name: an alias has the facts of the model that it stands for."""
        known = {info.name: info for info in await self._own()}
        aliases = {
            alias: replace(known[table.model], name=alias)
            for alias, table in self._file.aliases.items()
            if table.model in known
        }
        return [info for _, info in sorted({**known, **aliases}.items())]

    @property
    def aliases(self) -> dict[str, str]:
        """What each alias stands for."""
        return {name: table.model for name, table in self._file.aliases.items()}

    @property
    def may_be_empty(self) -> bool:
        """Whether it is in order that Triton has no model loaded."""
        return bool(self.upstreams) or (self.loader is not None and bool(self.loader.models))

    def missing(self) -> dict[str, str]:
        """Return models that should be loaded and are not, and why."""
        models = self.loader.models if self.loader is not None else []
        return {model.name: model.fault or "being loaded" for model in models if model.wanted and not model.loaded}

    def _read(self) -> ModelsFile:
        file = read_models_file(self._settings.models_file)
        late = [name for name, table in file.local.items() if table.load != "start"]
        if self.loader is None and (late or self._settings.load != "start"):
            msg = (
                f"{', '.join(late) or 'CONCH_LOAD'}: models can be loaded later than at the start only if Triton lets "
                "the gateway; set CONCH_TRITON_ADMIN_KEY for both"
            )
            raise ModelsFileError(msg)
        return file

    def _adopt(self, file: ModelsFile) -> None:
        upstreams = {name: Upstream(name, table) for name, table in file.upstreams.items()}
        self._retired += self.upstreams.values()  # requests that have begun still use them
        self._file, self.upstreams = file, upstreams
        if self.loader is not None:
            self.loader.apply_policies()

    def _policy_of(self, name: str) -> Load:
        return self._file.local[name].load if name in self._file.local else self._settings.load

    async def _close_upstreams(self) -> None:
        for upstream in (*self._retired, *self.upstreams.values()):
            await upstream.close()

    def _kept(self, name: str) -> AbstractAsyncContextManager[None]:
        if self.loader is None or name in self.upstreams:
            return nullcontext()
        return self.loader.using(name)

    async def _own(self) -> list[ModelInfo]:
        return [*await self.client.models(), *(upstream.info for upstream in self.upstreams.values())]

    async def _first(self, tasks: Tasks) -> ModelInfo:
        fitting = [info for info in await self._own() if info.task in tasks]
        if fitting:
            return next((info for info in fitting if info.ready), fitting[0])
        if self.missing():
            msg = f"{', '.join(self.missing())} is being loaded; retry in a moment"
            raise LoadingError(msg)
        msg = f"no model for {_or(tasks)} is served; export one into the model repository"
        raise ModelNotFoundError(msg)

    async def _fitting(self, info: ModelInfo, tasks: Tasks) -> ModelInfo:
        if info.task in tasks:
            return info
        for derived in await self.client.models():
            if derived.base == info.name and derived.task in tasks:
                return derived
        msg = f"model {info.name!r} is for {info.task}, not for {_or(tasks)}; GET /v1/models lists all"
        raise InvalidValueError(msg, param="model")


def _or(tasks: Tasks) -> str:
    return " or ".join(sorted(tasks))
