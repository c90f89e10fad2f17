"""Canaries: models are compared with the vectors that their exports know."""

from __future__ import annotations

import asyncio
import json
from time import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_client import NotComputedError, UnavailableError
from conch_contract import KNOWN_ANSWER, REPORT, DescriptionError, KnownAnswer
from conch_gateway.backends.triton import Triton
from conch_gateway.models.canary import Canaries
from conch_gateway.settings import GatewaySettings

from tests.unit.gateway.conftest import Serve, StandIn, model_info
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "a known text"


async def tell(client: StandIn, repository: Path, *models: str) -> None:
    """Write what these models answer now into their reports."""
    for model in models:
        (vector,) = await client.embed([TEXT])
        (repository / model).mkdir()
        report = {KNOWN_ANSWER: KnownAnswer(TEXT, vector).to_report()}
        (repository / model / REPORT).write_text(json.dumps(report))


def canaries_of(client: StandIn, repository: Path) -> Canaries:
    return Canaries(Triton(GatewaySettings(), client), repository, 60)


def heard(canaries: Canaries, number: int = 0) -> dict[str, float]:
    """The cosines by model, or the times (1)."""
    return {sample.labels["model"]: sample.value for sample in list(canaries.collect())[number].samples}


async def test_a_model_that_answers_as_its_report_says_has_a_cosine_of_one(client: StandIn, tmp_path: Path) -> None:
    await tell(client, tmp_path, "letters")
    canaries = canaries_of(client, tmp_path)
    await canaries.ask(tmp_path)
    assert heard(canaries) == {"letters": pytest.approx(1)}


async def test_a_model_with_another_vector_is_told_apart(
    client: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(client, tmp_path, "letters")
    (vector,) = await client.embed([TEXT])

    async def embed(*_: object, **__: object) -> list[object]:
        return [np.roll(vector, 1)]

    monkeypatch.setattr(client, "embed", embed)
    canaries = canaries_of(client, tmp_path)
    await canaries.ask(tmp_path)
    assert heard(canaries)["letters"] < 0.999


async def test_nan_counts_as_no_agreement(client: StandIn, tmp_path: Path) -> None:
    await tell(client, tmp_path, "letters")
    client.busy = NotComputedError("the model refused text(s) [0]", [0])
    canaries = canaries_of(client, tmp_path)
    await canaries.ask(tmp_path)
    assert heard(canaries) == {"letters": 0}


async def test_one_model_that_fails_keeps_its_last_time_and_hides_no_other(client: StandIn, tmp_path: Path) -> None:
    client.served.append(model_info("more", "embedding"))
    await tell(client, tmp_path, "letters", "more")
    canaries = canaries_of(client, tmp_path)
    await canaries.ask(tmp_path)
    before = heard(canaries, 1)
    (tmp_path / "letters" / REPORT).write_text("{")
    with pytest.raises(DescriptionError, match="letters"):
        await canaries.ask(tmp_path)
    after = heard(canaries, 1)
    assert after["letters"] == before["letters"]
    assert after["more"] > before["more"]


async def test_a_model_that_never_answers_has_the_time_of_its_first_canary(client: StandIn, tmp_path: Path) -> None:
    await tell(client, tmp_path, "letters")
    client.busy = UnavailableError("away")
    canaries = canaries_of(client, tmp_path)
    asked = []
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await canaries.ask(tmp_path)
        asked.append(heard(canaries, 1)["letters"])
    assert asked[0] == asked[1] == pytest.approx(time(), abs=60)
    assert heard(canaries) == {}
    client.busy = None
    await canaries.ask(tmp_path)
    assert heard(canaries) == {"letters": pytest.approx(1)}
    assert heard(canaries, 1)["letters"] > asked[0]


async def test_a_model_that_is_not_served_any_more_is_forgotten(client: StandIn, tmp_path: Path) -> None:
    await tell(client, tmp_path, "letters")
    canaries = canaries_of(client, tmp_path)
    await canaries.ask(tmp_path)
    client.served = []
    await canaries.ask(tmp_path)
    assert heard(canaries) == {}


async def test_a_model_whose_export_knows_no_vector_has_none(client: StandIn, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / REPORT).write_text("{}")
    canaries = canaries_of(client, tmp_path)
    await canaries.ask(tmp_path)
    assert heard(canaries) == heard(canaries, 1) == {}


async def test_it_goes_on_after_a_failure(
    client: StandIn, http_with: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await tell(client, tmp_path, "letters")
    client.failure = UnavailableError("away")
    async with http_with(canary_repository=tmp_path, canary_interval_s=0.01) as http:

        async def is_heard() -> bool:
            return 'conch_gateway_canary_cosine{model="letters"} ' in (await http.get("/metrics")).text

        await eventually(lambda: "comparing models with known answers failed" in caplog.text)
        client.failure = None
        await eventually(is_heard)


async def test_without_a_repository_or_an_interval_nothing_is_asked(
    client: StandIn, http_with: Serve, tmp_path: Path
) -> None:
    await tell(client, tmp_path, "letters")
    client.calls.clear()
    for settings in ({}, {"canary_repository": tmp_path, "canary_interval_s": 0}):
        async with http_with(**settings):
            await asyncio.sleep(0.02)
    assert client.calls == []
