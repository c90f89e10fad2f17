"""Triton's log: a file per start of the supervisor, or per `LARGEST_BYTES`; the older ones are kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from conch_server._errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST_BYTES = 64 * 2**20
READ_BYTES = 2**18


class TritonLog:
    """The file that tritonserver writes to; it may be deleted at any time."""

    def __init__(self, path: Path, *, kept: int) -> None:
        self.path = path
        self._kept = kept
        self._begin = 0

    def rotate(self) -> None:
        """Move what there is to `.1`, `.2`, ..., keeping `kept` files in all; raises ServingError."""
        with self._written():
            self._rotate()

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{age}") for age in range(1, self._kept))]
        for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
            if newer.exists():
                newer.replace(older)
        if self._kept == 1:
            self.path.unlink(missing_ok=True)

    def open(self) -> IO[bytes]:
        """Open for appending, and remember that `last_lines` begin here; raises ServingError."""
        with self._written():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size > LARGEST_BYTES:
                self._rotate()
            file = self.path.open("ab")
        self._begin = file.tell()
        return file

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"cannot write {self.path} ({error.strerror}); set CONCH_RUN_DIRECTORY to a folder you can"
            raise ServingError(message) from error

    def last_lines(self) -> list[str]:
        """What has been written since the last start, or the end of that; nothing if the file is gone."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._begin, self.path.stat().st_size - READ_BYTES))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            return []
