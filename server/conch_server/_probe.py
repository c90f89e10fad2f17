"""Questions to a running Triton over gRPC: is it alive, and which models are not ready?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import Sequence


class Probe:
    """One connection, made when Triton first listens, so that gRPC's back-off never delays an answer."""

    def __init__(self, host: str, port: int, models: Sequence[str], *, timeout_s: float) -> None:
        self._address = (host, port)
        self._models = models
        self._timeout_s = timeout_s
        self._client: triton.InferenceServerClient | None = None

    async def alive(self) -> bool:
        """Whether the server answers; only a listening one can be asked."""
        client = await self._connect()
        if client is None:
            return False
        try:
            return bool(await client.is_server_live(client_timeout=self._timeout_s))
        except InferenceServerException:
            return False

    async def unready(self) -> list[str]:
        """Models that do not answer ready, all of them when the server does not answer.

        The server's own readiness is not asked: one failed load keeps it false though the other models serve.
        """
        client = await self._connect()
        if client is None:
            return list(self._models)
        try:
            ready = [await client.is_model_ready(name, client_timeout=self._timeout_s) for name in self._models]
        except InferenceServerException:
            return list(self._models)
        return [name for name, yes in zip(self._models, ready, strict=True) if not yes]

    async def close(self) -> None:
        """Close the connection; it is made anew when asked again."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _connect(self) -> triton.InferenceServerClient | None:
        if self._client is None:
            try:
                _, writer = await asyncio.open_connection(*self._address)
            except OSError:
                return None
            writer.close()
            # gRPC shares connections, and their back-off, between the channels of a process; not this one.
            alone = [("grpc.use_local_subchannel_pool", 1)]
            self._client = triton.InferenceServerClient("{}:{}".format(*self._address), channel_args=alone)
        return self._client
