"""A corpus that every machine has: the docstrings of all installed packages, read from their source and never run."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
import warnings
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST = 40
"""Characters; what is shorter is hardly a text."""


def corpus(path: Path, count: int) -> None:
    """Write so many distinct docstrings with the module that each is from, in an order that tells nothing of them.

    They are those of Python's own library, then of the packages by name.
    """
    found: dict[str, str] = {}
    folders = [sysconfig.get_paths()["stdlib"], *(folder for folder in sys.path if folder.endswith("site-packages"))]
    for module in chain.from_iterable(sorted(Path(folder).rglob("*.py")) for folder in folders):
        for text in _docstrings(module):
            found.setdefault(text, module.name)
        if len(found) >= count:
            break
    texts = sorted(list(found)[:count], key=lambda text: hashlib.sha256(text.encode()).digest())
    table = pa.table({"id": range(len(texts)), "module": [found[text] for text in texts], "text": texts})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _docstrings(module: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes in their source
            tree = ast.parse(module.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and len(text) >= SHORTEST:
                yield text
