"""What is kept by addresses, names and numbers that come and go does not grow for ever."""

from __future__ import annotations

import asyncio
import gc
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import AsyncClient, ServerError, UnavailableError
from conch_gateway import GatewaySettings
from conch_gateway.api.browser.folder import WebFolder
from conch_gateway.auth.keys import Key
from conch_gateway.auth.quota import MINUTE_S, Quotas
from conch_gateway.backends.coalescer import Coalescer, Options
from conch_gateway.backends.triton import Triton
from conch_gateway.inference.shadows import Shadows
from conch_gateway.jobs import EmbeddingJob
from conch_gateway.models import loader as loaders
from conch_gateway.models.loader import Loader
from conch_gateway.models.readiness import Readiness
from conch_gateway.models.registry import Models
from conch_gateway.scheduling.admission import Admission, work_of
from conch_gateway.scheduling.slots import Flow, Slots, Work
from conch_gateway.telemetry.request import RequestContext, Usage
from conch_gateway.telemetry.shadows import ShadowMetrics
from prometheus_client import CollectorRegistry

from tests.unit.gateway.conftest import StandIn, model_info
from tests.unit.gateway.test_gateway_web_models import write_model
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

INDEX = {"letters": "READY", "letters.tokenizer": "READY"}


def kept(holder: object) -> int:
    """How many entries its tables have."""
    return sum(len(each) for each in vars(holder).values() if isinstance(each, dict))


class Tritons:
    """Stands in for the client and for the control of Tritons: those that there are, and those that answer."""

    def __init__(self) -> None:
        self.there, self.answering = ["a:1", "b:1"], {"a:1"}
        self.broken: set[str] = set()
        self.loads: list[str] = []
        self.looks = 0

    @property
    def replicas(self) -> list[Any]:
        return [SimpleNamespace(url=url) for url in self.there]

    async def is_ready(self) -> bool:
        return True

    async def models(self) -> list[Any]:
        return []

    async def indexes(self, _: float) -> dict[str, dict[str, str]]:
        self.looks += 1
        return {url: {} if url in self.broken else INDEX for url in self.there if url in self.answering}

    async def load(self, url: str, *_: object) -> None:
        self.loads.append(url)
        if url in self.broken:
            raise ServerError("no memory on this machine")

    async def close(self) -> None:
        pass

    async def seen(self) -> None:
        """Return once the loader has seen what there is now."""
        looks = self.looks
        await eventually(lambda: self.looks >= looks + 2)


def loader_of(tritons: Tritons, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Loader:
    """A loader that looks at these Tritons all the time, at the time that `now` has."""
    monkeypatch.setattr(loaders, "monotonic", lambda: now[0])
    monkeypatch.setattr(loaders, "_REFRESH_EVERY_S", 0.01)
    both: Any = tritons
    return Loader(both, both, Triton(GatewaySettings(), AsyncClient()).probe, 5.0)


@pytest.mark.parametrize(("away_s", "catches_up"), [(3600, True), (2 * 86_400, False)], ids=["an hour", "two days"])
async def test_what_a_triton_has_missed_is_known_for_a_day_after_its_address_is_gone(
    monkeypatch: pytest.MonkeyPatch, away_s: float, catches_up: bool
) -> None:
    now, tritons = [0.0], Tritons()
    loader = loader_of(tritons, now, monkeypatch)
    async with loader.running():
        await loader.load("letters")
        tritons.there = ["a:1"]
        await tritons.seen()
        now[0] += away_s
        await tritons.seen()
        tritons.there, tritons.answering = ["a:1", "b:1"], {"a:1", "b:1"}
        await tritons.seen()
        assert ("b:1" in tritons.loads) is catches_up


async def test_when_tritons_that_are_gone_may_be_tried_again_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tritons = [0.0], Tritons()
    loader = loader_of(tritons, now, monkeypatch)

    async with loader.running():
        await loader.load("letters")
        before = kept(loader)
        for number in range(10):
            tritons.there, tritons.answering = ["a:1", f"c:{number}"], {"a:1", f"c:{number}"}
            tritons.broken = {f"c:{number}"}
            await eventually(lambda number=number: f"c:{number}" in tritons.loads)  # type: ignore[misc]
            now[0] += 60
        tritons.there = ["a:1"]
        await tritons.seen()
        await eventually(lambda: kept(loader) <= before)


async def test_texts_that_left_leave_nothing_whatever_they_asked_for() -> None:
    slots = Slots(1)
    coalescer = Coalescer(StandIn(), slots, timeout_s=1)
    busy = slots.enter("busy", Flow("somebody", work_of(1, 1, 8)), "letters")
    async with slots.slot(busy, 1):
        for dimensions in range(1, 20):
            options = Options(model_info("letters", "embedding"), dimensions, normalize=True)
            entry = slots.enter("a-request", Flow("another", work_of(1, 1, 8)), "letters")
            asked = asyncio.create_task(coalescer.embed([[1]], options, 8, entry))
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            slots.leave(entry)
        assert not kept(coalescer)
    slots.leave(busy)


async def test_models_whose_requests_have_ended_leave_nothing() -> None:
    slots = Slots(1)
    for number in range(20):
        entry = slots.enter("a-request", Flow("somebody", Work.SMALL), f"model-{number}")
        slots.queue(entry, 1, lambda: None)
        slots.grant()
        slots.leave(entry)  # its call goes on
        assert slots.under_way == 1
        slots.release(Work.SMALL, 1, f"model-{number}")
        assert kept(slots) == len(slots._virtual_times)


async def test_a_fault_is_logged_once_and_again_when_it_comes_back(
    client: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    settings = GatewaySettings()
    triton = Triton(settings, client)
    admission = Admission(triton.shared_backlog, max_requests=9, max_texts=9, max_tokens=999)
    readiness = Readiness(settings, triton, Models(settings, triton, None, {}), admission)
    for fault, times in ((True, 1), (True, 1), (False, 1), (True, 2)):
        client.busy = UnavailableError("a reason") if fault else None
        readiness._asked_at = float("-inf")
        assert (await readiness.verdict()).ready is not fault
        # Of each model that is served.
        assert caplog.text.count("a reason") == times * len(client.served)
    client.served = []
    readiness._asked_at = float("-inf")
    await readiness.verdict()
    assert not kept(readiness)


def test_quotas_of_keys_that_are_gone_are_forgotten() -> None:
    now = [0.0]
    quotas = Quotas(clock=lambda: now[0])
    for number in range(100):
        now[0] += 2 * MINUTE_S
        quotas.spend(Key(name=f"key-{number}", sha256="0" * 64, tokens_per_minute=10), 1)
    assert kept(quotas._own) == 1


def test_models_for_the_browser_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    folder = WebFolder(tmp_path)
    for number in range(5):
        write_model(tmp_path, f"letters-{number}")
        assert list(folder.models()) == [f"letters-{number}"]
        shutil.rmtree(tmp_path / f"letters-{number}")
    folder.models()
    assert not kept(folder)


async def test_vectors_of_shadows_that_are_gone_are_forgotten(tmp_path: Path, client: StandIn) -> None:
    path = tmp_path / "models.toml"
    settings, usage = GatewaySettings(models_file=path), Usage("letters", 1, 1, queue_s=None)
    triton = Triton(settings, client)
    path.write_text("")
    models = Models(settings, triton, None, {})
    admission = Admission(triton.shared_backlog, max_requests=9, max_texts=9, max_tokens=999)
    shadows = Shadows(models, admission, ShadowMetrics(CollectorRegistry()), draw=lambda: 0.0)
    for number in range(5):
        client.served.append(model_info(f"shadow-{number}", "embedding"))
        path.write_text(f'[search]\nmodel = "letters"\nshadow = "shadow-{number}"\nshadow_share = 1.0\n')
        await models.reload()
        shadows.consider(EmbeddingJob(["a"], model="search"), np.ones((1, 8), np.float32), usage)
        asked = len(client.embedded)
        await eventually(lambda asked=asked: len(client.embedded) > asked)  # type: ignore[misc]
        await eventually(lambda: shadows._task is not None and shadows._task.done())
    assert kept(shadows) == 1


async def test_probes_of_models_that_are_gone_are_forgotten(client: StandIn) -> None:
    settings = GatewaySettings(readiness_timeout_s=0.01)
    triton = Triton(settings, client)
    admission = Admission(triton.shared_backlog, max_requests=9, max_texts=9, max_tokens=999)
    readiness = Readiness(settings, triton, Models(settings, triton, None, {}), admission)
    client.gate = asyncio.Event()
    assert not (await readiness.verdict()).ready
    client.gate.set()
    client.served = [model_info("others", "embedding")]

    async def forgotten() -> bool:
        readiness._asked_at = float("-inf")
        return (await readiness.verdict()).ready and not kept(readiness)

    await eventually(forgotten)


async def test_a_request_leaves_nothing_to_the_garbage_collector(http: httpx.AsyncClient) -> None:
    gc.collect()
    gc.disable()
    try:
        answers = [await http.post("/v1/embeddings", json=body) for body in ({"input": "ab"}, {})]
        contexts = [one for one in gc.get_objects() if isinstance(one, RequestContext)]
    finally:
        gc.enable()

    assert [answer.status_code for answer in answers] == [200, 422]
    assert not {answer.headers["x-request-id"] for answer in answers} & {context.request_id for context in contexts}
