"""What is stored of batches, in SQLite and in a real PostgreSQL: each line is answered once, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway.batches.database import Database
from conch_gateway.batches.intake import Intake
from conch_gateway.batches.lines import LEASE_S, Answered, PutOff
from conch_gateway.batches.records import BatchOrder
from conch_gateway.batches.schema import lines, versions
from conch_gateway.errors import ConflictError, DatabaseError, NotStoredError, SettingError
from pydantic import SecretStr
from sqlalchemy import func, select, update

from tests.batching import answers, created, embeddings_of, fetched, jsonl, over
from tests.postgres_server import PASSWORD
from tests.unit.gateway.batches.state import LIMITS, MOST, State, answered
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres_server import PostgresServer
    from tests.unit.gateway.conftest import Serve, StandIn


async def test_a_line_is_claimed_by_one_and_answered_once_although_it_was_thought_dead(state: State) -> None:
    batch = await state.batch(4)
    slow = await state.one.claim(3, MOST)
    assert [line.number for line in await state.other.claim(4, MOST)] == [4]
    state.now += LEASE_S + 1
    taken = await state.other.claim(4, MOST)
    assert [line.custom_id for line in taken] == ["0", "1", "2", "3"]
    await state.other.settle(answered(taken[:2], "other"))
    await state.one.settle(answered(slow, "one"))  # it lived after all, too late
    await state.other.settle(answered(taken, "other"))
    await state.closing.step()
    batch = await state.ledger.get("me", batch.id)

    assert (batch.status, batch.completed, batch.failed, batch.tokens) == ("completed", 4, 0, 12)
    content = await state.content(batch.output_file_id)
    assert content.splitlines() == [f"{number} by other".encode() for number in range(4)]
    assert (await state.files.get("me", batch.output_file_id or "")).bytes == len(content)


async def test_a_claim_that_is_renewed_holds(state: State) -> None:
    await state.batch(2)
    claimed = await state.one.claim(2, MOST)
    for _ in range(3):
        state.now += LEASE_S - 1
        await state.one.renew(claimed[:1])
    assert [line.number for line in await state.other.claim(2, MOST)] == [2]


async def test_what_is_put_off_waits_for_its_time_and_is_anybodys_then(state: State) -> None:
    await state.batch(1)
    (line,) = await state.one.claim(1, MOST)
    await state.one.settle([PutOff(line, 5, tried=True)])
    assert await state.other.claim(1, MOST) == []
    state.now += 5
    (again,) = await state.other.claim(1, MOST)
    assert (again.content, again.tries) == (line.content, 1)


async def test_what_is_released_is_anybodys_at_once(state: State) -> None:
    await state.batch(2)
    await state.one.claim(2, MOST)
    await state.one.release()
    assert len(await state.other.claim(2, MOST)) == 2


async def test_batches_take_turns(state: State) -> None:
    long = await state.batch(6)
    state.now += 1
    short = await state.batch(2)
    turns: list[str] = []
    for _ in range(4):
        state.now += 1
        turns += [line.batch_id for line in await state.one.claim(2, MOST)]

    assert turns == [long.id, long.id, short.id, short.id, long.id, long.id, long.id, long.id]


async def test_a_batch_of_large_lines_takes_no_more_than_its_share(state: State) -> None:
    large = await state.batch(20, text="x" * 2000)
    state.now += 1
    await state.batch(300)
    most_bytes, claimed = 4500, Counter[bool]()
    for _ in range(20):
        lines = await state.one.claim(10, most_bytes)
        claimed[lines[0].batch_id == large.id] += sum(len(line.content or b"") for line in lines)

    assert claimed[True] > most_bytes
    assert abs(claimed[True] - claimed[False]) <= most_bytes


async def test_a_batch_that_comes_later_catches_up_with_no_more_than_one_claim(state: State) -> None:
    early = await state.batch(200)
    for _ in range(10):
        await state.one.claim(10, MOST)
    await state.batch(200)
    most_bytes, turns = 2500, 0
    while (lines := await state.one.claim(10, most_bytes))[0].batch_id != early.id:
        turns += sum(len(line.content or b"") for line in lines)

    assert 0 < turns <= 2 * most_bytes


async def test_lines_are_claimed_up_to_a_size_and_one_at_least(state: State) -> None:
    await state.batch(4)
    first = await state.one.claim(4, 1)
    size = len(first[0].content or b"")
    assert (len(first), len(await state.one.claim(4, 2 * size + 1))) == (1, 2)


async def test_large_lines_are_claimed_up_to_a_number_and_hold_up_no_others(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    await state.batch(12)  # the texts of the last two have two digits
    (first,) = await state.one.claim(1, MOST)
    monkeypatch.setattr("conch_gateway.batches.lines.LARGE_BYTES", len(first.content or b""))
    found = [[line.number for line in await state.one.claim(6, MOST, most_large=most)] for most in (1, 1, 0, 1)]

    assert found == [[2, 3, 4, 5, 6, 7], [8, 9, 10, 11], [], [12]]


async def test_answers_and_the_end_of_their_lines_are_one_thing(state: State) -> None:
    batch = await state.batch(2)
    claimed = await state.one.claim(2, MOST)
    broken = Answered(claimed[1], None, failed=False)  # type: ignore[arg-type]  # no database stores this
    with pytest.raises(DatabaseError):
        await state.one.settle([*answered(claimed[:1], "one"), broken])

    assert (await state.ledger.get("me", batch.id)).completed == 0
    await state.one.settle(answered(claimed, "one"))
    assert (await state.ledger.get("me", batch.id)).completed == 2


async def test_a_gateway_that_died_over_an_input_leaves_it_to_the_next(state: State) -> None:
    batch = await state.batch(0)  # its input is read anew below
    assert batch.status == "failed"
    upload = await state.files.upload("me")
    await upload.write(jsonl(embeddings_of("abc")).encode())
    file = await upload.complete("input.jsonl", None)
    batch = await state.ledger.create("me", BatchOrder("/v1/embeddings", file.id, "1h", 3600))
    dead = Intake(state.database, state.files, LIMITS, "dead", state.clock)
    row = await dead._claim()
    await dead._read(row)  # type: ignore[arg-type]
    await state.intake.step()
    assert (await state.ledger.get("me", batch.id)).status == "validating"
    state.now += LEASE_S + 1
    await state.intake.step()
    batch = await state.ledger.get("me", batch.id)

    assert (batch.status, batch.total) == ("in_progress", 3)
    assert len(await state.other.claim(10, MOST)) == 3


async def test_a_batch_that_is_cancelled_while_it_is_read_leaves_no_lines(state: State) -> None:
    await state.batch(0)
    upload = await state.files.upload("me")
    await upload.write(jsonl(embeddings_of("abc")).encode())
    file = await upload.complete("input.jsonl", None)
    batch = await state.ledger.create("me", BatchOrder("/v1/embeddings", file.id, "1h", 3600))
    row = await state.intake._claim()
    await state.ledger.cancel("me", batch.id)
    await state.closing.step()
    await state.intake._read(row)  # type: ignore[arg-type]
    batch = await state.ledger.get("me", batch.id)
    async with state.database.begin() as connection:
        left = (await connection.execute(select(func.count()).select_from(lines))).scalar()

    assert (batch.status, batch.total, batch.failed, left) == ("cancelled", 0, 0, 0)


@pytest.mark.parametrize("cancelled", [False, True], ids=["expired", "cancelled"])
async def test_what_is_being_computed_at_the_end_is_waited_for_and_the_rest_given_up(
    state: State, cancelled: bool
) -> None:
    batch = await state.batch(4)
    claimed = await state.one.claim(2, MOST)
    if cancelled:
        await state.ledger.cancel("me", batch.id)
    else:
        state.now += 3600
        await state.one.renew(claimed)
    await state.closing.step()
    assert await state.one.over([batch.id]) == {batch.id}
    assert (await state.ledger.get("me", batch.id)).status in {"in_progress", "cancelling"}
    assert await state.other.claim(4, MOST) == []
    await state.one.settle([*answered(claimed[:1], "one"), PutOff(claimed[1], 0)])
    await state.closing.step()
    batch = await state.ledger.get("me", batch.id)

    assert batch.status == ("cancelled" if cancelled else "expired")
    assert (batch.completed, batch.failed) == (1, 3)
    assert await state.content(batch.output_file_id) == b"0 by one\n"
    code = b"batch_cancelled" if cancelled else b"batch_expired"
    assert (await state.content(batch.error_file_id)).count(code) == 3


async def test_what_has_expired_is_deleted_and_what_a_batch_reads_is_not(state: State) -> None:
    batch = await state.batch(2, window_s=5000)
    begun = await state.files.upload("me")
    with pytest.raises(ConflictError, match=batch.id):
        await state.files.delete("me", batch.input_file_id)
    state.now += LIMITS.retention_s
    await state.files.sweep()
    claimed = await state.one.claim(2, MOST)
    await state.one.settle(answered(claimed, "one"))
    await state.closing.step()
    batch = await state.ledger.get("me", batch.id)
    assert await state.content(batch.output_file_id)
    state.now += 50_000
    while await state.files.sweep():
        pass
    await state.closing.sweep()

    with pytest.raises(NotStoredError):
        await state.files.get("me", batch.output_file_id or "")
    with pytest.raises(NotStoredError):
        await state.ledger.get("me", batch.id)
    with pytest.raises(NotStoredError, match="too long"):
        await begun.complete("late.jsonl", None)


async def test_tables_of_another_version_are_refused(state: State) -> None:
    async with state.database.begin() as connection:
        await connection.execute(update(versions).values(version=7))
    state.database._prepared = False  # as at the next start
    with pytest.raises(SettingError, match="version 7"):
        await state.database.prepare()


async def test_tables_of_another_version_are_not_used_either_when_the_database_comes_later(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    with new_postgres() as server:
        url = SecretStr(server.new_database())
        earlier, late = State(Database(url)), State(Database(url))
        async with earlier.database.opened(), earlier.database.begin() as connection:
            await connection.execute(update(versions).values(version=7))
        server.stop()
        async with late.database.opened():
            server.start()
            with pytest.raises(DatabaseError, match="not been checked"):
                await late.files.upload("me")
            with pytest.raises(SettingError, match="version 7"):
                await late.database.prepare()
            with pytest.raises(DatabaseError, match="not been checked"):
                await late.files.upload("me")


async def test_two_gateways_with_one_database_share_the_lines(
    http_with: Serve, postgres: PostgresServer, quick: None, client: StandIn
) -> None:
    url = postgres.new_database()
    async with http_with(batch_database=url) as one, http_with(batch_database=url) as other:
        batch = await created(one, embeddings_of(f"text {number}" for number in range(400)))
        batch = await over(other, batch)
        written = await answers(other, batch["output_file_id"])
        shares = [share_of(await http.get("/metrics")) for http in (one, other)]

    assert batch["request_counts"] == {"total": 400, "completed": 400, "failed": 0}
    assert [each["custom_id"] for each in written] == [str(number) for number in range(400)]
    assert sum(shares) == 400
    assert min(shares) > 0


def share_of(exposition: Any) -> float:
    (found,) = [row for row in exposition.text.splitlines() if 'results_total{result="completed"}' in row]
    return float(found.split()[-1])


async def test_a_gateway_that_is_stopped_leaves_its_lines_to_the_other_at_once(
    http_with: Serve, postgres: PostgresServer, quick: None, client: StandIn
) -> None:
    url, client.gate = postgres.new_database(), asyncio.Event()
    async with http_with(batch_database=url) as one:
        batch = await created(one, embeddings_of("abc"))
        await eventually(client.entered.is_set)
    client.gate = None
    async with http_with(batch_database=url) as other:
        batch = await over(other, batch)

    assert batch["request_counts"]["completed"] == 3


async def test_while_the_database_is_away_requests_are_answered_and_batches_go_on_later(
    http_with: Serve,
    new_postgres: Callable[[], PostgresServer],
    quick: None,
    client: StandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with new_postgres() as server:
        async with http_with(batch_database=server.new_database()) as http:
            client.gate = asyncio.Event()
            batch = await created(http, embeddings_of("abc"))
            await eventually(client.entered.is_set)
            server.stop()
            client.gate.set()
            away = await http.get("/v1/batches")
            asked = await http.post("/v1/embeddings", json={"model": "letters", "input": "a"})
            server.start()
            batch = await over(http, batch) if await back(http, batch) else batch

    assert (away.status_code, away.json()["error"]["code"]) == (503, "storage_unavailable")
    assert asked.status_code == 200
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert PASSWORD not in caplog.text


async def test_a_database_that_is_away_at_the_start_is_used_when_it_comes(
    http_with: Serve, new_postgres: Callable[[], PostgresServer], quick: None
) -> None:
    with new_postgres() as server:
        url = server.new_database()
        server.stop()
        async with http_with(batch_database=url) as http:
            asked = await http.post("/v1/embeddings", json={"model": "letters", "input": "a"})
            away = await http.get("/v1/files")
            server.start()

            async def there() -> bool:
                return bool((await http.get("/v1/files")).status_code == 200)

            await eventually(there)
            batch = await over(http, await created(http, embeddings_of("a")))

    assert (asked.status_code, away.status_code, batch["status"]) == (200, 503, "completed")


async def back(http: Any, batch: Any) -> bool:
    async def answers_again() -> bool:
        return bool((await http.get(f"/v1/batches/{batch['id']}")).status_code == 200)

    await eventually(answers_again)
    return bool(await fetched(http, batch))
