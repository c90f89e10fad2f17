"""Calls to an upstream over HTTP: attempts, and what its refusals mean here."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx
import orjson
from conch_client import InvalidInputError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from conch_gateway.backends.upstream_table import UpstreamTable
from conch_gateway.errors import UpstreamBusyError, UpstreamError

_CONNECT_TIMEOUT_S = 5.0
_RETRIED_STATUSES = frozenset({500, 502, 503, 504})
_REFUSED_STATUSES = frozenset({400, 413, 422})
_LONGEST_RETRY_AFTER_S = 120
_SHOWN_CHARACTERS = 300
# A server on this machine is never reached through the proxy that `http_proxy` names.
_WITHOUT_PROXY = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))


_INDICES = re.compile(r"\[(\d{1,4}(?:, \d{1,4})*)\]")  # as in "input[3] is too long"


class _PassingError(Exception):
    """Perhaps gone with the next attempt."""


class UpstreamServer:
    """The server of one table of the models file; belongs to one event loop."""

    def __init__(self, table: UpstreamTable) -> None:
        """Raise ModelsFileError where the server's key is missing."""
        self._retries = table.retries
        key = table.api_key()
        self._http = httpx.AsyncClient(
            base_url=table.url,
            headers={} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"},
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            mounts=_WITHOUT_PROXY,
        )

    async def ask(self, path: str, body: Mapping[str, object], request_id: str) -> bytes:
        """Return the content of its answer, after as many attempts as it takes and the table allows.

        Raises:
            InvalidInputError: it refused the request; with the indices that its message has.
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
            raise failure(str(error)) from error

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def _ask_once(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        try:
            answer = await self._http.post(path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise _PassingError(f"it cannot be reached ({type(error).__name__})") from error
        if answer.status_code == httpx.codes.OK:
            return answer.content
        raise _refusal(answer)


def failure(reason: str) -> UpstreamError:
    """Return the error of an upstream that failed; it names no model: the caller may know it by an alias only."""
    return UpstreamError(f"the server of the model failed: {reason}")


def _refusal(answer: httpx.Response) -> Exception:
    status = answer.status_code
    if status in _RETRIED_STATUSES:
        return _PassingError(f"it answered {status}")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return UpstreamBusyError("the server of the model takes no more now", _retry_after_s(answer))
    if status in _REFUSED_STATUSES:
        message = _message(answer)
        found = _INDICES.search(message)
        indices = [int(index) for index in found[1].split(", ")] if found is not None else []
        return InvalidInputError(f"the server of the model refused the request: {message}", indices)
    if status in {401, 403}:
        return failure("it refused the gateway's key; set the one that api_key_env or api_key_file names")
    if status == httpx.codes.NOT_FOUND:
        return failure("it has no such model or path; check `url` and `model` in the models file")
    return failure(f"it answered {status}")


def _retry_after_s(answer: httpx.Response) -> int:
    stated = answer.headers.get("retry-after", "")
    return min(int(stated), _LONGEST_RETRY_AFTER_S) if stated.isdecimal() and len(stated) < 10 else 1


def _message(answer: httpx.Response) -> str:
    """What went wrong, as OpenAI's dialect says it, or Cohere's and Jina's, or any other."""
    try:
        body = answer.json()
        error = body.get("error") or body.get("message") or body
        text = error.get("message") or error if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = answer.text
    return str(text)[:_SHOWN_CHARACTERS]
