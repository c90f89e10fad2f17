"""A model that hangs holds up the batches of its own lines and no others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import UnavailableError

from tests.batching import created, embeddings_of, fetched, line, over
from tests.unit.gateway.conftest import model_info
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Serve, StandIn

OWN = [101, ord("a"), 102]


class Hanging:
    """The model `hanging` computes nothing of what it `hangs_over` until it is let go; others answer.

    Attributes:
        failing: models whose server fails at their next text, so that its line is in doubt.
        hangs_over: its own lines, or all texts.
    """

    def __init__(self, client: StandIn) -> None:
        self.failing: set[str] = set()
        self.hangs_over = "all texts"
        self.hangs, self.let_go = asyncio.Event(), asyncio.Event()
        self._embed = client.embed

    async def embed(self, texts: Any, **options: Any) -> Any:
        name = options["model"].name
        if name in self.failing:
            self.failing.remove(name)
            raise UnavailableError("away")
        if name == "hanging" and (self.hangs_over == "all texts" or OWN in list(map(list, texts))):
            self.hangs.set()
            await self.let_go.wait()
        return await self._embed(texts, **options)


@pytest.fixture
def hanging(client: StandIn, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    monkeypatch.setattr("conch_gateway.batches.runner._ALONE_S", 0.1)
    found = Hanging(client)
    client.served += [model_info("hanging", "embedding"), model_info("shaky", "embedding")]
    monkeypatch.setattr(client, "embed", found.embed)
    return found


@pytest.mark.parametrize("hangs_over", ["all texts", "its own"], ids=["a control", "a line that is computed alone"])
async def test_a_model_that_hangs_over_this_holds_up_no_other_batch(
    storing: Serve, hanging: Hanging, hangs_over: str
) -> None:
    hanging.failing, hanging.hangs_over = {"hanging"}, hangs_over
    async with storing(triton_calls=8) as http:
        waiting = await created(http, embeddings_of(["a"], model="hanging"))
        await eventually(hanging.hangs.is_set)
        batch = await over(http, await created(http, embeddings_of(["x"] * 20)))
        still = await fetched(http, waiting)
        hanging.let_go.set()
        waiting = await over(http, waiting)

    assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert still["request_counts"] == {"total": 1, "completed": 0, "failed": 0}
    assert waiting["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


async def test_a_line_in_doubt_waits_for_none_of_another_batch_that_hangs(storing: Serve, hanging: Hanging) -> None:
    hanging.failing, hanging.hangs_over = {"hanging", "shaky"}, "its own"
    async with storing(triton_calls=8) as http:
        waiting = await created(http, embeddings_of(["a"], model="hanging"))
        await eventually(hanging.hangs.is_set)
        batch = await over(http, await created(http, embeddings_of("bcd", model="shaky")))
        still = await fetched(http, waiting)
        hanging.let_go.set()
        waiting = await over(http, waiting)

    assert not hanging.failing
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert still["request_counts"]["completed"] == 0
    assert waiting["request_counts"]["completed"] == 1


async def test_lines_of_a_model_that_hangs_leave_places_to_those_of_others(storing: Serve, hanging: Hanging) -> None:
    async with storing(triton_calls=64) as http:
        waiting = [await created(http, embeddings_of(["a"] * 20, model="hanging")) for _ in range(2)]
        await eventually(hanging.hangs.is_set)
        batch = await over(http, await created(http, embeddings_of(["x"] * 20)))
        still = [await fetched(http, each) for each in waiting]
        hanging.let_go.set()
        ended = [await over(http, each) for each in waiting]

    assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert [each["request_counts"]["completed"] for each in still] == [0, 0]
    assert [each["request_counts"]["completed"] for each in ended] == [20, 20]


async def test_large_lines_of_a_model_that_hangs_leave_a_place_to_those_of_others(
    storing: Serve, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conch_gateway.batches.lines.LARGE_BYTES", 1000)
    hung, others = (
        [line(str(number), {"model": model, "input": "a", "user": "x" * 2000}) for number in range(5)]
        for model in ("hanging", "letters")
    )
    async with storing(triton_calls=64) as http:
        waiting = await created(http, hung)
        await eventually(hanging.hangs.is_set)
        batch = await over(http, await created(http, others))
        still = await fetched(http, waiting)
        hanging.let_go.set()
        waiting = await over(http, waiting)

    assert batch["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert still["request_counts"]["completed"] == 0
    assert waiting["request_counts"]["completed"] == 5
