"""Questions to a running Triton over gRPC: is it alive, and which models are not ready?"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import tritonclient.grpc.aio as triton

if TYPE_CHECKING:
    from collections.abc import Sequence


class Probe:
    """One connection, made when Triton first listens, so that gRPC's back-off never delays an answer.

    No answer is a no, whatever the reason: that Triton has gone, hangs, or that this process has no descriptor left.
    """

    def __init__(self, host: str, port: int, name: str, models: Sequence[str], *, timeout_s: float) -> None:
        self._address = (host, port)
        self._name = name
        self._models = models
        self._timeout_s = timeout_s
        self._client: triton.InferenceServerClient | None = None

    async def alive(self) -> bool:
        """Whether the server of that name answers; another one may have taken its port."""
        try:
            client = await self._connect()
            metadata = await client.get_server_metadata(client_timeout=self._timeout_s)
            return bool(metadata.name == self._name)
        except Exception:  # noqa: BLE001
            return False

    async def unready(self) -> list[str]:
        """Models that do not answer ready, all of them when the server does not answer.

        The server's own readiness is not asked: one failed load keeps it false though the other models serve.
        """
        try:
            client = await self._connect()
            ready = [await client.is_model_ready(name, client_timeout=self._timeout_s) for name in self._models]
        except Exception:  # noqa: BLE001
            return list(self._models)
        return [name for name, yes in zip(self._models, ready, strict=True) if not yes]

    async def close(self) -> None:
        """Close the connection, whatever has become of it; it is made anew when asked again."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()

    async def _connect(self) -> triton.InferenceServerClient:
        if self._client is None:
            _, writer = await asyncio.wait_for(asyncio.open_connection(*self._address), self._timeout_s)
            writer.close()
            # gRPC shares connections, and their back-off, between the channels of a process; not this one.
            alone = [("grpc.use_local_subchannel_pool", 1)]
            self._client = triton.InferenceServerClient("{}:{}".format(*self._address), channel_args=alone)
        return self._client
