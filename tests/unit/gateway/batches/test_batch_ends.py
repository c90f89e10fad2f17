"""How batches end: by time, or because they were cancelled."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.batching import answers, created, embeddings_of, fetched, line, over
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.unit.gateway.conftest import Serve, StandIn


async def test_what_is_not_computed_in_time_expires(storing: Serve, client: StandIn, tmp_path: Path) -> None:
    client.gate = asyncio.Event()
    async with storing() as http:
        batch = await created(http, embeddings_of("abc"))
        await eventually(client.entered.is_set)
        with closing(sqlite3.connect(tmp_path / "state" / "batches.db", isolation_level=None, timeout=60)) as database:
            database.execute("UPDATE conch_batches SET expires_at = created_us / 1000000")
        batch = await over(http, batch)
        errors = await answers(http, batch["error_file_id"])

    assert (batch["status"], batch["request_counts"]) == ("expired", {"total": 3, "completed": 0, "failed": 3})
    assert batch["expired_at"] >= batch["expires_at"]
    assert [(each["response"], each["error"]["code"]) for each in errors] == [(None, "batch_expired")] * 3


async def test_a_batch_that_is_cancelled_keeps_the_answers_that_it_has(
    storing: Serve, every_kind: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(every_kind, "embed_tokens", lambda *_, **__: never.wait())
    lines = [*embeddings_of("ab"), line("slow", {"model": "letters", "input": "c", "vector_type": "late"})]
    async with storing() as http:
        batch = await created(http, lines)

        async def has_two() -> bool:
            return bool((await fetched(http, batch))["request_counts"]["completed"] == 2)

        await eventually(has_two)
        cancelling = (await http.post(f"/v1/batches/{batch['id']}/cancel")).json()
        batch = await over(http, batch)
        written, errors = [await answers(http, batch[f"{kind}_file_id"]) for kind in ("output", "error")]
        again = await http.post(f"/v1/batches/{batch['id']}/cancel")

    assert (cancelling["status"], batch["status"]) == ("cancelling", "cancelled")
    assert batch["cancelling_at"] <= batch["cancelled_at"]
    assert [each["custom_id"] for each in written] == ["0", "1"]
    assert [(each["custom_id"], each["error"]["code"]) for each in errors] == [("slow", "batch_cancelled")]
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_what_is_over_cannot_be_cancelled(storing: Serve) -> None:
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of("a")))
        refused = await http.post(f"/v1/batches/{batch['id']}/cancel")

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
