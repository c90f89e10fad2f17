"""Reads the input of a new batch. All lines are checked before any is computed, and errors state their lines."""

from __future__ import annotations

import asyncio
import json
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from dataclasses import asdict
from time import time
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from conch_gateway.batches.database import Database
from conch_gateway.batches.files import Clock, Files, file_of
from conch_gateway.batches.lines import LEASE_S, has_lapsed
from conch_gateway.batches.records import Limits, LineError
from conch_gateway.batches.schema import batches, files, lines
from conch_gateway.errors import NotStoredError

_LINES_AT_ONCE = 250
_TURN = 100  # lines after which the event loop serves others
_BLANK_TURN = 10_000  # the same for empty lines
_MOST_ERRORS = 100
_LONG_LINE = 2**18  # bytes; parsing these in the event loop would delay requests
_LONGEST_ID = 256


class Intake:
    """Reads the inputs of batches that this gateway claims.

    Attributes:
        has_read: set when an input was read, so that its lines can begin.
    """

    def __init__(self, database: Database, files: Files, limits: Limits, gateway_id: str, clock: Clock = time) -> None:
        self._database = database
        self._files = files
        self._limits = limits
        self._gateway_id = gateway_id
        self._clock = clock
        self._reading: str | None = None
        self.has_read = asyncio.Event()

    async def step(self) -> None:
        """Read all batches that are new, or whose gateway died while it read them."""
        while (batch := await self._claim()) is not None:
            self._reading = batch.id
            try:
                total, errors = await self._read(batch)
            except NotStoredError:
                total, errors = 0, [LineError("input_file_deleted", "The input file was deleted before it was read.")]
            finally:
                self._reading = None
            now = int(self._clock())
            if errors:
                values = {"status": "failed", "failed_at": now, "errors": json.dumps(list(map(asdict, errors)))}
            else:
                values = {"status": "in_progress", "in_progress_at": now, "total": total}
            async with self._database.begin() as connection:
                mine = self._is_ours(batch.id)
                ended = await connection.execute(update(batches).where(mine).values({**values, "claim": None}))
                # Where it is no longer ours, the lines are those of the gateway that has taken it over.
                if errors and ended.rowcount:
                    await connection.execute(delete(lines).where(lines.c.batch_id == batch.id))
            self.has_read.set()

    async def hold(self) -> None:
        """Renew the claim of the batch that is being read."""
        if self._reading is not None:
            async with self._database.begin() as connection:
                await self._renew(connection, self._reading)

    async def _claim(self) -> Row[Any] | None:
        now = self._clock()
        lapsed = has_lapsed(batches.c.claimed_until, now)
        new = and_(batches.c.status == "validating", lapsed, batches.c.expires_at > now)
        asked = select(batches).where(new).order_by(batches.c.created_us).limit(1)
        async with self._database.begin() as connection:
            batch = (await connection.execute(asked.with_for_update(skip_locked=True))).first()
            if batch is not None:
                claim = {"claim": self._gateway_id, "claimed_until": now + LEASE_S}
                await connection.execute(update(batches).where(batches.c.id == batch.id).values(claim))
                # Left by a gateway that died while it read them.
                await connection.execute(delete(lines).where(lines.c.batch_id == batch.id))
        return batch

    async def _read(self, batch: Row[Any]) -> tuple[int, list[LineError]]:
        """Store the lines of the input; return their number and their errors."""
        async with self._database.begin() as connection:
            row = (await connection.execute(select(files).where(files.c.id == batch.input_file_id))).first()
        if row is None:
            raise NotStoredError(f"there is no file {batch.input_file_id}")
        file = file_of(row)
        errors: list[LineError] = []
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        async for number, begin, content in numbered(self._files.content(file), self._limits.line_bytes):
            if number % _TURN == 0:
                await asyncio.sleep(0)
            checked = await _checked(content, number, batch.endpoint, seen, self._limits)
            if isinstance(checked, LineError):
                errors.append(checked)
                if len(errors) >= _MOST_ERRORS or checked.code == _TOO_MANY:
                    break
                continue
            seen.add(checked)
            place = {"batch_id": batch.id, "number": number, "custom_id": checked, "begin": begin}
            found.append({**place, "bytes": len(content or b""), "tries": 0, "crashes": 0, "claimed_until": 0})
            if len(found) == _LINES_AT_ONCE:
                if not await self._store(batch.id, found):
                    break
                found = []
        await self._store(batch.id, found)
        if not seen and not errors:
            errors = [LineError("empty_file", "The file has no line; send a request in JSON on each.")]
        return len(seen), errors

    async def _store(self, batch_id: str, rows: list[dict[str, Any]]) -> bool:
        """Store lines, unless the batch has been cancelled or taken over meanwhile; return whether it is still ours."""
        async with self._database.begin() as connection:
            ours = await self._renew(connection, batch_id)
            if ours and rows:
                await connection.execute(insert(lines), rows)
        return ours

    async def _renew(self, connection: AsyncConnection, batch_id: str) -> bool:
        renewed = update(batches).where(self._is_ours(batch_id)).values(claimed_until=self._clock() + LEASE_S)
        return (await connection.execute(renewed)).rowcount > 0

    def _is_ours(self, batch_id: str) -> ColumnElement[bool]:
        # One that has just expired is about to end, and the lines that were stored are deleted.
        reading = and_(batches.c.status == "validating", batches.c.expired_at.is_(None))
        return and_(batches.c.id == batch_id, batches.c.claim == self._gateway_id, reading)


async def numbered(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[tuple[int, int, bytes | None]]:
    """Yield number (from 1), offset and content of each line that is not blank; None for one longer than `most`."""
    number, begin, rest = 1, 0, bytearray()
    size = 0  # bytes of the line so far, of which at most `most` + 1 are kept
    async for piece in pieces:
        *ended, tail = piece.split(b"\n")
        for place, part in enumerate(ended, 1):
            if place % _BLANK_TURN == 0:
                await asyncio.sleep(0)
            rest += part[: max(0, most + 1 - len(rest))]
            size += len(part)
            if rest.strip():
                yield number, begin, bytes(rest) if size <= most else None
            number, begin, size = number + 1, begin + size + 1, 0
            rest.clear()
        rest += tail[: max(0, most + 1 - len(rest))]
        size += len(tail)
    if rest.strip():
        yield number, begin, bytes(rest) if size <= most else None


_TOO_MANY = "too_many_lines"


async def _checked(
    content: bytes | None, number: int, endpoint: str, seen: set[str], limits: Limits
) -> str | LineError:
    """Return the custom_id of a line, or the error in the line."""
    if content is None:
        msg = f"This line has more than {limits.line_bytes} bytes; send fewer or shorter texts in one line."
        return LineError("line_too_long", msg, number)
    if len(seen) >= limits.lines:
        msg = f"The file has more than {limits.lines} lines; divide it into several batches."
        return LineError(_TOO_MANY, msg, number)
    try:
        parse, content = orjson.loads, content.removeprefix(BOM_UTF8)
        fields = await asyncio.to_thread(parse, content) if len(content) > _LONG_LINE else parse(content)
    except orjson.JSONDecodeError:
        return LineError("invalid_json_line", "This line is not parseable as valid JSON.", number)
    return _custom_id(fields, number, endpoint, seen)


def _custom_id(fields: Any, number: int, endpoint: str, seen: set[str]) -> str | LineError:
    """Return the custom_id of a parsed line, or the first error in the line."""
    if not isinstance(fields, dict):
        return LineError("invalid_json_line", "This line is not a JSON object.", number)
    custom_id: Any = fields.get("custom_id")
    named = isinstance(custom_id, str) and 0 < len(custom_id) <= _LONGEST_ID and custom_id.isprintable()
    checks = {
        "invalid_custom_id": (named, f"custom_id must be a string of 1 to {_LONGEST_ID} printable characters."),
        "duplicate_custom_id": (
            not named or custom_id not in seen,
            f"custom_id {custom_id!r} is that of another line too; it must be unique within a batch.",
        ),
        "invalid_method": (fields.get("method") == "POST", "method must be POST."),
        "invalid_url": (fields.get("url") == endpoint, f"url must be the batch's endpoint, {endpoint}."),
        "invalid_body": (isinstance(fields.get("body"), dict), "body must be a JSON object: the request."),
    }
    for code, (right, message) in checks.items():
        if not right:
            return LineError(code, message, number, message.partition(" ")[0])
    return str(custom_id)
