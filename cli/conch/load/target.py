"""Targets of `conch bench`: Triton over gRPC through the client, or a gateway over HTTP. Both count real tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from conch_client import AsyncClient, ConchError

from conch.load.closed_loop import Done
from conch.load.http import Address, Connection, HttpError

if TYPE_CHECKING:
    from typing_extensions import Self

EMBEDDING = "embedding"


class BenchError(Exception):
    """The target cannot be used; the message says why."""


class Target(Protocol):
    """An async context manager that sends batches of texts."""

    url: str

    async def prepare(self, model: str | None, batches: list[list[str]], clients: int) -> str:
        """Prepare requests with these batches; return the model's name.

        Raises:
            BenchError: the server does not answer or lacks the model.
        """

    async def send(self, number: int) -> Done:
        """Send batch `number` modulo their count."""

    async def __aenter__(self) -> Self:
        """Connect."""

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""


def target_of(url: str) -> Target:
    """Return the target for a URL."""
    return HttpTarget(url) if url.startswith(("http://", "https://")) else GrpcTarget(url)


class GrpcTarget:
    """Triton through conch's client: measures what its users get, including tokenising."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._batches: list[tuple[list[str], Done]] = []
        self._model = ""

    async def prepare(self, model: str | None, batches: list[list[str]], clients: int) -> str:  # noqa: ARG002
        """See `Target`."""
        try:
            infos = [info for info in await self._client.models() if info.task == EMBEDDING]
            self._model = _choose(model, [info.name for info in infos])
            for batch in batches:
                tokens = sum(map(len, await self._client.tokenize(batch, model=self._model)))
                self._batches.append((batch, Done(len(batch), tokens)))
        except ConchError as error:
            raise BenchError(f"{self.url}: {error}") from error
        return self._model

    async def send(self, number: int) -> Done:
        """See `Target`."""
        texts, done = self._batches[number % len(self._batches)]
        await self._client.embed(texts, model=self._model)
        return done

    async def __aenter__(self) -> Self:
        """Create the client."""
        self._client = AsyncClient(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._client.close()


class HttpTarget:
    """A gateway in OpenAI's dialect; requests are built beforehand, because both share the processor."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._address = Address.of(f"{self.url}/v1/embeddings")
        self._requests: list[tuple[bytes, int]] = []
        self._tokens: dict[int, int] = {}
        self._free: list[Connection] = []

    async def prepare(self, model: str | None, batches: list[list[str]], clients: int) -> str:
        """See `Target`."""
        name = _choose(model, await self._models())
        for batch in batches:
            body = json.dumps({"model": name, "input": batch, "encoding_format": "base64"}).encode()
            self._requests.append((self._address.request("POST", body), len(batch)))
        self._free = [Connection(self._address) for _ in range(clients)]
        return name

    async def send(self, number: int) -> Done:
        """See `Target`."""
        number %= len(self._requests)
        request, texts = self._requests[number]
        connection = self._free.pop()
        try:
            answer = await connection.send(request)
        finally:
            self._free.append(connection)
        if number not in self._tokens:  # read once a batch: reading every answer would be part of the load
            self._tokens[number] = json.loads(answer)["usage"]["prompt_tokens"]
        return Done(texts, self._tokens[number])

    async def __aenter__(self) -> Self:
        """Connections are made by the first requests."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        for connection in self._free:
            connection.close()

    async def _models(self) -> list[str]:
        address = Address.of(f"{self.url}/v1/models")
        connection = Connection(address)
        try:
            models: list[dict[str, Any]] = json.loads(await connection.send(address.request("GET")))["data"]
        except (OSError, HttpError, ValueError, KeyError) as error:
            raise BenchError(f"{self.url} does not answer as a gateway does: {error}") from error
        finally:
            connection.close()
        return [model["id"] for model in models if model.get("task", EMBEDDING) == EMBEDDING]


def _choose(wanted: str | None, names: list[str]) -> str:
    if not names:
        raise BenchError("no embedding model is served there")
    if wanted is None:
        return min(names)
    if wanted not in names:
        raise BenchError(f"no embedding model {wanted!r} is served there; there are: {', '.join(sorted(names))}")
    return wanted
