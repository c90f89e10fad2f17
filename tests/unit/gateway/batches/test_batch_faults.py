"""Whatever fails, whenever: no line is lost or answered twice, and what is asked meanwhile says so."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import pytest
from conch_gateway.batches import database
from conch_gateway.batches.database import Database
from conch_gateway.batches.intake import Intake
from conch_gateway.batches.lines import LEASE_S, Lines, PutOff
from conch_gateway.errors import DatabaseError
from pydantic import SecretStr
from sqlalchemy import text

from tests.batching import created, embeddings_of, over
from tests.unit.gateway.batches.state import LIMITS, MOST, State, answered
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.postgres_server import PostgresServer
    from tests.unit.gateway.conftest import Serve, StandIn

LINES = 3


class Failing(Database):
    """Fails once, at its n-th transaction from now: before it is committed, or after."""

    def __init__(self, setting: SecretStr, *, committed: bool) -> None:
        super().__init__(setting)
        self.fails_in = 0
        self._committed = committed

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        self.fails_in -= 1
        fails = self.fails_in == 0
        async with super().begin() as connection:
            yield connection
            if fails and not self._committed:
                raise DatabaseError("the connection was lost, and the transaction with it")
        if fails:
            raise DatabaseError("the connection was lost, and nobody knows whether the transaction was committed")


async def work(state: State, gateway: str) -> None:
    """Do what a gateway does for batches, once."""
    intake = Intake(state.database, state.files, LIMITS, gateway, state.clock)
    mine = Lines(state.database, gateway, state.clock)
    await intake.step()
    claimed = await mine.claim(2, MOST)
    await mine.renew(claimed)
    await mine.settle([*answered(claimed[:1], gateway), *(PutOff(line) for line in claimed[1:])])
    await state.closing.step()


@pytest.mark.parametrize("committed", [False, True], ids=["lost", "committed unnoticed"])
async def test_whichever_transaction_fails_and_ends_its_gateway_every_line_is_answered_once(
    tmp_path: Path, *, committed: bool
) -> None:
    faulty = Failing(SecretStr(str(tmp_path / "batches.db")), committed=committed)
    state, at, failed = State(faulty), 0, True
    async with faulty.opened():
        while failed:
            at += 1
            batch = await state.created(LINES)
            faulty.fails_in = at
            for number in range(LINES + 2):  # of which two would do nothing, had none failed
                with suppress(DatabaseError):
                    await work(state, f"gateway {number}")
                state.now += LEASE_S + 1
            failed, faulty.fails_in = faulty.fails_in <= 0, 0
            batch = await state.ledger.get("me", batch.id)
            content = await state.content(batch.output_file_id)

            assert (batch.status, batch.completed, batch.failed, batch.tokens) == ("completed", LINES, 0, 3 * LINES), at
            assert [each.split()[0] for each in content.splitlines()] == [b"%d" % number for number in range(LINES)], at
    assert at > 4 * LINES


CONNECTION_ERRORS = [
    asyncpg.CannotConnectNowError("the database system is starting up"),
    asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    asyncpg.InvalidPasswordError("password authentication failed"),
    asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
    asyncpg.InternalClientError("got result for unknown protocol state"),
    asyncio.TimeoutError(),
    ConnectionRefusedError(111, "Connect call failed"),
    ConnectionResetError(),
    RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),  # uvloop's
]


@pytest.mark.parametrize("error", CONNECTION_ERRORS, ids=repr)
async def test_whatever_a_driver_raises_is_an_error_of_the_database(
    http_with: Serve, quick: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asyncpg, "connect", fails)
    async with http_with(batch_database="postgresql+asyncpg://me@localhost/nothing") as http:
        refused = await http.get("/v1/batches")
        asked = await http.post("/v1/embeddings", json={"model": "letters", "input": "a"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
    assert "retry later" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "2"
    assert asked.status_code == 200


async def test_a_mistake_within_a_transaction_is_not_put_down_to_the_database(state: State) -> None:
    with pytest.raises(KeyError):
        async with state.database.begin():
            raise KeyError("nobody foresaw this")


async def test_a_connection_that_is_ended_costs_one_transaction(postgres: PostgresServer) -> None:
    state = State(Database(SecretStr(postgres.new_database())))
    end_all = text("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()")
    async with state.database.opened():
        batch = await state.batch(LINES)
        claimed = await state.one.claim(LINES, MOST)
        with pytest.raises(DatabaseError):
            async with state.database.begin() as connection:
                await connection.execute(end_all)
        await state.one.settle(answered(claimed, "one"))
        await state.closing.step()

        assert (await state.ledger.get("me", batch.id)).completed == LINES


async def test_a_database_that_hangs_is_away_and_batches_go_on_when_it_answers_again(
    http_with: Serve, quick: None, client: StandIn, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http_with(batch_database=postgres.new_database()) as http:
        client.gate = asyncio.Event()
        batch = await created(http, embeddings_of("abc"))
        await eventually(client.entered.is_set)
        with postgres.hanging(), monkeypatch.context() as patch:
            patch.setattr(database, "_PATIENCE_S", 0.5)
            client.gate.set()
            refused = await http.get("/v1/batches")
            asked = await http.post("/v1/embeddings", json={"model": "letters", "input": "a"})
        batch = await over(http, batch)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
    assert asked.status_code == 200
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}


async def test_on_a_full_disk_nothing_is_lost_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    state = State(Database(SecretStr(str(tmp_path / "batches.db"))))
    async with state.database.opened():
        batch = await state.batch(LINES)
        claimed = await state.one.claim(LINES, MOST)
        async with state.database.begin() as connection:
            used = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
            await connection.execute(text(f"PRAGMA max_page_count={used}"))
        full = answered(claimed, "x" * 100_000)
        upload = await state.files.upload("me")
        for refused in (state.one.settle(full), state.files.write("me", upload._id, 0, bytes(300_000))):
            with pytest.raises(DatabaseError, match="full"):
                await refused
        async with state.database.begin() as connection:
            await connection.execute(text("PRAGMA max_page_count=1000000"))
        await state.one.settle(full)
        await state.closing.step()

        assert (await state.ledger.get("me", batch.id)).completed == LINES


@pytest.mark.parametrize("natively", [False, True], ids=["caller", "server"])
async def test_whoever_goes_at_any_moment_leaves_the_database_to_the_others(state: State, *, natively: bool) -> None:
    for turns in range(60):
        scope = anyio.CancelScope()

        async def ask(scope: anyio.CancelScope = scope) -> None:
            with scope:
                await state.created(1)

        asking = asyncio.create_task(ask())
        for _ in range(turns):
            await asyncio.sleep(0)
        if natively:
            asking.cancel()
        else:
            scope.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        with anyio.fail_after(20):
            await state.ledger.listed("me", limit=1, after=None)


async def test_an_earlier_gateways_leftovers_that_cannot_be_tidied_up_do_not_end_the_start(
    storing: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise DatabaseError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "release", fails)
        async with storing() as http:
            assert (await http.get("/v1/batches")).status_code == 200

    assert "the disk is full" in caplog.text
