"""The client for an event loop; ``_client`` is the same for threads, and has the details of every call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from conch_contract import RERANKERS, ConchError, ModelInfo, Task, Truncate

from conch_client._async_session import AsyncSession
from conch_client._catalog import ANY_TASK
from conch_client._channel import TLS, Address
from conch_client._deadline import Deadline
from conch_client._embed import EmbedJob, TokenOptions, VectorOptions
from conch_client._errors import DeadlineExceededError
from conch_client._inputs import Texts, check_count, check_ids, check_inputs, check_text, check_texts, is_heavy
from conch_client._rerank import Ranking, RerankQuestion, rerank_job
from conch_client._settings import NOT_READY, READY_POLL_S, READY_TIMEOUT_S, Settings
from conch_client._vectors import SparseJob, SparseVector, TokenVectorsJob

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from conch_client._tokenizer import Token


class AsyncClient:
    """Vectors and rankings from a Triton that serves a conch repository, without blocking the event loop.

        from conch_client import AsyncClient

        async with AsyncClient("127.0.0.1:8001") as client:
            vectors = await client.embed(["a text", "another"])  # float32 [2, dimension], length 1
            best = (await client.rerank("a question", ["some", "documents"], top_n=1))[0]
            print(vectors.shape, best.index, best.score)

    The same as ``Client`` in every argument, result and error, and in what it remembers of the server. Any number of
    tasks may share one client; it connects with the first call and belongs to the loop of that call. More than a few
    texts are tokenised in a thread. Cancelling a task cancels its requests and sends no more of them.

    Args:
        url: ``host:port`` of Triton's gRPC endpoint.
        timeout_s: Seconds for a whole call, all its requests and retries included, unless the call says its own.
        max_in_flight: Most requests of one call that are under way at once (long lists are split).
        retries: How often a request is repeated, after growing waits, while the server cannot be reached.
        tls: True for encryption with the system's authorities, or a ``TLS`` that says which.
    """

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        *,
        timeout_s: float = 600.0,
        max_in_flight: int = 4,
        retries: int = 3,
        tls: TLS | bool = False,
    ) -> None:
        self._settings = Settings(timeout_s, max_in_flight, retries)
        self._session = AsyncSession(Address(url, tls), self._settings)

    async def embed(
        self,
        texts: Texts,
        *,
        model: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        normalize: bool = True,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> NDArray[np.float32]:
        """One vector for each text: float32 [n, dimension]; see ``Client.embed``."""
        deadline = self._deadline(timeout_s)
        inputs = check_inputs(texts)
        tokens = TokenOptions(prompt, prompt_name, truncate)
        vectors = VectorOptions(dimensions, normalize)
        return await self._session.run(
            model,
            (Task.EMBEDDING,),
            lambda loaded: EmbedJob.prepare(loaded, inputs, tokens, vectors),
            deadline,
            heavy=inputs.heavy,
            request_id=request_id,
        )

    async def embed_tokens(
        self,
        texts: Texts,
        *,
        model: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate: Truncate = "end",
        normalize: bool = True,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> list[NDArray[np.float32]]:
        """A vector for every token of each text; see ``Client.embed_tokens``."""
        deadline = self._deadline(timeout_s)
        inputs = check_inputs(texts)
        tokens = TokenOptions(prompt, prompt_name, truncate)
        return await self._session.run(
            model,
            (Task.MULTI_VECTOR,),
            lambda loaded: TokenVectorsJob.prepare(loaded, inputs, tokens, normalize=normalize),
            deadline,
            heavy=inputs.heavy,
            request_id=request_id,
        )

    async def embed_sparse(
        self,
        texts: Texts,
        *,
        model: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate: Truncate = "end",
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> list[SparseVector]:
        """A sparse vector for each text; see ``Client.embed_sparse``."""
        deadline = self._deadline(timeout_s)
        inputs = check_inputs(texts)
        tokens = TokenOptions(prompt, prompt_name, truncate)
        return await self._session.run(
            model,
            (Task.SPARSE,),
            lambda loaded: SparseJob.prepare(loaded, inputs, tokens),
            deadline,
            heavy=inputs.heavy,
            request_id=request_id,
        )

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str | None = None,
        top_n: int | None = None,
        raw_scores: bool = False,
        truncate: Truncate = "end",
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Ranking:
        """Documents by how well they answer a query, best first; see ``Client.rerank``."""
        deadline = self._deadline(timeout_s)
        question = RerankQuestion(
            check_text(query, "query"), check_texts(documents, "documents"), top_n, raw_scores, truncate
        )
        return await self._session.run(
            model,
            RERANKERS,
            lambda loaded: rerank_job(loaded, question),
            deadline,
            heavy=is_heavy([question.query, *question.documents]),
            request_id=request_id,
        )

    async def tokenize(
        self,
        texts: Texts,
        *,
        model: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate: Truncate = "end",
        add_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> list[list[int]]:
        """The token ids that ``embed`` would compute; see ``Client.tokenize``."""
        deadline = self._deadline(timeout_s)
        inputs = check_inputs(texts)
        tokens = TokenOptions(prompt, prompt_name, truncate)
        loaded = await self._session.load(model, ANY_TASK, deadline)
        steps = tokens.rows(loaded, inputs, add_special_tokens=add_special_tokens)
        return (await self._session.compute(steps, deadline, heavy=inputs.heavy)).tolist()

    async def tokens(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        add_special_tokens: bool = True,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> list[list[Token]]:
        """The tokens of each text with their places in it; see ``Client.tokens``."""
        check_count(limit, "limit")
        deadline = self._deadline(timeout_s)
        options = TokenOptions(prompt, prompt_name)
        checked = check_texts(texts)
        loaded = await self._session.load(model, ANY_TASK, deadline)
        steps = options.tokens(loaded, checked, add_special_tokens=add_special_tokens, limit=limit)
        return await self._session.compute(steps, deadline, heavy=is_heavy(checked))

    async def decode(
        self,
        ids: Sequence[Sequence[int]],
        *,
        model: str | None = None,
        skip_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> list[str]:
        """The text of each row of token ids; see ``Client.decode``."""
        deadline = self._deadline(timeout_s)
        rows = check_ids(ids)
        tokenizer = (await self._session.load(model, ANY_TASK, deadline)).tokenizer
        steps = tokenizer.decode(rows, skip_special_tokens=skip_special_tokens)
        return await self._session.compute(steps, deadline, heavy=True)

    async def models(self, *, timeout_s: float | None = None) -> list[ModelInfo]:
        """All conch models of the server, by name."""
        return await self._session.models(self._deadline(timeout_s))

    async def model(self, name: str, *, timeout_s: float | None = None) -> ModelInfo:
        """One model, loaded or not; raises ModelNotFoundError if the server has none of that name."""
        return await self._session.find(name, ANY_TASK, self._deadline(timeout_s))

    async def is_ready(self) -> bool:
        """Whether the server answers and can run at least one conch model now; False if it says nothing for 5 s."""
        return await self._answers_ready(Deadline(READY_TIMEOUT_S))

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Returns as soon as ``is_ready``; raises DeadlineExceededError after ``timeout_s``."""
        deadline = Deadline(timeout_s)
        while not await self._answers_ready(Deadline(min(READY_TIMEOUT_S, deadline.remaining_s()))):
            if deadline.remaining_s() < READY_POLL_S:
                raise DeadlineExceededError(NOT_READY)
            await asyncio.sleep(READY_POLL_S)

    async def close(self) -> None:
        """Closes the connection; calls under way fail, and so do later ones."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _answers_ready(self, deadline: Deadline) -> bool:
        try:
            return any(info.ready for info in await self._session.models_now(deadline))
        except ConchError:
            self._session.check_open()
            return False

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self._settings.timeout_s if timeout_s is None else timeout_s)
