"""Small requests leave together while Triton is busy, and at once while it is not.

At most `calls` requests of the gateway are under way at a time. What arrives meanwhile waits for the first of them to
return and then leaves in one request of up to `max_rows` texts, so that under load a text costs a fraction of a call
and a lone text never waits.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from conch_client import AsyncClient, InvalidInputError
from numpy.typing import NDArray

Ids = Sequence[Sequence[int]]
Vectors = NDArray[np.float32]


class Options(NamedTuple):
    """What texts must agree in to share a call."""

    model: str
    dimensions: int | None
    normalize: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    ids: Ids
    vectors: "asyncio.Future[Vectors]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Coalescer:
    """Embeds token ids through a client, several callers' at a time; belongs to one event loop."""

    def __init__(self, client: AsyncClient, calls: int, timeout_s: float) -> None:
        self._client = client
        self._calls = calls
        self._timeout_s = timeout_s
        self._waiting: dict[Options, deque[_Waiting]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    async def embed(self, ids: Ids, options: Options, max_rows: int) -> Vectors:
        """Return the vectors of one caller's token ids, float32 [n, dimension].

        Args:
            ids: of one caller; when they fill a request by themselves they leave by themselves.
            options: texts with equal options may share a request.
            max_rows: most texts that the model takes at a time.

        Raises:
            ConchError: as the client raises it; a mistake of one caller is that caller's alone.
        """
        if len(ids) >= max_rows:
            return await self._send(ids, options)
        waiting = _Waiting(ids)
        self._waiting.setdefault(options, deque()).append(waiting)
        if len(self._senders) < self._calls:
            sender = asyncio.create_task(self._send_waiting(max_rows))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await waiting.vectors

    async def _send_waiting(self, max_rows: int) -> None:
        while self._waiting:
            options = next(iter(self._waiting))
            group = _take(self._waiting[options], max_rows)
            # Options take turns: those with more waiting go behind the others.
            rest = self._waiting.pop(options)
            if rest:
                self._waiting[options] = rest
            if group:
                await self._answer(group, options)

    async def _answer(self, group: list[_Waiting], options: Options) -> None:
        try:
            vectors = await self._send([row for waiting in group for row in waiting.ids], options)
        except InvalidInputError as error:
            if len(group) == 1:
                _fail(group, error)
            else:  # one of them made the mistake, and the others must not pay for it
                for waiting in group:
                    await self._answer([waiting], options)
        except BaseException as error:
            _fail(group, error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
        else:
            begin = 0
            for waiting in group:
                end = begin + len(waiting.ids)
                if not waiting.vectors.done():
                    waiting.vectors.set_result(vectors[begin:end])
                begin = end

    async def _send(self, ids: Ids, options: Options) -> Vectors:
        return await self._client.embed(
            ids,
            model=options.model,
            dimensions=options.dimensions,
            normalize=options.normalize,
            timeout_s=self._timeout_s,
        )


def _take(queue: deque[_Waiting], max_rows: int) -> list[_Waiting]:
    """Take what fits a request from the head of the queue; who has gone in the meantime is left out."""
    group: list[_Waiting] = []
    rows = 0
    while queue and rows + len(queue[0].ids) <= max_rows:
        waiting = queue.popleft()
        if not waiting.vectors.done():
            group.append(waiting)
            rows += len(waiting.ids)
    return group


def _fail(group: list[_Waiting], error: BaseException) -> None:
    for waiting in group:
        if not waiting.vectors.done():
            waiting.vectors.set_exception(error)
