"""`conch serve` as a process over the default models and a sparse one; other people's clients in their environments."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from conch_client import Client
from conch_export import Options, Precision, export, plan

from benchmarks import venvs
from tests import head_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
CLIENT_TIMEOUT_S = 120
KEY = "a-key-of-the-tests"
ENVIRONMENTS = {
    "langchain_sdk": "langchain",
    "llama_index_sdk": "llama-index",
    "haystack_sdk": "haystack",
    "browser": "browser",
}

Work = dict[str, Any]


class Served(NamedTuple):
    """Where it is served."""

    url: str
    grpc_url: str


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default models, which the Makefile exports first, and a small seeded sparse one."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model_repository", folder, copy_function=os.link, dirs_exist_ok=True)
    checkpoint = head_checkpoints.splade(tmp_path_factory.mktemp("splade"))
    export(Options(str(checkpoint), folder, name="sparse", precision=Precision.FP32, plan=plan(cores=1)))
    return folder


@pytest.fixture(scope="session")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real Triton and a real gateway, started as README says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        grpc_port = listener.getsockname()[1]
    flags = [f"--repository={repository}", "--port=0", f"--triton-grpc-port={grpc_port}", "--triton-metrics-port=0"]
    environment = {
        **os.environ,
        "CONCH_API_KEYS": f"tests:{KEY}",
        "CONCH_RUN_DIRECTORY": str(tmp_path_factory.mktemp("run")),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "conch", "serve", *flags]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = ""
        while (found := re.search(r"REST\W+(http://127\.0\.0\.1:\d+)", printed)) is None:
            line = process.stdout.readline()
            assert line, "conch serve ended; it says above why"
            printed += line
        yield Served(found.group(1), f"127.0.0.1:{grpc_port}")
        process.terminate()
        process.communicate()


@pytest.fixture(scope="session")
def triton(served: Served) -> Iterator[Client]:
    """Our own client, whose answers the others' are compared with."""
    with Client(served.grpc_url) as client:
        yield client


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """What every client is asked to do."""
    documents = [
        "Paris is the capital of France.",
        "list.reverse() turns a list around in place.",
        "A tuple cannot be changed once it is made.",
        "sorted(values, reverse=True) returns a new list.",
    ]
    folder = tmp_path_factory.mktemp("documents")
    for number, document in enumerate(documents):
        (folder / f"{number}.txt").write_text(document, encoding="utf-8")
    return {
        "model": "all-minilm-l6-v2",
        "reranker": "all-minilm-l6-v2-maxsim",
        "tokenizer": str(ROOT / "model_repository" / "all-minilm-l6-v2.tokenizer" / "1" / "tokenizer.json"),
        "texts": ["How do I reverse a list in Python?", "Wie spät ist es?", "a cat sat on the mat " * 100],
        "query": "How do I reverse a list in Python?",
        "documents": documents,
        "folder": str(folder),
        "key": KEY,
    }


@pytest.fixture(scope="session")
def said_by(served: Served, work: Work) -> Callable[[str], dict[str, Any]]:
    """Runs a client's script once, and gives what it said."""

    @cache
    def run(client: str) -> dict[str, Any]:
        environment = ENVIRONMENTS.get(client, "sdks")
        requirements = HERE / "requirements" / f"{environment}.txt"
        python = venvs.made(ROOT / ".venv-clients" / environment, requirements)
        url = served.grpc_url if client == "tritonclient_sdk" else served.url
        done = subprocess.run(
            [python, HERE / "scripts" / f"{client}.py", url],
            input=json.dumps(work),
            capture_output=True,
            text=True,
            # Ours are offline towards the Hub; its client takes that for a ban on all servers.
            env={name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
            timeout=CLIENT_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    return run
