"""Servers that speak Triton's protocol and compute nothing: each does one call after another, in a time of its own.

    python benchmarks/standins.py PORT:MILLISECONDS...

One process serves all of its arguments, so that stopping the process stops them.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import numpy as np
from conch_client.testing import FakeModel
from conch_contract import encoder_name, tokenizer_name
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

MODEL, DIMENSION = "standin", 8


class StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """One server."""

    def __init__(self, call_s: float) -> None:
        self._call_s = call_s
        self._turn = asyncio.Lock()
        self._model = FakeModel(dimension=DIMENSION, max_rows=64, instances=1)

    async def ServerReady(self, *_: Any) -> Any:  # noqa: N802
        return pb.ServerReadyResponse(ready=True)

    async def RepositoryIndex(self, *_: Any) -> Any:  # noqa: N802
        names = (MODEL, tokenizer_name(MODEL), encoder_name(MODEL))
        entry = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(models=[entry(name=name, state="READY") for name in names])

    async def ModelConfig(self, request: Any, _: Any) -> Any:  # noqa: N802
        describe = self._model.config if request.name == MODEL else self._model.encoder_config
        return pb.ModelConfigResponse(config=describe(request.name))

    async def ModelInfer(self, request: Any, _: Any) -> Any:  # noqa: N802
        if request.inputs[0].name == "range":
            begin, end = np.frombuffer(request.raw_input_contents[0], "<i8").tolist()
            content = self._model.tokenizer_json[begin:end]
            response = pb.ModelInferResponse(raw_output_contents=[content])
            response.outputs.add(name="content", datatype="UINT8", shape=[len(content)])
            return response
        if self._call_s:
            async with self._turn:
                await asyncio.sleep(self._call_s)
        rows = request.inputs[0].shape[0]
        response = pb.ModelInferResponse(raw_output_contents=[np.full((rows, DIMENSION), 0.35, "<f4").tobytes()])
        response.outputs.add(name="embedding", datatype="FP32", shape=[rows, DIMENSION])
        return response


def start(servers: Iterable[tuple[int, float]]) -> subprocess.Popen[bytes]:
    """Start a process with these ports and milliseconds; return once it listens."""
    command = [sys.executable, str(Path(__file__)), *(f"{port}:{milliseconds:g}" for port, milliseconds in servers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"
    return process


async def main() -> None:
    """Serve until killed."""
    servers = []
    for argument in sys.argv[1:]:
        port, milliseconds = argument.split(":")
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(StandIn(float(milliseconds) / 1000), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        servers.append(server)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.wait_for_termination() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
