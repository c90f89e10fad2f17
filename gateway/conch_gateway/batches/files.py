"""Stored files. Uploads are written in pieces, each in a short transaction, and become files when they are complete."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from itertools import accumulate
from time import time
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from conch_gateway.batches.database import Database
from conch_gateway.batches.records import UNFINISHED, File, Limits, Page
from conch_gateway.batches.schema import CHUNK_BYTES, answers, batches, chunks, files
from conch_gateway.errors import BodyTooLargeError, ConflictError, NotStoredError, StorageError

Clock = Callable[[], float]
_UPLOAD_S = 6 * 3600  # older uploads that are not complete were abandoned
_AT_ONCE, _BYTES_AT_ONCE = 256, 4 * 2**20  # pieces or answers, and of those as many as are so large together, or one
_GOING = 0  # stands for the time of creation of a file that is being deleted
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Files:
    """The files of all keys. A file of another key is reported as not found."""

    def __init__(self, database: Database, limits: Limits, clock: Clock = time) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock

    async def upload(self, owner: str) -> Upload:
        """Begin an upload; raises StorageError if the key has reached its limit."""
        async with self._database.begin() as connection:
            await self._check_room(connection, owner, begun=False)
            file_id = f"file-{secrets.token_hex(12)}"
            values = {"id": file_id, "owner": owner, "filename": "", "purpose": "batch", "bytes": 0, "expires_at": 0}
            values |= {"created_us": int(1e6 * self._clock()), "complete": False, "failures": False}
            await connection.execute(insert(files).values(values))
        return Upload(self, file_id, owner)

    async def get(self, owner: str, file_id: str) -> File:
        """Return a file; raises NotStoredError."""
        async with self._database.begin() as connection:
            return file_of(await self._find(connection, owner, file_id))

    async def listed(
        self, owner: str, *, limit: int, after: str | None, ascending: bool, purpose: str | None
    ) -> Page[File]:
        """Return up to `limit` files, the newest first or last; raises NotStoredError for an unknown `after`."""
        asked = select(files).where(self._is_of(owner))
        if purpose is not None:
            asked = asked.where(files.c.purpose == purpose)
        place = (files.c.created_us, files.c.id)
        async with self._database.begin() as connection:
            if after is not None:
                last = await self._find(connection, owner, after)
                asked = asked.where(is_behind(place, (last.created_us, last.id), ascending=ascending))
            order = place if ascending else [column.desc() for column in place]
            rows = (await connection.execute(asked.order_by(*order).limit(limit + 1))).all()
        return Page([file_of(row) for row in rows[:limit]], len(rows) > limit)

    async def delete(self, owner: str, file_id: str) -> None:
        """Delete a file; raises NotStoredError, or ConflictError while it is the input of an unfinished batch."""
        async with self._database.begin() as connection:
            await lock_files(connection, owner)  # so that no batch is created from it meanwhile
            await self._find(connection, owner, file_id)
            if batch_id := (await connection.execute(reading_of(file_id))).scalar():
                raise ConflictError(
                    f"{file_id} is the input of {batch_id}; cancel that first, or wait until it has ended"
                )
            await _mark(connection, file_id)
        await self._drop(file_id)

    async def content(self, file: File) -> AsyncIterator[bytes]:
        """Yield the content, a piece at a time."""
        pieces = (
            self._uploaded(file) if file.batch_id is None else self._answered(file.batch_id, failures=file.failures)
        )
        async for piece in pieces:
            yield piece

    async def sweep(self) -> bool:
        """Delete one file that has expired, was abandoned or is half deleted; return whether there was one."""
        now = self._clock()
        reading = select(batches.c.id).where(batches.c.input_file_id == files.c.id, batches.c.status.in_(UNFINISHED))
        expired = and_(files.c.complete, files.c.expires_at <= int(now), ~reading.exists())
        given_up = and_(~files.c.complete, files.c.created_us < int(1e6 * (now - _UPLOAD_S)))
        asked = select(files.c.id).where(or_(expired, given_up)).limit(1).with_for_update(skip_locked=True)
        async with self._database.begin() as connection:
            file_id = (await connection.execute(asked)).scalar()
            # Looked at again now that the file is locked: a batch may have been created over it meanwhile.
            if file_id is None or (await connection.execute(reading_of(file_id))).first() is not None:
                return False
            await _mark(connection, file_id)
        await self._drop(file_id)
        return True

    async def drop_unfinished(self) -> None:
        """Delete all uploads that have not ended."""
        async with self._database.begin() as connection:
            found = (await connection.execute(select(files.c.id).where(~files.c.complete))).scalars().all()
        for file_id in found:
            await self.abandon(file_id)

    async def write(self, owner: str, file_id: str, number: int, content: bytes) -> None:
        """Add a piece to an upload; raises StorageError if the owner's files exceed their limit."""
        async with self._database.begin() as connection:
            larger = update(files).where(_is_begun(file_id)).values(bytes=files.c.bytes + len(content))
            if not (await connection.execute(larger)).rowcount:
                raise _too_slow()
            await connection.execute(insert(chunks).values(file_id=file_id, number=number, content=content))
            await self._check_room(connection, owner, begun=True)

    async def complete(self, owner: str, file_id: str, filename: str, expires_s: int | None) -> File:
        """Turn an upload into a file of its owner; raises StorageError if the owner's limit is exceeded."""
        now = self._clock()
        async with self._database.begin() as connection:
            await lock_files(connection, owner)
            await self._check_room(connection, owner, begun=True)
            values = {"complete": True, "filename": filename, "created_us": int(1e6 * now)}
            values["expires_at"] = int(now) + (expires_s or self._limits.retention_s)
            if not (await connection.execute(update(files).where(_is_begun(file_id)).values(values))).rowcount:
                raise _too_slow()
            return file_of(await self._find(connection, owner, file_id))

    async def abandon(self, file_id: str) -> None:
        """Delete an upload that does not become a file."""
        async with self._database.begin() as connection:
            await _mark(connection, file_id)
        await self._drop(file_id)

    def check_size(self, size: int) -> None:
        """Raise BodyTooLargeError for a file that is too large."""
        if size > self._limits.file_bytes:
            msg = f"the file has more than {self._limits.file_bytes} bytes; divide it, or raise CONCH_BATCH_FILE_BYTES"
            raise BodyTooLargeError(msg)

    def _is_of(self, owner: str) -> ColumnElement[bool]:
        return and_(files.c.owner == owner, files.c.complete, files.c.expires_at > int(self._clock()))

    async def _find(self, connection: AsyncConnection, owner: str, file_id: str) -> Row[Any]:
        asked = select(files).where(self._is_of(owner), files.c.id == file_id)
        found = (await connection.execute(asked)).first() if may_be_id(file_id) else None
        if found is None:
            raise NotStoredError(f"there is no file {file_id!r}; GET /v1/files lists yours")
        return found

    async def _check_room(self, connection: AsyncConnection, owner: str, *, begun: bool) -> None:
        """Check the limits of a key, counting unfinished uploads; `begun` says whether the file in question is one."""
        held = select(func.count(), func.coalesce(func.sum(files.c.bytes), 0)).where(files.c.owner == owner)
        count, used = (await connection.execute(held)).one()
        if count - begun >= self._limits.key_files:
            raise StorageError(f"you have {count - begun} files, the limit of a key; delete some")
        if used + (not begun) > self._limits.key_bytes:
            msg = f"your files would have more than {self._limits.key_bytes} bytes, the limit of a key; delete some"
            raise StorageError(msg)

    async def _drop(self, file_id: str) -> None:
        """Delete a file that is marked, in short transactions: others wait meanwhile, and a long one may be ended."""
        while await self._drop_some(file_id):
            pass

    async def _drop_some(self, file_id: str) -> bool:
        """Delete some of the content of a file, or the file once it has none; return whether there may be more."""
        async with self._database.begin() as connection:
            # Locked, so that no piece of an upload is added meanwhile.
            asked = select(files).where(files.c.id == file_id).with_for_update()
            file = (await connection.execute(asked)).first()
            if file is None:
                return False
            table, content = chunks, chunks.c.file_id == file_id
            if file.batch_id is not None:
                table, content = answers, _answers_of(file.batch_id, failures=file.failures)
            numbers = await _next_numbers(connection, table, content)
            if numbers:
                await connection.execute(delete(table).where(content, table.c.number.in_(numbers)))
            else:
                await connection.execute(delete(files).where(files.c.id == file_id))
        return bool(numbers)

    async def _uploaded(self, file: File) -> AsyncIterator[bytes]:
        for number in _numbers(0, file.bytes):
            async with self._database.begin() as connection:
                asked = select(chunks.c.content).where(chunks.c.file_id == file.id, chunks.c.number == number)
                content = (await connection.execute(asked)).scalar()
            if content is None:
                raise NotStoredError(f"{file.id} was deleted meanwhile")
            yield content

    async def _answered(self, batch_id: str, *, failures: bool) -> AsyncIterator[bytes]:
        last = 0
        while True:
            rest = and_(_answers_of(batch_id, failures=failures), answers.c.number > last)
            async with self._database.begin() as connection:
                numbers = await _next_numbers(connection, answers, rest)
                asked = select(answers.c.number, answers.c.content).where(rest, answers.c.number.in_(numbers))
                rows = (await connection.execute(asked.order_by(answers.c.number))).all()
            if not rows:
                return
            for row in rows:
                yield row.content + b"\n"
            last = rows[-1].number


class Upload:
    """A file that is being uploaded."""

    def __init__(self, files: Files, file_id: str, owner: str) -> None:
        self._files = files
        self._id = file_id
        self._owner = owner
        self._pending = bytearray()
        self._written = 0
        self._size = 0

    async def write(self, data: bytes) -> None:
        """Add received bytes; raises BodyTooLargeError if the file becomes too large."""
        self._size += len(data)
        self._files.check_size(self._size)
        self._pending += data
        while len(self._pending) >= CHUNK_BYTES:
            await self._store(bytes(self._pending[:CHUNK_BYTES]))
            del self._pending[:CHUNK_BYTES]

    async def complete(self, filename: str, expires_s: int | None) -> File:
        """Return the file. It is kept for `expires_s` seconds; None means the default retention time."""
        if self._pending:
            await self._store(bytes(self._pending))
        return await self._files.complete(self._owner, self._id, filename, expires_s)

    async def abandon(self) -> None:
        """Delete what was received."""
        await self._files.abandon(self._id)

    async def _store(self, content: bytes) -> None:
        await self._files.write(self._owner, self._id, self._written, content)
        self._written += 1


def may_be_id(text: str) -> bool:
    """Return whether a string has the form of an id; databases refuse some characters in a query."""
    return _ID.fullmatch(text) is not None


def reading_of(file_id: str) -> Select[Any]:
    """Return the query for the unfinished batches whose input is this file."""
    return select(batches.c.id).where(batches.c.input_file_id == file_id, batches.c.status.in_(UNFINISHED))


async def read_places(
    connection: AsyncConnection, file_id: str, places: Collection[tuple[int, int]]
) -> list[bytes | None]:
    """Return parts of an uploaded file, each given by its offset and length in bytes; None for parts that are gone."""
    numbers = {number for begin, length in places for number in _numbers(begin, length)}
    asked = select(chunks).where(chunks.c.file_id == file_id, chunks.c.number.in_(sorted(numbers)))
    found = {row.number: row.content for row in (await connection.execute(asked)).all()}
    return [_cut(found, begin, length) for begin, length in places]


def _answers_of(batch_id: str, *, failures: bool) -> ColumnElement[bool]:
    return and_(answers.c.batch_id == batch_id, answers.c.failed == failures)


def _is_begun(file_id: str) -> ColumnElement[bool]:
    return and_(files.c.id == file_id, ~files.c.complete, files.c.created_us != _GOING)


async def _mark(connection: AsyncConnection, file_id: str) -> None:
    """Hide a file, which is then deleted: by whoever marks it, or else by `sweep`."""
    values = {"complete": False, "created_us": _GOING}
    await connection.execute(update(files).where(files.c.id == file_id).values(values))


async def _next_numbers(connection: AsyncConnection, table: Table, rest: ColumnElement[bool]) -> list[int]:
    """Return the numbers of the first of some pieces or answers, as many as are read or deleted at once."""
    asked = select(table.c.number, func.length(table.c.content)).where(rest).order_by(table.c.number)
    found = (await connection.execute(asked.limit(_AT_ONCE))).all()
    ends = accumulate(size for _, size in found)
    return [number for (number, _), end in zip(found, ends, strict=True) if end <= _BYTES_AT_ONCE] or [
        number for number, _ in found[:1]
    ]


async def lock_files(connection: AsyncConnection, owner: str) -> None:
    """Lock the owner's files: transactions that count or change the owner's files and batches wait for this one."""
    await connection.execute(select(files.c.id).where(files.c.owner == owner).order_by(files.c.id).with_for_update())


def is_behind(columns: tuple[Any, Any], place: tuple[int, str], *, ascending: bool) -> ColumnElement[bool]:
    """Return the condition that a row comes after a position in the order of two columns."""
    (first, second), (one, two) = columns, place
    if ascending:
        return or_(first > one, and_(first == one, second > two))
    return or_(first < one, and_(first == one, second < two))


def file_of(row: Row[Any]) -> File:
    """Return the record of a row."""
    return File(
        id=row.id,
        owner=row.owner,
        filename=row.filename,
        purpose=row.purpose,
        bytes=row.bytes,
        created_at=row.created_us // 1_000_000,
        expires_at=row.expires_at,
        batch_id=row.batch_id,
        failures=row.failures,
    )


def _numbers(begin: int, length: int) -> Iterator[int]:
    """Yield the numbers of the pieces that contain these bytes."""
    yield from range(begin // CHUNK_BYTES, -(-(begin + length) // CHUNK_BYTES))


def _cut(found: dict[int, bytes], begin: int, length: int) -> bytes | None:
    numbers = list(_numbers(begin, length))
    if not found.keys() >= set(numbers):
        return None
    first = begin - numbers[0] * CHUNK_BYTES if numbers else 0
    return b"".join(found[number] for number in numbers)[first : first + length]


def _too_slow() -> NotStoredError:
    return NotStoredError("the upload took too long; send the file again, or as several")
