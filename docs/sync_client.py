"""Writes `conch_client/_sync` from `_async`: the client, what it knows of models, and its session, for threads."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import unasync

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
PACKAGE = Path("client/conch_client")
MODULES = ("client", "models", "servers", "session")
HEADER = "# Generated from _async/{}.py by `make docs`; do not edit.\n"
NAMES = {
    "AsyncClient": "Client",
    "AsyncModels": "Models",
    "AsyncServers": "Servers",
    "AsyncSession": "Session",
    "_async": "_sync",
    "aio": "threads",
}
# In docstrings, which unasync leaves as they are.
PHRASES = {
    r"\basync with\b": "with",
    r"\bAsyncClient\b": "Client",
    r"\(await ([^\n]*\))\)\[": r"\1[",
    r"\bawait ": "",
    r"(?s)Any number of tasks .*? no more of them\.": (
        "Any number of threads may share\n    a client; it connects with the first call."
    ),
}


def pages() -> dict[str, Callable[[], str]]:
    """Return what writes each module, by its path."""
    return {str(PACKAGE / "_sync" / f"{name}.py"): partial(module, name) for name in MODULES}


def module(name: str) -> str:
    """Return the module for threads."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = (Path(folder, kind, f"{name}.py") for kind in ("_async", "_sync"))
        source.parent.mkdir()
        source.write_bytes((ROOT / PACKAGE / "_async" / f"{name}.py").read_bytes())
        unasync.unasync_files([str(source)], [unasync.Rule("/_async/", "/_sync/", NAMES)])
        text = target.read_text(encoding="utf-8")
    for phrase, replacement in PHRASES.items():
        text = re.sub(phrase, replacement, text)
    path = str(PACKAGE / "_sync" / f"{name}.py")
    sorted_imports = _ruff(HEADER.format(name) + text, "check", "--quiet", "--fix", "--select=I", path)
    return _ruff(sorted_imports, "format", "--quiet", path)


def _ruff(text: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments[:-1], f"--stdin-filename={arguments[-1]}", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def main() -> None:
    """Write all modules."""
    for path, text in pages().items():
        (ROOT / path).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
