"""The checkpoints of a model repository: found where its lock file says, and recorded in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.checkpoints.remote_code import authorise
from conch_export.sources.finder import key_of, resolve
from conch_export.sources.lock import FILE, Lock
from conch_export.triton.publish import staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from conch_export.sources.source import Source


def find(
    reference: str,
    revision: str | None,
    repository: Path,
    *,
    update_lock: bool = False,
    trust_remote_code: bool = False,
    hashed: bool = True,
    on_bytes: Callable[[int, int], None] = lambda _done, _total: None,
) -> Source:
    """The checkpoint that a reference means in this repository.

    Args:
        reference: catalog name, Hub id or folder.
        revision: commit, branch or tag on the Hub; None takes what is locked, else the newest.
        repository: the model repository whose lock file is enforced.
        update_lock: take the checkpoint as it is now, whatever the lock file says.
        trust_remote_code: whether the checkpoint's own code may be run; it is pinned with the rest.
        hashed: whether the files of a folder are recorded, for which they are read; those from elsewhere always are.
        on_bytes: called with the bytes that are here and all that are to come, while a download runs.

    Raises:
        SourceError: it was not found, or has changed.
        UndecidedError, UnsupportedError: as `remote_code.authorise`.
    """
    lock = Lock.read(repository)
    if update_lock:
        lock = lock.without(key_of(reference, revision))
    source = resolve(reference, revision, lock, on_bytes, code=trust_remote_code, hashed=hashed)
    authorise(source, trusted=trust_remote_code)
    return source


def lock_text(repository: Path, sources: Iterable[Source]) -> str:
    """The repository's lock file with these sources recorded in it; folders are never recorded."""
    lock = Lock.read(repository)
    for source in sources:
        lock = lock.adding(source.key, source.locked) if source.key else lock
    return lock.to_text()


def write_lock(repository: Path, folder: Path, sources: Sequence[Source]) -> None:
    """Write the lock file with these sources into a folder that is about to be published in the repository."""
    if any(source.key for source in sources):
        (folder / FILE).write_text(lock_text(repository, sources), encoding="utf-8")


def preload(
    references: Sequence[str],
    repository: Path,
    *,
    revision: str | None = None,
    update_lock: bool = False,
    trust_remote_code: bool = False,
    on_bytes: Callable[[str, int, int], None] = lambda _reference, _done, _total: None,
) -> list[Source]:
    """Fetch checkpoints, verify them and record them in the repository's lock file, without exporting anything.

    Args:
        references: catalog names, Hub ids or folders.
        repository: the model repository whose lock file is enforced and written.
        revision: commit, branch or tag on the Hub, for all of them.
        update_lock: take the checkpoints as they are now, whatever the lock file says.
        trust_remote_code: fetch and record the code of checkpoints that cannot be exported without; none is run.
        on_bytes: called with the reference, the bytes that are here and all that are to come.

    Raises:
        ExportError: nothing was recorded; what has arrived stays in the cache.
    """
    sources = [
        find(
            reference,
            revision,
            repository,
            update_lock=update_lock,
            trust_remote_code=trust_remote_code,
            on_bytes=lambda done, total, reference=reference: on_bytes(reference, done, total),  # type: ignore[misc]
        )
        for reference in references
    ]
    with staged(repository) as folder:
        write_lock(repository, folder, sources)
    return sources
