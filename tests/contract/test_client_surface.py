"""The public face of conch_client: complete, the same for both clients, and light."""

from __future__ import annotations

import inspect
import subprocess
import sys

import conch_client
import pytest
from conch_client import AsyncClient, Client

from tests.declared import PACKAGES, imported

SURFACE = {
    "TLS",
    "AsyncClient",
    "ChunkVectors",
    "Classification",
    "Client",
    "ConchError",
    "DeadlineExceededError",
    "InvalidInputError",
    "ModelInfo",
    "ModelNotFoundError",
    "NotComputedError",
    "ModelReplacedError",
    "OverloadedError",
    "Ranked",
    "Ranking",
    "Replica",
    "ServerError",
    "SpaceError",
    "SparseVector",
    "Texts",
    "Token",
    "TokenIds",
    "Truncate",
    "UnavailableError",
}
CALLS = [
    "classify", "close", "decode", "embed", "embed_chunks", "embed_sparse", "embed_tokens", "is_ready", "model",
    "models", "rerank", "tokenize", "tokens", "wait_until_ready",
]  # fmt: skip

MAY_IMPORT = {
    "anyio",
    "conch_client",
    "conch_contract",
    "grpc",
    "numpy",
    "tokenizers",
    "tritonclient",
    "typing_extensions",
    *sys.stdlib_module_names,
}
HEAVY = {"torch", "transformers", "fastapi", "pydantic", "conch_gateway", "conch_export", "conch_server", "onnxruntime"}


def public_calls(kind: type) -> list[str]:
    return sorted(name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_"))


def test_the_exported_names_are_these() -> None:
    assert len(conch_client.__all__) == len(SURFACE)
    assert set(conch_client.__all__) == SURFACE


def test_nothing_public_is_left_out_of_the_exported_names() -> None:
    found = {
        name for name, value in vars(conch_client).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert found - {"annotations"} == SURFACE  # the name that `from __future__ import annotations` leaves


def test_both_clients_have_the_same_calls() -> None:
    assert public_calls(Client) == public_calls(AsyncClient) == CALLS


@pytest.mark.parametrize("call", [*CALLS, "__init__"])
def test_both_clients_take_the_same_arguments_and_return_the_same(call: str) -> None:
    assert inspect.signature(getattr(Client, call)) == inspect.signature(getattr(AsyncClient, call))


@pytest.mark.parametrize("call", CALLS)
def test_every_call_of_the_async_client_is_awaited(call: str) -> None:
    assert inspect.iscoroutinefunction(getattr(AsyncClient, call))
    assert not inspect.iscoroutinefunction(getattr(Client, call))


@pytest.mark.parametrize("name", sorted(SURFACE - {"Texts", "Truncate"}))
def test_everything_exported_is_documented(name: str) -> None:
    assert (getattr(conch_client, name).__doc__ or "").strip()


def test_its_modules_import_only_what_it_depends_on() -> None:
    for module in PACKAGES["conch_client"].rglob("*.py"):
        assert imported(module) <= MAY_IMPORT, module


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, conch_client; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert not {module.split(".")[0] for module in run.stdout.split()} & HEAVY
