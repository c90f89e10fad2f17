"""Another server, asked over HTTP: attempts at it, and what its refusals mean here."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from conch_gateway.errors import InvalidValueError, UpstreamBusyError, UpstreamError
from conch_gateway.models.models_file import UpstreamTable

_CONNECT_TIMEOUT_S = 5.0
_RETRIED_STATUSES = frozenset({500, 502, 503, 504})
_REFUSED_STATUSES = frozenset({400, 413, 422})
_LONGEST_RETRY_AFTER_S = 120
_SHOWN_CHARACTERS = 300


class _PassingError(Exception):
    """Perhaps gone with the next attempt."""


class OtherServer:
    """The server of one table of the models file; belongs to one event loop."""

    def __init__(self, name: str, table: UpstreamTable) -> None:
        """`name` is the model's public one, for messages; raises ModelsFileError when the key is missing."""
        self._name = name
        self._retries = table.retries
        key = table.api_key()
        self._http = httpx.AsyncClient(
            base_url=table.url,
            headers={} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"},
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def ask(self, path: str, body: Mapping[str, object], request_id: str) -> bytes:
        """Return the content of its answer, after as many attempts as it takes and the table allows.

        Raises:
            InvalidValueError: it refused the request as it is.
            UpstreamBusyError: it takes no more now.
            UpstreamError: it cannot be reached, or failed.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(1 + self._retries),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        headers = {"content-type": "application/json", "x-request-id": request_id}
        try:
            return await attempts(self._ask_once, path, orjson.dumps(body), headers)
        except _PassingError as error:
            raise self.failed(str(error)) from error

    def failed(self, reason: str) -> UpstreamError:
        """Return the error that says so."""
        return UpstreamError(f"the server of {self._name} failed: {reason}")

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def _ask_once(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        try:
            answer = await self._http.post(path, content=body, headers=headers)
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
            return UpstreamBusyError(f"the server of {self._name} takes no more now", _retry_after_s(answer))
        if status in _REFUSED_STATUSES:
            return InvalidValueError(f"the server of {self._name} refused the request: {_message(answer)}")
        if status in {401, 403}:
            return self.failed("it refused the gateway's key; set the one that api_key_env or api_key_file names")
        if status == httpx.codes.NOT_FOUND:
            return self.failed("it has no such model or path; check `url` and `model` in the models file")
        return self.failed(f"it answered {status}")


def _retry_after_s(answer: httpx.Response) -> int:
    told = answer.headers.get("retry-after", "")
    return min(int(told), _LONGEST_RETRY_AFTER_S) if told.isdecimal() and len(told) < 10 else 1


def _message(answer: httpx.Response) -> str:
    """What went wrong, as OpenAI's dialect says it, or Cohere's and Jina's, or any other."""
    try:
        told = answer.json()
        error = told.get("error") or told.get("message") or told
        text = error.get("message") or error if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = answer.text
    return str(text)[:_SHOWN_CHARACTERS]
