"""Putting finished models into a repository, all or none, whatever happens in between.

Everything is written below `.staging/` in the repository. One rename (`new` to `ready`) is the moment of publication:
killed before it, the repository is as it was and the next export removes the remains; killed after it, the next export
moves the remaining models to their places.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from conch_export.errors import ExportError, cannot_read, file_of, fix_of, is_below, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STAGING = ".staging"


@contextmanager
def staged(repository: Path) -> Iterator[Path]:
    """A folder to write models and files into; they are published when the block ends without an error.

    An empty folder takes the model of that name out of the repository.

    Args:
        repository: Triton's model repository; made if it does not exist.

    Raises:
        ExportError: another export is at work there, or the disk refused.
    """
    with staged_together(repository) as (folder,):
        yield folder


@contextmanager
def staged_together(*repositories: Path) -> Iterator[tuple[Path, ...]]:
    """A folder for each of several repositories, as `staged` has it for one; they are published together.

    Everything is on the disk before the first one is published, which takes one rename each: only a process that is
    killed between two of these leaves the later repositories as they were.

    Raises:
        ExportError: another export is at work in one of them, or the disk refused.
    """
    try:
        with ExitStack() as locks:
            for repository in repositories:
                repository.mkdir(parents=True, exist_ok=True)
                locks.enter_context(_locked(repository))
            yield from _published(repositories)
    except OSError as error:
        state = "The repository is as it was."
        if any(map(_is_unfinished, repositories)):
            state = "Models in it were not all put in place: the next export does that."
        raise ExportError(_refusal(error, repositories, state)) from error


def complete(repository: Path) -> None:
    """Finish a publication that was killed after its models had been staged.

    Raises:
        ExportError: the disk refused.
    """
    if not _is_unfinished(repository):
        return
    try:
        with _locked(repository):
            _finish(repository)
            shutil.rmtree(repository / STAGING, ignore_errors=True)
    except OSError as error:
        state = "Models in it were not all put in place."
        raise ExportError(_refusal(error, [repository], state)) from error


def _refusal(error: OSError, repositories: Sequence[Path], state: str) -> str:
    """What the system refused: the file that it names, which may be one that was read and lies elsewhere."""
    if error.errno is None:  # a library's own, which says of what it is
        return f"{reason_of(error)}. {state}"
    file = file_of(error)
    if file is not None and not is_below(file, repositories):
        return f"{cannot_read(file, error)}. {state}"
    where = file or " and ".join(map(str, repositories))
    return f"cannot write to {where}: {error.strerror or error}. {state} {fix_of(error)}"


def _published(repositories: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Prepare the folders, and publish what was written into them; after an error only what was published remains."""
    staging = [repository / STAGING for repository in repositories]
    # What an export that was killed had published is put in place before the folder is emptied, or it would be lost.
    for repository, folder in zip(repositories, staging, strict=True):
        _finish(repository)
        shutil.rmtree(folder, ignore_errors=True)
    try:
        for folder in staging:
            (folder / "new").mkdir(parents=True)
        yield tuple(folder / "new" for folder in staging)
        for folder in staging:
            # Before any rename: a crash must not leave a published name whose content never reached the disk.
            for path in (folder / "new").rglob("*"):
                _sync(path)
            _sync(folder / "new")
        for folder in staging:
            (folder / "new").rename(folder / "ready")
        for folder in staging:
            _sync(folder)
        for repository in repositories:
            _finish(repository)
    finally:
        for folder in staging:
            # `ready` is published already: if it could not be moved now, the next export does it.
            if not (folder / "ready").exists():
                shutil.rmtree(folder, ignore_errors=True)


def _is_unfinished(repository: Path) -> bool:
    return (repository / STAGING / "ready").exists()


def _finish(repository: Path) -> None:
    """Move published models to their places; what was there stays in the folder for staging, which callers remove."""
    ready = repository / STAGING / "ready"
    if not _is_unfinished(repository):
        return
    for model in sorted(ready.iterdir()):
        place = repository / model.name
        if model.is_file():
            model.replace(place)
            continue
        if os.path.lexists(place):
            # A folder cannot be renamed onto one that has content, nor onto a link, such as one to a disk for models.
            # After a kill between the two renames the new model is still in `ready`, where the next run finds it.
            place.rename(Path(mkdtemp(prefix="old-", dir=ready.parent)) / place.name)
        if any(model.iterdir()):
            model.rename(place)
        else:
            # Empty folders take a model out: its place stays free.
            model.rmdir()
    # Last, because as long as `ready` is there the publication counts as unfinished; so the new names are synced first.
    _sync(repository)
    ready.rmdir()


@contextmanager
def _locked(repository: Path) -> Iterator[None]:
    # The repository itself is locked: unlike a file inside, it is there for as long as anyone may want the lock.
    descriptor = os.open(repository, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"another export is writing to {repository}: wait for it to end") from error
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Write a file's content to the disk, or a folder's names: the sync of a file does not write its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
