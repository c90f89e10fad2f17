"""What a package imports is what `pyproject.toml` declares for it."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING

import pytest

from tests.declared import PACKAGES, PROJECT, ROOT, extras_of, imported

if TYPE_CHECKING:
    from pathlib import Path

EVERY_EXTRA = set(PROJECT["optional-dependencies"])
# The command imports a package, and what it needs, only for the subcommands that need it.
OF_THE_COMMAND = EVERY_EXTRA - {"dev"}
# Triton's Python backend has these; they are not installed.
OF_TRITON = {"triton_python_backend_utils", "conch_onnx"}
# Each of these has its requirements and its environment to itself.
ELSEWHERE = (
    ROOT / "benchmarks" / "peers",
    ROOT / "tests" / "clients" / "scripts",
    ROOT / "tests" / "upstreams" / "scripts",
    ROOT / "tests" / "web" / "scripts",
)
# Distributions that their parents pin to one version, and never leave out.
PART_OF = {"pydantic-core": "pydantic"}


# Reading what every installed distribution contains takes half a second.
installed = cache(packages_distributions)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extras: set[str]) -> set[str]:
    """Names of the distributions that are installed with these extras."""
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {canonical(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for lines in lists for line in lines}


def third_party(folder: Path) -> set[str]:
    """Top-level modules that are imported anywhere in a folder, but are neither Python's nor ours."""
    paths = (path for path in folder.rglob("*.py") if not any(path.is_relative_to(other) for other in ELSEWHERE))
    found: set[str] = set().union(*map(imported, paths))
    return (
        found - sys.stdlib_module_names - PACKAGES.keys() - {"benchmarks", "deploy", "docs", "tests", "web"} - OF_TRITON
    )


def undeclared(folder: Path, extras: set[str]) -> set[str]:
    """Modules that no declared distribution has."""
    has, allowed = installed(), declared(extras)
    return {
        module
        for module in third_party(folder)
        if not {PART_OF.get(canonical(name), canonical(name)) for name in has.get(module, [module])} & allowed
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_what_is_declared_for_it(package: str) -> None:
    extras = OF_THE_COMMAND if package == "conch" else set(extras_of(package))
    assert undeclared(PACKAGES[package], extras) == set()


@pytest.mark.parametrize("folder", ["benchmarks", "deploy", "docs", "tests"])
def test_what_is_no_part_of_the_product_imports_what_is_declared(folder: str) -> None:
    assert undeclared(ROOT / folder, EVERY_EXTRA) == set()


def test_a_distribution_that_is_only_there_because_another_needs_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import numpy, urllib3\n", encoding="utf-8")
    assert undeclared(tmp_path, set()) == {"urllib3"}
