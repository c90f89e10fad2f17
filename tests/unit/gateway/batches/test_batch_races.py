"""Gateways, clocks, sweepers and callers that get in each other's way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from conch_gateway.batches import intake
from conch_gateway.batches.database import Database
from conch_gateway.batches.files import Files, lock_files
from conch_gateway.batches.intake import Intake, numbered
from conch_gateway.batches.ledger import Ledger
from conch_gateway.batches.lines import LEASE_S, PutOff
from conch_gateway.batches.pace import Resting, Rests
from conch_gateway.batches.records import BatchOrder
from conch_gateway.batches.schema import CHUNK_BYTES, batches, chunks, files, lines
from conch_gateway.errors import NotStoredError
from pydantic import SecretStr
from sqlalchemy import delete, func, select, text, update

from tests.unit.gateway.batches.state import LIMITS, MOST, State, answered
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conch_gateway.batches.records import File

    from tests.postgres_server import PostgresServer


async def test_a_clock_that_is_set_back_holds_up_nothing(state: State) -> None:
    await state.batch(3)
    claimed = await state.one.claim(2, MOST)
    await state.one.settle([PutOff(claimed[0], 30, tried=True)])
    state.now -= 7200  # and the gateway has died
    assert [line.number for line in await state.other.claim(3, MOST)] == [1, 2, 3]


async def test_batches_take_turns_whatever_the_clock_does(state: State) -> None:
    first = await state.batch(4)
    state.now += 1
    second = await state.batch(4)
    turns = []
    for _ in range(4):
        state.now -= 3600
        turns += [line.batch_id for line in await state.one.claim(1, MOST)]
    assert turns == [first.id, second.id] * 2


async def test_an_owner_who_has_to_wait_holds_up_nobody(state: State) -> None:
    await state.batch(2)
    other = await state.batch(2, owner="other")
    resting = Resting(owners=frozenset({"me"}))
    assert {line.batch_id for line in await state.one.claim(4, MOST, without=resting)} == {other.id}


async def test_a_batch_that_has_to_wait_holds_up_no_other(state: State) -> None:
    waiting, other = await state.batch(2), await state.batch(2)
    resting = Resting(batches=frozenset({waiting.id}))
    assert {line.batch_id for line in await state.one.claim(4, MOST, without=resting)} == {other.id}


def test_a_batch_whose_server_is_away_rests_longer_each_time_until_a_line_is_answered() -> None:
    now = [0.0]
    rests = Rests(lambda: now[0])

    def failed(at: float) -> bool:
        now[0] = at
        rests.failed("a", 2, 60)
        return "a" in rests.now().batches

    # Once may be an accident. Lines that were computed beside one that failed make the rest no longer.
    assert [failed(at) for at in (0, 1, 1, 2)] == [False, True, True, True]
    assert [failed(4), rests.now().owners] == [True, frozenset()]
    assert [at for at in (7.9, 8.1) if now.__setitem__(0, at) or rests.now().batches] == [7.9]
    rests.answered("a")
    assert not failed(9)


async def test_a_line_at_which_a_server_failed_is_claimed_alone(state: State) -> None:
    await state.batch(5)
    claimed = await state.one.claim(5, MOST)
    failed, others = PutOff(claimed[2], 0, tried=True, crashed=True), [*claimed[:2], *claimed[3:]]
    await state.one.settle([failed, *map(PutOff, others)])
    found = [[(line.number, line.crashes) for line in await state.other.claim(5, MOST)] for _ in range(4)]

    assert found == [[(1, 0), (2, 0)], [(3, 1)], [(4, 0), (5, 0)], []]


async def test_storing_and_renewing_the_same_lines_at_once_do_not_deadlock(postgres: PostgresServer) -> None:
    state = State(Database(SecretStr(postgres.new_database())))
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    async def waits(expected: int) -> None:
        async def as_many() -> bool:
            async with state.database.begin() as connection:
                return bool((await connection.execute(waiting)).scalar() == expected)

        await eventually(as_many)

    async with state.database.opened():
        await state.batch(2)
        first, second = await state.one.claim(2, MOST)
        async with state.database.begin() as connection:
            await connection.execute(select(lines).where(lines.c.number == second.number).with_for_update())
            storing = asyncio.create_task(state.one.settle([PutOff(second), PutOff(first)]))
            await waits(1)
            renewing = asyncio.create_task(state.one.renew([first, second]))
            await waits(2)
        await asyncio.gather(storing, renewing)  # one would fail if each had locked what the other waits for

        assert len(await state.other.claim(2, MOST)) == 2


class Slow(Files):
    """Files whose content comes only when it is let go."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, LIMITS)
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def content(self, file: File) -> AsyncIterator[bytes]:
        self.asked.set()
        await self.let_go.wait()
        async for piece in super().content(file):
            yield piece


async def test_an_input_that_takes_long_to_read_is_read_by_one_gateway(state: State) -> None:
    batch, slow = await state.created(3), Slow(state.database)
    reading = Intake(state.database, slow, LIMITS, "slow", state.clock)
    step = asyncio.create_task(reading.step())
    await slow.asked.wait()
    for _ in range(3):
        state.now += LEASE_S - 1
        await reading.hold()
        await state.intake.step()
        assert (await state.ledger.get("me", batch.id)).status == "validating"
    slow.let_go.set()
    await step

    assert (await state.ledger.get("me", batch.id)).total == 3


class Losing(Slow):
    """Files whose content turns out to be gone when it is let go."""

    async def content(self, file: File) -> AsyncIterator[bytes]:
        self.asked.set()
        await self.let_go.wait()
        yield b""
        raise NotStoredError(f"{file.id} is gone")


async def test_a_gateway_that_fails_over_an_input_late_leaves_the_lines_to_the_one_that_took_it_over(
    state: State,
) -> None:
    batch, losing = await state.created(3), Losing(state.database)
    late = asyncio.create_task(Intake(state.database, losing, LIMITS, "late", state.clock).step())
    await losing.asked.wait()
    state.now += LEASE_S + 1
    await state.intake.step()
    losing.let_go.set()
    await late

    assert (await state.ledger.get("me", batch.id)).status == "in_progress"
    assert [line.number for line in await state.one.claim(4, MOST)] == [1, 2, 3]


class Halting(Slow):
    """Files whose content comes up to its first line, and the rest only when it is let go."""

    async def content(self, file: File) -> AsyncIterator[bytes]:
        whole = b"".join([piece async for piece in Files.content(self, file)])
        first = whole.index(b"\n") + 1
        yield whole[:first]
        self.asked.set()
        await self.let_go.wait()
        yield whole[first:]


async def test_a_batch_that_expires_while_it_is_read_loses_no_line_without_an_answer(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_LINES_AT_ONCE", 1)
    batch, halting = await state.created(3, window_s=10), Halting(state.database)
    reading = asyncio.create_task(Intake(state.database, halting, LIMITS, "slow", state.clock).step())
    await halting.asked.wait()
    state.now += 11
    end = state.closing._end

    async def read_before_it_ends(batch_id: str) -> None:
        halting.let_go.set()
        await reading
        await end(batch_id)

    monkeypatch.setattr(state.closing, "_end", read_before_it_ends)
    await state.closing.step()
    await state.closing.step()
    batch = await state.ledger.get("me", batch.id)

    assert (batch.status, batch.total) == ("expired", batch.completed + batch.failed)


async def test_an_input_that_is_gone_fails_its_batch(state: State) -> None:
    whole, cut = await state.created(1), await state.created(1)
    async with state.database.begin() as connection:
        await connection.execute(delete(files).where(files.c.id == whole.input_file_id))
        await connection.execute(delete(chunks).where(chunks.c.file_id == cut.input_file_id))
    await state.intake.step()
    found = [await state.ledger.get("me", batch.id) for batch in (whole, cut)]

    assert [(batch.status, batch.errors[0].code) for batch in found] == [("failed", "input_file_deleted")] * 2


async def test_lines_whose_input_is_gone_are_claimed_without_it_and_hold_up_no_others(state: State) -> None:
    broken = await state.batch(2)
    state.now += 1
    whole = await state.batch(2)
    async with state.database.begin() as connection:
        await connection.execute(delete(chunks).where(chunks.c.file_id == broken.input_file_id))
    claimed = [*await state.one.claim(4, MOST), *await state.one.claim(4, MOST)]

    assert [(line.batch_id, line.content is None) for line in claimed] == [(broken.id, True)] * 2 + [
        (whole.id, False)
    ] * 2


async def test_a_file_that_has_expired_for_the_sweeper_alone_is_not_deleted_under_a_new_batch(
    postgres: PostgresServer,
) -> None:
    state = State(Database(SecretStr(postgres.new_database())))
    async with state.database.opened():
        file_id = (await state.created(1)).input_file_id
        await state.ledger.cancel("me", (await state.ledger.listed("me", limit=1, after=None)).items[0].id)
        await state.closing.step()
        late = Files(state.database, LIMITS, lambda: state.now + 2 * LIMITS.retention_s)
        async with state.database.begin() as connection:
            await lock_files(connection, "me")  # as the creation of a batch does
            assert not await late.sweep()
        ledger = Ledger(state.database, LIMITS, state.clock)
        await ledger.create("me", BatchOrder("/v1/embeddings", file_id, "1h", 3600))
        assert not await late.sweep()
        await state.files.get("me", file_id)


@pytest.mark.parametrize("default", ["repeatable read", "serializable"])
async def test_what_another_gateway_commits_is_seen_whatever_the_servers_default_isolation(
    postgres: PostgresServer, default: str
) -> None:
    setting = SecretStr(postgres.new_database())
    name = setting.get_secret_value().rpartition("/")[2]
    database = Database(setting)
    async with database.opened(), database.begin() as connection:
        await connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation TO '{default}'"))
    state = State(Database(setting))
    async with state.database.opened():
        batch = await state.batch(2)
        claimed = await state.one.claim(1, MOST), await state.other.claim(1, MOST)
        async with state.database.begin() as connection:
            await connection.execute(select(func.count()).select_from(files))
            await state.one.settle(answered(claimed[0], "one"))
            await connection.execute(update(batches).values(turn=batches.c.turn + 1))
        await state.other.settle(answered(claimed[1], "other"))
        await state.closing.step()
        assert (await state.ledger.get("me", batch.id)).status == "completed"


async def test_an_upload_that_was_given_up_leaves_no_pieces(state: State) -> None:
    upload = await state.files.upload("me")
    await state.files.drop_unfinished()
    with pytest.raises(NotStoredError, match="too long"):
        await upload.write(bytes(CHUNK_BYTES))
    async with state.database.begin() as connection:
        assert (await connection.execute(select(func.count()).select_from(chunks))).scalar() == 0


async def test_one_gateway_that_is_stopped_over_a_late_answer_does_not_store_it_twice(state: State) -> None:
    batch = await state.batch(2)
    claimed = await state.one.claim(2, MOST)
    outcomes = answered(claimed, "one")
    await asyncio.gather(*(state.one.settle(outcomes) for _ in range(4)))
    await state.closing.step()
    batch = await state.ledger.get("me", batch.id)

    assert (batch.status, batch.completed, batch.tokens) == ("completed", 2, 6)


async def test_a_file_of_empty_lines_lets_others_have_the_loop() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"\n" * CHUNK_BYTES

    waiting = asyncio.create_task(others())
    assert [number async for number, _, _ in numbered(pieces(), 10)] == []
    waiting.cancel()

    assert turns > 20
