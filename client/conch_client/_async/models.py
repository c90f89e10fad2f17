"""Calls that compute nothing: the list of models, readiness, tokenising and decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_client._async.servers import AsyncServers
from conch_client._async.session import AsyncSession
from conch_client._inputs import Texts, check_count, check_ids, check_inputs, check_texts, is_heavy
from conch_client._requests.options import TokenOptions
from conch_client._transport.catalog import ANY_TASK
from conch_client._transport.deadline import Deadline
from conch_client._transport.limits import READY_TIMEOUT_S, Limits
from conch_client._transport.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from conch_contract import ModelInfo, Truncate
    from typing_extensions import Self

    from conch_client._tokenization.rows import TokenIds
    from conch_client._tokenization.tokenizer import Token
    from conch_client._transport.address import TLS
    from conch_client.routing import Replica


class AsyncModels:
    """The models of its servers; for the arguments see ``AsyncClient``."""

    def __init__(
        self,
        url: str | Sequence[str] = "127.0.0.1:8001",
        *,
        timeout_s: float = 600.0,
        max_in_flight: int = 4,
        retries: int = 3,
        tls: TLS | bool = False,
    ) -> None:
        self._limits = Limits(timeout_s, max_in_flight, retries)
        self._servers = AsyncServers(Targets.parse(url, tls=tls), self._limits)
        self._session = AsyncSession(self._servers, self._limits)

    async def tokenize(
        self,
        texts: Texts,
        *,
        model: str | ModelInfo | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate: Truncate = "end",
        add_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> TokenIds:
        """The token ids that ``embed`` would compute; given to it, they have the same vectors.

        Unless the model leaves prompts out of its pooling: ids do not say where a prompt ends, and are pooled whole.

        Args:
            texts: As in ``embed``; token-id sequences come back as they are.
            model: Any model's name; None for the first embedding model by name, or else the first of any other task.
            prompt: As in ``embed``.
            prompt_name: As in ``embed``.
            truncate: As in ``embed``.
            add_special_tokens: Include those that the model's template adds.
            timeout_s: Seconds for this call.
        """
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
        model: str | ModelInfo | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        add_special_tokens: bool = True,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> list[list[Token]]:
        """The tokens of each text with their places in it, counted from the start of the prompt.

        Args:
            texts: As in ``tokenize``, but no ids.
            model: As in ``tokenize``.
            prompt: As in ``tokenize``.
            prompt_name: As in ``tokenize``.
            add_special_tokens: As in ``tokenize``.
            limit: Most tokens returned for a text; None returns all, and a text of any length is then tokenised in one
                step, which no deadline ends.
            timeout_s: As in ``tokenize``.
        """
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
        model: str | ModelInfo | None = None,
        skip_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> list[str]:
        """The text of each row of token ids, none empty; what the tokenizer drops, such as case, does not come back.

        ``skip_special_tokens`` leaves out the tokens that the tokenizer's template added. Else arguments and errors are
        those of ``tokenize``.
        """
        deadline = self._deadline(timeout_s)
        rows = check_ids(ids)
        tokenizer = (await self._session.load(model, ANY_TASK, deadline)).tokenizer
        steps = tokenizer.decode(rows, skip_special_tokens=skip_special_tokens)
        return await self._session.compute(steps, deadline, heavy=True)

    @property
    def replicas(self) -> list[Replica]:
        """Each server as it stands now, without asking it."""
        return self._servers.replicas

    async def models(self, *, timeout_s: float | None = None) -> list[ModelInfo]:
        """All conch models of the server, by name."""
        return await self._servers.models(self._deadline(timeout_s))

    async def model(self, name: str, *, timeout_s: float | None = None) -> ModelInfo:
        """One model, loaded or not; raises ModelNotFoundError if the server has none of that name."""
        return await self._servers.find(name, ANY_TASK, self._deadline(timeout_s))

    async def is_ready(self) -> bool:
        """Whether the server answers and can run at least one conch model now; False if it says nothing for 5 s."""
        return await self._session.is_ready(Deadline(READY_TIMEOUT_S))

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Returns as soon as ``is_ready``; raises DeadlineExceededError after ``timeout_s``."""
        await self._session.wait_until_ready(Deadline(timeout_s))

    async def close(self) -> None:
        """Closes the connection; calls under way fail, and so do later ones."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self._limits.timeout_s if timeout_s is None else timeout_s)
