"""Texts of several requests share calls to Triton while it is busy, and a lone text leaves at once.

A request is taken apart into its texts, and each call takes up to `max_rows` of those that are next in the queue,
whichever request they are of. So under load a text costs a fraction of a call, and a long list does not hold up what
arrives after it. Where instances are idle, a list takes them in equal parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

import numpy as np
from conch_client import AsyncClient, InvalidInputError, ModelInfo

from conch_gateway.background import start
from conch_gateway.jobs import Vectors
from conch_gateway.scheduling.sizes import CALL_TOKENS, CALL_TOKENS_CROWDED, Spread
from conch_gateway.scheduling.slots import Entry, Slots, Ticket, Work

Ids = Sequence[Sequence[int]]

# Tokens of a call with its padding, which is not computed but sent. The client would split a larger call into several
# requests, and one slot is for one request at Triton.
_CALL_CELLS = 1024


class Options(NamedTuple):
    """Model and options, in which texts of one call are equal."""

    model: ModelInfo
    dimensions: int | None
    normalize: bool


class _Kind(NamedTuple):
    """Texts of one kind may share a call."""

    options: Options
    max_rows: int
    work: Work
    model: str  # by which the slots know it


@dataclass(slots=True, eq=False)
class _Request:
    entry: Entry
    ids: Ids
    answer: asyncio.Future[Vectors]
    left: int
    spread: Spread
    calls: int = 0  # that begin with its texts
    vectors: Vectors | None = None
    context: Context = field(default_factory=copy_context)
    tickets: list[Ticket] = field(default_factory=list)

    def take(self, place: int, vector: Vectors) -> None:
        if self.vectors is None:
            self.vectors = np.empty((len(self.ids), len(vector)), np.float32)
        self.vectors[place] = vector
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
    """Embeds token ids through a client, those of several requests at a time; belongs to one event loop."""

    def __init__(self, client: AsyncClient, slots: Slots, timeout_s: float) -> None:
        """`timeout_s` is for one call: no request waits longer for it."""
        self._client = client
        self._slots = slots
        self._timeout_s = timeout_s
        self._numbers = count()
        self._waiting: dict[_Kind, list[tuple[float, int, _Row]]] = {}
        self._calls: set[asyncio.Task[int]] = set()

    async def embed(self, ids: Ids, options: Options, max_rows: int, entry: Entry) -> Vectors:
        """Return the vectors of one request's token ids, float32 [n, dimension].

        Args:
            ids: of one request.
            options: texts with equal options may share a call.
            max_rows: most texts that the model takes at a time.
            entry: the request in the slots.

        Raises:
            ConchError: as the client raises it; InvalidInputError is raised for the request at fault only.
        """
        tokens = sum(map(len, ids))
        spread = Spread.of(tokens, len(ids), max_rows, self._slots.idle)
        request = _Request(entry, ids, asyncio.get_running_loop().create_future(), len(ids), spread)
        kind = _Kind(options, max_rows, entry.flow.work, entry.model)
        if len(ids) == 1 and kind.work is Work.SMALL:
            self._slots.note_single()
        # Texts of similar length travel together, so that little is padded.
        self._queue(kind, request, sorted(range(len(ids)), key=lambda place: len(ids[place])))
        self._slots.grant()
        try:
            return await request.answer
        finally:
            # A caller who leaves withdraws what waits. Calls under way go on: they have other callers' texts as well.
            request.drop()
            self._tidy(kind)

    def _queue(self, kind: _Kind, request: _Request, places: Iterable[int]) -> None:
        waiting, start_call = self._waiting.setdefault(kind, []), partial(self._start, kind)
        for place in places:
            # A ticket stands for a slot for texts of this kind: its own text may have left with an earlier call.
            ticket = self._slots.queue(request.entry, len(request.ids[place]), start_call)
            request.tickets.append(ticket)
            heappush(waiting, (ticket.tag, next(self._numbers), _Row(request, place, ticket)))

    def _tidy(self, kind: _Kind) -> None:
        """Forget a kind whose texts have all left: no call is started for it, and callers may ask for many kinds."""
        if kind in self._waiting and not _drop_gone(self._waiting[kind]):
            del self._waiting[kind]

    def _start(self, kind: _Kind) -> None:
        """Use a slot for the texts that are next."""
        tokens = CALL_TOKENS_CROWDED if self._slots.short(kind.work) else CALL_TOKENS
        group = _take(self._waiting[kind], kind.max_rows, tokens)
        if not self._waiting[kind]:
            del self._waiting[kind]
        if not group:  # the request that the slot was for has left this very moment
            self._slots.release(kind.work, 0, kind.model)
            return
        # In the context of a request that it serves: the current one is that of whichever call has just freed the slot.
        first = group[0].request
        call = first.context.run(start, self._call(group, kind, first.spread.delay_s(first.calls)), "conch-call")
        first.calls += 1
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        # A callback, not a `finally` in `_call`: a task that is cancelled before its first step never enters its body.
        call.add_done_callback(partial(self._end, group, kind))

    def _end(self, group: list[_Row], kind: _Kind, call: asyncio.Task[int]) -> None:
        """Free the slot of a call. Callers wait for futures of their own, which none may leave open for ever."""
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if error is not None:
            for row in group:
                row.request.fail(error)
        self._slots.release(kind.work, 0 if error else call.result(), kind.model)

    async def _call(self, group: list[_Row], kind: _Kind, delay_s: float) -> int:
        """Compute the texts of several requests and return how many tokens they had."""
        options = kind.options
        for row in group:
            row.request.entry.begun_tokens += len(row.ids)
        try:
            if delay_s:
                await asyncio.sleep(delay_s)
            vectors = await self._client.embed(
                [row.ids for row in group],
                model=options.model,
                dimensions=options.dimensions,
                normalize=options.normalize,
                timeout_s=self._timeout_s,
                request_id=",".join(dict.fromkeys(row.request.entry.request_id for row in group)),
            )
            for row, vector in zip(group, vectors, strict=True):
                row.request.entry.done_tokens += len(row.ids)
                row.request.take(row.place, vector)
        except InvalidInputError as error:
            self._refuse(group, kind, error)
            return 0
        except Exception as error:  # noqa: BLE001 - each request tells its own, and the log has it once
            for row in group:
                row.request.fail(error)
            return 0
        return sum(len(row.ids) for row in group)

    def _refuse(self, group: list[_Row], kind: _Kind, error: InvalidInputError) -> None:
        """Fail the requests at fault, and queue the others' texts again: they have got no vectors."""
        for request in dict.fromkeys(row.request for row in group):
            # Indices count within the shared call; the caller is told places in its own list, in the message as well.
            at_fault = [group[index].place for index in error.indices if group[index].request is request]
            # Without indices nobody knows which text it was, so every request fails.
            if at_fault or not error.indices:
                message = str(error).replace(str(list(error.indices)), str(at_fault), 1)
                request.fail(type(error)(message, at_fault))
            elif not request.answer.done():
                places = [row.place for row in group if row.request is request]
                request.entry.begun_tokens -= sum(len(request.ids[place]) for place in places)
                # No `grant` is needed: the slot of this call is released next, and that grants.
                self._queue(kind, request, places)


def _take(queue: list[tuple[float, int, _Row]], max_rows: int, max_tokens: int) -> list[_Row]:
    """Take texts that fit a call from the head of the queue; the first always does. Those that left are dropped."""
    group: list[_Row] = []
    tokens, longest, most = 0, 0, inf
    while len(group) < max_rows and _drop_gone(queue):
        row = queue[0][-1]
        if group and tokens + len(row.ids) / 2 > most:  # a text goes where more than half of it fits
            break
        tokens, longest = tokens + len(row.ids), max(longest, len(row.ids))
        if group and (tokens > max_tokens or (len(group) + 1) * longest > _CALL_CELLS):
            break
        most = min(most, row.request.spread.call_tokens)
        heappop(queue)
        row.ticket.waits = False
        group.append(row)
    return group


def _drop_gone(queue: list[tuple[float, int, _Row]]) -> bool:
    """Drop texts that left from the head of the queue; return whether any is left."""
    while queue and ((row := queue[0][-1]).request.answer.done() or not row.ticket.waits):
        row.ticket.waits = False  # a caller who leaves at this moment may not have withdrawn it yet
        heappop(queue)
    return bool(queue)
