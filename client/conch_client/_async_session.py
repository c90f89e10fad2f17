"""The I/O of ``AsyncClient``: what ``_session`` does with threads, done on an event loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from conch_contract import ConchError, InvalidInputError
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from conch_client._catalog import Catalog, ModelChangedError, names_to_read, require_ready, tokenizer_requests
from conch_client._deadline import Backoff, Deadline
from conch_client._errors import ModelNotFoundError, RestrictedError, UnavailableError, error_from_rpc
from conch_client._jobs import LoadedModel
from conch_client._settings import MODEL_KEEPS_CHANGING, SESSION_CLOSED, STARTS
from conch_client._steps import Stepper
from conch_client._wire import index_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import numpy as np
    from conch_contract import ModelInfo, Task
    from numpy.typing import NDArray

    from conch_client._channel import Address
    from conch_client._jobs import Prepare
    from conch_client._settings import Settings
    from conch_client._steps import Steps

Result = TypeVar("Result")
Item = TypeVar("Item")

_THREADS = 2  # tokenizers use all cores for several texts anyway; more would keep the loop from its turn


class AsyncSession:
    """A connection to one server and what is known about it; belongs to the loop of its first call."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self._address = address
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None
        self._stub_or_none: Any = None
        self._catalog = Catalog()
        self._reading = asyncio.Lock()
        self._fetching = asyncio.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(_THREADS, "conch-client")

    async def run(
        self,
        name: str | None,
        tasks: Sequence[Task],
        prepare: Prepare[Result],
        deadline: Deadline,
        *,
        heavy: bool,
        request_id: str,
    ) -> Result:
        """Runs a job on a model: the named one, or the first of these tasks; ``heavy`` ones are prepared in threads."""
        for _ in range(STARTS):
            with suppress(ModelChangedError):
                model = await self._load(name, tasks, deadline)
                return await self._run_on(model, prepare, deadline, heavy=heavy, request_id=request_id)
        raise UnavailableError(MODEL_KEEPS_CHANGING)

    async def load(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        """The model and its tokenizer; asks the server only for what is not known."""
        for _ in range(STARTS):
            with suppress(ModelChangedError):
                return await self._load(name, tasks, deadline)
        raise UnavailableError(MODEL_KEEPS_CHANGING)

    async def find(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> ModelInfo:
        """The model's description, whether it is loaded or not."""

        def known() -> bool:
            return self._catalog.knows(name, tasks, deadline.started_at)

        if not known():
            await self._retrying(lambda: self._read_unless(known, deadline), deadline)
        return self._catalog.find(name, tasks)

    async def models(self, deadline: Deadline) -> list[ModelInfo]:
        """All models, as they were a moment ago."""
        await self._retrying(lambda: self._read_unless(self._catalog.is_current, deadline), deadline)
        return self._catalog.models

    async def models_now(self, deadline: Deadline) -> list[ModelInfo]:
        """All models, as they are now; asks once and no more."""
        await self._read_unless(lambda: self._catalog.is_newer_than(deadline.started_at), deadline)
        return self._catalog.models

    async def compute(self, steps: Steps[Result], deadline: Deadline, *, heavy: bool) -> Result:
        """The result of work; what is heavy is done in threads, so that the loop goes on, and others' steps between.

        No further step is done when the deadline has passed, or when the caller was cancelled.
        """
        stepper = Stepper(steps)
        while await self._in_thread(stepper.step) if heavy else stepper.step():
            deadline.remaining_s()
        return stepper.result

    def check_open(self) -> None:
        """Raises ConchError when the client was closed."""
        if self._closed:
            raise ConchError(SESSION_CLOSED)

    async def close(self) -> None:
        """Closes the channel; calls under way fail."""
        self._closed = True
        self._threads.shutdown(wait=False)
        if self._channel is not None:
            await self._channel.close()

    @property
    def _stub(self) -> Any:
        self.check_open()
        if self._stub_or_none is None:  # a channel takes the running loop, and there may be none yet in __init__
            self._channel = self._address.aio_channel()
            self._stub_or_none = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self._stub_or_none

    async def _load(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        info = require_ready(await self.find(name, tasks, deadline))
        return LoadedModel(info, self._catalog.tokenizer(info) or await self._fetch_tokenizer(info, deadline))

    async def _run_on(
        self, model: LoadedModel, prepare: Prepare[Result], deadline: Deadline, *, heavy: bool, request_id: str
    ) -> Result:
        job = await self.compute(prepare(model), deadline, heavy=heavy)

        def send(part: NDArray[np.intp]) -> Awaitable[pb.ModelInferResponse]:
            request = job.request(part)
            request.id = request_id
            return self._infer(model.info, request, deadline)

        return job.result(await self._each(job.parts, send))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        self.check_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _read_unless(self, enough: Callable[[], bool], deadline: Deadline) -> None:
        if not enough():
            async with self._alone(self._reading, deadline):
                if not enough():  # nobody else has looked in the meantime
                    await self._read(deadline)

    async def _read(self, deadline: Deadline) -> None:
        at = time.monotonic()
        index = await self._index(deadline)
        configs = await self._each(names_to_read(index), lambda name: self._config(name, deadline))
        self._catalog.update(at, index, [config for config in configs if config is not None])

    async def _index(self, deadline: Deadline) -> pb.RepositoryIndexResponse:
        try:
            return await self._call(self._stub.RepositoryIndex, pb.RepositoryIndexRequest(), deadline)
        except RestrictedError:  # models are loaded and unloaded there, and the index is for who does that
            statistics = await self._call(self._stub.ModelStatistics, pb.ModelStatisticsRequest(), deadline)
            return index_of(statistics)

    async def _config(self, name: str, deadline: Deadline) -> Any:
        try:
            return (await self._call(self._stub.ModelConfig, pb.ModelConfigRequest(name=name), deadline)).config
        except ModelNotFoundError:  # unloaded since the index was written
            return None

    async def _fetch_tokenizer(self, info: ModelInfo, deadline: Deadline) -> Any:
        async with self._alone(self._fetching, deadline):
            known = self._catalog.tokenizer(info)
            if known is not None:
                return known
            parts = await self._each(tokenizer_requests(info), lambda request: self._infer(info, request, deadline))
            return await self._in_thread(lambda: self._catalog.add_tokenizer(info, parts))

    async def _infer(self, info: ModelInfo, request: pb.ModelInferRequest, deadline: Deadline) -> pb.ModelInferResponse:
        return await self._retrying(lambda: self._infer_once(info, request, deadline), deadline)

    async def _infer_once(
        self, info: ModelInfo, request: pb.ModelInferRequest, deadline: Deadline
    ) -> pb.ModelInferResponse:
        await self._read_unless(self._catalog.is_valid, deadline)
        self._catalog.confirm(info)
        try:
            return await self._call(self._stub.ModelInfer, request, deadline)
        except UnavailableError:
            self._catalog.expire()
            raise
        except (InvalidInputError, ModelNotFoundError):  # the server's word, perhaps about a model deployed since
            refused_at = time.monotonic()
            await self._read_unless(lambda: self._catalog.is_newer_than(refused_at), deadline)
            self._catalog.confirm(info)
            raise

    async def _call(self, method: Callable[..., Any], request: object, deadline: Deadline) -> Any:
        try:
            return await method(request, timeout=deadline.remaining_s())
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from failure
        except (asyncio.CancelledError, grpc.aio.UsageError) as failure:
            if self._closed:  # gRPC cancels what is under way, although nobody cancelled the task
                raise ConchError(SESSION_CLOSED) from failure
            raise

    async def _retrying(self, attempt: Callable[[], Awaitable[Result]], deadline: Deadline) -> Result:
        backoff = Backoff(self._settings.retries, deadline)
        while True:
            try:
                return await attempt()
            except UnavailableError as failure:  # noqa: PERF203 - a retry is just that
                await asyncio.sleep(backoff.next_delay_s(failure))

    async def _each(self, items: Sequence[Item], work: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        if len(items) <= 1:
            return [await work(item) for item in items]
        results: dict[int, Result] = {}
        todo = iter(enumerate(items))

        async def take_turns() -> None:
            for number, item in todo:
                results[number] = await work(item)

        turns = [asyncio.create_task(take_turns()) for _ in range(min(self._settings.max_in_flight, len(items)))]
        try:
            await asyncio.gather(*turns)
        finally:  # after a failure, or when the caller was cancelled: what was not sent never is
            for turn in turns:
                turn.cancel()
            await asyncio.gather(*turns, return_exceptions=True)
        return [results[number] for number in range(len(items))]

    @staticmethod
    @asynccontextmanager
    async def _alone(lock: asyncio.Lock, deadline: Deadline) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(lock.acquire(), deadline.remaining_s())
        except asyncio.TimeoutError as failure:
            raise deadline.exceeded() from failure
        try:
            yield
        finally:
            lock.release()
