"""Calls to the servers of an upstream over HTTP: chooses the server, repeats a call that failed, and maps refusals."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import TypeVar

import anyio
import httpx
import orjson
from conch_client import InvalidInputError, Replica
from conch_client.routing import Call, Member, Outcome, Pool, State
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from conch_gateway.backends.upstream_answers import NonsenseError
from conch_gateway.backends.upstream_table import UpstreamTable
from conch_gateway.errors import ModelsFileError, UpstreamBusyError, UpstreamError
from conch_gateway.hops import via

_CONNECT_TIMEOUT_S = 5.0
_RETRIED_STATUSES = frozenset({500, 502, 503, 504})
_REFUSED_STATUSES = frozenset({400, 413, 422})
_KEY_REFUSED = "it refused the gateway's key; set the one that api_key_env or api_key_file names"
_REASONS = {
    401: _KEY_REFUSED,
    403: _KEY_REFUSED,
    404: "it has no such model or path; check `url` and `model` in the models file",
    508: "its `url` in the models file leads back to a gateway that the request came through; correct it",
}
_LONGEST_RETRY_AFTER_S = 120
_SHOWN_CHARACTERS = 300
# Of other encodings a few bytes may become gigabytes at once; how many gzip's can is known.
_COMPRESSED = {"accept-encoding": "gzip"}
_ENCODINGS = frozenset({"", "identity", "gzip"})
_MOST_BYTES = 1 << 28
"""Of an answer: 2,048 vectors of 4,096 numbers take 180 MB where a server writes the numbers out."""
# A server on this machine is never reached through the proxy that `http_proxy` names.
_WITHOUT_PROXY = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
_FAILED = "the server of the model failed: "

Answer = TypeVar("Answer")
Send = Callable[[httpx.AsyncClient], Awaitable[bytes]]

_INDICES = re.compile(r"\[(\d{1,4}(?:, \d{1,4})*)\]")  # as in "input[3] is too long"


class _PassingError(UpstreamError):
    """A failure that may be temporary, so the call is tried again."""


class _AwayError(_PassingError):
    """The server cannot be reached."""


class UpstreamServers:
    """The servers of one table of the models file, which share its calls; belongs to one event loop."""

    def __init__(self, table: UpstreamTable) -> None:
        """Raise ModelsFileError where the servers' key is missing, or the authorities cannot be read."""
        self._retries = table.retries
        self._pool: Pool[httpx.AsyncClient] = Pool()
        key = table.api_key()
        for url in dict.fromkeys(table.url):
            http = httpx.AsyncClient(
                base_url=url,
                headers=_COMPRESSED | ({} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"}),
                verify=_authorities(),
                timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                mounts=_WITHOUT_PROXY,
            )
            load = self._pool.add(http).load
            load.parallel = load.most = table.calls

    @property
    def replicas(self) -> list[Replica]:
        """Each server as it stands now."""
        # Labels of metrics show no password.
        urls = [str(member.server.base_url.copy_with(userinfo=b"")).rstrip("/") for member in self._pool.members]
        return [member.seen(url) for member, url in zip(self._pool.members, urls, strict=True)]

    @property
    def in_service(self) -> int:
        """Number of servers that take calls; all if none is in service, as calls are then tried at any."""
        members = self._pool.members
        return sum(member.standing.state is State.SERVING for member in members) or len(members)

    async def ask(
        self, path: str, body: Mapping[str, object], request_id: str, tokens: int, read: Callable[[bytes], Answer]
    ) -> Answer:
        """Return what is read of an answer, after as many attempts as it takes and the table allows.

        An attempt that failed is followed by one at another server at once, or, where there is none, after a while.

        Raises:
            InvalidInputError: a server refused the request; with the indices that its message has.
            UpstreamBusyError: none takes more now.
            UpstreamError: none can be reached, or all failed.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(1 + self._retries),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        headers = {"content-type": "application/json", "x-request-id": request_id, "via": via()}
        content = orjson.dumps(body)
        return await attempts(self._ask_in_turn, tokens, lambda server: _ask(server, path, content, headers), read)

    async def close(self) -> None:
        """Close all connections."""
        for member in self._pool.members:
            await member.server.aclose()

    async def _ask_in_turn(self, tokens: int, send: Send, read: Callable[[bytes], Answer]) -> Answer:
        """Ask one server after another, until one answers or all have failed."""
        tried: list[Member[httpx.AsyncClient]] = []
        while True:
            call = self._pool.begin(tokens, _any, tried)
            if call is None:
                raise failure("it has no servers")
            tried.append(call.member)
            try:
                return await self._attempt(call, send, read)
            except (UpstreamError, UpstreamBusyError):
                if not self._pool.may_repeat(_any, tried):
                    raise

    async def _attempt(self, call: Call[httpx.AsyncClient], send: Send, read: Callable[[bytes], Answer]) -> Answer:
        ended, rests_s = Outcome.ABANDONED, 0.0
        # With one server there is nothing better to do than to wait.
        several = len(self._pool.members) > 1
        patience_s = call.member.load.patience_s(call.task) if several else None
        try:
            with anyio.fail_after(patience_s):
                answer = read(await send(call.member.server))
            ended = Outcome.ANSWERED
        except TimeoutError as error:
            ended = Outcome.LOST
            raise _AwayError(f"{_FAILED}it did not answer within {patience_s:.0f} s") from error
        except NonsenseError as error:
            ended = Outcome.FAILED
            raise failure(str(error)) from error
        except UpstreamError as error:
            ended = Outcome.LOST if isinstance(error, _AwayError) else Outcome.FAILED
            raise
        except UpstreamBusyError as error:
            ended, rests_s = Outcome.BUSY, error.retry_after_s
            raise
        except InvalidInputError:
            ended = Outcome.REFUSED
            raise
        except asyncio.CancelledError:
            # Callers may be less patient than that: a server that hangs would be asked again and again.
            if several and self._pool.is_mute(call):
                ended = Outcome.LOST
            raise
        finally:
            self._pool.end(call, ended, rests_s=rests_s)
        return answer


@cache
def _authorities() -> ssl.SSLContext:
    """Return the settings of TLS that all servers share: reading the certificates of the authorities takes 25 ms.

    They are read once, so that a file of them that has changed counts after a restart.

    Raises:
        ModelsFileError: SSL_CERT_FILE or SSL_CERT_DIR names what cannot be read.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        msg = f"the authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({error}); correct or unset it"
        raise ModelsFileError(msg) from error


def _any(_: httpx.AsyncClient) -> bool:
    return True


async def _ask(server: httpx.AsyncClient, path: str, content: bytes, headers: Mapping[str, str]) -> bytes:
    try:
        async with server.stream("POST", path, content=content, headers=headers) as answer:
            body = await _body(answer)
    except httpx.HTTPError as error:
        raise _AwayError(f"{_FAILED}it cannot be reached ({type(error).__name__})") from error
    if answer.status_code == httpx.codes.OK:
        return body
    raise _refusal(answer, body)


async def _body(answer: httpx.Response) -> bytes:
    if (encoding := answer.headers.get("content-encoding", "")).lower() not in _ENCODINGS:
        raise failure(f"its answer is encoded as {encoding[:_SHOWN_CHARACTERS]!r}; it was asked for gzip or none")
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > _MOST_BYTES:
            raise failure(f"its answer has more than {_MOST_BYTES >> 20} MiB; lower max_rows in the models file")
    return bytes(body)


def failure(reason: str) -> UpstreamError:
    """Return the error of an upstream that failed; it names no model: the caller may know it by an alias only."""
    return UpstreamError(_FAILED + reason)


def _refusal(answer: httpx.Response, body: bytes) -> Exception:
    status = answer.status_code
    if status in _RETRIED_STATUSES:
        return _PassingError(f"{_FAILED}it answered {status}")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return UpstreamBusyError("the server of the model takes no more now", _retry_after_s(answer))
    if status in _REFUSED_STATUSES:
        message = _message(body)
        found = _INDICES.search(message)
        indices = [int(index) for index in found[1].split(", ")] if found is not None else []
        return InvalidInputError(f"the server of the model refused the request: {message}", indices)
    return failure(_REASONS.get(status, f"it answered {status}"))


def _retry_after_s(answer: httpx.Response) -> int:
    stated = answer.headers.get("retry-after", "")
    return min(int(stated), _LONGEST_RETRY_AFTER_S) if stated.isdecimal() and len(stated) < 10 else 1


def _message(body: bytes) -> str:
    """Return the message of an error in OpenAI's dialect, in Cohere's and Jina's, or in any other form."""
    try:
        told = orjson.loads(body)
        error = told.get("error") or told.get("message") or told
        text = error.get("message") or error if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = body.decode(errors="replace")
    return str(text)[:_SHOWN_CHARACTERS]
