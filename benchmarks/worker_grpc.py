"""Load on Triton's gRPC endpoint with token ids, in a process of its own.

    python -m benchmarks.worker_grpc HOST:PORT MODEL CLIENTS [PADDED_LENGTH]

Requests are serialised before the time runs, and answers are checked for their size only: what is measured is Triton.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import grpc.aio
import numpy as np
import uvloop
from conch.load.closed_loop import Done, closed_loop
from tritonclient.grpc import service_pb2 as pb

from benchmarks.peers.protocol import serve
from benchmarks.workers import WARM_UP_S, load_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.peers.protocol import Item

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class GrpcWorker:
    """Clients that share a channel, one text a request."""

    def __init__(self, url: str, model: str, clients: int, padded_length: int = 0) -> None:
        self._url, self._model = url, model
        self._clients, self._padded_length = clients, padded_length

    def embed(self, items: Sequence[Item]) -> NDArray[np.float32]:
        return uvloop.run(self._embed(items))

    def measure(self, items: Sequence[Item], seconds: float) -> dict[str, Any]:
        return load_report(uvloop.run(self._measure(items, seconds)))

    async def _embed(self, items: Sequence[Item]) -> NDArray[np.float32]:
        async with grpc.aio.insecure_channel(self._url) as channel:
            call = channel.unary_unary(METHOD, response_deserializer=pb.ModelInferResponse.FromString)
            answers = [await call(self._request(item)) for item in items]
        return np.stack([np.frombuffer(answer.raw_output_contents[0], "<f4") for answer in answers])

    async def _measure(self, items: Sequence[Item], seconds: float) -> Any:
        requests = [self._request(item) for item in items]
        async with grpc.aio.insecure_channel(self._url) as channel:
            call = channel.unary_unary(METHOD)
            size = len(await call(requests[0]))

            async def send(number: int) -> Done:
                k = number % len(requests)
                answer = await call(requests[k])
                if abs(len(answer) - size) > 16:
                    raise ValueError(f"an answer of {len(answer)} bytes instead of {size}")
                return Done(1, len(items[k].ids))

            await closed_loop(send, clients=self._clients, seconds=WARM_UP_S)
            return await closed_loop(send, clients=self._clients, seconds=seconds)

    def _request(self, item: Item) -> bytes:
        width = max(len(item.ids), self._padded_length)
        ids, mask = np.zeros((2, 1, width), np.int64)
        ids[0, : len(item.ids)], mask[0, : len(item.ids)] = item.ids, 1
        tensor = pb.ModelInferRequest.InferInputTensor
        message = pb.ModelInferRequest(
            model_name=self._model,
            inputs=[tensor(name=name, datatype="INT64", shape=[1, width]) for name in ("input_ids", "attention_mask")],
            raw_input_contents=[ids.tobytes(), mask.tobytes()],
        )
        return bytes(message.SerializeToString())


if __name__ == "__main__":
    url, model, *numbers = sys.argv[1:]
    serve(lambda: GrpcWorker(url, model, *map(int, numbers)))
