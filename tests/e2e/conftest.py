"""A real `conch serve`, started once for all tests that only ask it something."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from conch_export import Options, Precision, export, plan
from conch_server import ServerSettings

from tests.serving import Serving, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from tests.checkpoints import Checkpoints

T = TypeVar("T")


class BackgroundLoop:
    """An event loop in a thread of its own, so that synchronous tests can use what needs one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, computed in the background."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """Exported as an operator would: the default model in fp32 and in int8, and a small seeded cross-encoder."""
    folder = tmp_path_factory.mktemp("repository")
    one_core = plan(cores=1)
    export(Options("all-minilm-l6-v2", folder, precision=Precision.FP32))
    export(Options("all-minilm-l6-v2", folder, name="all-minilm-l6-v2-int8", late_interaction=False, plan=one_core))
    cross_encoder = checkpoints.bert_cross_encoder()
    export(Options(str(cross_encoder), folder, name="tiny-cross-encoder", precision=Precision.FP32, plan=one_core))
    return folder


@pytest.fixture(scope="session")
def default_repository(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default deployment alone: the embedding model and its late-interaction reranker."""
    folder = tmp_path_factory.mktemp("default")
    for model in repository.glob("all-minilm-l6-v2*"):
        if not model.name.startswith("all-minilm-l6-v2-int8"):
            shutil.copytree(model, folder / model.name, copy_function=os.link)
    return folder


@pytest.fixture(scope="session")
def server_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ServerSettings]:
    """Makes settings with free ports and a run directory of their own; keyword arguments override."""

    def make(**overrides: Any) -> ServerSettings:
        grpc_port, metrics_port = free_ports(2)
        # Exported only for tests that bring no repository of their own.
        repository = overrides.get("model_repository") or request.getfixturevalue("repository")
        chosen: dict[str, Any] = {
            "model_repository": repository,
            "run_directory": tmp_path_factory.mktemp("run"),
            "triton_grpc_port": grpc_port,
            "triton_metrics_port": metrics_port,
            "exit_timeout_s": 20,
        }
        return ServerSettings(**{**chosen, **overrides})

    return make


@pytest.fixture(scope="session")
def background() -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`conch serve` over all models, for every test that only asks it something; `.grpc_url` is Triton's."""
    with Serving(repository, tmp_path_factory.mktemp("serving")) as serving:
        yield serving


@pytest.fixture(scope="session")
def gateway_url(triton: Serving) -> str:
    """`http://127.0.0.1:PORT` of the gateway of the same `conch serve`."""
    return triton.url
