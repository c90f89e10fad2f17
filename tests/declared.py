"""Our packages: what `pyproject.toml` declares of them, the extra that each needs, and what modules import."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
_FILE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = _FILE["project"]
PACKAGES = {Path(path).name: ROOT / path for path in _FILE["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
SOURCE_ROOTS = [str(path.parent) for path in PACKAGES.values()]
OPTIONAL = {"conch_batch": ("cluster",), "conch_gateway": ("otel", "redis", "database")}


def extras_of(package: str) -> tuple[str, ...]:
    """The extras of a package: that of its name, if there is one, and what its optional modules need."""
    name = package.removeprefix("conch_")
    return tuple(extra for extra in (name, *OPTIONAL.get(package, ())) if extra in PROJECT["optional-dependencies"])


@cache
def imported(module: Path) -> frozenset[str]:
    """Top-level names of what a module imports, inside functions and for type checkers too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return frozenset(found)
