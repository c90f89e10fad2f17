"""Health checks of a running Triton over gRPC: is it alive, and which models are not ready?"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import anyio
import tritonclient.grpc.aio as triton

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_server._settings import ServerSettings


class Probe:
    """One gRPC connection to one start of Triton.

    A check that gets no answer has failed, whatever the reason: Triton has ended or hangs, or this process has no file
    descriptor left.

    Args:
        settings: Address of Triton, and the time it has for each answer.
        name: Name of the server; another one may have taken its port.
        models: Models that have to be ready.
    """

    def __init__(self, settings: ServerSettings, name: str, models: Sequence[str]) -> None:
        self._address = (settings.triton_host, settings.triton_grpc_port)
        self._timeout_s = settings.probe_timeout_s
        self._name = name
        self._models = models
        self._client: triton.InferenceServerClient | None = None

    async def alive(self) -> bool:
        """Return whether the server of that name answers."""
        try:
            client = await self._connect()
            metadata = await client.get_server_metadata(client_timeout=self._timeout_s)
            return bool(metadata.name == self._name)
        except Exception:  # noqa: BLE001
            return False

    async def unready(self) -> list[str]:
        """Return the models that are not ready, all of them if the server does not answer.

        The server's own readiness does not help: one failed load keeps it false though the other models serve.
        """
        try:
            client = await self._connect()
            ready = [await client.is_model_ready(name, client_timeout=self._timeout_s) for name in self._models]
        except Exception:  # noqa: BLE001
            return list(self._models)
        return [name for name, is_ready in zip(self._models, ready, strict=True) if not is_ready]

    async def close(self) -> None:
        """Close the connection, broken or not; the next check opens a new one."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()

    async def _connect(self) -> triton.InferenceServerClient:
        if self._client is None:
            # gRPC connects only once Triton listens, so that its back-off after a refused connection delays no check.
            with anyio.fail_after(self._timeout_s):
                _, writer = await asyncio.open_connection(*self._address)
            writer.close()
            # By default the channels of a process share connections and their back-off, and obey `http_proxy`.
            own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            self._client = triton.InferenceServerClient("{}:{}".format(*self._address), channel_args=own)
        return self._client
