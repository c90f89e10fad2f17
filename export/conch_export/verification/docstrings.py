"""A script that prints the documentation strings of Python's standard library as JSON; `texts` runs it."""

from __future__ import annotations

import importlib
import inspect
import json
import sys

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


def main() -> None:
    """Write the distinct ones, in an order that depends only on the Python version."""
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
    json.dump(list(found), sys.stdout)


def _docstring(item: object) -> str:
    text = getattr(item, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


if __name__ == "__main__":
    main()
