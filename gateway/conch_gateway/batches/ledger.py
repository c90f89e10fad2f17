"""Creates, lists and cancels batches. `intake` starts them and `closing` ends them."""

from __future__ import annotations

import asyncio
import json
import secrets
from time import time
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from conch_gateway.batches.database import Database
from conch_gateway.batches.files import Clock, is_behind, lock_files, may_be_id
from conch_gateway.batches.records import UNFINISHED, Batch, BatchOrder, Limits, LineError, Page
from conch_gateway.batches.schema import batches, files
from conch_gateway.errors import ConflictError, InvalidValueError, NotStoredError, StorageError


class Ledger:
    """The batches of all keys. A batch of another key is reported as not found.

    Attributes:
        has_new: set when a batch was created.
    """

    def __init__(self, database: Database, limits: Limits, clock: Clock = time) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock
        self.has_new = asyncio.Event()

    async def create(self, owner: str, order: BatchOrder) -> Batch:
        """Add a batch; its input file is read in the background.

        Raises:
            InvalidValueError: there is no such file.
            StorageError: the key has too many unfinished batches.
        """
        now = self._clock()
        async with self._database.begin() as connection:
            await lock_files(connection, owner)
            await self._check(connection, owner, order.input_file_id, now)
            values: dict[str, Any] = dict.fromkeys(
                ("total", "completed", "failed", "tokens", "output_bytes", "error_bytes", "turn", "claimed_until"), 0
            )
            values |= {"id": f"batch_{secrets.token_hex(12)}", "owner": owner, "status": "validating"}
            values |= {"endpoint": order.endpoint, "input_file_id": order.input_file_id}
            values |= {"completion_window": order.completion_window, "output_expires_s": order.output_expires_s}
            values |= {"metadata": json.dumps(dict(order.metadata)), "errors": "[]"}
            values |= {"created_us": int(1e6 * now), "expires_at": int(now) + order.window_s}
            await connection.execute(insert(batches).values(values))
            batch = batch_of(await self._find(connection, owner, values["id"]))
        self.has_new.set()
        return batch

    async def get(self, owner: str, batch_id: str) -> Batch:
        """Return a batch; raises NotStoredError."""
        async with self._database.begin() as connection:
            return batch_of(await self._find(connection, owner, batch_id))

    async def listed(self, owner: str, *, limit: int, after: str | None) -> Page[Batch]:
        """Return up to `limit` batches, the newest first; raises NotStoredError for an unknown `after`."""
        asked, place = select(batches).where(batches.c.owner == owner), (batches.c.created_us, batches.c.id)
        async with self._database.begin() as connection:
            if after is not None:
                last = await self._find(connection, owner, after)
                asked = asked.where(is_behind(place, (last.created_us, last.id), ascending=False))
            order = [column.desc() for column in place]
            rows = (await connection.execute(asked.order_by(*order).limit(limit + 1))).all()
        return Page([batch_of(row) for row in rows[:limit]], len(rows) > limit)

    async def cancel(self, owner: str, batch_id: str) -> Batch:
        """Start no more lines of a batch; raises NotStoredError, or ConflictError if it has ended."""
        begun = batches.c.status.in_(("validating", "in_progress"))
        cancelling = {"status": "cancelling", "cancelling_at": int(self._clock())}
        async with self._database.begin() as connection:
            await self._find(connection, owner, batch_id)
            await connection.execute(update(batches).where(batches.c.id == batch_id, begun).values(cancelling))
            batch = batch_of(await self._find(connection, owner, batch_id))
        if batch.status not in {"cancelling", "cancelled"}:
            raise ConflictError(f"{batch_id} is {batch.status} and cannot be cancelled any more")
        return batch

    async def _check(self, connection: AsyncConnection, owner: str, file_id: str, now: float) -> None:
        asked = select(files.c.purpose).where(
            files.c.id == file_id, files.c.owner == owner, files.c.complete, files.c.expires_at > int(now)
        )
        purpose = (await connection.execute(asked)).scalar() if may_be_id(file_id) else None
        if purpose is None:
            msg = f"input_file_id: there is no file {file_id!r}; GET /v1/files lists yours"
            raise InvalidValueError(msg, param="input_file_id")
        if purpose != "batch":
            msg = f"input_file_id: {file_id} has the purpose {purpose!r}; upload the input with the purpose 'batch'"
            raise InvalidValueError(msg, param="input_file_id")
        unfinished = batches.c.owner == owner, batches.c.status.in_(UNFINISHED)
        count = (await connection.execute(select(func.count()).where(*unfinished))).scalar_one()
        if count >= self._limits.key_batches:
            raise StorageError(f"you have {count} unfinished batches, the limit of a key; wait until one has ended")

    async def _find(self, connection: AsyncConnection, owner: str, batch_id: str) -> Row[Any]:
        asked = select(batches).where(batches.c.owner == owner, batches.c.id == batch_id)
        found = (await connection.execute(asked)).first() if may_be_id(batch_id) else None
        if found is None:
            raise NotStoredError(f"there is no batch {batch_id!r}; GET /v1/batches lists yours")
        return found


def batch_of(row: Row[Any]) -> Batch:
    """Return the record of a row."""
    same = (
        *("id", "owner", "endpoint", "input_file_id", "completion_window", "status", "expires_at", "in_progress_at"),
        *("finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at", "total"),
        *("completed", "failed", "tokens", "output_file_id", "error_file_id"),
    )
    return Batch(
        **{name: getattr(row, name) for name in same},
        created_at=row.created_us // 1_000_000,
        metadata=json.loads(row.metadata),
        errors=[LineError(**error) for error in json.loads(row.errors)],
    )
