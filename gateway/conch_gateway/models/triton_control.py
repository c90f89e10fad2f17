"""What only an administrator may ask of Triton: the index of its repository, and to load and unload models.

Triton answers these calls only if its key comes as a header (`--grpc-restricted-protocol`), because a load can
bring files along, which are then run. Clients need none of them.
"""

from __future__ import annotations

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


class TritonControl:
    """A connection with the key; belongs to the loop of its first call."""

    def __init__(self, url: str, key: SecretStr) -> None:
        self._url = url
        self._metadata = ((_HEADER, key.get_secret_value()),)
        self._channel: grpc.aio.Channel | None = None

    async def index(self, timeout_s: float) -> dict[str, str]:
        """Return the state of every model of the repository: READY, LOADING, UNLOADING, UNAVAILABLE or nothing yet."""
        answer = await self._call("RepositoryIndex", pb.RepositoryIndexRequest(), timeout_s)
        return {entry.name: entry.state for entry in answer.models}

    async def load(self, name: str, timeout_s: float) -> None:
        """Load a model, or anew if it has changed on the disk since; then the loaded one stays should the new one fail.

        Raises:
            ServerError: it cannot be loaded; the message is Triton's.
            UnavailableError: Triton cannot be reached, or has another key.
            DeadlineExceededError: it took too long.
        """
        await self._call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name), timeout_s)

    async def unload(self, name: str, timeout_s: float) -> None:
        """Begin to unload a model; raises as `load` does."""
        await self._call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name), timeout_s)

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def _call(self, method: str, request: object, timeout_s: float) -> pb.RepositoryIndexResponse:
        if self._channel is None:  # a channel takes the running loop, and there may be none yet in __init__
            self._channel = grpc.aio.insecure_channel(self._url, options=_OPTIONS)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        try:
            return await getattr(stub, method)(request, metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as failure:
            kind = _STATUS.get(failure.code(), ServerError)
            msg = f"Triton refused {method}: {failure.details()}"
            raise kind(msg) from failure
