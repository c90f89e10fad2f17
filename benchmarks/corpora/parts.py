"""A file of results whose parts may be measured in several runs: each says where and when, and is kept at once.

So nothing is lost when a later part fails, and a part can be measured again by itself.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.disturbance import Disturbance
from benchmarks.machine import measured_by

if TYPE_CHECKING:
    from pathlib import Path


class Parts:
    """Adds parts to a file.

    Args:
        path: of the file.
        module: that measures.
        texts: of the corpus; what was measured with another one is dropped.
    """

    def __init__(self, path: Path, module: str, texts: int) -> None:
        self._path, self._texts = path, texts
        self._command = " ".join([f"python -m {module}", *sys.argv[1:]])
        self._disturbance = Disturbance()

    def add(self, name: str, found: dict[str, Any]) -> None:
        """Put a part into the file, in place of an earlier one of its name; show it.

        It may say how many cores other processes have used (`others_cores`); else these are all but this one's and its
        descendants that are there, or whose parents waited for them.
        """
        before = json.loads(self._path.read_text("utf-8")) if self._path.exists() else {}
        parts = before["parts"] if before.get("texts") == self._texts else {}
        others = found.get("others_cores", self._disturbance.cores())
        about = {**measured_by(self._command), "others_cores": others}
        parts[name] = {**found, "measured": about}
        self._path.write_text(json.dumps({"texts": self._texts, "parts": parts}, indent=1) + "\n", "utf-8")
        print(name, json.dumps(found, indent=1), flush=True)
        self._disturbance = Disturbance()
