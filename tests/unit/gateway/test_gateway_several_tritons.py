"""Models are loaded and unloaded at every Triton, and one that was away catches up."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from conch_client import AsyncClient, DeadlineExceededError, ServerError, UnavailableError
from conch_client._transport import limits
from conch_client.testing import FakeModel, FakeServer
from conch_gateway import GatewaySettings, create_app
from conch_gateway.backends.triton import Triton
from conch_gateway.jobs import EmbeddingJob
from conch_gateway.models import loader as loaders
from conch_gateway.models.loader import Loader
from conch_gateway.models.local_model import LocalModel
from conch_gateway.models.triton_control import TritonControl
from conch_gateway.scheduling.admission import Admission
from pydantic import SecretStr
from tritonclient.grpc import service_pb2

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Controlled(FakeServer):
    """A server that loads and unloads its model when told to."""

    looked_at, asked_to_load, is_broken, keeps_it = 0, 0, False, False

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.looked_at += 1
        return super().RepositoryIndex(request, context)

    def RepositoryModelLoad(self, _: Any, context: Any) -> Any:  # noqa: N802
        self.asked_to_load += 1
        if self.is_broken:
            context.abort(grpc.StatusCode.INTERNAL, "no memory on this machine")
        self.models["letters"].ready = True
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, *_: Any) -> Any:  # noqa: N802
        self.models["letters"].ready = self.keeps_it
        return service_pb2.RepositoryModelUnloadResponse()

    @property
    def loaded(self) -> bool:
        return self.models["letters"].ready


@pytest.fixture
def tritons(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Controlled]]:
    monkeypatch.setattr(limits, "PROBE_EVERY_S", 0.05)
    monkeypatch.setattr(loaders, "_REFRESH_EVERY_S", 0.05)
    with ExitStack() as stack:
        yield [stack.enter_context(Controlled({"letters": FakeModel(ready=False)})) for _ in range(3)]


@pytest.fixture
async def client(tritons: list[Controlled]) -> AsyncIterator[AsyncClient]:
    async with AsyncClient([triton.url for triton in tritons]) as client:
        yield client


@pytest.fixture
async def loader(client: AsyncClient) -> AsyncIterator[Loader]:
    def urls() -> list[str]:
        return [replica.url for replica in client.replicas if replica.state != "out"]

    control = TritonControl(urls, SecretStr("key"))
    loader = Loader(control, client, Triton(GatewaySettings(), client).probe, 5.0)
    loader.apply_policies(lambda _: "lazy")
    async with loader.running():
        yield loader


async def test_a_model_that_only_one_has_which_is_away_is_no_model_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PROBE_EVERY_S", 0.05)
    with FakeServer({"letters": FakeModel(), "own": FakeModel()}) as one, FakeServer({"letters": FakeModel()}) as other:
        client = AsyncClient([one.url, other.url])
        app = create_app(GatewaySettings(), client)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as http,
        ):
            assert (await http.post("/v1/embeddings", json={"model": "own", "input": "x"})).status_code == 200
            one.stop()
            await eventually(lambda: any(replica.state == "out" for replica in client.replicas))
            away = await http.post("/v1/embeddings", json={"model": "own", "input": "x"})
            unknown = await http.post("/v1/embeddings", json={"model": "nobodys", "input": "x"})

    assert (away.status_code, away.json()["error"]["code"]) == (503, "unavailable")
    assert int(away.headers["retry-after"]) > 0
    assert unknown.status_code == 404


async def test_all_load_and_unload_it(loader: Loader, tritons: list[Controlled]) -> None:
    await loader.load("letters")
    assert all(triton.loaded for triton in tritons)
    await loader.unload("letters")
    assert not any(triton.loaded for triton in tritons)


async def test_what_an_administrator_has_unloaded_is_loaded_again_only_where_its_policy_changes(
    loader: Loader, tritons: list[Controlled]
) -> None:
    loader.apply_policies(lambda _: "start")
    await eventually(lambda: all(triton.loaded for triton in tritons))
    await loader.unload("letters")
    loader.apply_policies(lambda _: "start")
    looked_at = tritons[0].looked_at
    await eventually(lambda: tritons[0].looked_at > looked_at + 5)
    assert not any(triton.loaded for triton in tritons)
    loader.apply_policies(lambda _: "demand")
    loader.apply_policies(lambda _: "start")
    await eventually(lambda: all(triton.loaded for triton in tritons))


async def test_one_that_does_not_unload_it_is_not_waited_for_without_end(
    loader: Loader, tritons: list[Controlled], monkeypatch: pytest.MonkeyPatch
) -> None:
    await loader.load("letters")
    monkeypatch.setattr(loaders, "_GONE_TIMEOUT_S", 0.2)
    for triton in tritons:
        triton.keeps_it = True  # as one of whose instances a call hangs
    with pytest.raises(DeadlineExceededError, match=r"has not unloaded letters within 0\.2 s; start it again"):
        await loader.unload("letters")
    assert loader.models[0].state != "changing"


async def test_a_call_at_one_that_is_given_up_fails_and_is_not_cancelled(tritons: list[Controlled]) -> None:
    urls = [triton.url for triton in tritons]
    control = TritonControl(lambda: urls, SecretStr("key"))
    hangs = tritons[0]
    hangs.pulse.clear()
    asked = asyncio.create_task(control.index(urls.pop(0), timeout_s=60))
    await eventually(lambda: hangs.looked_at)
    assert (await control.indexes(timeout_s=60)).keys() == set(urls)
    with pytest.raises(UnavailableError, match="given up during RepositoryIndex"):
        await asked
    await control.close()


async def test_a_lazy_model_is_loaded_everywhere_by_its_first_request(
    loader: Loader, client: AsyncClient, tritons: list[Controlled]
) -> None:
    async with loader.using("letters"):
        assert (await client.embed(["x"], model="letters")).shape == (1, 8)
    assert all(triton.loaded for triton in tritons)


@pytest.mark.parametrize("loaded", [True, False], ids=["load", "unload"])
async def test_one_that_was_away_catches_up(
    loader: Loader, client: AsyncClient, tritons: list[Controlled], loaded: bool
) -> None:
    await loader.load("letters")
    tritons[0].stop()
    await eventually(lambda: client.replicas[0].state == "out")
    await (loader.load("letters") if loaded else loader.unload("letters"))
    tritons[0].models["letters"].ready = not loaded
    tritons[0].start()
    await eventually(lambda: tritons[0].loaded is loaded)


async def test_requests_go_on_while_one_catches_up(
    loader: Loader, client: AsyncClient, tritons: list[Controlled]
) -> None:
    await loader.load("letters")
    tritons[0].models["letters"].ready = False  # as one that was started a moment ago

    async def caught_up_after_a_request() -> bool:
        async with loader.using("letters"):
            await client.embed(["x"], model="letters")
        return tritons[0].loaded

    await eventually(caught_up_after_a_request)
    assert loader.models[0].state == "loaded"


async def test_one_that_cannot_load_what_others_have_is_not_asked_again_at_once(
    loader: Loader, tritons: list[Controlled]
) -> None:
    await loader.load("letters")
    broken = tritons[0]
    broken.asked_to_load, broken.is_broken, broken.models["letters"].ready = 0, True, False
    await eventually(lambda: broken.asked_to_load > 0)
    looked_at = broken.looked_at
    await eventually(lambda: broken.looked_at > looked_at + 10)
    assert broken.asked_to_load == 1
    assert loader.models[0].state == "loaded"


async def test_one_that_is_gone_has_nothing_to_catch_up_with(
    loader: Loader, client: AsyncClient, tritons: list[Controlled], caplog: pytest.LogCaptureFixture
) -> None:
    await loader.load("letters")
    tritons[0].stop()
    await eventually(lambda: client.replicas[0].state == "out")
    await loader.load("letters")
    looked_at = tritons[1].looked_at
    await eventually(lambda: tritons[1].looked_at > looked_at + 10)
    assert "catching up" not in caplog.text


async def test_calls_are_as_many_as_the_tritons_take_that_there_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROBE_EVERY_S", 0.05)
    models = {"large": FakeModel(instances=1), "wide": FakeModel(instances=4)}
    with ExitStack() as stack:
        tritons = [stack.enter_context(FakeServer(dict(models))) for _ in range(3)]
        client = AsyncClient([triton.url for triton in tritons])
        backend = Triton(GatewaySettings(), client)

        async def slots_after(model: str) -> int:
            admission = Admission(backend.shared_backlog, max_requests=1, max_texts=1, max_tokens=100)
            with admission.reserve("a", "somebody", ["x"]) as held:
                await backend.embed(await backend.model(model), EmbeddingJob(["x"]), held)
                return backend.shared_backlog.slots.calls

        assert await slots_after("large") == 3 * 2
        assert await slots_after("wide") == 3 * 8
        assert await slots_after("large") == 3 * 8
        tritons[0].stop()
        tritons[1].stop()
        await eventually(lambda: [replica.state for replica in client.replicas][:2] == ["out", "out"])
        assert await slots_after("large") == 8  # although nobody asks for the other model any more
        tritons[2].models["wide"] = FakeModel(instances=4, ready=False)
        await client.is_ready()  # as after the model was unloaded
        assert await slots_after("large") == 2
        await client.close()


async def test_a_model_that_cannot_be_loaded_for_days_is_tried_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conch_gateway.models.local_model._LONGEST_PAUSE_S", 0.0)
    model = LocalModel("letters", "start")

    async def fail(_: LocalModel) -> None:
        raise ServerError("there is no room")

    for _ in range(2_000):
        assert model.is_due
        with pytest.raises(ServerError):
            await model.begin(fail, loaded=True)

    assert model.is_due
