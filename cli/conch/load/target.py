"""Targets of `conch bench`: Triton over gRPC through the client, or a gateway over HTTP. Both count real tokens."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conch_client import AsyncClient, ConchError

from conch.load.closed_loop import Done
from conch.load.http import Address, Connection, HttpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Batches = list[list[str]]

EMBEDDING = "embedding"


class BenchError(Exception):
    """The server cannot be measured; the message says why."""


@dataclass(frozen=True)
class Target:
    """A served model that answers batches of texts.

    Attributes:
        url: of its server.
        model: its name.
        send: sends the batch of this number, beginning again after the last, and returns when it is answered.
    """

    url: str
    model: str
    send: Callable[[int], Awaitable[Done]]


def target_of(
    url: str, model: str | None, batches: Batches, clients: int, key: str | None = None
) -> AbstractAsyncContextManager[Target]:
    """Return the target at a URL, ready to be sent these batches by so many clients at once.

    Args:
        url: HOST:PORT of a Triton, or http://… of a gateway.
        model: its name; None for the first by name.
        batches: the texts of each request.
        clients: most requests at once.
        key: API key of the gateway, if it takes one.

    Raises:
        BenchError: when it is entered: the server does not answer or lacks the model.
    """
    if url.startswith(("http://", "https://")):
        return _gateway(url.rstrip("/").removesuffix("/v1"), model, batches, clients, key)
    return _triton(url, model, batches)


@asynccontextmanager
async def _triton(url: str, wanted: str | None, batches: Batches) -> AsyncIterator[Target]:
    """Triton through conch's own client: what is measured is what its users get, tokenising included."""
    async with AsyncClient(url) as client:
        try:
            model = chosen(wanted, [info.name for info in await client.models() if info.task == EMBEDDING])
            tokens = [sum(map(len, await client.tokenize(batch, model=model))) for batch in batches]
        except ConchError as error:
            raise BenchError(f"{url}: {error}") from error

        async def send(number: int) -> Done:
            number %= len(batches)
            await client.embed(batches[number], model=model)
            return Done(len(batches[number]), tokens[number])

        yield Target(url, model, send)


@asynccontextmanager
async def _gateway(
    url: str, wanted: str | None, batches: Batches, clients: int, key: str | None
) -> AsyncIterator[Target]:
    """A gateway as the OpenAI SDK uses it; requests are made beforehand, to leave it the processor."""
    model = chosen(wanted, await _embedding_models(url, key))
    address = Address.of(f"{url}/v1/embeddings", key)
    bodies = ({"model": model, "input": batch, "encoding_format": "base64"} for batch in batches)
    requests = [address.request("POST", json.dumps(body).encode()) for body in bodies]
    free = [Connection(address) for _ in range(clients)]
    tokens: dict[int, int] = {}

    async def send(number: int) -> Done:
        number %= len(requests)
        # Never empty: every client has one request under way at a time, and there is a connection for each.
        connection = free.pop()
        try:
            answer = await connection.send(requests[number])
        finally:
            free.append(connection)
        if number not in tokens:  # read once a batch: reading every answer would be part of the load
            tokens[number] = json.loads(answer)["usage"]["prompt_tokens"]
        return Done(len(batches[number]), tokens[number])

    try:
        yield Target(url, model, send)
    finally:
        for connection in free:
            connection.close()


async def _embedding_models(url: str, key: str | None) -> list[str]:
    address = Address.of(f"{url}/v1/models", key)
    try:
        models: list[dict[str, Any]] = json.loads(await address.get())["data"]
    except (OSError, HttpError, ValueError, KeyError) as error:
        msg = (
            f"{url} does not answer as a gateway does: {error}; give the address of one that runs, and its key in "
            "CONCH_API_KEY if it takes one"
        )
        raise BenchError(msg) from error
    return [model["id"] for model in models if model.get("task", EMBEDDING) == EMBEDDING]


def chosen(wanted: str | None, names: list[str]) -> str:
    """Return the name of the wanted model, by default the first; raises BenchError where there is none."""
    if not names:
        raise BenchError("no embedding model is served there; export one into its repository, or give another address")
    if wanted is None:
        return min(names)
    if wanted not in names:
        raise BenchError(f"no embedding model {wanted!r} is served there; there are: {', '.join(sorted(names))}")
    return wanted
