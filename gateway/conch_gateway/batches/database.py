"""The database of files and batches: a SQLite file of one gateway, or a database that several gateways share."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import anyio
from pydantic import SecretStr
from sqlalchemy import event, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from conch_gateway.batches.schema import METADATA, VERSION, versions
from conch_gateway.errors import DatabaseError, SettingError

_log = logging.getLogger("conch_gateway")
_FORM = "write the path of a file, which SQLite makes, or a URL such as postgresql+asyncpg://USER:PASSWORD@HOST/NAME"
_PATIENCE_S = 20.0  # with a database on another machine; its transactions take milliseconds
_FAREWELL_S = 5.0
# Transactions look again at what others may have changed once it is locked. With a stricter level, which a server may
# have as its default, they would see it as it was, or fail.
_POOL: dict[str, Any] = {
    "pool_size": 4,
    "max_overflow": 4,
    "pool_pre_ping": True,
    "isolation_level": "READ COMMITTED",
}
# SQLite allows one writer at a time. With a single connection no transaction finds the file locked.
_POOL_OF_SQLITE: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}


class Database:
    """Opens connections; belongs to one event loop.

    Attributes:
        shared: whether other gateways can use it at the same time.
    """

    def __init__(self, setting: SecretStr) -> None:
        """Raises SettingError for a setting that is neither a path nor a URL; the message does not repeat it."""
        url = _url(setting.get_secret_value())
        self.shared = url.get_backend_name() != "sqlite"
        self._path = None if self.shared or not url.database else Path(url.database)
        self._engine = _engine(url, shared=self.shared)
        self._prepared = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Create the tables if there are none, and close all connections at the end.

        If a shared database cannot be reached, the gateway starts without it; its tables are checked later.

        Raises:
            SettingError: the file cannot be used, another gateway uses it, or the tables have another version.
        """
        with _owned(self._path):
            try:
                await self.prepare()
            except DatabaseError as error:
                if not self.shared:
                    raise SettingError(f"CONCH_BATCH_DATABASE: {error}") from error
                _log.error("files and batches are not served until the database can be reached: %s", error)
            try:
                yield
            finally:
                self._prepared = False  # at the next opening it may be another file
                with anyio.move_on_after(_FAREWELL_S, shield=True):  # one that hangs would keep the gateway from ending
                    await self._engine.dispose()

    async def prepare(self) -> None:
        """Create the tables if there are none, once; raises SettingError if they have another version."""
        if self._prepared:
            return
        try:
            found = await self._make_tables()
        except DatabaseError:
            found = await self._make_tables()  # another gateway may just have created them
        if found != VERSION:
            msg = f"the tables of CONCH_BATCH_DATABASE are of version {found}, not {VERSION}; name another database"
            raise SettingError(msg)
        self._prepared = True

    async def _make_tables(self) -> int:
        async with self._transaction() as connection:
            await connection.run_sync(METADATA.create_all)
            found: int | None = (await connection.execute(select(versions.c.version))).scalar()
            if found is None:
                await connection.execute(insert(versions).values(version=VERSION))
            return VERSION if found is None else found

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed at the end.

        It is not cancelled with its request: drivers differ in what a cancelled statement leaves behind.

        Raises:
            DatabaseError: the database fails or does not answer, or it is not known yet whether the tables are ours.
        """
        if not self._prepared:
            raise DatabaseError("the tables of CONCH_BATCH_DATABASE have not been checked yet; retry later")
        async with self._transaction() as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            with anyio.fail_after(_PATIENCE_S if self.shared else None, shield=True):
                async with self._engine.begin() as connection:
                    yield connection
        except Exception as error:
            if not _is_of_database(error):
                raise
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0] or type(error).__name__
            raise DatabaseError(f"the database of files and batches failed: {reason}") from error


def _is_of_database(error: Exception) -> bool:
    """Whether an error comes out of SQLAlchemy, which lets pass some that drivers, event loops and the system raise."""
    if isinstance(error, (SQLAlchemyError, OSError)):
        return True
    below = False
    for frame, _ in walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        # The transaction's own frame is SQLAlchemy's too, and what the block raises has passed it.
        below = package == "sqlalchemy" or (below and package != __name__.partition(".")[0])
    return below


def _url(setting: str) -> URL:
    if "://" not in setting:
        return URL.create("sqlite+aiosqlite", database=str(Path(setting).expanduser().absolute()))
    try:
        return make_url(setting)
    except (ArgumentError, ValueError):
        raise SettingError(f"CONCH_BATCH_DATABASE is no URL; {_FORM}") from None


def _engine(url: URL, *, shared: bool) -> AsyncEngine:
    try:
        if not url.get_dialect().is_async:
            raise InvalidRequestError(url.drivername)
        # Parameters contain texts and vectors, which must not appear in logs.
        engine = create_async_engine(url, hide_parameters=True, **(_POOL if shared else _POOL_OF_SQLITE))
    except ModuleNotFoundError as error:
        raise SettingError(f"{error}; install the driver that CONCH_BATCH_DATABASE names") from None
    except (NoSuchModuleError, InvalidRequestError, ArgumentError, TypeError, ValueError):
        raise SettingError(f"CONCH_BATCH_DATABASE names no asynchronous driver; {_FORM}") from None
    if not shared:
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # A commit is on disk when it returns, so what was acknowledged survives a power failure.
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def _owned(path: Path | None) -> Iterator[None]:
    """Lock a SQLite file for this process; the kernel releases the lock however the process ends."""
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"CONCH_BATCH_DATABASE: cannot use {path}: {error.strerror}; name a file that the gateway may write"
        raise SettingError(msg) from error
    try:
        _lock(lock, path)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = f"another gateway has {path} open; gateways that share files and batches need a database: {_FORM}"
        raise SettingError(msg) from error
