"""The measured servers: their commands and their health checks."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import venvs
from benchmarks.models import NAME
from benchmarks.servers import HOST, Server, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.models import Models


def conch(
    repository: Path,
    work: Path,
    grpc_port: int,
    http_port: int,
    environment: dict[str, str] | None = None,
    *,
    question: tuple[str, dict[str, Any]] = ("/v1/embeddings", {"input": "ready"}),
    interpreter: Path = Path(sys.executable),
) -> Server:
    """`conch serve` with its defaults over a model repository; the gateway is in its first process.

    The question is the path and the body of the first request, the interpreter that of the environment with conch.
    """
    command = [
        *(str(interpreter.parent / "conch"), "serve"),
        *("--repository", str(repository)),
        *("--port", str(http_port)),
        *("--triton-grpc-port", str(grpc_port)),
        *("--triton-metrics-port", "0"),
        *("--run-directory", str(work / "conch")),
    ]
    asked = (f"http://{HOST}:{http_port}{question[0]}", json.dumps(question[1]).encode())
    return Server(command, work / "conch.log", asked, work, environment or {})


class Served(NamedTuple):
    """A deployment that runs: its processes, the URL of its gateway and the address of its Triton."""

    server: Server
    url: str
    triton: str


@contextmanager
def served(repository: Path, work: Path, environment: dict[str, str] | None = None, **options: Any) -> Iterator[Served]:
    """`conch` on free ports, stopped in the end."""
    grpc_port, port = free_ports(2)
    server = conch(repository, work, grpc_port, port, environment, **options)
    try:
        yield Served(server, f"http://{HOST}:{port}", f"{HOST}:{grpc_port}")
    finally:
        server.stop()


def infinity(models: Models, folder: Path, port: int, *options: str, pooling: str = "mean") -> Server:
    """Infinity's own server with its own defaults, but no cache of answers on disk.

    By default it optimises the int8 model by itself at start and pads batches of up to 32. Batches of 8 are what it was
    fastest with here, of 4, 8 and 32, each with its own optimisation and with optimum's O2 instead.

    Args:
        models: where its model is.
        folder: for its log and cache.
        port: where it listens.
        options: of its command line, beside the defaults.
        pooling: of the model.
    """
    folder.mkdir(exist_ok=True)
    interpreter = venvs.python("infinity")
    command = [
        *(str(interpreter.parent / "infinity_emb"), "v2"),
        *("--model-id", ".", "--served-model-name", NAME),
        *("--engine", "optimum", "--device", "cpu", "--pooling-method", pooling),
        *("--no-vector-disk-cache", "--no-bettertransformer"),
        *("--host", HOST, "--port", str(port), "--log-level", "warning"),
        *options,
    ]
    environment = {
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    question = (f"http://{HOST}:{port}/health", None)
    return Server(command, folder / "log", question, models.onnx / "plain-int8", environment)
