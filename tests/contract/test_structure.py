"""The shape of the packages: few import levels, no cycles, folders and modules that fit in a head."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("*/conch*/__init__.py"))
MOST_LEVELS = 9
MOST_MODULES = 14
MOST_LINES = 400

every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


@every_package
def test_its_modules_import_each_other_on_few_levels_without_a_cycle(package: Path) -> None:
    graph = grimp.build_graph(package.name)  # imports for type checkers included
    chain: list[str] = []

    @cache
    def longest(module: str) -> tuple[str, ...]:
        assert module not in chain, f"a cycle: {' → '.join([*chain[chain.index(module) :], module])}"
        chain.append(module)
        below = [longest(imported) for imported in sorted(graph.find_modules_directly_imported_by(module))]
        chain.pop()
        return (module, *max(below, key=len, default=()))

    deepest = max(map(longest, sorted(graph.modules)), key=len)
    assert len(deepest) <= MOST_LEVELS, " → ".join(deepest)


@every_package
def test_its_folders_have_few_modules(package: Path) -> None:
    counts = {
        str(folder.relative_to(ROOT)): len([module for module in folder.glob("*.py") if module.name != "__init__.py"])
        for folder in (package, *(path for path in package.rglob("*") if path.is_dir()))
    }
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


@every_package
def test_its_modules_are_short(package: Path) -> None:
    lengths = {
        str(module.relative_to(ROOT)): len(module.read_text(encoding="utf-8").splitlines())
        for module in package.rglob("*.py")
    }
    assert {module: length for module, length in lengths.items() if length > MOST_LINES} == {}
