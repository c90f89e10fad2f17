"""Actors of Ray that compute shards: hands the shards out, and gives those of an actor that dies to others."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from conch_batch.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_AHEAD = 2
"""Shards that an actor has at most: the one that it computes, and the next, so that it does not wait for that."""
_DEATHS = 20
"""For each actor: machines come and go, but a model that there is no memory for is not tried for ever."""
_LONGEST_REASON = 500
NEEDS = (
    "each node needs conch with its extra [batch], the model repository, and memory for a model in every process (see "
    "--actors). The same command then goes on where it was"
)
"""What to look for where a process that computes cannot be made."""


def spread(
    worker: type[Any],
    arguments: Sequence[Any],
    shards: Sequence[object],
    *,
    before: Sequence[object] = (),
    actors: int,
    threads: int,
    on_gpu: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the answer of an actor to each shard, in the order in which they finish.

    Args:
        worker: class of the actors; its method `compute` is called with one shard.
        arguments: arguments of its constructor.
        shards: arguments of the calls, each sent once unless an actor dies.
        before: those that have to be answered before any of `shards` is sent.
        actors: number of actors, as far as the cluster has room for them.
        threads: cores of an actor.
        on_gpu: whether each actor needs a GPU of its own.

    Raises:
        EngineError: actors cannot be made, or die again and again.
    """
    import ray  # noqa: PLC0415

    # An actor that Ray starts again waits for room on the cluster, and its shards with it: see `_Pool`.
    made = ray.remote(num_cpus=threads, num_gpus=int(on_gpu), max_restarts=0, max_task_retries=0)(worker)
    stored = [ray.put(argument) for argument in arguments]
    try:
        size = min(actors, max(len(shards), len(before)))
        yield from _Pool(lambda: made.remote(*stored), (before, shards), size).answers()
    except ray.exceptions.RayError as error:
        raise EngineError(f"a process that computes has ended ({_last_line(error)}): {NEEDS}") from error


class _Pool:
    """Actors and what each of them has to do.

    An actor gets shards when it is there. If it dies, another is started, for which there may be no room: its shards
    go to whoever is free.

    Args:
        start: starts an actor.
        stages: what is to be computed, one after another.
        size: number of actors.
    """

    def __init__(self, start: Callable[[], Any], stages: Sequence[Sequence[object]], size: int) -> None:
        self._start, self._stages, self._size = start, stages, size
        self._waiting = deque[object]()
        self._calls: dict[Any, tuple[Any, object]] = {}
        """Actor and shard of each call that is not answered; no shard while the actor starts."""
        self._loads: dict[Any, int] = {}
        """Number of shards of each actor that is there."""
        self._deaths = 0

    def answers(self) -> Iterator[dict[str, Any]]:
        """The answers to all shards."""
        for _ in range(self._size):
            self._add()
        for stage in self._stages:
            self._waiting.extend(stage)
            self._hand_out()
            yield from self._answers()

    def _answers(self) -> Iterator[dict[str, Any]]:
        """The answers to the shards of a stage."""
        import ray  # noqa: PLC0415

        while self._waiting or any(shard is not None for _, shard in self._calls.values()):
            (call,), _ = ray.wait(list(self._calls))
            actor, shard = self._calls.pop(call)
            try:
                answer = ray.get(call)
            except ray.exceptions.RayError as error:
                self._bury(actor, shard, error)
                continue
            self._loads[actor] = 0 if shard is None else self._loads[actor] - 1
            self._hand_out()
            if shard is not None:
                yield answer

    def _add(self) -> None:
        actor = self._start()
        self._calls[actor.__ray_ready__.remote()] = actor, None

    def _hand_out(self) -> None:
        while self._waiting and self._loads:
            actor = min(self._loads, key=self._loads.__getitem__)
            # The last ones are kept for those that are free first: none shall have two while another has nothing to do.
            if self._loads[actor] >= (_AHEAD if len(self._waiting) > self._size else 1):
                return
            shard = self._waiting.popleft()
            self._calls[actor.compute.remote(shard)] = actor, shard
            self._loads[actor] += 1

    def _bury(self, actor: Any, shard: object, error: Exception) -> None:
        """Give the shards of a dead actor to others, and start another one; raise errors that would come again."""
        import ray  # noqa: PLC0415

        self._deaths += 1
        if self._deaths > _DEATHS * self._size or _is_of_code(error):
            raise error
        ray.kill(actor)  # it may only have been out of reach
        self._loads.pop(actor, None)
        others = [call for call, (whose, _) in self._calls.items() if whose == actor]
        lost = [shard, *(self._calls.pop(call)[1] for call in others)]
        self._waiting.extendleft(each for each in reversed(lost) if each is not None)
        self._add()
        self._hand_out()


def _is_of_code(error: Exception) -> bool:
    """Whether an actor has raised it, as where a package is missing, and has not died."""
    import ray  # noqa: PLC0415

    return isinstance(error, ray.exceptions.RayTaskError) or getattr(error, "actor_init_failed", False)


def _last_line(error: Exception) -> str:
    """What has happened, of an error that is a traceback of another process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:_LONGEST_REASON].rstrip(".") if lines else type(error).__name__
