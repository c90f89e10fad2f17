"""A model that hangs takes neither slots nor room from requests for other models."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.unit.gateway.conftest import model_info
from tests.waiting import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn


@pytest.fixture
def let_go(client: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Event]:
    """The models `hanging` and `ranking` compute nothing until this is set; others answer."""
    monkeypatch.setattr("conch_gateway.scheduling.slots._SILENT_S", 0.1)
    client.served += [model_info("hanging", "embedding"), model_info("ranking", "late-interaction")]
    embed, rerank, may_go = client.embed, client.rerank, asyncio.Event()

    async def hang(model: str) -> None:
        if model in {"hanging", "ranking"}:
            await may_go.wait()

    async def embed_slowly(texts: Any, **options: Any) -> Any:
        await hang(options["model"].name)
        return await embed(texts, **options)

    async def rerank_slowly(*texts: Any, **options: Any) -> Any:
        await hang(options["model"].name)
        return await rerank(*texts, **options)

    monkeypatch.setattr(client, "embed", embed_slowly)
    monkeypatch.setattr(client, "rerank", rerank_slowly)
    yield may_go
    may_go.set()


async def embedded(http: httpx.AsyncClient, model: str, *, texts: int = 1) -> int:
    inputs = [chr(ord("a") + number) for number in range(texts)]
    return (await http.post("/v1/embeddings", json={"model": model, "input": inputs})).status_code


async def ranked(http: httpx.AsyncClient, model: str, *, texts: int = 1) -> int:
    body = {"model": model, "query": "a", "documents": ["a"] * texts}
    return (await http.post("/v2/rerank", json=body)).status_code


async def calls(http: httpx.AsyncClient) -> int:
    lines = (await http.get("/metrics")).text.splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("conch_gateway_triton_calls "))


@pytest.mark.parametrize("texts", [1, 12], ids=["texts", "long lists"])
@pytest.mark.parametrize(("ask", "model"), [(embedded, "hanging"), (ranked, "ranking")], ids=["embedding", "ranking"])
async def test_requests_for_other_models_do_not_wait_for_one_that_hangs(
    http_with: Serve, let_go: asyncio.Event, ask: Any, model: str, texts: int
) -> None:
    async with http_with(triton_calls=2) as http, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(lambda: ask(http, model, texts=texts))

        async def slots_are_taken() -> bool:
            return await calls(http) >= 2

        await eventually(slots_are_taken)
        try:
            with anyio.fail_after(PATIENCE_S):
                answered = [
                    await embedded(http, "letters"),
                    await embedded(http, "letters", texts=20),
                    await ranked(http, "overlap", texts=20),
                ]
        finally:
            let_go.set()

    assert answered == [200, 200, 200]


@pytest.mark.parametrize(
    "limits",
    [{"max_in_flight_requests": 8}, {"max_in_flight_texts": 8}, {"max_in_flight_tokens": 24}],
    ids=["requests", "texts", "tokens"],
)
async def test_half_of_the_room_is_left_to_requests_for_other_models(
    http_with: Serve, let_go: asyncio.Event, limits: dict[str, Any]
) -> None:
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append(await embedded(http, "hanging"))

    async with http_with(triton_calls=2, max_inputs=8, **limits) as http, anyio.create_task_group() as group:
        group.start_soon(ask)

        async def is_under_way() -> bool:
            return await calls(http) > 0

        await eventually(is_under_way)
        await anyio.sleep(0.2)  # until the model counts as one that hangs
        for _ in range(8):
            group.start_soon(ask)
        try:
            await eventually(lambda: len(statuses) >= 5)
            answered = await embedded(http, "letters")
        finally:
            let_go.set()

    assert answered == 200
    assert sorted(statuses) == [200] * 4 + [429] * 5
