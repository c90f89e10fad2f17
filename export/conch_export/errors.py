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
