"""Load over HTTP in the OpenAI dialect, in a process of its own: conch's gateway and infinity both speak it.

With a query the texts are documents to be ranked for it, in Cohere's dialect.

python worker_http.py URL MODEL CLIENTS TEXTS_PER_REQUEST [QUERY]
"""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import uvloop
from conch.load.closed_loop import Done, closed_loop
from conch.load.http import Address, Connection

from benchmarks.peers.protocol import batches, serve
from benchmarks.workers import WARM_UP_S, load_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.peers.protocol import Item


class HttpWorker:
    """Clients with a connection each; all requests are built before the measurement."""

    def __init__(self, url: str, model: str, clients: int, texts_per_request: int, query: str = "") -> None:
        self._address, self._model, self._query = Address.of(url), model, query
        self._clients, self._size = clients, texts_per_request

    def embed(self, items: Sequence[Item]) -> NDArray[np.float32]:
        return uvloop.run(self._embed(items))

    def measure(self, items: Sequence[Item], seconds: float) -> dict[str, Any]:
        return load_report(uvloop.run(self._measure(items, seconds)))

    async def _embed(self, items: Sequence[Item]) -> NDArray[np.float32]:
        connection = Connection(self._address)
        answers = [json.loads(await connection.send(self._request([item])))["data"][0] for item in items]
        connection.close()
        return np.stack([np.frombuffer(base64.b64decode(answer["embedding"]), "<f4") for answer in answers])

    async def _measure(self, items: Sequence[Item], seconds: float) -> Any:
        parts = batches(items, self._size)
        requests = [self._request(part) for part in parts]
        contents = [Done(len(part), sum(len(item.ids) for item in part)) for part in parts]
        free = [Connection(self._address) for _ in range(self._clients)]

        async def send(number: int) -> Done:
            connection = free.pop()
            try:
                await connection.send(requests[number % len(requests)])
            finally:
                free.append(connection)
            return contents[number % len(requests)]

        await closed_loop(send, clients=self._clients, seconds=WARM_UP_S)
        load = await closed_loop(send, clients=self._clients, seconds=seconds)
        for connection in free:
            connection.close()
        return load

    def _request(self, items: Sequence[Item]) -> bytes:
        texts = [item.text for item in items]
        body: dict[str, Any] = {"model": self._model}
        if self._query:
            body |= {"query": self._query, "documents": texts}
        else:
            body |= {"input": texts[0] if len(texts) == 1 else texts, "encoding_format": "base64"}
        return self._address.request("POST", json.dumps(body).encode())


if __name__ == "__main__":
    url, model, clients, texts, *query = sys.argv[1:]
    serve(lambda: HttpWorker(url, model, int(clients), int(texts), *query))
