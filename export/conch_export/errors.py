"""The errors of an export.

ExportError
├── SourceError          the checkpoint cannot be found, read or trusted
├── UnsupportedError     the checkpoint needs something that is not built
├── UndecidedError       the checkpoint lacks a fact that must not be guessed; the message names the option for it
│   └── UndecidedPoolingError  that fact is how token vectors become one, or whether it has length 1
├── MemoryNeededError    this machine has less memory than an export or a comparison takes
├── VerificationError    the exported graphs differ from their reference by more than is allowed
└── OutdatedError        the repository differs from what an export would write (`--check`)
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExportError(Exception):
    """Root of this package's errors; the message names the fix. The repository is as it was before."""


class SourceError(ExportError):
    """The checkpoint cannot be found, read or trusted."""


class UnsupportedError(ExportError):
    """The checkpoint needs something that is not built."""


class UndecidedError(ExportError):
    """The checkpoint lacks a fact that must not be guessed."""


class UndecidedPoolingError(UndecidedError):
    """The checkpoint does not say how token vectors become one, or whether that has length 1."""


class MemoryNeededError(ExportError):
    """This machine has less memory than an export, or a comparison, takes."""


class VerificationError(ExportError):
    """The exported graphs differ from their reference by more than is allowed."""


class OutdatedError(ExportError):
    """The repository differs from what an export would write."""


def reason_of(error: BaseException) -> str:
    """The first line of what another library's error says; where it says nothing, what it is called."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def file_of(error: OSError) -> Path | None:
    """The file that the system refused: of a link or a new name, what was to be made. None where it names none."""
    name = error.filename2 or error.filename
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) else None


def is_below(file: Path, folders: Iterable[Path]) -> bool:
    """Whether a file is one of these folders, or in one."""
    return any(file.absolute().is_relative_to(folder.absolute()) for folder in folders)


def cannot_read(file: Path, error: OSError) -> str:
    """What the system says of a file that is there to be read, and what to do."""
    fix = "Fetch it again" if isinstance(error, FileNotFoundError) else fix_of(error)
    return f"{file} cannot be read: {error.strerror or error}. {fix}"


def fix_of(error: OSError) -> str:
    """What to do where the system refused, as a sentence without its full stop."""
    if isinstance(error, PermissionError):
        return "Give this user the right to it"
    return _FIXES.get(error.errno or 0, "Check that path, and the disk that it is on")


_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Make room there"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Allow more open files (ulimit -n)"),
    errno.EROFS: "Choose a place that can be written to",
}
