"""Real sentences for verification, found on every machine: the documentation strings of Python's standard library."""

from __future__ import annotations

import importlib
import inspect
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODULES = (
    "argparse", "asyncio", "base64", "bisect", "calendar", "codecs", "collections", "concurrent.futures",
    "configparser", "contextlib", "copy", "csv", "datetime", "decimal", "difflib", "email.message", "enum",
    "fractions", "functools", "hashlib", "heapq", "hmac", "html", "http.client", "inspect", "io", "ipaddress",
    "itertools", "json", "locale", "logging", "math", "mimetypes", "multiprocessing", "operator", "os",
    "pathlib", "pickle", "platform", "pprint", "queue", "random", "re", "sched", "secrets", "selectors",
    "shlex", "shutil", "signal", "smtplib", "socket", "statistics", "string", "struct", "subprocess",
    "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "traceback", "types", "unicodedata",
    "unittest", "urllib.parse", "urllib.request", "uuid", "warnings", "wave", "weakref",
    "xml.etree.ElementTree", "zipfile",
)  # fmt: skip


@cache
def docstrings() -> tuple[str, ...]:
    """Distinct documentation strings, in an order that depends only on the Python version; about 3,000."""
    found: dict[str, None] = {}
    for name in _MODULES:
        module = importlib.import_module(name)
        for _, item in sorted(vars(module).items(), key=lambda pair: pair[0]):
            if not (inspect.isclass(item) or inspect.isroutine(item)):
                continue
            members = (
                [item, *(m for _, m in sorted(vars(item).items()) if inspect.isroutine(m))]
                if inspect.isclass(item)
                else [item]
            )
            found.update(dict.fromkeys(filter(None, map(_docstring, members))))
    return tuple(found)


def spread(texts: Sequence[str], count: int) -> list[str]:
    """`count` of the texts, evenly from the shortest to the longest."""
    ordered = sorted(texts, key=len)
    step = max(1, (len(ordered) - 1) / max(1, count - 1))
    return [ordered[round(i * step)] for i in range(min(count, len(ordered)))]


def _docstring(item: object) -> str:
    text = getattr(item, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""
