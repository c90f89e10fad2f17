"""`conch serve` as a process over the default models and a sparse one; other people's clients in their environments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from conch_client import Client
from conch_export import Options, Precision, plan

from tests import environments, head_checkpoints
from tests.exports import export_once
from tests.serving import Serving, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
CLIENT_TIMEOUT_S, INSTALL_TIMEOUT_S = 120, 600
KEY = "a-key-of-the-tests"
ENVIRONMENTS = {
    "langchain_sdk": "langchain",
    "llama_index_sdk": "llama-index",
    "haystack_sdk": "haystack",
    "litellm_sdk": "wrappers",
    "rerankers_sdk": "wrappers",
    "semantic_router_sdk": "wrappers",
    "pymilvus_sdk": "milvus",
    "browser": "browser",
}
MODELS_FILE = """
["embed-english-v3.0"]
model = "all-minilm-l6-v2"
"""

Work = dict[str, Any]


class Served(NamedTuple):
    """Where it is served, and a key that is good for few requests a minute."""

    url: str
    grpc_url: str
    narrow_key: str


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default models, which the Makefile exports first, and a small seeded sparse one."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model_repository", folder, copy_function=os.link, dirs_exist_ok=True)
    checkpoint = head_checkpoints.splade(tmp_path_factory.mktemp("splade"))
    export_once(Options(str(checkpoint), folder, name="sparse", precision=Precision.FP32, plan=plan(cores=1)))
    return folder


@pytest.fixture(scope="session")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real Triton and a real gateway, started as README says."""
    folder = tmp_path_factory.mktemp("serving")
    keys, models_file = folder / "keys.json", folder / "models.toml"
    models_file.write_text(MODELS_FILE, encoding="utf-8")
    settings = {
        "CONCH_API_KEYS": f"tests:{KEY}",
        "CONCH_API_KEYS_FILE": str(keys),
        "CONCH_MODELS_FILE": str(models_file),
        "CONCH_BATCH_DATABASE": str(folder / "batches.db"),
    }
    create = [sys.executable, "-m", "conch", "keys", "create", "narrow", "--requests-per-minute=6", f"--file={keys}"]
    narrow_key = subprocess.run(create, capture_output=True, text=True, check=True).stdout.strip()
    with Serving(repository, folder, **settings) as serving:
        yield Served(serving.url, serving.grpc_url, narrow_key)


@pytest.fixture(scope="session")
def triton(served: Served) -> Iterator[Client]:
    """Our own client, whose answers the others' are compared with."""
    with Client(served.grpc_url) as client:
        yield client


@pytest.fixture(scope="session")
def work(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Work:
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
        "narrow key": served.narrow_key,
        "free port": free_ports(1)[0],
    }


@pytest.fixture(scope="session")
def said_by(served: Served, work: Work) -> Callable[[str], dict[str, Any]]:
    """Runs a client's script once, and gives what it said."""

    @cache
    def run(client: str) -> dict[str, Any]:
        url = served.grpc_url if client == "tritonclient_sdk" else served.url
        done = subprocess.run(
            [*command_of(client), url],
            input=json.dumps(work),
            capture_output=True,
            text=True,
            # Ours are offline towards the Hub; its client takes that for a ban on all servers.
            env={name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
            | {
                "CO_API_URL": served.url,  # where Cohere's SDK finds its server if libraries do not say
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or LiteLLM asks GitHub for a list of prices first
            },
            timeout=CLIENT_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    return run


def command_of(client: str) -> list[str | Path]:
    """The command that runs a client's script, in an environment that is made when it is first needed."""
    runtime = "node" if client.startswith("node/") else "java" if client == "java" else None
    if runtime is not None and shutil.which(runtime) is None:
        pytest.skip(f"there is no {runtime} on the PATH")
    if runtime == "node":
        return ["node", node_packages() / f"{client.removeprefix('node/')}.mjs"]
    if runtime == "java":
        return ["java", HERE / "scripts" / "HttpClientSdk.java"]
    return [environments.of_clients(ENVIRONMENTS.get(client, "sdks")), HERE / "scripts" / f"{client}.py"]


def node_packages() -> Path:
    """The folder of the scripts for Node, with the packages of their lock file beside them."""
    scripts, folder = HERE / "scripts" / "node", environments.OF_CLIENTS / "node"
    lock = scripts / "package-lock.json"
    installed = folder / "node_modules" / ".installed"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in (scripts / "package.json", lock):
            shutil.copy(file, folder)
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
        shutil.copy(lock, installed)
    for script in scripts.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder
