"""`conch serve` announces itself once a request has gone through the gateway and a model, whatever else there is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conch import serve
from conch_client import OverloadedError, UnavailableError
from conch_gateway import Gateway, GatewaySettings

from tests.unit.gateway.conftest import StandIn, model_info
from tests.waiting import eventually


async def announced(client: StandIn) -> list[str]:
    async with Gateway(GatewaySettings(port=0), client=client) as gateway:
        return [model["id"] for model in await serve._models_that_answer(gateway.url, gateway.headers)]


@pytest.mark.parametrize(
    ("task", "facts"),
    [
        ("embedding", {}),
        ("late-chunking", {"dimension": 8}),
        ("multi-vector", {"dimension": 2}),
        ("sparse", {}),
        ("cross-encoder", {}),
        ("late-interaction", {}),
        ("classification", {"labels": ("long", "short")}),
    ],
)
async def test_a_model_of_any_task_is_asked_what_it_can_answer(task: str, facts: dict[str, Any]) -> None:
    client = StandIn()
    client.served = [model_info("only", task, **facts)]
    assert await announced(client) == ["only"]


@pytest.mark.parametrize("failure", [OverloadedError("the queue is full"), UnavailableError("it is started again")])
async def test_a_gateway_that_others_keep_busy_is_asked_again(failure: Exception) -> None:
    client = StandIn()
    async with Gateway(GatewaySettings(port=0), client=client) as gateway:
        ready = serve._ready_models

        async def ready_and_busy(*arguments: Any) -> Any:
            found = await ready(*arguments)
            client.busy = failure
            client.entered.clear()
            return found

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(serve, "_ready_models", ready_and_busy)
            answering = asyncio.create_task(serve._models_that_answer(gateway.url, gateway.headers))
            await eventually(lambda: answering.done() or (client.busy is not None and client.entered.is_set()))
        client.busy = None
        models = await answering
    assert [model["id"] for model in models] == ["letters", "overlap"]
