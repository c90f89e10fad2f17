"""The gateway as a server: uvicorn on the caller's event loop, started and stopped by the caller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

import uvicorn
from conch_client import AsyncClient
from prometheus_client.registry import Collector
from pydantic import SecretStr
from typing_extensions import Self

from conch_gateway.app import Application, client_of, create_app
from conch_gateway.background import start
from conch_gateway.errors import GatewayError, ListenError
from conch_gateway.middleware.protocol import Protocol
from conch_gateway.settings import GatewaySettings

# Longer than clients (httpx: 5) and balancers (60) keep idle connections: the side that sends must close first.
_KEEP_ALIVE_S = 75


class Gateway:
    """A gateway that listens from `start()` to `stop()`, beside whatever else runs on the event loop.

    It takes no signals and configures no logging: both are the caller's. For the best throughput start the loop with
    `uvloop.run(...)`. It is started once.

        async with Gateway(settings) as gateway:
            print(gateway.url)
            await something_else()
    """

    def __init__(
        self, settings: GatewaySettings, *, client: AsyncClient | None = None, collectors: Iterable[Collector] = ()
    ) -> None:
        """Read all files that the settings name; `collectors` add metrics of the process to `/metrics`.

        Raises:
            GatewayError: one of the files cannot be used, or a setting needs what is not installed.
        """
        self._settings = settings
        self._app = create_app(settings, client or client_of(settings), collectors)
        self._configuration = _configuration(self._app, settings)
        self._resources = AsyncExitStack()
        self._port = settings.port
        self._is_started = False
        self._ticking: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, for example `http://127.0.0.1:8080`; with port 0 known only after `start()`."""
        host = self._settings.host
        scheme = "https" if self._settings.tls_certificate is not None else "http"
        return f"{scheme}://[{host}]:{self._port}" if ":" in host else f"{scheme}://{host}:{self._port}"

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers with a key for this process's own requests."""
        return {"authorization": f"Bearer {self._app.state.keyring.own}"}

    async def check(self) -> None:
        """Open the database of batches, if there is one, and close it again: before models are loaded in vain.

        Raises:
            GatewayError: it cannot be used. One that gateways share and that cannot be reached is only logged.
        """
        if self._app.state.batches is not None:
            await self._app.state.batches.check()

    async def start(self) -> None:
        """Listen; return once requests are accepted. Triton may still be away: then they get 503.

        Raises:
            ListenError: the port is taken, or the address is not this machine's.
            GatewayError: it was started before, or its database of batches cannot be used.
        """
        if self._is_started:
            msg = "this gateway was started before, and its connections are closed since: make another"
            raise GatewayError(msg)
        listener = _listen(self._settings.host, self._settings.port)
        self._is_started = True
        self._port = listener.getsockname()[1]
        async with AsyncExitStack() as resources:
            resources.callback(listener.close)
            await resources.enter_async_context(self._app.router.lifespan_context(self._app))
            server = uvicorn.Server(self._configuration)
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup(sockets=[listener])
            self._ticking = start(server.main_loop(), "the gateway's main loop")
            resources.push_async_callback(_shut_down, server, listener, self._ticking)
            self._resources = resources.pop_all()

    async def wait(self) -> None:
        """Wait until it is stopped; raises GatewayError should it cease to serve before that."""
        if self._ticking is None:
            return
        await asyncio.wait({self._ticking})
        error = self._ticking.exception()
        if error is not None:
            msg = f"the gateway no longer serves: {error!r}"
            raise GatewayError(msg) from error

    async def stop(self) -> None:
        """Stop listening, let requests in flight finish for `shutdown_grace_s`, close the client. Idempotent."""
        await self._resources.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def _shut_down(server: uvicorn.Server, listener: socket.socket, ticking: asyncio.Task[None]) -> None:
    server.should_exit = True
    await asyncio.wait({ticking})
    await server.shutdown(sockets=[listener])
    # What outlasted the grace period was cancelled but not awaited, and still needs the client.
    await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


def _configuration(app: Application, settings: GatewaySettings) -> uvicorn.Config:
    configuration = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",  # entered by start() itself: uvicorn would end the process when it fails
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        ssl_keyfile_password=_revealed(settings.tls_key_password),
    )
    try:
        configuration.load()
    except OSError as error:  # ssl.SSLError is one
        msg = f"cannot use the certificate: {error}; see CONCH_TLS_CERTIFICATE, CONCH_TLS_KEY, CONCH_TLS_KEY_PASSWORD"
        raise ListenError(msg) from error
    return configuration


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"cannot listen on {host}: {reason}; set CONCH_HOST to an address of this machine"
        raise ListenError(msg) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        msg = f"cannot listen on {host}:{port}: {error.strerror}; choose another with CONCH_HOST and CONCH_PORT"
        raise ListenError(msg) from error
    listener.settimeout(0)
    return listener
