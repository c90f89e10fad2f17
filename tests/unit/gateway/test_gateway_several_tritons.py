"""Models are loaded and unloaded at every Triton, and one that was away catches up."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import AsyncClient
from conch_client._transport import limits
from conch_client.testing import FakeModel, FakeServer
from conch_gateway import GatewaySettings
from conch_gateway.backends.triton import Triton
from conch_gateway.models.loader import Loader
from conch_gateway.models.triton_control import TritonControl
from pydantic import SecretStr
from tritonclient.grpc import service_pb2

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Controlled(FakeServer):
    """A server that loads and unloads its model when told to."""

    def RepositoryModelLoad(self, *_: Any) -> Any:  # noqa: N802
        self.models["letters"].ready = True
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, *_: Any) -> Any:  # noqa: N802
        self.models["letters"].ready = False
        return service_pb2.RepositoryModelUnloadResponse()

    @property
    def loaded(self) -> bool:
        return self.models["letters"].ready


@pytest.fixture
def tritons(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Controlled]]:
    monkeypatch.setattr(limits, "PROBE_EVERY_S", 0.05)
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


async def test_all_load_and_unload_it(loader: Loader, tritons: list[Controlled]) -> None:
    await loader.load("letters")
    assert all(triton.loaded for triton in tritons)
    await loader.unload("letters")
    assert not any(triton.loaded for triton in tritons)


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
