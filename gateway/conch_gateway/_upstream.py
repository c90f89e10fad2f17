"""A model of another OpenAI-compatible server, asked over HTTP; what its answers can be wrong in is decided here.

Its vectors are handed on as they come, once they were found to be as many as asked for, of one length, and finite.
"""

import asyncio
import base64
import binascii
from typing import Any, NamedTuple

import httpx
import numpy as np
import orjson
from conch_client import DeadlineExceededError, ModelInfo
from numpy.typing import NDArray
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from conch_gateway._fields import Texts
from conch_gateway._models_file import UpstreamTable
from conch_gateway.errors import InvalidValueError, UpstreamBusyError, UpstreamError

_CONNECT_TIMEOUT_S = 5.0
_RETRIED_STATUSES = frozenset({500, 502, 503, 504})
_REFUSED_STATUSES = frozenset({400, 413, 422})
_LONGEST_RETRY_AFTER_S = 120
_SHOWN_CHARACTERS = 300


class UpstreamAnswer(NamedTuple):
    """`vectors` is float32 [texts, dimension]; `tokens` is what the other server says it computed."""

    vectors: NDArray[np.float32]
    tokens: int


class _PassingError(Exception):
    """Perhaps gone with the next attempt."""


class Upstream:
    """One public name of another server's model; belongs to one event loop."""

    def __init__(self, name: str, table: UpstreamTable) -> None:
        self.info = _info(name, table)
        self._table = table
        key = table.api_key()
        self._http = httpx.AsyncClient(
            base_url=table.url,
            headers={} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"},
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def embed(self, texts: Texts, dimensions: int | None, **options: object) -> UpstreamAnswer:
        """Return the vectors of texts or token ids; `options` are further fields of the request, None left out.

        Raises:
            InvalidValueError: the other server refused the request as it is.
            UpstreamBusyError: it takes no more now.
            UpstreamError: it cannot be reached, failed, or answered nonsense.
            DeadlineExceededError: no answer within the table's `timeout_s`, attempts included.
        """
        fields = {"dimensions": dimensions, **options}
        body: dict[str, object] = {"model": self._table.model, "input": texts, "encoding_format": "base64"}
        body |= {name: value for name, value in fields.items() if value is not None}
        try:
            content = await asyncio.wait_for(self._ask(orjson.dumps(body)), self._table.timeout_s)
        except asyncio.TimeoutError as error:
            msg = f"the server of {self.info.name} did not answer within {self._table.timeout_s:g} s"
            raise DeadlineExceededError(msg) from error
        except _PassingError as error:
            raise self._failed(str(error)) from error
        return self._read(content, len(texts), dimensions or self._table.dimension)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def _ask(self, body: bytes) -> bytes:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(1 + self._table.retries),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        return await attempts(self._ask_once, body)

    async def _ask_once(self, body: bytes) -> bytes:
        try:
            answer = await self._http.post("embeddings", content=body, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            msg = f"it cannot be reached ({type(error).__name__})"
            raise _PassingError(msg) from error
        if answer.status_code == httpx.codes.OK:
            return answer.content
        raise self._refusal(answer)

    def _refusal(self, answer: httpx.Response) -> Exception:
        status = answer.status_code
        if status in _RETRIED_STATUSES:
            return _PassingError(f"it answered {status}")
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return UpstreamBusyError(f"the server of {self.info.name} takes no more now", _retry_after_s(answer))
        if status in _REFUSED_STATUSES:
            return InvalidValueError(f"the server of {self.info.name} refused the request: {_message(answer)}")
        if status in {401, 403}:
            return self._failed("it refused the gateway's key; set the one that api_key_env or api_key_file names")
        if status == httpx.codes.NOT_FOUND:
            return self._failed("it has no such model or path; check `url` and `model` in the models file")
        return self._failed(f"it answered {status}")

    def _read(self, content: bytes, count: int, dimension: int | None) -> UpstreamAnswer:
        try:
            answer = orjson.loads(content)
            items = sorted(answer["data"], key=lambda item: item["index"])
            vectors = np.stack([_vector(item["embedding"]) for item in items])
            tokens = int((answer.get("usage") or {}).get("total_tokens", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._failed("its answer cannot be read") from error
        if [item["index"] for item in items] != list(range(count)):
            raise self._failed(f"it answered {len(items)} vectors for {count} texts")
        if dimension is not None and vectors.shape[1] != dimension:
            raise self._failed(f"its vectors have {vectors.shape[1]} numbers instead of {dimension}")
        if not np.isfinite(vectors).all():
            raise self._failed("its vectors have numbers that are not finite")
        return UpstreamAnswer(vectors, tokens)

    def _failed(self, reason: str) -> UpstreamError:
        return UpstreamError(f"the server of {self.info.name} failed: {reason}")


def _vector(value: Any) -> NDArray[np.float32]:
    """Decode base64 of little-endian float32, or take a list of numbers; raises ValueError or TypeError."""
    if isinstance(value, str):
        try:
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        except binascii.Error as error:
            raise ValueError(str(error)) from error
    vector = np.asarray(value, np.float32)
    if vector.ndim != 1:
        msg = "not a list of numbers"
        raise ValueError(msg)
    return vector


def _retry_after_s(answer: httpx.Response) -> int:
    told = answer.headers.get("retry-after", "")
    return min(int(told), _LONGEST_RETRY_AFTER_S) if told.isdecimal() and len(told) < 10 else 1


def _message(answer: httpx.Response) -> str:
    try:
        told = answer.json()
        error = told.get("error", told)
        text = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = answer.text
    return str(text)[:_SHOWN_CHARACTERS]


def _info(name: str, table: UpstreamTable) -> ModelInfo:
    return ModelInfo(
        name=name,
        base=None,
        task="embedding",
        ready=True,
        architecture="",
        precision="",
        description="A model of another server.",
        max_length=table.max_length,
        max_rows=2048,
        inputs=(),
        output="embedding",
        tokenizer="",
        tokenizer_sha256="",
        tokenizer_bytes=0,
        source=table.model,
        revision="",
        weights_sha256="",
        dimension=table.dimension,
        pooling=None,
        normalized=False,
        prompts={},
        default_prompt_name=None,
        matryoshka_dimensions=table.matryoshka_dimensions,
    )
