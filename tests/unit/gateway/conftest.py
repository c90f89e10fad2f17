"""A stand-in for the client: the gateway's own behaviour, and faults, without a server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from conch_client import (
    AsyncClient,
    ChunkVectors,
    Classification,
    ModelInfo,
    ModelNotFoundError,
    ModelReplacedError,
    Ranked,
    Ranking,
    SparseVector,
    Token,
    TokenIds,
)
from conch_contract import Task
from conch_gateway import GatewaySettings, create_app

from tests.unit.gateway.other_server import OtherServer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from starlette.applications import Starlette

DIMENSION = 8


def model_info(name: str, task: str, **changes: Any) -> ModelInfo:
    facts: dict[str, Any] = {
        "name": name,
        "task": Task(task),
        "base": None,
        "ready": True,
        "architecture": "bert",
        "precision": "fp32",
        "description": "a stand-in",
        "max_length": 16,
        "max_rows": 8,
        "inputs": ("input_ids", "attention_mask"),
        "output": "embedding",
        "tokenizer": f"{name}.tokenizer",
        "tokenizer_sha256": "0" * 64,
        "tokenizer_bytes": 1,
        "source": "test",
        "revision": "1",
        "weights_sha256": "1" * 64,
        "dimension": DIMENSION if task == "embedding" else None,
        "pooling": "mean" if task == "embedding" else None,
        "normalized": True,
        "prompts": {},
        "default_prompt_name": None,
        "matryoshka_dimensions": None,
    }
    return ModelInfo(**{**facts, **changes})


def letters_of(text: str | Sequence[int]) -> list[int]:
    """The letters of a text, or of the tokens that the stand-in has made of one, without the special ones."""
    row = [*map(ord, text)] if isinstance(text, str) else list(text)
    return row[1:-1] if (row[0], row[-1]) == (101, 102) else row


class StandIn(AsyncClient):
    """A client without a server: it answers at once, deterministically; tokens are characters between 101 and 102."""

    def __init__(self) -> None:
        super().__init__()
        self.served = [
            model_info("letters", "embedding", prompts={"query": "q: ", "document": "d: "}),
            model_info("overlap", "late-interaction"),
        ]
        self.failure: Exception | None = None  # of everything: the server is away
        self.busy: Exception | None = None  # of the models only
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.embedded: list[Sequence[Any]] = []
        self.ranked: list[Sequence[str]] = []
        self.opened = True

    async def close(self) -> None:
        self.opened = False

    def rename(self, old: str, new: str) -> None:
        self.served = [replace(info, name=new) if info.name == old else info for info in self.served]

    def derive(self, name: str, base: str) -> None:
        self.served = [replace(info, base=base) if info.name == name else info for info in self.served]

    async def is_ready(self) -> bool:
        return self.failure is None

    async def models(self, **_: Any) -> list[ModelInfo]:
        if self.failure is not None:
            raise self.failure
        return self.served

    async def model(self, name: str, **_: Any) -> ModelInfo:
        for info in await self.models():
            if info.name == name:
                return info
        msg = f"no model {name!r}; it has: {', '.join(info.name for info in self.served)}"
        raise ModelNotFoundError(msg)

    async def tokenize(self, texts: Sequence[Any], **options: Any) -> TokenIds:
        self._note("tokenize", options)
        truncated = [index for index, text in enumerate(texts) if len(text) > 14]
        return TokenIds(([101, *map(ord, text[:14]), 102] for text in texts), truncated)

    async def tokens(self, texts: Sequence[str], **options: Any) -> list[list[Token]]:
        self._note("tokens", options)
        return [[Token(ord(letter), letter, False, at, at + 1) for at, letter in enumerate(text)] for text in texts]

    async def decode(self, ids: Sequence[Sequence[int]], **options: Any) -> list[str]:
        self._note("decode", options)
        return ["".join(map(chr, row)) for row in ids]

    async def embed_tokens(self, texts: Sequence[Any], **options: Any) -> list[NDArray[np.float32]]:
        await self._work("embed_tokens", options)
        return [np.full((len(letters_of(text)), 2), 0.5, np.float32) for text in texts]

    async def embed_chunks(self, chunks: Sequence[str], **options: Any) -> ChunkVectors:
        await self._work("embed_chunks", options)
        size = len("".join(chunks))
        return ChunkVectors(np.array([[len(chunk), size] for chunk in chunks], np.float32), size + 2)

    async def embed_sparse(self, texts: Sequence[Any], **options: Any) -> list[SparseVector]:
        await self._work("embed_sparse", options)
        terms = [sorted(set(letters_of(text))) for text in texts]
        return [SparseVector(np.array(row, np.int64), np.full(len(row), 0.5, np.float32)) for row in terms]

    async def embed(self, texts: Sequence[Any], **options: Any) -> NDArray[np.float32]:
        await self._work("embed", options)
        self.embedded.append(texts)
        rows = [np.resize(np.array(list(map(ord, row)) if isinstance(row, str) else row), DIMENSION) for row in texts]
        vectors: NDArray[np.float32] = np.array(rows, dtype=np.float32)[:, : options.get("dimensions")]
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)  # only a row of the id 0 is shorter
        return vectors

    async def rerank(self, query: str, documents: Sequence[str], **options: Any) -> Ranking:
        await self._work("rerank", options)
        self.ranked.append(documents)
        scores = [len(set(query) & set(document)) / len(set(query)) for document in documents]
        ranked = sorted((Ranked(*pair) for pair in enumerate(scores)), key=lambda item: -item.score)
        return Ranking(ranked[: options.get("top_n")], tokens=len(query) + sum(map(len, documents)))

    async def classify(self, inputs: Sequence[Any], **options: Any) -> Classification:
        await self._work("classify", options)
        scores = [[len(each) / 10, 1 - len(each) / 10] for each in map("".join, inputs)]
        return Classification(("long", "short"), np.array(scores, np.float32), tokens=sum(map(len, inputs)))

    def _note(self, name: str, options: dict[str, Any]) -> None:
        inspect.signature(getattr(AsyncClient, name)).bind_partial(self, **options)
        model = options.get("model")
        self.calls.append((name, {**options, "model": model.name if isinstance(model, ModelInfo) else model}))

    async def _work(self, name: str, options: dict[str, Any]) -> None:
        self._note(name, options)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        for fault in (self.failure, self.busy):
            if fault is not None:
                raise fault
        model = options.get("model")
        if isinstance(model, ModelInfo) and model not in self.served:
            raise ModelReplacedError("the stand-in has another model of that name by now")


Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def client() -> StandIn:
    return StandIn()


@pytest.fixture
def every_kind(client: StandIn) -> StandIn:
    """The stand-in with a model of each task, those derived from `letters` among them."""
    client.served += [
        model_info("letters-sparse", "sparse", base="letters"),
        model_info("letters-tokens", "multi-vector", base="letters"),
        model_info("letters-chunks", "late-chunking", base="letters", dimension=8),
    ]
    return client


@pytest.fixture
def http_with(client: StandIn) -> Serve:
    """An HTTP client of a gateway with these settings."""

    @asynccontextmanager
    async def serving(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as http,
        ):
            yield http

    def serve(**settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return serving(create_app(GatewaySettings(**settings), client))

    return serve


@pytest.fixture
async def other() -> AsyncIterator[OtherServer]:
    """Another server that has models."""
    stand_in = OtherServer()
    server = await asyncio.start_server(stand_in.answer, "127.0.0.1", 0)
    stand_in.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield stand_in
    server.close()
    await stand_in.hang_up()


@pytest.fixture
def http_of(other: OtherServer, http_with: Serve, tmp_path: Path) -> Serve:
    """An HTTP client of a gateway with `far`, a model of the other server: what its table says, and other settings."""

    def serve(table: str = "", **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        models_file = tmp_path / "models.toml"
        models_file.write_text(f'[far]\nurl = "{other.url}"\nmodel = "theirs"\n{table}\n')
        return http_with(models_file=models_file, **settings)

    return serve


@pytest.fixture
async def http(http_with: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with http_with() as connection:
        yield connection
