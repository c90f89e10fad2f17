"""The smallest request that goes all the way: it shows that a model answers, and warms it up."""

from __future__ import annotations

from conch_client import AsyncClient, ModelInfo

from conch_gateway.models.tasks import EMBEDDING, RERANKING

_WORD = "ready"


async def ask_a_word(client: AsyncClient, info: ModelInfo, timeout_s: float) -> None:
    """Have the model compute one word; raises what the client raises."""
    if info.task in EMBEDDING:
        await client.embed([_WORD], model=info.name, timeout_s=timeout_s)
    elif info.task in RERANKING:
        await client.rerank(_WORD, [_WORD], model=info.name, timeout_s=timeout_s)
