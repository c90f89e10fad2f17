"""`conch serve`: the embedded Triton and the REST gateway, announced once a request through both has succeeded."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conch.console import facts, fail, refused, stdout
from conch.importing import importing
from conch.options import named_options, refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    import httpx
    from conch_gateway import Gateway, GatewaySettings
    from conch_server import ServerSettings, Supervisor

POLL_S = 0.5
SAY_EVERY_S = 10.0
LATER = frozenset({429, 503, 504})  # the gateway, or Triton, has others' requests, or Triton is started again
VECTOR_TYPES = {"embedding": "dense", "multi-vector": "late", "sparse": "sparse"}
OF_GATEWAY = frozenset({"host", "port"})
OF_TRITON = frozenset({"repository", "triton_grpc_port", "triton_metrics_port", "run_directory", "no_gateway"})

logger = logging.getLogger("conch")


class _NoAnswerError(Exception):
    """The gateway's first request failed; the message has its answer."""


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address of the gateway.  [env var: CONCH_HOST; default: 127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gateway.  [env var: CONCH_PORT; default: 8080]")] = None,
    repository: Annotated[
        Path | None,
        typer.Option(help="Triton's model repository.  [env var: CONCH_MODEL_REPOSITORY; default: model_repository]"),
    ] = None,
    triton_url: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT[,HOST:PORT]...|dns:///HOST:PORT",
            help="Use that Triton, or those, instead of starting one.  [env var: CONCH_TRITON_URL]",
        ),
    ] = None,
    triton_grpc_port: Annotated[
        int | None,
        typer.Option(help="gRPC port of the Triton to start.  [env var: CONCH_TRITON_GRPC_PORT; default: 8001]"),
    ] = None,
    triton_metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Metrics port of that Triton, 0 for none.  [env var: CONCH_TRITON_METRICS_PORT; default: 8002]"
        ),
    ] = None,
    run_directory: Annotated[
        Path | None,
        typer.Option(help="Folder of Triton's log and of its files.  [env var: CONCH_RUN_DIRECTORY; default: .run]"),
    ] = None,
    no_gateway: Annotated[
        bool,
        typer.Option("--no-gateway", help="Start Triton alone, as one of several on this machine."),
    ] = False,
) -> None:
    """Serve the models of the repository over gRPC and REST until SIGTERM or Ctrl-C."""
    try:
        with importing():
            gateway, server = _settings(
                given={"host": host, "port": port, "triton_url": triton_url},
                for_triton={
                    "model_repository": repository,
                    "triton_grpc_port": triton_grpc_port,
                    "triton_metrics_port": triton_metrics_port,
                    "run_directory": run_directory,
                },
            )
        _refuse_without_effect(named_options(context), starts_triton=server is not None, alone=no_gateway)
        if server is not None:
            _complete_publication(server.model_repository)
        _run(gateway, server, alone=no_gateway)
    except ModuleNotFoundError as error:
        fail(f"{error}; install what serving needs: pip install 'conch[gateway,server]'")
    except ValueError as error:
        fail(_one_line(error))


def _refuse_without_effect(given: Mapping[str, str], *, starts_triton: bool, alone: bool) -> None:
    """Fail if a flag is given that would change nothing."""
    if not starts_triton:
        elsewhere = "CONCH_TRITON_URL (--triton-url) names one that runs; leave one out"
        refuse(given, OF_TRITON, f"is about a Triton that this command starts, and {elsewhere}")
    elif alone:
        refuse(given, OF_GATEWAY, "is the gateway's, which --no-gateway leaves out; leave out one of the two")


def _complete_publication(repository: Path) -> None:
    """Complete a publication that was killed half-way, which left a mixture of old and new models."""
    if not (repository / ".staging" / "ready").exists():
        return
    try:
        from conch_export.triton.publish import complete  # noqa: PLC0415
    except ModuleNotFoundError as error:
        fail(f"{error}; an export into {repository} was interrupted; to complete it: pip install 'conch[export]'")
    with refused():
        complete(repository)


def _settings(given: dict[str, Any], for_triton: dict[str, Any]) -> tuple[GatewaySettings, ServerSettings | None]:
    """Return settings from flags, environment and defaults; no ServerSettings if Triton runs elsewhere."""
    from conch_gateway import GatewaySettings  # noqa: PLC0415

    gateway = GatewaySettings(**_set(given))
    if "triton_url" in gateway.model_fields_set:
        return gateway, None
    from conch_server import ServerSettings  # noqa: PLC0415

    server = ServerSettings(**_set(for_triton))
    own = {
        "triton_url": f"{server.triton_host}:{server.triton_grpc_port}",
        "canary_repository": gateway.canary_repository or server.model_repository,
    }
    return gateway.model_copy(update=own), server


def _set(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _run(gateway: GatewaySettings, server: ServerSettings | None, *, alone: bool) -> None:
    import uvloop  # noqa: PLC0415
    from conch_gateway import GatewayError  # noqa: PLC0415

    failures: tuple[type[Exception], ...] = (GatewayError, _NoAnswerError)
    if server is not None:
        from conch_server import ServingError  # noqa: PLC0415

        failures = (*failures, ServingError)
    logging.basicConfig(level=gateway.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(max(logging.WARNING, logging.root.level))  # at info it logs every request
    try:
        uvloop.run(_serve_triton(server) if alone and server is not None else _serve(gateway, server))
    except failures as error:
        fail(str(error))


def _one_line(error: ValueError) -> str:
    """Return pydantic's messages, one per setting, without its links and headings."""
    found = getattr(error, "errors", None)
    if found is None:
        return str(error)
    return "; ".join(map(_setting_and_fault, found()))


def _setting_and_fault(error: Mapping[str, Any]) -> str:
    setting, fault = "_".join(map(str, error["loc"])).upper(), error["msg"].removeprefix("Value error, ")
    return f"CONCH_{setting}: {fault}" if setting else fault


async def _serve(settings: GatewaySettings, server: ServerSettings | None) -> None:
    """Serve until a signal cancels this."""
    from conch_gateway import Gateway  # noqa: PLC0415

    supervisor = None if server is None else _supervisor_of(settings, server)
    # Made and checked before models are loaded: files and databases that cannot be used are told at once.
    with importing():
        from conch_gateway.telemetry.embedded import EmbeddedTriton  # noqa: PLC0415

        gateway = Gateway(settings, collectors=[] if supervisor is None else [EmbeddedTriton(supervisor)])
    _stop_on_signals(supervisor)
    with contextlib.suppress(asyncio.CancelledError):
        # Exited in reverse order: the gateway finishes its requests while Triton still serves.
        async with contextlib.AsyncExitStack() as parts:
            if supervisor is not None:
                await gateway.check()
                with stdout.status("starting Triton"):
                    await parts.enter_async_context(supervisor)
            await parts.enter_async_context(gateway)
            # A part that stops serving before its exit raises, which ends the process.
            ends = [part.wait() for part in (gateway, supervisor) if part is not None]
            await asyncio.gather(_announce(gateway, settings), *ends)


async def _serve_triton(server: ServerSettings) -> None:
    """Serve without a gateway until a signal cancels this."""
    from conch_contract import usable_cores  # noqa: PLC0415
    from conch_server import Supervisor  # noqa: PLC0415

    supervisor = Supervisor(server, usable_cores(), is_replica=True)
    _stop_on_signals(supervisor)
    with contextlib.suppress(asyncio.CancelledError):
        async with contextlib.AsyncExitStack() as parts:
            with stdout.status("starting Triton"):
                await parts.enter_async_context(supervisor)
            models = "\n".join(supervisor.models) or "none, until a gateway loads them"
            stdout.print(facts("conch serves", [("gRPC (Triton)", supervisor.grpc_url), ("models", models)]))
            await supervisor.wait()


def _supervisor_of(settings: GatewaySettings, server: ServerSettings) -> Supervisor:
    from conch_contract import usable_cores  # noqa: PLC0415
    from conch_server import Supervisor, check_free  # noqa: PLC0415

    # Checked now, before models are loaded in vain.
    check_free(settings.host, settings.port, "CONCH_HOST (--host)", "CONCH_PORT (--port)")
    return Supervisor(server, usable_cores())


def _stop_on_signals(supervisor: Supervisor | None) -> None:
    """Let a signal cancel the running task, which stops in order; a second one also kills Triton."""
    loop, serving, signals = asyncio.get_running_loop(), asyncio.current_task(), itertools.count()

    def stop() -> None:
        if next(signals) and supervisor is not None:
            supervisor.abort()
        if serving is not None:
            serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(number, stop)


async def _models_that_answer(url: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Wait until all models are ready, send one of them a request, and return the list of models."""
    import httpx  # noqa: PLC0415

    # The address is the gateway's own: its certificate need not be for it, and no proxy leads to it.
    unverified = httpx.AsyncHTTPTransport(verify=False)
    timeout = httpx.Timeout(None, connect=60)  # the gateway's own settings limit the time that its answers take
    async with httpx.AsyncClient(base_url=url, headers=headers, transport=unverified, timeout=timeout) as gateway:
        ready = await _ready_models(gateway)
        listed = await gateway.get("/v1/models")
        # A gateway whose requests wait for a Triton is ready without one, and then there is nothing to list.
        models: list[dict[str, Any]] = listed.json()["data"] if listed.is_success else []
        loaded = [model for model in models if model["id"] in ready]
        if loaded:
            path, body = _question(loaded[0])
            answer = await _awaited(lambda: gateway.post(path, json=body), lambda given: given.status_code in LATER)
            if answer.status_code != httpx.codes.OK:
                raise _NoAnswerError(f"the gateway answered {answer.status_code} to its first request: {answer.text}")
    return models


async def _ready_models(gateway: httpx.AsyncClient) -> Collection[str]:
    """Return the names of all models once every one has answered."""
    health = await _awaited(lambda: gateway.get("/health/ready"), lambda given: given.is_error)
    names: dict[str, bool] = health.json()["models"]
    return names


async def _awaited(
    ask: Callable[[], Awaitable[httpx.Response]], is_early: Callable[[httpx.Response], bool]
) -> httpx.Response:
    """Ask until it is no longer too early for an answer; log why it is, as long as that takes."""
    began = said = time.monotonic()
    while is_early(answer := await ask()):
        if (now := time.monotonic()) - said > SAY_EVERY_S:
            said, reasons = now, answer.json().get("reasons", [answer.text])
            logger.info("not ready after %.0f s: %s", now - began, "; ".join(reasons))
        await asyncio.sleep(POLL_S)
    return answer


def _question(model: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if model["task"] in VECTOR_TYPES:
        vector_type = VECTOR_TYPES[model["task"]]
        return "/v1/embeddings", {"model": model["id"], "input": "ready", "vector_type": vector_type}
    if model["task"] == "late-chunking":
        return "/v1/embeddings", {"model": model["id"], "input": "ready", "late_chunking": True}
    if model["task"] == "classification":
        return "/predict", {"model": model["id"], "inputs": "ready"}
    return "/v1/rerank", {"model": model["id"], "query": "ready", "documents": ["ready"]}


def _warn_of_defaults(settings: GatewaySettings, served: Collection[str]) -> None:
    """Log which default is not served, where anything is: requests that name no model get 404."""
    for setting in ("embedding_model", "rerank_model"):
        chosen = getattr(settings, setting)
        if served and chosen is not None and chosen not in served:
            known = ", ".join(sorted(served))
            logger.warning("CONCH_%s is %s, which is not served; choose among: %s", setting.upper(), chosen, known)


def _loopback(url: str) -> str:
    """Return the address at which this machine reaches a gateway that listens on every interface."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


async def _announce(gateway: Gateway, settings: GatewaySettings) -> None:
    """Print the addresses once the models answer."""
    with stdout.status("waiting for the models"):
        models = await _models_that_answer(_loopback(gateway.url), gateway.headers)
    # What is loaded stays. Looking through all of it for garbage would stop every request for 80 ms each few seconds.
    gc.collect()
    gc.freeze()
    _warn_of_defaults(settings, {model["id"] for model in models})
    served = "\n".join(f"{model['id']} ({model['task']})" for model in models)
    docs = f"{_loopback(gateway.url)}/docs"
    rows = [("REST", gateway.url), ("docs", docs), ("gRPC (Triton)", settings.triton_url), ("models", served)]
    stdout.print(facts("conch serves", rows))
