"""Triton's restricted calls: read the index of its repository, load and unload models.

Triton answers these calls only if its key comes as a header (`--grpc-restricted-protocol`), because a load can
bring files along, which are then run. Clients need none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc.aio
from conch_client import ConchError, DeadlineExceededError, ServerError, UnavailableError
from pydantic import SecretStr
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

_HEADER = "triton-grpc-protocol-conch-admin"
# A restarted Triton is found again within half a second, and no other channel's back-off is inherited.
_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # the key is for Triton alone
]
_STATUS: dict[grpc.StatusCode, type[ConchError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}

Index = dict[str, str]
"""The state of every model of a repository: READY, LOADING, UNLOADING, UNAVAILABLE or nothing yet."""


class TritonControl:
    """Connections with the key to every Triton; belongs to the loop of its first call.

    Args:
        urls: returns the addresses that there are now.
        key: of all of them.
    """

    def __init__(self, urls: Callable[[], Sequence[str]], key: SecretStr) -> None:
        self._urls = urls
        self._metadata = ((_HEADER, key.get_secret_value()),)
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def indexes(self, timeout_s: float) -> dict[str, Index]:
        """Return the index of each Triton that answers, by its address; raises as `load` does if none answers."""
        urls = self._urls()
        await self._forget_all_but(urls)
        found = await asyncio.gather(*(self.index(url, timeout_s) for url in urls), return_exceptions=True)
        failures = [answer for answer in found if isinstance(answer, BaseException)]
        if len(failures) == len(urls):
            raise failures[0] if failures else UnavailableError("no Triton is known; see CONCH_TRITON_URL")
        return {url: answer for url, answer in zip(urls, found, strict=True) if not isinstance(answer, BaseException)}

    async def index(self, url: str, timeout_s: float) -> Index:
        """Return the index of one."""
        answer = await self._call(url, "RepositoryIndex", pb.RepositoryIndexRequest(), timeout_s)
        return {entry.name: entry.state for entry in answer.models}

    async def load(self, url: str, name: str, timeout_s: float) -> None:
        """Load a model, or anew if it has changed on the disk since; then the loaded one stays should the new one fail.

        Raises:
            ServerError: it cannot be loaded; the message is Triton's.
            UnavailableError: Triton cannot be reached, or has another key.
            DeadlineExceededError: it took too long.
        """
        await self._call(url, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name), timeout_s)

    async def unload(self, url: str, name: str, timeout_s: float) -> None:
        """Begin to unload a model; raises as `load` does."""
        await self._call(url, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name), timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._forget_all_but(())

    async def _forget_all_but(self, urls: Sequence[str]) -> None:
        for url in self._channels.keys() - set(urls):
            await self._channels.pop(url).close()

    async def _call(self, url: str, method: str, request: object, timeout_s: float) -> pb.RepositoryIndexResponse:
        if url not in self._channels:  # a channel takes the running loop, and there may be none yet in __init__
            self._channels[url] = grpc.aio.insecure_channel(url, options=_OPTIONS)
        channel = self._channels[url]
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return await getattr(stub, method)(request, metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as failure:
            kind = _STATUS.get(failure.code(), ServerError)
            msg = f"Triton refused {method}: {failure.details()}"
            raise kind(msg) from failure
        except asyncio.CancelledError as cancelled:
            if self._channels.get(url) is channel:
                raise
            # gRPC cancels the calls of a channel that is closed; nobody has cancelled the task.
            raise UnavailableError(f"Triton was given up during {method}") from cancelled
