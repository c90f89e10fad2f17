"""Putting finished models into a repository, all or none, whatever happens in between.

Everything is written below `.staging/` in the repository. One rename (`new` to `ready`) is the moment of publication:
killed before it, the repository is as it was and the next export removes the remains; killed after it, the next export
moves the remaining models to their places.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conch_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAGING = ".staging"


@contextmanager
def staged(repository: Path) -> Iterator[Path]:
    """A folder to write models into; they are published when the block ends without an error.

    Args:
        repository: Triton's model repository; made if it does not exist.

    Raises:
        ExportError: another export is at work there, or the disk refused.
    """
    staging = repository / STAGING
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with _locked(staging):
            _finish(repository)
            new = staging / "new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            yield new
            _sync(new)
            new.rename(staging / "ready")
            _finish(repository)
    except OSError as error:
        message = f"cannot write to {repository}: {error.strerror or error}. The repository is as it was."
        raise ExportError(message) from error
    finally:
        if not (staging / "ready").exists():
            shutil.rmtree(staging, ignore_errors=True)


def _finish(repository: Path) -> None:
    """Move what was published to its place."""
    ready = repository / STAGING / "ready"
    if not ready.exists():
        return
    old = repository / STAGING / "old"
    for model in sorted(ready.iterdir()):
        place = repository / model.name
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        model.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    ready.rmdir()


@contextmanager
def _locked(staging: Path) -> Iterator[None]:
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another export is writing to {staging.parent}: wait for it to end"
            raise ExportError(message) from error
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Everything below the folder on the disk before it is published."""
    for path in folder.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
