"""Questions over gRPC: with conch's client, from threads and from tasks, and with a plain KServe v2 client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from conch_client import AsyncClient, Client, Ranking, SparseVector

from tests.soak import plain
from tests.soak.checks import expected_scores, ranked, same_terms
from tests.soak.known import Known, agree, same
from tests.soak.models import DENSE, MAXSIM, PAIRS, SPARSE, TOKENS
from tests.soak.texts import QUERIES, short, some

if TYPE_CHECKING:
    from typing_extensions import Self

THREADS = 64


class Clients:
    """One client of each kind for all questions, as a program would hold them."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.tasks = AsyncClient(url, timeout_s=timeout_s)
        self.threads = Client(url, timeout_s=timeout_s)
        self.plain = plain.connect(url)
        self._pool = ThreadPoolExecutor(THREADS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.threads.close()
        await self.tasks.close()
        await self.plain.close()

    async def in_thread(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return what a blocking call returns."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*arguments, **options))


Call = Callable[[Clients, Known, random.Random], Awaitable[None]]


async def tasks_embed(clients: Clients, known: Known, chance: random.Random) -> None:
    places = some(chance)
    found = await clients.tasks.embed([known.texts[place] for place in places], model=DENSE)
    same(found, known.dense[places], "vectors")


async def threads_embed(clients: Clients, known: Known, chance: random.Random) -> None:
    places = some(chance)
    found = await clients.in_thread(clients.threads.embed, [known.texts[place] for place in places], model=DENSE)
    same(found, known.dense[places], "vectors")


async def tasks_tokens(clients: Clients, known: Known, chance: random.Random) -> None:
    places = short(chance, most=2)
    found = await clients.tasks.embed_tokens([known.texts[place] for place in places], model=TOKENS)
    for place, vectors in zip(places, found, strict=True):
        same(vectors, known.late(place), "token vectors")


async def threads_sparse(clients: Clients, known: Known, chance: random.Random) -> None:
    places = short(chance, most=2)
    found: list[SparseVector] = await clients.in_thread(
        clients.threads.embed_sparse, [known.texts[place] for place in places], model=SPARSE
    )
    for place, vector in zip(places, found, strict=True):
        same_terms(dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True)), known.sparse[place])


async def tasks_late_interaction(clients: Clients, known: Known, chance: random.Random) -> None:
    query, documents = chance.choice(QUERIES), short(chance, most=5)
    texts = [known.texts[place] for place in documents]
    _ranked(await clients.tasks.rerank(known.texts[query], texts, model=MAXSIM), known, MAXSIM, query, documents)


async def threads_cross_encoder(clients: Clients, known: Known, chance: random.Random) -> None:
    query, documents = chance.choice(QUERIES), short(chance, most=5)
    texts = [known.texts[place] for place in documents]
    rerank = clients.threads.rerank
    ranking = await clients.in_thread(rerank, known.texts[query], texts, model=PAIRS, raw_scores=True)
    _ranked(ranking, known, PAIRS, query, documents)
    agree(ranking.tokens, sum(len(known.pair_tokens[query, place][0]) for place in documents), "tokens")


async def plain_embedding(clients: Clients, known: Known, chance: random.Random) -> None:
    places = some(chance)
    (found,) = await _plain(clients, DENSE, [known.ids[place] for place in places], ["embedding"], chance)
    same(found, known.dense[places], "vectors")


async def plain_tokens(clients: Clients, known: Known, chance: random.Random) -> None:
    places = short(chance, most=2)
    rows = [known.ids[place] for place in places]
    (found,) = await plain.infer(clients.plain, TOKENS, rows, ["token_embeddings"], timeout_s=clients.timeout_s)
    for place, row, vectors in zip(places, rows, found, strict=True):
        same(vectors[: len(row)], known.tokens[place], "token vectors")
        same(vectors[len(row) :], 0 * vectors[len(row) :], "vectors of pads", tolerance=0.0)


async def plain_sparse(clients: Clients, known: Known, chance: random.Random) -> None:
    places = short(chance, most=2)
    outputs = ["indices", "weights"]
    terms, weights = await _plain(clients, SPARSE, [known.ids[place] for place in places], outputs, chance)
    for place, row, values in zip(places, terms, weights, strict=True):
        found = {int(term): float(value) for term, value in zip(row, values, strict=True) if value > 0}
        same_terms(found, known.sparse[place])


async def plain_pairs(clients: Clients, known: Known, chance: random.Random) -> None:
    query, documents = chance.choice(QUERIES), short(chance, most=4)
    pairs = [known.pair_tokens[query, place] for place in documents]
    segments = [of_pair for _, of_pair in pairs]
    (scores,) = await _plain(clients, PAIRS, [ids for ids, _ in pairs], ["score"], chance, segments=segments)
    same(scores[:, 0], known.pairs[query, documents], "scores")


CALLS: dict[str, Call] = {
    "conch_client, tasks: vectors": tasks_embed,
    "conch_client, threads: vectors": threads_embed,
    "conch_client, tasks: token vectors": tasks_tokens,
    "conch_client, threads: sparse vectors": threads_sparse,
    "conch_client, tasks: late interaction": tasks_late_interaction,
    "conch_client, threads: cross-encoder": threads_cross_encoder,
    "KServe: vectors": plain_embedding,
    "KServe: token vectors": plain_tokens,
    "KServe: sparse vectors": plain_sparse,
    "KServe: cross-encoder": plain_pairs,
}
"""How to ask, by the name of the surface."""


async def _plain(
    clients: Clients, model: str, rows: list[list[int]], outputs: list[str], chance: random.Random, **more: Any
) -> list[Any]:
    left = chance.random() < 0.5
    return await plain.infer(clients.plain, model, rows, outputs, pads_left=left, timeout_s=clients.timeout_s, **more)


def _ranked(ranking: Ranking, known: Known, model: str, query: int, documents: list[int]) -> None:
    results = [{"index": place.index, "score": place.score} for place in ranking]
    ranked(results, expected_scores(known, model, query, documents), "score")
