"""The lines of batches: each is claimed by a gateway for a limited time, and answered exactly once.

A gateway renews its claims while it runs; the claims of one that died expire. One transaction stores the answer of a
line and deletes the line, and only if the gateway still holds the claim: no line is lost, and none is answered twice,
even by a gateway that was paused for longer than its claims lasted.

Transactions that lock several rows lock lines before batches, and each in the order of ids: so none waits for another
that waits for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from time import time
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from conch_gateway.batches.database import Database
from conch_gateway.batches.files import Clock, read_places
from conch_gateway.batches.pace import Resting
from conch_gateway.batches.records import UNFINISHED
from conch_gateway.batches.schema import answers, batches, lines

LEASE_S = 60.0
"""Time after which a claim expires unless it is renewed, and the longest that a line is put off.

Clocks of gateways must agree far better than this.
"""
LARGE_BYTES = 256 * 1024
"""Size above which a line is large: it keeps all instances of a model busy by itself, and takes long."""
MOST_LARGE = 3
"""Most large lines at once."""
_NOBODY = Resting()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a batch, claimed by this gateway.

    Attributes:
        number: counted from 1.
        owner: of the batch.
        tries: how often it could not be computed.
        crashes: how often a server failed while it computed the line.
        content: as in the input file; None if that was deleted.
    """

    batch_id: str
    number: int
    owner: str
    endpoint: str
    custom_id: str
    tries: int
    crashes: int
    content: bytes | None

    @property
    def large(self) -> bool:
        """Whether it is computed apart from the others."""
        return len(self.content or b"") > LARGE_BYTES

    @property
    def in_doubt(self) -> bool:
        """Whether a server has failed while it computed the line, which may be the reason."""
        return self.crashes > 0


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a line.

    Attributes:
        content: its line of the output file or of the file of errors.
        failed: whether it belongs into the file of errors.
        tokens: tokens that were computed for it.
    """

    line: Line
    content: bytes
    failed: bool
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class PutOff:
    """A line that any gateway may try again after `delay_s` seconds.

    Attributes:
        tried: whether it could not be computed; false if it was not begun, or was cancelled.
        crashed: whether a server failed while it computed the line.
    """

    line: Line
    delay_s: float = 0.0
    tried: bool = False
    crashed: bool = False


Outcome = Answered | PutOff


class Lines:
    """The lines of all batches, as one gateway claims and answers them."""

    def __init__(self, database: Database, gateway_id: str, clock: Clock = time) -> None:
        self._database = database
        self._gateway_id = gateway_id
        self._clock = clock

    async def claim(
        self,
        most: int,
        most_bytes: int,
        *,
        most_large: int = MOST_LARGE,
        without: Resting = _NOBODY,
    ) -> list[Line]:
        """Claim the next lines of the batch whose turn it is: up to `most`, and at least one if there is any.

        A line at which a server has failed is claimed alone.

        Turns are counted in bytes of lines: a batch of large ones gets as many as others, and not as many claims.

        Args:
            most: lines.
            most_bytes: of all of them.
            most_large: large ones among them.
            without: whose lines have to wait.
        """
        now = self._clock()
        free = has_lapsed(lines.c.claimed_until, now)
        small = lines.c.bytes <= LARGE_BYTES
        free = and_(free, or_(small, lines.c.batch_id.not_in(without.large)) if most_large else small)
        waits = exists().where(lines.c.batch_id == batches.c.id, free)
        rests = or_(batches.c.owner.in_(without.owners), batches.c.id.in_(without.batches))
        due = batches.c.status == "in_progress", batches.c.expires_at > now, ~rests, waits
        # Not timed: a clock that is set back would starve batches.
        latest = func.max(batches.c.turn).over().label("latest_turn")
        next_batch = (
            select(batches, latest).where(*due).order_by(batches.c.turn, batches.c.created_us, batches.c.id).limit(1)
        )
        async with self._database.begin() as connection:
            batch = (await connection.execute(next_batch)).first()
            if batch is None:
                return []
            of_batch = lines.c.batch_id == batch.id
            asked = select(lines).where(of_batch, free).order_by(lines.c.number).limit(most)
            found = (await connection.execute(asked.with_for_update(skip_locked=True))).all()
            taken = _first_of(found, most_bytes, most_large)
            claim = {"claim": self._gateway_id, "claimed_until": now + LEASE_S}
            numbers = [row.number for row in taken]
            await connection.execute(update(lines).where(_are(batch.id, numbers)).values(claim))
            # One that has come, or has rested, is one claim behind at most: it would keep others out for long.
            behind = max(0, batch.latest_turn - most_bytes - batch.turn)
            turn = batches.c.turn + behind + sum(row.bytes for row in taken)
            await connection.execute(update(batches).where(batches.c.id == batch.id).values(turn=turn))
            # In the same transaction: if they cannot be read, nothing is claimed.
            contents = await read_places(connection, batch.input_file_id, [(row.begin, row.bytes) for row in taken])
        return [
            Line(batch.id, row.number, batch.owner, batch.endpoint, row.custom_id, row.tries, row.crashes, content)
            for row, content in zip(taken, contents, strict=True)
        ]

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Store answers and release lines that are put off, in one transaction; skips lines whose claim was lost."""
        async with self._database.begin() as connection:
            locked = await self._locked(connection, (outcome.line for outcome in outcomes))
            answered: dict[str, dict[int, Answered]] = {}
            for outcome in outcomes:
                line = outcome.line
                if line.number not in locked[line.batch_id]:
                    continue
                if isinstance(outcome, PutOff):
                    await self._put_off(connection, outcome)
                else:
                    answered.setdefault(line.batch_id, {})[line.number] = outcome
            for batch_id in sorted(answered):
                await store_answers(connection, batch_id, answered[batch_id].values())

    async def renew(self, held: Iterable[Line]) -> None:
        """Renew the claims of lines."""
        async with self._database.begin() as connection:
            for batch_id, numbers in (await self._locked(connection, held)).items():
                renewed = update(lines).where(_are(batch_id, numbers))
                await connection.execute(renewed.values(claimed_until=self._clock() + LEASE_S))

    async def over(self, batch_ids: Collection[str]) -> set[str]:
        """Return which of these batches have ended, expired or were cancelled."""
        goes_on = and_(batches.c.status == "in_progress", batches.c.expires_at > self._clock())
        async with self._database.begin() as connection:
            asked = select(batches.c.id).where(batches.c.id.in_(batch_ids), goes_on)
            return set(batch_ids) - set((await connection.execute(asked)).scalars())

    async def release(self, *, of_all: bool = False) -> None:
        """Release all claims of this gateway, or of all gateways."""
        async with self._database.begin() as connection:
            for table in (lines, batches):
                mine = table.c.claim.is_not(None) if of_all else table.c.claim == self._gateway_id
                await connection.execute(update(table).where(mine).values(claim=None, claimed_until=0))

    async def waiting(self) -> int:
        """Return the number of unanswered lines of all batches."""
        left = func.coalesce(func.sum(batches.c.total - batches.c.completed - batches.c.failed), 0)
        async with self._database.begin() as connection:
            asked = select(left).where(batches.c.status.in_(UNFINISHED))
            return int((await connection.execute(asked)).scalar_one())

    async def _locked(self, connection: AsyncConnection, held: Iterable[Line]) -> dict[str, set[int]]:
        """Lock lines, and return the numbers of those whose claim was not lost, by batch."""
        numbers: dict[str, set[int]] = {}
        for line in held:
            numbers.setdefault(line.batch_id, set()).add(line.number)
        for batch_id in sorted(numbers):
            ours = and_(_are(batch_id, numbers[batch_id]), lines.c.claim == self._gateway_id)
            asked = select(lines.c.number).where(ours).order_by(lines.c.number).with_for_update()
            numbers[batch_id] = set((await connection.execute(asked)).scalars())
        return numbers

    async def _put_off(self, connection: AsyncConnection, outcome: PutOff) -> None:
        line = outcome.line
        values = {"claim": None, "claimed_until": self._clock() + outcome.delay_s}
        values |= {"tries": line.tries + outcome.tried, "crashes": line.crashes + outcome.crashed}
        await connection.execute(update(lines).where(_are(line.batch_id, [line.number])).values(values))


def _are(batch_id: str, numbers: Iterable[int]) -> ColumnElement[bool]:
    """Return the condition that lines are those of a batch with these numbers."""
    return and_(lines.c.batch_id == batch_id, lines.c.number.in_(list(numbers)))


def has_lapsed(claimed_until: ColumnElement[float], now: float) -> ColumnElement[bool]:
    """Return the condition that a claim or a delay is over, or was set by a clock that was ahead and was set back."""
    return or_(claimed_until <= now, claimed_until > now + 2 * LEASE_S)


def _first_of(found: Sequence[Row[Any]], most_bytes: int, most_large: int) -> list[Row[Any]]:
    if found and found[0].crashes:
        return [found[0]]
    together = list(takewhile(lambda row: not row.crashes, found))
    sums = accumulate(row.bytes for row in together)
    large = accumulate(int(row.bytes > LARGE_BYTES) for row in together)
    return [
        row
        for row, total, count in zip(together, sums, large, strict=True)
        if total <= most_bytes and count <= most_large
    ] or together[:1]


async def store_answers(connection: AsyncConnection, batch_id: str, answered: Iterable[Answered]) -> None:
    """Delete lines, store their answers, and count these in the batch."""
    stored = list(answered)
    if not stored:
        return
    numbers = [one.line.number for one in stored]
    await connection.execute(delete(lines).where(_are(batch_id, numbers)))
    rows = [
        {"batch_id": batch_id, "number": one.line.number, "failed": one.failed, "content": one.content}
        for one in stored
    ]
    await connection.execute(insert(answers), rows)
    good, bad = [one for one in stored if not one.failed], [one for one in stored if one.failed]
    counted = {
        "completed": batches.c.completed + len(good),
        "failed": batches.c.failed + len(bad),
        "tokens": batches.c.tokens + sum(one.tokens for one in stored),
        "output_bytes": batches.c.output_bytes + sum(len(one.content) + 1 for one in good),
        "error_bytes": batches.c.error_bytes + sum(len(one.content) + 1 for one in bad),
    }
    await connection.execute(update(batches).where(batches.c.id == batch_id).values(counted))


def output_line(custom_id: str, *, response: Any = None, error: Any = None) -> bytes:
    """Return a line of an output file or of a file of errors, in OpenAI's format."""
    fields = {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
