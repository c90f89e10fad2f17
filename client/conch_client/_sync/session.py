# Generated from _async/session.py by `make docs`; do not edit.
"""Calls, retries and parallel requests over one connection, and what is known about its server."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from conch_contract import ConchError, InvalidInputError
from tritonclient.grpc import service_pb2 as pb

from conch_client._errors import DeadlineExceededError, ModelNotFoundError, RestrictedError, UnavailableError
from conch_client._requests.job import LoadedModel
from conch_client._tokenization.steps import Stepper
from conch_client._transport.catalog import Catalog, ModelChangedError, names_to_read, require_ready, tokenizer_requests
from conch_client._transport.deadline import Backoff, Deadline
from conch_client._transport.limits import MODEL_KEEPS_CHANGING, NOT_READY, READY_POLL_S, READY_TIMEOUT_S, STARTS
from conch_client._transport.tensors import index_of
from conch_client._transport.threads import Computation, Connection, Lock, Outcome, each, exclusive, sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from conch_contract import ModelInfo, Task
    from numpy.typing import NDArray

    from conch_client._requests.job import Prepare
    from conch_client._tokenization.steps import Steps
    from conch_client._transport.address import Address
    from conch_client._transport.limits import Limits

Result = TypeVar("Result")
Item = TypeVar("Item")


class Session:
    """A connection to one server and what is known about it."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self._limits = limits
        self._connection = Connection(address)
        self._computation = Computation()
        self._catalog = Catalog()
        self._reading = Lock()
        self._fetching = Lock()

    def run(
        self,
        name: str | None,
        tasks: Sequence[Task],
        prepare: Prepare[Result],
        deadline: Deadline,
        *,
        heavy: bool,
        request_id: str,
    ) -> Result:
        """Runs a job on a model: the named one, or the first of these tasks; ``heavy`` ones do not block a loop."""
        for _ in range(STARTS):
            # Tokens made for a model that was replaced may mean other words to the new one, so nothing of them is kept.
            with suppress(ModelChangedError):
                model = self._load(name, tasks, deadline)
                return self._run_on(model, prepare, deadline, heavy=heavy, request_id=request_id)
        raise UnavailableError(MODEL_KEEPS_CHANGING)

    def load(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        """The model and its tokenizer; only what is not known is requested from the server."""
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

    def _models_now(self, deadline: Deadline) -> list[ModelInfo]:
        """All models, as they are now; reads once and does not retry."""
        self._read_unless(lambda: self._catalog.is_newer_than(deadline.started_at), deadline)
        return self._catalog.models

    def is_ready(self, deadline: Deadline) -> bool:
        """Whether the server answers and can run at least one model now."""
        try:
            return any(info.ready for info in self._models_now(deadline))
        except ConchError:
            # A client that was closed is a mistake of its user, and not a server that is not ready.
            self.check_open()
            return False

    def wait_until_ready(self, deadline: Deadline) -> None:
        """Returns as soon as ``is_ready``; raises DeadlineExceededError after the deadline."""
        while not self.is_ready(Deadline(min(READY_TIMEOUT_S, deadline.remaining_s()))):
            if deadline.remaining_s() < READY_POLL_S:
                raise DeadlineExceededError(NOT_READY)
            sleep(READY_POLL_S)

    def compute(self, steps: Steps[Result], deadline: Deadline, *, heavy: bool) -> Result:
        """The result of work, whose steps end when the deadline has passed or the caller was cancelled.

        Other calls run between the steps of heavy work.
        """
        stepper = Stepper(steps)
        # Before every step: once closed, a client for an event loop has no threads left that could run it.
        self.check_open()
        while self._computation.run(stepper.step, heavy=heavy):
            deadline.remaining_s()
            self.check_open()
        return stepper.result

    def check_open(self) -> None:
        """Raises ConchError when the client was closed."""
        self._connection.check_open()

    def close(self) -> None:
        """Closes the connection; calls under way fail."""
        self._computation.close()
        self._connection.close()

    def _load(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        info = require_ready(self.find(name, tasks, deadline))
        return LoadedModel(info, self._catalog.tokenizer(info) or self._fetch_tokenizer(info, deadline))

    def _run_on(
        self, model: LoadedModel, prepare: Prepare[Result], deadline: Deadline, *, heavy: bool, request_id: str
    ) -> Result:
        job = self.compute(prepare(model), deadline, heavy=heavy)

        def send(part: NDArray[np.intp]) -> Outcome[pb.ModelInferResponse]:
            request = job.request(part)
            request.id = request_id
            return self._infer(model.info, request, deadline)

        return job.result(self._each(job.parts, send))

    def _read_unless(self, enough: Callable[[], bool], deadline: Deadline) -> None:
        if not enough():
            with exclusive(self._reading, deadline):
                if not enough():  # another call may have read while this one waited for the lock
                    self._read(deadline)

    def _read(self, deadline: Deadline) -> None:
        # A reading is as old as its beginning: what changed while it ran, it may have missed.
        at = time.monotonic()
        index = self._index(deadline)
        configs = self._each(names_to_read(index), lambda name: self._config(name, deadline))
        self._catalog.update(at, index, [config for config in configs if config is not None])

    def _index(self, deadline: Deadline) -> pb.RepositoryIndexResponse:
        try:
            return self._connection.call("RepositoryIndex", pb.RepositoryIndexRequest(), deadline)
        except RestrictedError:  # servers that load models on demand show their index only to holders of their key
            return index_of(self._connection.call("ModelStatistics", pb.ModelStatisticsRequest(), deadline))

    def _config(self, name: str, deadline: Deadline) -> Any:
        try:
            return (self._connection.call("ModelConfig", pb.ModelConfigRequest(name=name), deadline)).config
        except ModelNotFoundError:  # unloaded since the index was read
            return None

    def _fetch_tokenizer(self, info: ModelInfo, deadline: Deadline) -> Any:
        with exclusive(self._fetching, deadline):
            # Several first calls wait for one transfer of the file; all but one find it here.
            known = self._catalog.tokenizer(info)
            if known is not None:
                return known
            parts = self._each(tokenizer_requests(info), lambda request: self._infer(info, request, deadline))
            self.check_open()
            return self._computation.run(lambda: self._catalog.add_tokenizer(info, parts))

    def _infer(self, info: ModelInfo, request: pb.ModelInferRequest, deadline: Deadline) -> pb.ModelInferResponse:
        return self._retrying(lambda: self._infer_once(info, request, deadline), deadline)

    def _infer_once(self, info: ModelInfo, request: pb.ModelInferRequest, deadline: Deadline) -> pb.ModelInferResponse:
        # Before a retry: a server that was away may have come back with another model of this name.
        self._read_unless(self._catalog.is_valid, deadline)
        self._catalog.confirm(info)
        try:
            return self._connection.call("ModelInfer", request, deadline)
        except UnavailableError:
            self._catalog.expire()
            raise
        except (InvalidInputError, ModelNotFoundError):  # the server refused, perhaps because the model was replaced
            refused_at = time.monotonic()
            self._read_unless(lambda: self._catalog.is_newer_than(refused_at), deadline)
            self._catalog.confirm(info)
            raise

    def _retrying(self, attempt: Callable[[], Outcome[Result]], deadline: Deadline) -> Result:
        backoff = Backoff(self._limits.retries, deadline)
        while True:
            try:
                return attempt()
            except UnavailableError as failure:  # noqa: PERF203 - a retry is just that
                sleep(backoff.next_delay_s(failure))

    def _each(self, items: Sequence[Item], work: Callable[[Item], Outcome[Result]]) -> list[Result]:
        return each(items, work, max_in_flight=self._limits.max_in_flight)
