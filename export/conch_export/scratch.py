"""Temporary files, which lie on another disk than the repository: where that is full, it is the one to be named."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from conch_export.errors import ExportError, cannot_read, file_of, fix_of, is_below

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards; writing into it is for `temporary_writes`.

    Raises:
        ExportError: it cannot be made.
    """
    with ExitStack() as stack:
        with temporary_writes():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield Path(folder)


@contextmanager
def temporary_writes(*folders: Path) -> Iterator[None]:
    """Turn what the system raises into an ExportError that names the disk of temporary files, or another file.

    OSErrors without a number are not the system's: transformers raises such for files that a checkpoint lacks.

    Args:
        folders: hold the temporary files; none where it is one of them that is to be made.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        file = file_of(error)
        if folders and file is not None and not is_below(file, folders):
            raise ExportError(cannot_read(file, error)) from error
        where = tempfile.tempdir or "any folder"
        msg = f"cannot write temporary files to {where}: {error.strerror}. {fix_of(error)}, or set TMPDIR"
        raise ExportError(msg) from error
