"""Texts of several requests share calls to Triton while it is busy, and a lone text leaves at once.

A request is taken apart into its texts, and each call takes up to `max_rows` of those whose turn is next, whoever sent
them. So under load a text costs a fraction of a call, and a long list does not hold up what arrives after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

import numpy as np
from conch_client import AsyncClient, InvalidInputError
from numpy.typing import NDArray

from conch_gateway.background import start
from conch_gateway.scheduling.turns import Ticket, Turns
from conch_gateway.telemetry.trace import Trace

Ids = Sequence[Sequence[int]]
Vectors = NDArray[np.float32]

# Tokens of a call. It cannot be interrupted, so this bounds how long a text waits for others': less where single texts
# have to share an instance with long lists, although that costs some of the lists' throughput.
CALL_TOKENS = 512
CALL_TOKENS_CROWDED = 128
_CALL_CELLS = 1024  # the same with padding, which is not computed but sent; the client splits what has more


class Options(NamedTuple):
    """What texts must agree in to share a call."""

    model: str
    dimensions: int | None
    normalize: bool


@dataclass(slots=True, eq=False)
class _Request:
    name: str
    ids: Ids
    answer: asyncio.Future[Vectors]
    left: int
    vectors: Vectors | None = None
    context: Context = field(default_factory=copy_context)
    tickets: list[Ticket] = field(default_factory=list)

    def take(self, index: int, vector: Vectors) -> None:
        if self.vectors is None:
            self.vectors = np.empty((len(self.ids), len(vector)), np.float32)
        self.vectors[index] = vector
        self.left -= 1
        if not self.left and not self.answer.done():
            self.answer.set_result(self.vectors)

    def fail(self, error: BaseException) -> None:
        self.drop()
        if not self.answer.done():
            self.answer.set_exception(error)

    def drop(self) -> None:
        for ticket in self.tickets:
            ticket.waits = False


class _Row(NamedTuple):
    request: _Request
    place: int
    ticket: Ticket

    @property
    def ids(self) -> Sequence[int]:
        return self.request.ids[self.place]


class Coalescer:
    """Embeds token ids through a client, several requests' at a time; belongs to one event loop."""

    def __init__(self, client: AsyncClient, turns: Turns, timeout_s: float) -> None:
        """`timeout_s` is for one call: nobody waits longer for it."""
        self._client = client
        self._turns = turns
        self._timeout_s = timeout_s
        self._numbers = count()
        self._waiting: dict[tuple[Options, int, bool], list[tuple[float, int, _Row]]] = {}
        self._calls: set[asyncio.Task[int]] = set()

    async def embed(self, ids: Ids, options: Options, max_rows: int, trace: Trace) -> Vectors:
        """Return the vectors of one request's token ids, float32 [n, dimension].

        Args:
            ids: of one request.
            options: texts with equal options may share a call.
            max_rows: most texts that the model takes at a time.
            trace: the request's; says whose it is, since turns are shared fairly between callers.

        Raises:
            ConchError: as the client raises it; a mistake in one request is that request's alone.
        """
        request = _Request(trace.request_id, ids, asyncio.get_running_loop().create_future(), len(ids))
        large = len(ids) > max_rows or sum(map(len, ids)) > CALL_TOKENS
        key = (options, max_rows, large)
        queue = self._waiting.setdefault(key, [])
        with self._turns.share(trace, large=large, single=len(ids) == 1 and not large) as share:
            # Texts of similar length travel together, so that little is padded.
            for index in sorted(range(len(ids)), key=lambda index: len(ids[index])):
                ticket = self._turns.queue(share, len(ids[index]), lambda: self._start(key))
                request.tickets.append(ticket)
                heappush(queue, (ticket.tag, next(self._numbers), _Row(request, index, ticket)))
            self._turns.grant()
            try:
                return await request.answer
            finally:
                request.drop()

    def _start(self, key: tuple[Options, int, bool]) -> None:
        """Use a turn for those who are next."""
        options, max_rows, large = key
        tokens = CALL_TOKENS_CROWDED if large and self._turns.crowded else CALL_TOKENS
        group = _take(self._waiting[key], max_rows, tokens)
        if not self._waiting[key]:
            del self._waiting[key]
        if not group:  # who it was for left this very moment
            self._turns.release(large=large, tokens=0)
            return
        call = group[0].request.context.run(start, self._call(group, options), "conch-call")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        call.add_done_callback(lambda done: self._turns.release(large=large, tokens=_result(done)))

    async def _call(self, group: list[_Row], options: Options) -> int:
        """Return how many tokens were computed for several at once."""
        try:
            names = dict.fromkeys(row.request.name for row in group)
            vectors = await self._send([row.ids for row in group], options, ",".join(names))
            for row, vector in zip(group, vectors, strict=True):
                row.request.take(row.place, vector)
            return sum(len(row.ids) for row in group)
        except InvalidInputError:
            # One of them made the mistake, and the others must not pay for it. Whole, so that errors count right.
            for request in dict.fromkeys(row.request for row in group):
                await self._call_alone(request, options)
        except BaseException as error:
            for row in group:
                row.request.fail(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
        return 0

    async def _call_alone(self, request: _Request, options: Options) -> None:
        request.drop()
        if request.answer.done():
            return
        try:
            vectors = await self._send(request.ids, options, request.name)
        except Exception as error:  # noqa: BLE001 - handed on to whoever awaits the answer
            request.fail(error)
        else:
            if not request.answer.done():
                request.answer.set_result(vectors)

    async def _send(self, ids: Ids, options: Options, request_id: str) -> Vectors:
        return await self._client.embed(
            ids,
            model=options.model,
            dimensions=options.dimensions,
            normalize=options.normalize,
            timeout_s=self._timeout_s,
            request_id=request_id,
        )


def _result(done: asyncio.Task[int]) -> int:
    return 0 if done.cancelled() or done.exception() else done.result()


def _take(queue: list[tuple[float, int, _Row]], max_rows: int, max_tokens: int) -> list[_Row]:
    """Take what fits a call from the head of the queue; the first always does. Who has gone is left out."""
    group: list[_Row] = []
    tokens = longest = 0
    while queue and len(group) < max_rows:
        row = queue[0][-1]
        if row.request.answer.done() or not row.ticket.waits:
            heappop(queue)
            continue
        tokens, longest = tokens + len(row.ids), max(longest, len(row.ids))
        if group and (tokens > max_tokens or (len(group) + 1) * longest > _CALL_CELLS):
            break
        heappop(queue)
        row.ticket.waits = False
        group.append(row)
    return group
