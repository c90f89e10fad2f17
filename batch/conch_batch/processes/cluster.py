"""Actors of a running Ray cluster."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from conch_batch.errors import EngineError
from conch_batch.processes.pool import NEEDS, Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_LONGEST_REASON = 500


@contextmanager
def connected(
    address: str, worker: type[Any], arguments: Sequence[Any], *, threads: int, on_gpu: bool
) -> Iterator[_Actors]:
    """Actors until the end of the block, which disconnects from the cluster and so ends them.

    Args:
        address: address of the cluster, as printed by `ray start`.
        worker: class of the actors; its method `compute` is called with one shard after another.
        arguments: arguments of its constructor.
        threads: cores of an actor.
        on_gpu: whether each actor needs a GPU of its own.

    Raises:
        EngineError: it cannot be reached, or breaks down.
    """
    os.environ.update(_QUIET)
    try:
        import ray  # noqa: PLC0415 - reads the environment
    except ModuleNotFoundError as error:
        raise EngineError(f"{error}; install what --address needs: pip install 'conch[cluster]'") from error

    try:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises exceptions of many classes
            raise EngineError(f"Ray cannot be used: {error}") from error
        try:
            yield _Actors(worker, arguments, threads=threads, on_gpu=on_gpu)
        except ray.exceptions.RayError as error:
            raise _ended(error) from error
    finally:
        ray.shutdown()


class _Actors:
    """See `conch_batch.processes.pool.Processes`."""

    def __init__(self, worker: type[Any], arguments: Sequence[Any], *, threads: int, on_gpu: bool) -> None:
        import ray  # noqa: PLC0415

        logging.getLogger("ray").setLevel(logging.ERROR)
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        there = int(resources.get("GPU", 0)) if on_gpu else int(resources.get("CPU", 0)) // threads
        self.room = max(1, there)  # the cluster may grow later
        # An actor that Ray starts again waits for room on the cluster, and its shards with it: see `_Pool`.
        made = ray.remote(num_cpus=threads, num_gpus=int(on_gpu), max_restarts=0, max_task_retries=0)
        self._made: Any = made(worker)
        self._arguments = [ray.put(argument) for argument in arguments]
        self._calls: dict[Any, tuple[Any, object]] = {}
        """Actor and shard of each call that is not answered; no shard while the actor starts."""

    def start(self) -> Any:
        actor = self._made.remote(*self._arguments)
        self._calls[actor.__ray_ready__.remote()] = actor, None
        return actor

    def send(self, actor: Any, shard: object, /) -> None:
        self._calls[actor.compute.remote(shard)] = actor, shard

    def wait(self) -> Event:
        import ray  # noqa: PLC0415

        (call,), _ = ray.wait(list(self._calls))
        actor, shard = self._calls.pop(call)
        try:
            answer = ray.get(call)
        except ray.exceptions.RayError as error:
            if _is_of_code(error):
                raise
            ray.kill(actor)  # it may only have been out of reach
            self._calls = {call: (whose, sent) for call, (whose, sent) in self._calls.items() if whose != actor}
            return Event(actor, died=_last_line(error))
        return Event(actor, shard, None if shard is None else answer)


def _is_of_code(error: Exception) -> bool:
    """Whether an actor has raised it, as where a package is missing, and has not died."""
    import ray  # noqa: PLC0415

    return isinstance(error, ray.exceptions.RayTaskError) or getattr(error, "actor_init_failed", False)


def _ended(error: Exception) -> EngineError:
    return EngineError(f"a process that computes has ended ({_last_line(error)}): {NEEDS}")


def _last_line(error: Exception) -> str:
    """What has happened, of an error that is a traceback of another process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:_LONGEST_REASON].rstrip(".") if lines else type(error).__name__
