"""A model that several upstream servers have: who gets a call, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from conch_client.routing import load

from tests.unit.gateway.other_server import OtherServer
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve

NONSENSE: Any = (200, {"data": []}, {})


@pytest.fixture
async def others() -> AsyncIterator[list[OtherServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_listening()) for _ in range(2)]


@asynccontextmanager
async def _listening() -> AsyncIterator[OtherServer]:
    stand_in = OtherServer()
    server = await asyncio.start_server(stand_in.answer, "127.0.0.1", 0)
    stand_in.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield stand_in
    server.close()
    await stand_in.hang_up()


@pytest.fixture
async def http(others: list[OtherServer], http_with: Serve, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    urls = ", ".join(f'"{other.url}"' for other in others)
    (tmp_path / "models.toml").write_text(f'[far]\nurl = [{urls}]\nmodel = "theirs"\nretries = 0\ncalls = 2\n')
    async with http_with(models_file=tmp_path / "models.toml") as connection:
        yield connection


async def ask(http: httpx.AsyncClient, text: str = "one") -> int:
    return (await http.post("/v1/embeddings", json={"model": "far", "input": text})).status_code


async def states(http: httpx.AsyncClient) -> dict[str, str]:
    page = (await http.get("/metrics")).text
    return dict(re.findall(r'replica_state{backend="far",replica="([^"]+)",state="([\w-]+)"} 1\.0', page))


async def test_they_share_the_calls(http: httpx.AsyncClient, others: list[OtherServer]) -> None:
    assert set(await asyncio.gather(*(ask(http, str(number)) for number in range(20)))) == {200}
    assert all(other.requests for other in others)


async def test_together_they_get_as_many_calls_as_each_takes(
    http: httpx.AsyncClient, others: list[OtherServer]
) -> None:
    gates = [asyncio.Semaphore(0) for _ in others]
    for other, gate in zip(others, gates, strict=True):
        other.permits = gate
    asked = [asyncio.create_task(ask(http, str(number))) for number in range(10)]
    await eventually(lambda: sum(other.at_once for other in others) == 4)
    assert [other.at_once for other in others] == [2, 2]
    for gate in gates * 10:
        gate.release()
    assert set(await asyncio.gather(*asked)) == {200}


@pytest.mark.parametrize(
    "fault", ["reset", (500, {}, {}), (503, {}, {}), (429, {}, {}), (401, {}, {}), NONSENSE], ids=repr
)
async def test_what_one_cannot_do_another_does(http: httpx.AsyncClient, others: list[OtherServer], fault: Any) -> None:
    others[0].script = [fault] * 50
    for _ in range(10):
        assert await ask(http) == 200


async def test_one_that_fails_again_and_again_is_taken_out(http: httpx.AsyncClient, others: list[OtherServer]) -> None:
    others[0].script = [NONSENSE] * 100
    await asyncio.gather(*(ask(http, str(number)) for number in range(20)))
    assert (await states(http))[others[0].url] in {"out", "trial"}
    assert (await states(http))[others[1].url] == "serving"
    assert len(others[0].requests) < 20


async def test_a_request_that_is_wrong_is_asked_once(http: httpx.AsyncClient, others: list[OtherServer]) -> None:
    for other in others:
        other.script = [(400, {"error": {"message": "too long"}}, {})]
    assert await ask(http) == 400
    assert sum(len(other.requests) for other in others) == 1


async def test_where_all_fail_the_request_does(http: httpx.AsyncClient, others: list[OtherServer]) -> None:
    for other in others:
        other.script = ["reset"]
    assert await ask(http) == 502
    assert [len(other.requests) for other in others] == [1, 1]


async def test_one_that_takes_no_more_is_left_alone_for_as_long_as_it_says(
    http: httpx.AsyncClient, others: list[OtherServer]
) -> None:
    others[0].script = [(429, {}, {"retry-after": "100"})] * 100
    for number in range(20):
        assert await ask(http, str(number)) == 200
    assert len(others[0].requests) == 1
    assert (await states(http))[others[0].url] == "not-ready"


async def test_one_that_hangs_is_taken_out_although_callers_soon_give_up(
    http: httpx.AsyncClient, others: list[OtherServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FIRST_STALL_S", "_STALL_S"):
        monkeypatch.setattr(load, name, 0.3)
    monkeypatch.setattr(load, "_FIRST_TOKEN_S", 0.0)
    others[0].permits = asyncio.Semaphore(0)
    given_up = 0

    async def is_out() -> bool:
        nonlocal given_up
        body = {"model": "far", "input": "one"}
        answer = await http.post("/v1/embeddings", json=body, headers={"x-stainless-timeout": "0.1"})
        given_up += answer.status_code == 504
        return (await states(http))[others[0].url] in {"out", "trial"}

    await eventually(is_out)
    assert given_up >= 2  # none of them waited as long as a call may take


async def test_while_one_is_out_the_other_gets_no_more_calls_than_it_takes(
    http: httpx.AsyncClient, others: list[OtherServer]
) -> None:
    others[0].script = ["reset"] * 100
    await ask(http)
    assert await ask(http) == 200
    others[1].permits = asyncio.Semaphore(0)
    asked = [asyncio.create_task(ask(http, str(number))) for number in range(10)]
    await eventually(lambda: others[1].at_once == 2)
    for _ in asked:
        others[1].permits.release()
    await asyncio.gather(*asked)
    assert others[1].most_at_once == 2
