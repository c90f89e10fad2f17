"""The probe: a check without an answer has failed, and so has one that another server answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from conch_server import ServerSettings
from conch_server._probe import Probe
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.serving import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers the two questions of a probe; only `a` is ready."""

    def ServerMetadata(self, *_: object) -> Any:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="ours")

    def ModelReady(self, request: Any, _: object) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=request.name == "a")


def probe_of(port: int, name: str, models: list[str]) -> Probe:
    return Probe(ServerSettings(triton_grpc_port=port, probe_timeout_s=5), name, models)


@pytest.fixture
def port() -> Iterator[int]:
    (port,) = free_ports(1)
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.parametrize(("name", "alive"), [("ours", True), ("theirs", False)])
async def test_only_the_server_of_that_name_is_alive(port: int, name: str, alive: bool) -> None:
    probe = probe_of(port, name, ["a", "b"])
    assert await probe.alive() is alive
    assert await probe.unready() == ["b"]
    await probe.close()


async def test_without_a_server_nothing_is_alive_or_ready_and_closing_works() -> None:
    probe = probe_of(free_ports(1)[0], "ours", ["a"])
    assert not await probe.alive()
    assert await probe.unready() == ["a"]
    await probe.close()
    await probe.close()
