"""Triton's log: a file per start of the supervisor, the older ones kept, and a tail that fits in an error."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

from ._errors import ServingError

if TYPE_CHECKING:
    from pathlib import Path

# Tables, lines of level "I" and the absence of a GPU say nothing about a failure.
NOISE = re.compile(r"^(\+|\||$|\S+ I )|CUDA|CudaDriver|pinned")


class TritonLog:
    """The file that tritonserver writes to."""

    def __init__(self, path: Path, *, kept: int) -> None:
        self.path = path
        self._kept = kept
        self._begin = 0

    def rotate(self) -> None:
        """Move what an earlier supervisor left to `.1`, `.2`, ..., keeping `kept` files in all."""
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{age}") for age in range(1, self._kept))]
        for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
            if newer.exists():
                newer.replace(older)
        if self._kept == 1:
            self.path.unlink(missing_ok=True)

    def open(self) -> IO[bytes]:
        """Open for appending, and remember that the next `tail` begins here; raises ServingError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab")
        except OSError as error:
            message = f"cannot write {self.path} ({error.strerror}); set CONCH_RUN_DIRECTORY to a folder you can"
            raise ServingError(message) from error
        self._begin = file.tell()
        return file

    def tail(self, lines: int = 20) -> str:
        """Return the last lines worth reading since the last start, and where to find the rest."""
        with self.path.open("rb") as file:
            file.seek(max(self._begin, self.path.stat().st_size - 65536))
            written = file.read().decode(errors="replace").splitlines()
        telling = [line for line in written if not NOISE.search(line)]
        return "\n".join([*telling[-lines:], f"(the whole log: {self.path})"])
