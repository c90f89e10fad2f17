"""Batches and API keys: whose they are, what they may compute, and how much."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from conch_client import OverloadedError
from conch_gateway.auth import keyring
from conch_gateway.auth.keys import Key, create_key, revoke_key
from conch_gateway.auth.quota import Quotas
from conch_gateway.batches import attempts
from conch_gateway.batches.lines import Line, Lines

from tests.batching import answers, created, embeddings_of, fetched, line, over
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest
    from conch_gateway.auth.quota import Charge, Refusal

    from tests.unit.gateway.conftest import Serve, StandIn


async def test_another_keys_files_and_batches_are_not_there(storing: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice, bob = [{"authorization": f"Bearer {create_key(keys, name)}"} for name in ("alice", "bob")]
    async with storing(api_keys_file=keys) as http:
        http.headers.update(alice)
        batch = await over(http, await created(http, embeddings_of("a")))
        http.headers.update(bob)
        paths = [f"/v1/batches/{batch['id']}", f"/v1/files/{batch['output_file_id']}"]
        seen = [await http.get(path) for path in (*paths, f"{paths[1]}/content")]
        seen += [await http.delete(paths[1]), await http.post(f"{paths[0]}/cancel")]
        lists = [(await http.get(path)).json()["data"] for path in ("/v1/files", "/v1/batches")]
        body = {"input_file_id": batch["input_file_id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        refused = await http.post("/v1/batches", json=body)
        http.headers.update(alice)
        assert [(await http.get(path)).status_code for path in paths] == [200, 200]

    assert [(each.status_code, each.json()["error"]["code"]) for each in seen] == [(404, "not_found")] * 5
    assert lists == [[], []]
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input_file_id")


async def test_a_line_gets_the_models_of_its_key_until_that_is_revoked(
    storing: Serve, client: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_LOOK_AGAIN_S", 0.0)
    keys = tmp_path / "keys.json"
    alice = create_key(keys, "alice", models=["letters"])
    root = create_key(keys, "root")
    lines = [*embeddings_of("a"), line("b", {"model": "overlap", "input": "b"})]
    async with storing(api_keys_file=keys) as http:
        http.headers.update({"authorization": f"Bearer {alice}"})
        batch = await over(http, await created(http, lines))
        (closed,) = await answers(http, batch["error_file_id"])
        client.busy = OverloadedError("full")
        unfinished = await created(http, embeddings_of("a"))
        revoke_key(keys, "alice")
        client.busy = None
        http.headers.update({"authorization": f"Bearer {root}"})

        async def failed() -> bool:
            return 'results_total{result="failed"} 2.0' in (await http.get("/metrics")).text

        await eventually(failed)
        create_key(keys, "alice")
        assert unfinished["status"] == "validating"

    assert (batch["request_counts"]["completed"], closed["custom_id"]) == (1, "b")
    assert closed["response"]["body"]["error"]["code"] == "model_not_found"


async def test_the_tokens_of_lines_count_and_half_of_them_is_left_to_requests(storing: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice = create_key(keys, "alice", tokens_per_minute=400)
    async with storing(api_keys_file=keys) as http:
        http.headers.update({"authorization": f"Bearer {alice}"})
        batch = await created(http, embeddings_of(["abcdefgh"] * 200))  # of ten tokens each

        async def some_are_put_off() -> bool:
            return 'results_total{result="put off"} 0.0' not in (await http.get("/metrics")).text

        await eventually(some_are_put_off)
        asked = await http.post("/v1/embeddings", json={"model": "letters", "input": "abc"})
        counts = (await fetched(http, batch))["request_counts"]

    assert asked.status_code == 200
    assert counts["failed"] == 0
    assert 0 < counts["completed"] < 40


async def test_a_large_line_takes_no_more_of_a_keys_tokens_than_it_computes(
    storing: Serve, client: StandIn, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    alice = create_key(keys, "alice", tokens_per_minute=400)
    client.gate = asyncio.Event()
    async with storing(api_keys_file=keys) as http:
        http.headers.update({"authorization": f"Bearer {alice}"})
        batch = await created(http, [line("large", {"model": "letters", "input": "a" * 100_000})])
        await eventually(client.entered.is_set)
        asked = asyncio.create_task(http.post("/v1/embeddings", json={"model": "letters", "input": "abc"}))
        await eventually(lambda: asked.done() or len(client.calls) > 2)
        client.gate.set()
        assert (await asked).status_code == 200
        assert (await over(http, batch))["usage"]["total_tokens"] == 16


class Others:
    """Stands in for buckets that gateways share; notes the tokens that are taken."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    async def take(self, charges: Sequence[Charge]) -> Refusal | None:  # noqa: ARG002
        return None

    def spend(self, charges: Sequence[Charge]) -> None:
        self.taken += [charge.amount for charge in charges]


def test_what_lines_may_take_is_counted_here_only_and_given_back() -> None:
    others, now = Others(), [0.0]
    quotas, key = Quotas(others, lambda: now[0]), Key(name="alice", sha256="0" * 64, tokens_per_minute=60)
    with quotas.expecting(key, 1_000_000):
        assert quotas.spare_in_s(key) == 0  # half is left to requests
        with quotas.expecting(key, 1):
            assert quotas.spare_in_s(key) == 1
        now[0] += 10
    quotas.spend(key, 5)
    assert (others.taken, quotas.spare_in_s(key)) == ([5], 0)
    quotas.spend(key, 30)
    assert quotas.spare_in_s(key) == 5


async def test_a_key_without_tokens_to_spare_is_waited_for_and_others_go_on(
    storing: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, claims, claim = tmp_path / "keys.json", list[set[str]](), Lines.claim

    async def noted(self: Lines, *arguments: Any, **options: Any) -> list[Line]:
        claimed = await claim(self, *arguments, **options)
        claims.append({line.owner for line in claimed})
        return claimed

    monkeypatch.setattr(Lines, "claim", noted)
    monkeypatch.setattr(attempts, "_SHORTEST_REST_S", 1000.0)
    monkeypatch.setattr(attempts, "_LONGEST_PAUSE_S", 1000.0)
    alice, bob = create_key(keys, "alice", tokens_per_minute=40), create_key(keys, "bob")
    async with storing(api_keys_file=keys) as http:
        http.headers.update({"authorization": f"Bearer {alice}"})
        waiting = await created(http, embeddings_of(["abcdefgh"] * 200))
        await eventually(lambda: {"alice"} in claims and not claims[-1])  # what was claimed in vain has been let go
        seen = len(claims)
        await eventually(lambda: len(claims) > seen + 10)
        http.headers.update({"authorization": f"Bearer {bob}"})
        batch = await over(http, await created(http, embeddings_of("abc")))
        http.headers.update({"authorization": f"Bearer {alice}"})
        counts = (await fetched(http, waiting))["request_counts"]

    assert batch["request_counts"]["completed"] == 3
    assert (counts["failed"], counts["completed"] < 10) == (0, True)
    assert {"alice"} not in claims[seen:]


async def test_a_key_may_have_so_many_batches_that_are_not_over(storing: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with storing(batch_key_batches=1) as http:
        batch = await created(http, embeddings_of("a"))
        body = {"input_file_id": batch["input_file_id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        refused = await http.post("/v1/batches", json=body)
        client.gate.set()
        await over(http, batch)
        allowed = await http.post("/v1/batches", json=body)

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "storage_quota_exceeded")
    assert allowed.status_code == 200
