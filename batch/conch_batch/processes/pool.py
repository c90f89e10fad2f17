"""Hands shards out to processes, and those of a process that dies to others."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from conch_batch.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_AHEAD = 2
"""Shards that a process has at most: the one that it computes, and the next, so that it does not wait for that."""
_DEATHS = 20
"""For each process: machines come and go, but a model that there is no memory for is not tried for ever."""
NEEDS = (
    "each process needs memory for a model (see --actors), and each node of a cluster conch with its extras "
    "[batch,cluster] and the model repository. The same command then goes on where it was"
)
"""What to look for where a process that computes cannot be made."""


class Event(NamedTuple):
    """What has happened to a process.

    Attributes:
        process: the process.
        shard: what it has computed; None if it has only started.
        answer: its answer.
        died: the reason why it has ended; empty if it has not.
    """

    process: Any
    shard: object = None
    answer: dict[str, Any] | None = None
    died: str = ""


class Processes(Protocol):
    """Starts processes, sends them shards, and waits for what happens to them.

    Attributes:
        room: the number of processes that there is room for.
    """

    room: int

    def start(self) -> Any:
        """Start a process and return it; it gets shards when `wait` says that it is there."""

    def send(self, process: Any, shard: object, /) -> None:
        """Have a process compute a shard after those that it was sent before."""

    def wait(self) -> Event:
        """The next event of any process; raises EngineError where processes cannot be made."""


def spread(
    processes: Processes, shards: Sequence[object], *, before: Sequence[object] = (), size: int
) -> Iterator[dict[str, Any]]:
    """Yield the answer to each shard, in the order in which they are computed.

    Args:
        processes: what computes them.
        shards: what they are sent, each once unless a process dies.
        before: those that have to be answered before any of `shards` is sent.
        size: number of processes.

    Raises:
        EngineError: processes cannot be made, or die again and again.
    """
    yield from _Pool(processes, (before, shards), min(size, max(len(shards), len(before)))).answers()


class _Pool:
    """Processes and what each of them has to do.

    A process gets shards when it is there. If it dies, another is started, for which a cluster may have no room: its
    shards go to whoever is free.

    Args:
        processes: what starts them.
        stages: what is to be computed, one after another.
        size: number of processes.
    """

    def __init__(self, processes: Processes, stages: Sequence[Sequence[object]], size: int) -> None:
        self._processes, self._stages, self._size = processes, stages, size
        self._waiting = deque[object]()
        self._sent: dict[Any, list[object]] = {}
        """Shards of each process that is there."""
        self._deaths = 0

    def answers(self) -> Iterator[dict[str, Any]]:
        """The answers to all shards."""
        for _ in range(self._size):
            self._processes.start()
        for stage in self._stages:
            self._waiting.extend(stage)
            self._hand_out()
            yield from self._answers()

    def _answers(self) -> Iterator[dict[str, Any]]:
        """The answers to the shards of a stage."""
        while self._waiting or any(self._sent.values()):
            event = self._processes.wait()
            if event.died:
                self._replace(event)
            elif event.shard is None:
                self._sent[event.process] = []
            else:
                self._sent[event.process].remove(event.shard)
            self._hand_out()
            if event.answer is not None:
                yield event.answer

    def _hand_out(self) -> None:
        while self._waiting and self._sent:
            process, sent = min(self._sent.items(), key=lambda item: len(item[1]))
            # The last ones are kept for those that are free first: none shall have two while another has nothing to do.
            if len(sent) >= (_AHEAD if len(self._waiting) > self._size else 1):
                return
            sent.append(self._waiting.popleft())
            self._processes.send(process, sent[-1])

    def _replace(self, event: Event) -> None:
        """Start another process for a dead one, whose shards come next."""
        self._deaths += 1
        if self._deaths > _DEATHS * self._size:
            raise EngineError(f"a process that computes has ended ({event.died}): {NEEDS}")
        self._waiting.extendleft(reversed(self._sent.pop(event.process, [])))
        self._processes.start()
