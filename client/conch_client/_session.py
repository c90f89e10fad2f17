"""The I/O of ``Client``: calls, retries and parallel requests over one gRPC channel, shared by threads.

``_async_session`` is the same for an event loop, method by method.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from conch_contract import ConchError, InvalidInputError
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from conch_client._catalog import Catalog, ModelChangedError, names_to_read, require_ready, tokenizer_requests
from conch_client._deadline import Backoff, Deadline
from conch_client._errors import ModelNotFoundError, RestrictedError, UnavailableError, error_from_rpc
from conch_client._jobs import LoadedModel
from conch_client._settings import MODEL_KEEPS_CHANGING, SESSION_CLOSED, STARTS
from conch_client._steps import finish
from conch_client._wire import index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from conch_contract import ModelInfo, Task
    from numpy.typing import NDArray

    from conch_client._channel import Address
    from conch_client._jobs import Prepare
    from conch_client._settings import Settings

Result = TypeVar("Result")
Item = TypeVar("Item")


class Session:
    """A connection to one server and what is known about it."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self._settings = settings
        self._channel = address.channel()
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._catalog = Catalog()
        self._reading = threading.Lock()
        self._fetching = threading.Lock()
        self._closed = False

    def run(
        self, name: str | None, tasks: Sequence[Task], prepare: Prepare[Result], deadline: Deadline, *, request_id: str
    ) -> Result:
        """Runs a job on a model: the named one, or the first of these tasks."""
        for _ in range(STARTS):
            with suppress(ModelChangedError):
                return self._run_on(self._load(name, tasks, deadline), prepare, deadline, request_id=request_id)
        raise UnavailableError(MODEL_KEEPS_CHANGING)

    def load(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        """The model and its tokenizer; asks the server only for what is not known."""
        for _ in range(STARTS):
            with suppress(ModelChangedError):
                return self._load(name, tasks, deadline)
        raise UnavailableError(MODEL_KEEPS_CHANGING)

    def find(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> ModelInfo:
        """The model's description, whether it is loaded or not."""

        def known() -> bool:
            return self._catalog.knows(name, tasks, deadline.started_at)

        if not known():
            self._retrying(lambda: self._read_unless(known, deadline), deadline)
        return self._catalog.find(name, tasks)

    def models(self, deadline: Deadline) -> list[ModelInfo]:
        """All models, as they were a moment ago."""
        self._retrying(lambda: self._read_unless(self._catalog.is_current, deadline), deadline)
        return self._catalog.models

    def models_now(self, deadline: Deadline) -> list[ModelInfo]:
        """All models, as they are now; asks once and no more."""
        self._read_unless(lambda: self._catalog.is_newer_than(deadline.started_at), deadline)
        return self._catalog.models

    def check_open(self) -> None:
        """Raises ConchError when the client was closed."""
        if self._closed:
            raise ConchError(SESSION_CLOSED)

    def close(self) -> None:
        """Closes the channel; calls under way fail."""
        self._closed = True
        self._channel.close()

    def _load(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        info = require_ready(self.find(name, tasks, deadline))
        return LoadedModel(info, self._catalog.tokenizer(info) or self._fetch_tokenizer(info, deadline))

    def _run_on(self, model: LoadedModel, prepare: Prepare[Result], deadline: Deadline, *, request_id: str) -> Result:
        job = finish(prepare(model), deadline)

        def send(part: NDArray[np.intp]) -> pb.ModelInferResponse:
            request = job.request(part)
            request.id = request_id
            return self._infer(model.info, request, deadline)

        return job.result(self._each(job.parts, send))

    def _read_unless(self, enough: Callable[[], bool], deadline: Deadline) -> None:
        if not enough():
            with self._alone(self._reading, deadline):
                if not enough():  # nobody else has looked in the meantime
                    self._read(deadline)

    def _read(self, deadline: Deadline) -> None:
        at = time.monotonic()
        index = self._index(deadline)
        configs = self._each(names_to_read(index), lambda name: self._config(name, deadline))
        self._catalog.update(at, index, [config for config in configs if config is not None])

    def _index(self, deadline: Deadline) -> pb.RepositoryIndexResponse:
        try:
            return self._call(self._stub.RepositoryIndex, pb.RepositoryIndexRequest(), deadline)
        except RestrictedError:  # models are loaded and unloaded there, and the index is for who does that
            statistics = self._call(self._stub.ModelStatistics, pb.ModelStatisticsRequest(), deadline)
            return index_of(statistics)

    def _config(self, name: str, deadline: Deadline) -> Any:
        try:
            return self._call(self._stub.ModelConfig, pb.ModelConfigRequest(name=name), deadline).config
        except ModelNotFoundError:  # unloaded since the index was written
            return None

    def _fetch_tokenizer(self, info: ModelInfo, deadline: Deadline) -> Any:
        with self._alone(self._fetching, deadline):
            known = self._catalog.tokenizer(info)
            if known is not None:
                return known
            parts = self._each(tokenizer_requests(info), lambda request: self._infer(info, request, deadline))
            return self._catalog.add_tokenizer(info, parts)

    def _infer(self, info: ModelInfo, request: pb.ModelInferRequest, deadline: Deadline) -> pb.ModelInferResponse:
        return self._retrying(lambda: self._infer_once(info, request, deadline), deadline)

    def _infer_once(self, info: ModelInfo, request: pb.ModelInferRequest, deadline: Deadline) -> pb.ModelInferResponse:
        self._read_unless(self._catalog.is_valid, deadline)
        self._catalog.confirm(info)
        try:
            return self._call(self._stub.ModelInfer, request, deadline)
        except UnavailableError:
            self._catalog.expire()
            raise
        except (InvalidInputError, ModelNotFoundError):  # the server's word, perhaps about a model deployed since
            refused_at = time.monotonic()
            self._read_unless(lambda: self._catalog.is_newer_than(refused_at), deadline)
            self._catalog.confirm(info)
            raise

    def _call(self, method: Callable[..., Any], request: object, deadline: Deadline) -> Any:
        self.check_open()
        try:
            return method(request, timeout=deadline.remaining_s())
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from failure
        except ValueError as failure:
            if self._closed:  # since this call began
                raise ConchError(SESSION_CLOSED) from failure
            raise

    def _retrying(self, attempt: Callable[[], Result], deadline: Deadline) -> Result:
        backoff = Backoff(self._settings.retries, deadline)
        while True:
            try:
                return attempt()
            except UnavailableError as failure:  # noqa: PERF203 - a retry is just that
                time.sleep(backoff.next_delay_s(failure))

    def _each(self, items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
        if len(items) <= 1:
            return [work(item) for item in items]
        pool = ThreadPoolExecutor(min(self._settings.max_in_flight, len(items)), "conch-client")
        try:
            futures = [pool.submit(work, item) for item in items]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # the first failure ends the call; what was not sent never is
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)

    @staticmethod
    @contextmanager
    def _alone(lock: threading.Lock, deadline: Deadline) -> Iterator[None]:
        if not lock.acquire(timeout=deadline.remaining_s()):
            raise deadline.exceeded()
        try:
            yield
        finally:
            lock.release()
