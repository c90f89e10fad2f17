"""A stand-in for another server that has models: right, or wrong in ways that a test plans."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

VECTOR = [0.6, 0.0, 0.8]
TOKENS = 7  # of every answer


class OtherServer:
    """Answers one request after another with what `script` says, or else rightly."""

    def __init__(self) -> None:
        self.script: list[Any] = []  # status, body and headers; or "reset"
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.permits: asyncio.Semaphore | None = None  # how many may be answered; None for any number
        self.at_once = self.most_at_once = 0  # requests that are not answered yet
        self.url = ""
        self._connections: set[asyncio.Task[None]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while not reader.at_eof():
                await self._answer_one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def hang_up(self) -> None:
        """End all connections, so that none outlives its loop."""
        for task in (connections := list(self._connections)):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.heads.append(head)
        self.requests.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.permits is not None:
            await self.permits.acquire()
        self.at_once -= 1
        planned = self.script.pop(0) if self.script else (200, answer_to(body), {})
        if planned == "reset":
            writer.transport.abort()
            return
        status, content, headers = planned
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} -", f"content-length: {len(payload)}", *map(": ".join, headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
        await writer.drain()


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """Return the right answer, in no order; a document's score is its length by 100, with raw scores its length."""
    if "query" in body:
        scores = [len(document) / (1 if body.get("raw_scores") else 100) for document in body["documents"]]
        best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body["top_n"]]
        results = [{"index": index, "relevance_score": scores[index]} for index in best]
        return {"results": results, "usage": {"total_tokens": TOKENS}}
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return answer_with([EMBEDDINGS[body.get("vector_type", "dense")](text, body) for text in texts])


def answer_with(embeddings: list[Any]) -> dict[str, Any]:
    """Return an answer with these embeddings, each a value or an object with further fields."""
    items = (value if isinstance(value, dict) else {"embedding": value} for value in embeddings)
    data = [{"index": index, **item} for index, item in enumerate(items)]
    return {"data": data[::-1], "usage": {"total_tokens": TOKENS}}


def packed(numbers: Any) -> str:
    return base64.b64encode(np.asarray(numbers, "<f4").tobytes()).decode()


def late(rows: Any) -> dict[str, Any]:
    return {"embedding": packed(rows), "shape": list(np.shape(rows))}


def sparse(indices: list[Any], values: list[Any]) -> dict[str, Any]:
    return {"embedding": {"indices": indices, "values": values}}


EMBEDDINGS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "dense": lambda _, body: packed(VECTOR[: body.get("dimensions", 3)]),
    "late": lambda text, _: late([[len(text), 0.5]] * len(text)),
    "sparse": lambda text, _: sparse(sorted(set(map(ord, text))), [0.5] * len(set(text))),
}
