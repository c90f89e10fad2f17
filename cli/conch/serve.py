"""`conch serve`: Triton and the REST gateway in one process, ready when this has asked itself something."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import ssl
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_gateway import Gateway, GatewaySettings
    from conch_server import ServerSettings, Supervisor

console = Console()
errors = Console(stderr=True)
# typer evaluates these on Python 3.10
OptionalInt = Optional[int]  # noqa: UP045
OptionalPath = Optional[Path]  # noqa: UP045
OptionalStr = Optional[str]  # noqa: UP045
POLL_S = 0.5
VECTOR_TYPES = {"embedding": "dense", "multi-vector": "late", "sparse": "sparse"}


class _NoAnswerError(Exception):
    """The gateway listens but does not answer; the message says what it said instead."""


def serve(
    host: Annotated[OptionalStr, typer.Option(help="Address of the gateway.  [env: CONCH_HOST]")] = None,
    port: Annotated[OptionalInt, typer.Option(help="Port of the gateway.  [env: CONCH_PORT]")] = None,
    repository: Annotated[
        OptionalPath, typer.Option(help="Triton's model repository.  [env: CONCH_MODEL_REPOSITORY]")
    ] = None,
    triton_url: Annotated[
        OptionalStr,
        typer.Option(metavar="HOST:PORT", help="Use that Triton instead of starting one.  [env: CONCH_TRITON_URL]"),
    ] = None,
    triton_grpc_port: Annotated[
        OptionalInt, typer.Option(help="gRPC port of the Triton to start.  [env: CONCH_TRITON_GRPC_PORT]")
    ] = None,
    triton_metrics_port: Annotated[
        OptionalInt, typer.Option(help="Its metrics port, 0 for none.  [env: CONCH_TRITON_METRICS_PORT]")
    ] = None,
    run_directory: Annotated[OptionalPath, typer.Option(help="Logs and such.  [env: CONCH_RUN_DIRECTORY]")] = None,
) -> None:
    """Serve the models of the repository over gRPC and REST until SIGTERM or Ctrl-C."""
    try:
        gateway, server = _settings(
            given={"host": host, "port": port, "triton_url": triton_url},
            for_triton={
                "model_repository": repository,
                "triton_grpc_port": triton_grpc_port,
                "triton_metrics_port": triton_metrics_port,
                "run_directory": run_directory,
            },
        )
        if server is not None:
            _complete_publication(server.model_repository)
        _run(gateway, server)
    except ModuleNotFoundError as error:
        _fail(f"{error}; install what serving needs: pip install 'conch[gateway,server]'")
    except ValueError as error:
        _fail(_one_line(error))


def _complete_publication(repository: Path) -> None:
    """Put models in their places whose export was killed after it had published them: half of them would be old."""
    if not (repository / ".staging" / "ready").exists():
        return
    from conch_export import ExportError  # noqa: PLC0415
    from conch_export.triton.publish import complete  # noqa: PLC0415

    try:
        complete(repository)
    except ExportError as error:
        _fail(str(error))


def _settings(given: dict[str, Any], for_triton: dict[str, Any]) -> tuple[GatewaySettings, ServerSettings | None]:
    """Flags over environment over defaults; no ServerSettings when a Triton runs elsewhere."""
    from conch_gateway import GatewaySettings  # noqa: PLC0415

    gateway = GatewaySettings(**_set(given))
    if "triton_url" in gateway.model_fields_set:
        return gateway, None
    from conch_server import ServerSettings  # noqa: PLC0415

    server = ServerSettings(**_set(for_triton))
    return gateway.model_copy(update={"triton_url": f"{server.triton_host}:{server.triton_grpc_port}"}), server


def _set(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _run(gateway: GatewaySettings, server: ServerSettings | None) -> None:
    import uvloop  # noqa: PLC0415
    from conch_gateway import GatewayError  # noqa: PLC0415

    failures: tuple[type[Exception], ...] = (GatewayError, _NoAnswerError)
    if server is not None:
        from conch_server import ServingError  # noqa: PLC0415

        failures = (*failures, ServingError)
    logging.basicConfig(level=gateway.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        uvloop.run(_serve(gateway, server))
    except failures as error:
        _fail(str(error))


def _fail(message: str) -> None:
    errors.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)
    raise typer.Exit(1)


def _one_line(error: ValueError) -> str:
    """What pydantic found wrong, a setting at a time, without its links and headings."""
    found = getattr(error, "errors", None)
    if found is None:
        return str(error)
    return "; ".join(f"CONCH_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in found())


async def _serve(settings: GatewaySettings, server: ServerSettings | None) -> None:
    """Serve until a signal cancels this."""
    from conch_gateway import Gateway  # noqa: PLC0415

    supervisor = None if server is None else _supervisor_of(settings, server)
    _stop_on_signals(supervisor)
    with contextlib.suppress(asyncio.CancelledError):
        # Left in the opposite order: the gateway finishes its requests while Triton still answers them.
        async with contextlib.AsyncExitStack() as parts:
            if supervisor is not None:
                with console.status("starting Triton"):
                    await parts.enter_async_context(supervisor)
            gateway = await parts.enter_async_context(Gateway(settings))
            # No part ends before it is left: one that does raises, which ends the process.
            ends = [part.wait() for part in (gateway, supervisor) if part is not None]
            await asyncio.gather(_announce(gateway, settings.triton_url), *ends)


def _supervisor_of(settings: GatewaySettings, server: ServerSettings) -> Supervisor:
    from conch_server import Supervisor, check_free  # noqa: PLC0415

    # Said now, not after the models have been loaded for nothing.
    check_free(settings.host, settings.port, "CONCH_PORT (--port)")
    return Supervisor(server)


def _stop_on_signals(supervisor: Supervisor | None) -> None:
    """Let a signal cancel the running task, which stops in order; a further one does not wait for what is in flight."""
    loop, serving, told = asyncio.get_running_loop(), asyncio.current_task(), itertools.count()

    def stop() -> None:
        if next(told) and supervisor is not None:
            supervisor.abort()
        if serving is not None:
            serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(number, stop)


async def _models_that_answer(url: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Wait until all models are ready, then ask one of Triton's something, as any client would."""
    ask = partial(asyncio.to_thread, partial(_http, headers))
    status: int = 0
    health: Any = None
    while status != 200:
        status, health = await ask(f"{url}/health/ready")
        await asyncio.sleep(0 if status == 200 else POLL_S)
    models: list[dict[str, Any]] = (await ask(f"{url}/v1/models"))[1]["data"]
    loaded = [model for model in models if model["id"] in health["models"]]
    if not loaded:
        return models
    path, body = _question(loaded[0])
    status, answer = await ask(f"{url}{path}", body)
    if status != 200:
        raise _NoAnswerError(f"the gateway answered {status} to its first request: {answer}")
    return models


def _question(model: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if model["task"] in VECTOR_TYPES:
        vector_type = VECTOR_TYPES[model["task"]]
        return "/v1/embeddings", {"model": model["id"], "input": "ready", "vector_type": vector_type}
    return "/v1/rerank", {"model": model["id"], "query": "ready", "documents": ["ready"]}


def _http(headers: Mapping[str, str], url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Return status and JSON of one request; the address is the gateway's own, so its certificate proves nothing."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})  # noqa: S310
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
    )
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def _loopback(url: str) -> str:
    """Where this machine reaches a gateway that listens on every interface."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


async def _announce(gateway: Gateway, triton_url: str) -> None:
    """Say where it is served, once it has answered."""
    with console.status("waiting for the models"):
        models = await _models_that_answer(_loopback(gateway.url), gateway.headers)
    table = Table(title="conch serves", title_justify="left", show_header=False)
    table.add_row("REST", gateway.url)
    table.add_row("docs", f"{_loopback(gateway.url)}/docs")
    table.add_row("gRPC (Triton)", triton_url)
    table.add_row("models", "\n".join(f"{model['id']} ({model['task']})" for model in models))
    console.print(table)
