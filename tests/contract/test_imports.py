"""Which package may import which, and what importing each one costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.declared import PACKAGES, SOURCE_ROOTS, imported

if TYPE_CHECKING:
    from pathlib import Path

MAY_IMPORT = {
    "conch": {"conch_batch", "conch_client", "conch_contract", "conch_export", "conch_gateway", "conch_server"},
    "conch_batch": {"conch_client", "conch_contract", "conch_export"},
    "conch_client": {"conch_contract"},
    "conch_contract": set(),
    "conch_export": {"conch_contract"},
    "conch_gateway": {"conch_client", "conch_contract"},
    "conch_server": set(),
}
every_package = pytest.mark.parametrize("package", PACKAGES)


def modules(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


@every_package
def test_packages_import_each_other_in_one_direction_only(package: str) -> None:
    for module in modules(package):
        others = imported(module) & set(PACKAGES) - {package}
        assert others <= MAY_IMPORT[package], module


def test_the_contract_imports_numpy_at_most() -> None:
    for module in modules("conch_contract"):
        assert imported(module) <= {"conch_contract", "numpy", "typing_extensions", *sys.stdlib_module_names}, module


def test_the_command_line_imports_packages_only_when_a_subcommand_is_called() -> None:
    names = sorted(set(PACKAGES) - {"conch"})
    code = f"import sys, conch.app; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {"conch_export"}))
def test_nothing_that_serves_imports_a_training_framework(package: str) -> None:
    for module in modules(package):
        assert not imported(module) & {"torch", "transformers", "optimum", "sentence_transformers"}, module


def test_only_what_graphs_are_compared_with_bridges_are_learned_by_or_a_checkpoint_brings_needs_torch() -> None:
    found = {module.name for module in modules("conch_export") if imported(module) & {"torch", "transformers"}}
    assert found == {
        "architecture.py",
        "chat.py",
        "dense.py",
        "generative.py",
        "learning.py",
        "libraries.py",
        "loading.py",
        "model2vec.py",
        "plain.py",
        "reference.py",
        "remote_code.py",
        "residual.py",
        "tokenizer.py",
    }


@pytest.mark.parametrize(
    ("package", "without"),
    [
        (
            "conch.app",
            {"numpy", "torch", "transformers", "onnx", "onnxruntime", "fastapi", "tritonclient", "conch_export"},
        ),
        ("conch_batch", {"torch", "transformers", "optimum", "ray", "fastapi", "conch_gateway"}),
        ("conch_contract", {"torch", "tokenizers", "grpc", "tritonclient", "google", "onnxruntime", "conch_client"}),
        ("conch_export", {"torch", "transformers", "optimum", "fastapi", "conch_client", "conch_gateway"}),
        (
            "conch_gateway",
            {"torch", "transformers", "onnx", "onnxruntime", "huggingface_hub", "fastapi", "conch_export"},
        ),
        ("conch_server", {"torch", "transformers", "onnx", "onnxruntime", "fastapi", "conch_client", "conch_export"}),
    ],
)
def test_importing_a_package_loads_nothing_that_it_does_not_need(package: str, without: set[str]) -> None:
    code = f"import sys; sys.path += {SOURCE_ROOTS}; import {package}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert not {name.split(".")[0] for name in run.stdout.split()} & without


@pytest.mark.parametrize("package", ["conch_batch", "conch_contract", "conch_export", "conch_gateway", "conch_server"])
def test_the_exported_names_are_all_that_is_public(package: str) -> None:
    module = importlib.import_module(package)
    public = {name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert sorted(public - {"annotations"}) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("package", ["conch_batch", "conch_contract", "conch_export", "conch_gateway", "conch_server"])
def test_everything_exported_is_documented(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert (value.__doc__ or "").strip(), name
