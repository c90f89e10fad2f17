# Generated from _async/session.py by `make docs`; do not edit.
"""Calls: a job is prepared for a model, its requests are sent, several at a time, and their answers put together."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from conch_contract import ConchError, ModelInfo

from conch_client._errors import DeadlineExceededError, ModelReplacedError, ServerError, UnavailableError
from conch_client._requests.job import LoadedModel
from conch_client._tokenization.steps import Stepper
from conch_client._transport.catalog import ModelChangedError, require_task
from conch_client._transport.deadline import Deadline
from conch_client._transport.limits import READY_POLL_S, READY_TIMEOUT_S, STARTS
from conch_client._transport.threads import Computation, Lock, Outcome, each, exclusive, sleep
from conch_client._transport.tokenizers import Tokenizers, tokenizer_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from conch_contract import Task
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._requests.job import Prepare
    from conch_client._sync.servers import Servers
    from conch_client._tokenization.steps import Steps
    from conch_client._transport.limits import Limits

Result = TypeVar("Result")


class Session:
    """The servers of a client, and the tokenizers of their models."""

    def __init__(self, servers: Servers, limits: Limits) -> None:
        self._limits = limits
        self._servers = servers
        self._computation = Computation()
        self._tokenizers = Tokenizers()
        self._fetching = Lock()

    def run(
        self,
        model: str | ModelInfo | None,
        tasks: Sequence[Task],
        prepare: Prepare[Result],
        deadline: Deadline,
        *,
        heavy: bool,
        request_id: str,
    ) -> Result:
        """Runs a job on a model: the named one, that very one, or the first of these tasks.

        ``heavy`` jobs do not block a loop.
        """

        def attempt() -> Result:
            # Tokens made for a model that was replaced may mean other words to the new one, so nothing of them is kept.
            loaded = self._load(model, tasks, deadline)
            return self._run_on(loaded, prepare, deadline, heavy=heavy, request_id=request_id)

        return _begun_anew(model, attempt)

    def load(self, model: str | ModelInfo | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        """The model and its tokenizer; only what is not known is requested from a server."""
        return _begun_anew(model, lambda: self._load(model, tasks, deadline))

    def is_ready(self, deadline: Deadline) -> bool:
        """Whether a server answers and can run at least one model now."""
        try:
            return any(info.ready for info in self._servers.models_now(deadline))
        except ConchError:
            # A client that was closed is a mistake of its user, and not a server that is not ready.
            self._servers.check_open()
            return False

    def wait_until_ready(self, deadline: Deadline) -> None:
        """Returns as soon as ``is_ready``; raises DeadlineExceededError after the deadline."""
        try:
            while not self.is_ready(Deadline(min(READY_TIMEOUT_S, deadline.remaining_s()))):
                sleep(min(READY_POLL_S, deadline.remaining_s()))
        except DeadlineExceededError as failure:
            msg = "no model became ready in time; see the server's log, or raise timeout_s"
            raise DeadlineExceededError(msg) from failure

    def compute(self, steps: Steps[Result], deadline: Deadline, *, heavy: bool) -> Result:
        """The result of work, whose steps end when the deadline has passed or the caller was cancelled.

        Other calls run between the steps of heavy work.
        """
        stepper = Stepper(steps)
        # Before every step: once closed, a client for an event loop has no threads left that could run it.
        self._servers.check_open()
        while self._computation.run(stepper.step, heavy=heavy):
            deadline.remaining_s()
            self._servers.check_open()
        return stepper.result

    def close(self) -> None:
        """Closes the connections; calls under way fail."""
        self._computation.close()
        self._servers.close()

    def _load(self, model: str | ModelInfo | None, tasks: Sequence[Task], deadline: Deadline) -> LoadedModel:
        if isinstance(model, ModelInfo):
            info = require_task(model, tasks)
        else:
            info = self._servers.find(model, tasks, deadline)
        if not info.ready:
            raise UnavailableError(f"{info.name} is not loaded; see the server's log")
        return LoadedModel(info, self._tokenizers.get(info) or self._fetch_tokenizer(info, deadline))

    def _run_on(
        self, model: LoadedModel, prepare: Prepare[Result], deadline: Deadline, *, heavy: bool, request_id: str
    ) -> Result:
        job = self.compute(prepare(model), deadline, heavy=heavy)

        def send(part: NDArray[np.intp]) -> Outcome[pb.ModelInferResponse]:
            request = job.request(part)
            request.id = request_id
            return self._servers.infer(model.info, request, job.tokens(part), deadline)

        return job.result(each(job.parts, send, max_in_flight=self._limits.max_in_flight))

    def _fetch_tokenizer(self, info: ModelInfo, deadline: Deadline) -> Any:
        with exclusive(self._fetching, deadline):
            # Several first calls wait for one transfer of the file; all but one find it here.
            known = self._tokenizers.get(info)
            if known is not None:
                return known

            def send(request: pb.ModelInferRequest) -> Outcome[pb.ModelInferResponse]:
                return self._servers.infer(info, request, 0, deadline)

            parts = each(tokenizer_requests(info), send, max_in_flight=self._limits.max_in_flight)
            self._servers.check_open()
            self._tokenizers.keep([info, *self._servers.listed])
            try:
                return self._computation.run(lambda: self._tokenizers.add(info, parts))
            except ServerError:
                if self._servers.was_replaced(info, deadline):
                    raise ModelChangedError from None
                raise


def _begun_anew(model: str | ModelInfo | None, attempt: Callable[[], Outcome[Result]]) -> Result:
    """The result of an attempt, which begins anew where the model is replaced while it runs.

    Raises:
        ModelReplacedError: That very model was wanted, which nobody has any more.
    """
    for _ in range(STARTS):
        with suppress(ModelChangedError):
            return attempt()
        if isinstance(model, ModelInfo):
            msg = "no server has this version of the model any more; begin anew with the model's name"
            raise ModelReplacedError(msg)
    msg = "the model was replaced again and again while the call ran; try again when the deployment is over"
    raise UnavailableError(msg)
