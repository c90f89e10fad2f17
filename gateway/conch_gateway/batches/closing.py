"""Ends batches: those whose lines are all answered, those that were cancelled, and those that expired.

The statuses are validating → failed | in_progress → completed | expired; a batch that is validating or in_progress can
become cancelling → cancelled. Lines that were not computed are answered with an error: every line of a batch that has
ended has an answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from time import time
from typing import Any, NamedTuple

from sqlalchemy import Row, and_, delete, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from conch_gateway.batches.database import Database
from conch_gateway.batches.files import Clock
from conch_gateway.batches.lines import Answered, Line, has_lapsed, output_line, store_answers
from conch_gateway.batches.records import UNFINISHED, Limits, Status
from conch_gateway.batches.schema import answers, batches, files, lines

_LINES_AT_ONCE = 500
_FEW = 20  # batches that are deleted in one transaction


class _Reason(NamedTuple):
    """Why lines are not computed: code and message in the file of errors."""

    code: str
    message: str


_CANCELLED = _Reason("batch_cancelled", "This request was not executed: the batch was cancelled.")
_EXPIRED = _Reason("batch_expired", "This request could not be executed before the completion window expired.")


class Closing:
    """Ends the batches of all keys. Several gateways may do so at the same time."""

    def __init__(self, database: Database, limits: Limits, clock: Clock = time) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock

    async def step(self) -> None:
        """End every batch that is due, except for lines that a gateway is still computing."""
        late = and_(batches.c.status.in_(("validating", "in_progress")), batches.c.expires_at <= self._clock())
        answered = and_(batches.c.status == "in_progress", batches.c.completed + batches.c.failed >= batches.c.total)
        due = select(batches).where(or_(batches.c.status == "cancelling", late, answered))
        async with self._database.begin() as connection:
            found = (await connection.execute(due)).all()
        for batch in found:
            reason = _CANCELLED if batch.status == "cancelling" else _EXPIRED
            while await self._give_up(batch, reason):
                pass
            await self._end(batch.id)

    async def sweep(self) -> None:
        """Delete some batches that ended longer ago than the retention time and have no files left."""
        kept = exists().where(files.c.batch_id == batches.c.id)
        long_over = and_(
            batches.c.status.not_in(UNFINISHED),
            batches.c.expires_at <= self._clock() - self._limits.retention_s,
            ~kept,
        )
        async with self._database.begin() as connection:
            found = (await connection.execute(select(batches.c.id).where(long_over).limit(_FEW))).scalars().all()
            for table, column in ((answers, answers.c.batch_id), (lines, lines.c.batch_id), (batches, batches.c.id)):
                await connection.execute(delete(table).where(column.in_(found)))

    async def _give_up(self, batch: Row[Any], reason: _Reason) -> bool:
        """Answer some lines that no gateway computes with an error; return whether there may be more."""
        of_batch = lines.c.batch_id == batch.id
        nobodys = or_(lines.c.claim.is_(None), has_lapsed(lines.c.claimed_until, self._clock()))
        async with self._database.begin() as connection:
            if batch.in_progress_at is None:  # its input was not read completely
                unread = select(batches.c.id).where(batches.c.id == batch.id, batches.c.in_progress_at.is_(None))
                if (await connection.execute(unread.with_for_update())).first() is None:
                    return False  # it was read meanwhile; the next step has its lines
                given_up = (await connection.execute(delete(lines).where(of_batch))).rowcount + 1
                found: Sequence[Row[Any]] = ()
            else:
                asked = select(lines).where(of_batch, nobodys).order_by(lines.c.number).limit(_LINES_AT_ONCE)
                found = (await connection.execute(asked.with_for_update(skip_locked=True))).all()
                await store_answers(connection, batch.id, [_given_up(batch, row, reason) for row in found])
                given_up = len(found)
            if given_up and reason is _EXPIRED:
                late = and_(batches.c.id == batch.id, batches.c.expired_at.is_(None))
                await connection.execute(update(batches).where(late).values(expired_at=int(self._clock())))
        return len(found) == _LINES_AT_ONCE

    async def _end(self, batch_id: str) -> None:
        """End a batch that has no unanswered lines, and make files of its answers."""
        now = int(self._clock())
        async with self._database.begin() as connection:
            asked = select(batches).where(batches.c.id == batch_id, batches.c.status.in_(UNFINISHED))
            batch = (await connection.execute(asked.with_for_update())).first()
            left = (await connection.execute(select(exists().where(lines.c.batch_id == batch_id)))).scalar()
            if batch is None or left:
                return
            status: Status = "completed" if batch.expired_at is None else "expired"
            if batch.status == "cancelling":
                status = "cancelled"
            values: dict[str, Any] = {"status": status, f"{status}_at": now, "finalizing_at": now, "claim": None}
            if status == "cancelled":
                values["expired_at"] = None
            if batch.completed:
                values["output_file_id"] = await self._add_file(connection, batch, now, failures=False)
            if batch.failed:
                values["error_file_id"] = await self._add_file(connection, batch, now, failures=True)
            await connection.execute(update(batches).where(batches.c.id == batch_id).values(values))

    async def _add_file(self, connection: AsyncConnection, batch: Row[Any], now: int, *, failures: bool) -> str:
        file_id = f"file-{secrets.token_hex(12)}"
        values = {
            "id": file_id,
            "owner": batch.owner,
            "filename": f"{batch.id}_{'error' if failures else 'output'}.jsonl",
            "purpose": "batch_output",
            "bytes": batch.error_bytes if failures else batch.output_bytes,
            "created_us": int(1e6 * self._clock()),
            "expires_at": now + (batch.output_expires_s or self._limits.retention_s),
            "complete": True,
            "batch_id": batch.id,
            "failures": failures,
        }
        await connection.execute(insert(files).values(values))
        return file_id


def _given_up(batch: Row[Any], row: Row[Any], reason: _Reason) -> Answered:
    line = Line(batch.id, row.number, batch.owner, batch.endpoint, row.custom_id, row.tries, row.crashes, None)
    return Answered(line, output_line(row.custom_id, error=reason._asdict()), failed=True)
