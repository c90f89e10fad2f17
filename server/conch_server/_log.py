"""Triton's log: a new file for each start of the supervisor and after `LARGEST_BYTES`; some older ones are kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from logging.handlers import RotatingFileHandler
from typing import IO, TYPE_CHECKING

from conch_server._errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST_BYTES = 64 * 2**20
READ_BYTES = 2**18


class TritonLog:
    """The file that tritonserver writes to; users may delete it at any time."""

    def __init__(self, path: Path, *, kept: int) -> None:
        self.path = path
        self._kept = kept
        self._begin = 0

    def rotate(self) -> None:
        """Rename the existing files to `.1`, `.2`, … and keep `kept` in all; raise ServingError."""
        with self._named_errors():
            if self._kept == 1:
                self.path.unlink(missing_ok=True)
            # Only its rotation is used: tritonserver writes the file.
            RotatingFileHandler(self.path, backupCount=self._kept - 1, delay=True).doRollover()

    def open(self) -> IO[bytes]:
        """Open the file for appending, locked until whoever inherits it has ended; `last_lines` begin here from now on.

        Raise ServingError.
        """
        with self._named_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab")
            if file.tell() > LARGEST_BYTES:
                file.close()
                self.rotate()
                file = self.path.open("ab")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        self._begin = file.tell()
        return file

    @property
    def in_use(self) -> bool:
        """Whether a tritonserver or its warden lives that has it open."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def limit(self) -> None:
        """Move what has been written to `.1` if it is much; the file itself stays, as tritonserver has it open."""
        with contextlib.suppress(OSError):  # the file was deleted, say
            if self.path.stat().st_size > LARGEST_BYTES:
                handler = RotatingFileHandler(self.path, backupCount=self._kept - 1, delay=True)
                handler.rotator = _copy
                with contextlib.suppress(OSError):  # a full disk has no room for a copy
                    handler.doRollover()
                os.truncate(self.path, 0)
                self._begin = 0

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = f"cannot write {self.path} ({error.strerror}); set CONCH_RUN_DIRECTORY to a folder you can"
            raise ServingError(msg) from error

    def last_lines(self) -> list[str]:
        """Return the lines since `open`, at most the last `READ_BYTES` of them; none if the file is gone."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._begin, self.path.stat().st_size - READ_BYTES))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            return []


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
