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

    Raises:
        ValueError: there are fewer.
    """
    found: dict[str, str] = {}
    for module in modules():
        for text in docstrings(module):
            found.setdefault(text, module.name)
        if len(found) >= count:
            break
    if len(found) < count:
        raise ValueError(f"the installed packages have {len(found)} distinct docstrings: ask for no more (--texts)")
    texts = sorted(list(found)[:count], key=lambda text: hashlib.sha256(text.encode()).digest())
    table = pa.table({"id": range(len(texts)), "module": [found[text] for text in texts], "text": texts})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def modules() -> Iterator[Path]:
    """The sources of Python's own library, then of the packages by name."""
    folders = [sysconfig.get_paths()["stdlib"], *(folder for folder in sys.path if folder.endswith("site-packages"))]
    return chain.from_iterable(sorted(Path(folder).rglob("*.py")) for folder in folders)


def docstrings(module: Path) -> Iterator[str]:
    """Those of a source, with repetitions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes in their source
            tree = ast.parse(module.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and len(text) >= SHORTEST and _is_unicode(text):
                yield text


def _is_unicode(text: str) -> bool:
    """Whether it can be written: tests of Python's own have halves of surrogate pairs in their texts."""
    return text.encode(errors="ignore").decode() == text
