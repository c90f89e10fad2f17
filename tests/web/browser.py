"""Chromium without a screen, in a process of its own, where its library is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import environments

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

SCRIPT = Path(__file__).parent / "scripts" / "chromium.py"


class PageError(Exception):
    """What a page has thrown, and nobody has caught."""


class Chromium:
    """Pages run one after the other.

    Attributes:
        asked: addresses that the last page, and its workers, have asked for.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        python = environments.of_clients("browser")
        self._process = subprocess.Popen([python, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process whose children are the browser's."""
        return self._process.pid

    def run(self, url: str, code: str, argument: Any = None, **how: Any) -> Any:
        """Returns what an async function gives in a page at that address; `how` is as `scripts/chromium.py` says.

        Raises:
            PageError: It has thrown.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"url": url, "code": code, "argument": argument, **how}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        self.asked = answer["asked"]
        if "error" in answer:
            raise PageError(answer["error"])
        return answer["result"]
