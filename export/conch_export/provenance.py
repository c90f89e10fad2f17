"""The checkpoints of a model repository: found where its lock file says, and recorded in it."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from conch_export.checkpoints.adapters.overlay import overlaid
from conch_export.checkpoints.adapters.peft import read_adapter_settings
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.remote_code import authorise
from conch_export.errors import SourceError, UnsupportedError
from conch_export.progress import silent
from conch_export.sources.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter
from conch_export.sources.finder import key_of, resolve
from conch_export.sources.lock import FILE, Lock
from conch_export.triton.publish import staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from conch_export.progress import Progress
    from conch_export.sources.source import Source

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
"""Pattern of a name on the Hub, where the oldest checkpoints have no organisation, or in the catalog."""


def find(
    reference: str,
    revision: str | None,
    repository: Path,
    *,
    update_lock: bool = False,
    trust_remote_code: bool = False,
    hashed: bool = True,
    adapter: str | None = None,
    on_bytes: Callable[[int, int], None] = lambda _done, _total: None,
) -> Source:
    """The checkpoint that a reference means in this repository.

    Args:
        reference: catalog name, Hub id or folder; of an adapter, which is merged into the checkpoint that it names.
        revision: commit, branch or tag on the Hub; None takes what is locked, else the newest.
        repository: the model repository whose lock file is enforced.
        update_lock: take the checkpoint as it is now, whatever the lock file says.
        trust_remote_code: whether the checkpoint's own code may be run; it is pinned with the rest.
        hashed: whether the files of a folder are recorded, for which they are read; those from elsewhere always are.
        adapter: what is merged into its weights: the name of an adapter that it has itself, or folder or Hub id of
            PEFT's (`ID@REVISION` for one revision of it); None for nothing.
        on_bytes: called with the bytes that are here and all that are to come, while a download runs.

    Raises:
        SourceError: it was not found, or has changed.
        UndecidedError: as `remote_code.authorise`.
        UnsupportedError: the same, or the adapter is not built, or of another checkpoint.
    """
    lock = Lock.read(repository)

    def found(name: str, revision: str | None, *, code: bool = False, hashed: bool = True) -> Source:
        known = lock.without(key_of(name, revision)) if update_lock else lock
        return resolve(name, revision, known, on_bytes, code=code, hashed=hashed)

    # An adapter's files and its base's are put together by their recorded names.
    recorded = hashed or adapter is not None or (Path(reference) / ADAPTER_CONFIG).exists()
    source = found(reference, revision, code=trust_remote_code, hashed=recorded)
    if is_adapter(source.files):
        source = _on_its_base(reference, source, adapter, found)
    elif adapter is not None and Checkpoint(source.folder).own_adapters:
        source = replace(source, adapter=adapter)
    elif adapter is not None:
        source = _with_adapter(source, adapter, found)
    authorise(source, trusted=trust_remote_code)
    if source.parts and trust_remote_code:
        raise UnsupportedError("an adapter of a checkpoint that its own code computes is not built: merge it with PEFT")
    return source


def _on_its_base(reference: str, adapter: Source, second: str | None, found: Callable[..., Source]) -> Source:
    """An adapter with the checkpoint that it names."""
    if second is not None:
        raise UnsupportedError(f"{reference} is an adapter itself: leave --adapter {second} out, or name its base")
    name = read_adapter_settings(adapter.folder).of("base_model_name_or_path", str, "")
    other = f"export a copy of it with `conch export CHECKPOINT --adapter {reference}`"
    if not name:
        raise SourceError(f"{reference} is an adapter and does not say of which checkpoint: {other}")
    if not (Path(name).is_absolute() or _NAME.fullmatch(name)):
        raise SourceError(f"{reference} is an adapter of {name!r}, a path relative to where it was trained: {other}")
    try:
        return overlaid(found(name, None), adapter)
    except SourceError as error:
        raise SourceError(f"{reference} is an adapter of {name!r}, which is not found ({error}): {other}") from error


def _with_adapter(base: Source, reference: str, found: Callable[..., Source]) -> Source:
    """A checkpoint with an adapter of PEFT that the operator names."""
    name, _, revision = (reference, "", "") if Path(reference).is_dir() else reference.partition("@")
    adapter = found(name, revision or None)
    if not is_adapter(adapter.files):
        raise SourceError(f"{reference} is no adapter: it needs {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} of PEFT")
    of = read_adapter_settings(adapter.folder).of("base_model_name_or_path", str, "")
    kind, _, base_id = base.origin.partition(":")
    if kind == "hub" and _HUB_ID.fullmatch(of) and of.lower() != base_id.lower():
        msg = f"{reference} is an adapter of {of}, not of {base_id}: export {of}, or a folder if it is the same model"
        raise UnsupportedError(msg)
    return overlaid(base, adapter)


def lock_text(repository: Path, sources: Iterable[Source]) -> str:
    """The repository's lock file with these sources recorded in it; folders are never recorded."""
    lock = Lock.read(repository)
    for source in sources:
        for key, locked in source.locks.items():
            lock = lock.adding(key, locked)
    return lock.to_text()


def write_lock(repository: Path, folder: Path, sources: Sequence[Source]) -> None:
    """Write the lock file with these sources into a folder that is about to be published in the repository."""
    if any(source.locks for source in sources):
        (folder / FILE).write_text(lock_text(repository, sources), encoding="utf-8")


def preload(
    references: Sequence[str],
    repository: Path,
    *,
    revision: str | None = None,
    update_lock: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> list[Source]:
    """Fetch checkpoints, verify them and record them in the repository's lock file, without exporting anything.

    Args:
        references: catalog names, Hub ids or folders.
        repository: the model repository whose lock file is enforced and written.
        revision: commit, branch or tag on the Hub, for all of them.
        update_lock: take the checkpoints as they are now, whatever the lock file says.
        trust_remote_code: fetch and record the code of checkpoints that cannot be exported without; none is run.
        progress: told the reference that is fetched, its bytes that are here and all of them.

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
            on_bytes=partial(progress, reference),
        )
        for reference in references
    ]
    with staged(repository) as folder:
        write_lock(repository, folder, sources)
    return sources
