"""What the pages claim: links lead somewhere, named tests exist, and the architecture is as it is drawn."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

import conch_client
import pytest

from tests.declared import ROOT, imported

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGES = re.findall(r"^\| `(\w+)/` \| `(\w+)` \| ([^|]+) \|", ARCHITECTURE, re.MULTILINE)


def links_of(page: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"[a-z]+:", link)]


def anchors_of(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_client_that_is_tested_has_its_row_in_a_table() -> None:
    scripts = ROOT / "tests" / "clients" / "scripts"
    programs = {path.name for kind in ("*.py", "*.java", "node/*.mjs") for path in scripts.glob(kind)}
    page = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| \[(\S+)\]\(\S+\) \|$", page, re.M)

    assert programs == set(rows)


def test_the_python_page_has_every_exported_name() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert [name for name in conch_client.__all__ if f"`{name}`" not in page] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@cache
def functions_of(path: str) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_what_always_holds_is_kept_by_a_test_that_exists() -> None:
    tests = re.findall(r"`(tests/[^`:]+)::([^`]+)`", ARCHITECTURE)
    assert tests
    assert [f"{path}::{test}" for path, test in tests if test not in functions_of(path)] == []


@pytest.mark.parametrize(("folder", "package", "stated"), PACKAGES)
def test_packages_import_what_the_architecture_says(folder: str, package: str, stated: str) -> None:
    ours = {name for _, name, _ in PACKAGES}
    found: set[str] = set().union(*map(imported, (ROOT / folder / package).rglob("*.py")))
    assert found & ours - {package} == set(re.findall(r"`(\w+)`", stated))


def test_the_architecture_names_every_package() -> None:
    there = {(path.parts[-3], path.parts[-2]) for path in ROOT.glob("*/conch*/__init__.py")}
    assert {(folder, package) for folder, package, _ in PACKAGES} == there


def test_the_gateway_needs_neither_torch_nor_onnxruntime() -> None:
    code = "import sys, conch_gateway; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    loaded = {module.split(".")[0] for module in run.stdout.split()}
    assert not loaded & {"torch", "onnxruntime", "onnx", "transformers", "optimum", "conch_export", "conch_server"}
