"""Checkpoints of the Hugging Face Hub, or of the mirror in `HF_ENDPOINT`, by way of the local cache.

Hides the Hub's protocol and the cache's layout. What arrives is compared with the hash that the Hub states for it.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name

from conch_export.errors import SourceError
from conch_export.sources.download_progress import watched
from conch_export.sources.files import file, git_sha1, needed, refuse_without_weights
from conch_export.sources.hub_errors import (
    NotFoundError,
    TransportError,
    explained,
    incomplete,
    is_interruption,
    is_refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from conch_export.sources.source import File

__all__ = ["NotFoundError", "fetch", "fetch_locked"]

_ATTEMPTS = 5
_OF_WHOLE_DOWNLOADS = ".gitattributes"
"""Every repository on the Hub has it and no library reads it: it is in the cache where all files were fetched."""


def fetch(hub_id: str, revision: str | None, on_bytes: Callable[[int, int], None], *, code: bool = False) -> Path:
    """The folder of a commit, or of the newest commit of a branch or tag; the folder's name is the commit.

    The Hub states the commit and its files; where the Hub cannot be reached, the cache answers. The checkpoint's own
    code is fetched only with `code`.

    Raises:
        NotFoundError: the cache does not have it, or not all of it, and the Hub does not either or cannot be reached.
        SourceError: it has no safetensors, or did not arrive as the Hub has it.
    """
    with explained(hub_id, revision):
        try:
            commit, sizes = _list(hub_id, revision)
        except (HfHubHTTPError, TransportError, OfflineModeIsEnabled) as error:
            if is_refusal(error):
                raise
            return _cached(hub_id, revision, code=code)
        wanted = {name: sizes[name] for name in needed(sizes, code=code)}
        folder = _fetch(hub_id, commit, wanted, on_bytes)
        _remember(folder, revision or constants.DEFAULT_REVISION, sizes)
        return folder


def fetch_locked(hub_id: str, commit: str, files: Mapping[str, File], on_bytes: Callable[[int, int], None]) -> Path:
    """The folder of a commit whose files are known; the Hub gets no request for a file that is in the cache.

    Raises:
        NotFoundError, SourceError: as `fetch`.
    """
    with explained(hub_id, commit):
        return _fetch(hub_id, commit, {name: file.size for name, file in files.items()}, on_bytes)


def _list(hub_id: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """The commit, and the sizes in bytes of its files."""
    timeout_s = constants.HF_HUB_ETAG_TIMEOUT
    info = HfApi().model_info(hub_id, revision=revision, files_metadata=True, timeout=timeout_s)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    refuse_without_weights(hub_id, sizes)
    if info.sha is None:
        msg = f"the Hub does not say which commit of {hub_id} it has: set HF_ENDPOINT to a mirror that does"
        raise SourceError(msg)
    return info.sha, sizes


def _cached(hub_id: str, revision: str | None, *, code: bool) -> Path:
    """The folder of a commit in the cache, if all that an export reads is known to be there.

    Other libraries fetch only the files that they know, and what they left out would read as not stated.
    """
    folder = Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    listing = _listing(folder)
    names = listing.read_text("utf-8").splitlines() if listing.exists() else []
    if missing := [name for name in needed(names, code=code) if not (folder / name).exists()]:
        raise incomplete(hub_id, f"lacks {', '.join(missing)}")
    if not names and not (folder / _OF_WHOLE_DOWNLOADS).exists():
        raise incomplete(hub_id, "has only what another program read")
    return folder


def _fetch(hub_id: str, commit: str, sizes: Mapping[str, int], on_bytes: Callable[[int, int], None]) -> Path:
    cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type="model")
    absent = [name for name in sizes if not isinstance(try_to_load_from_cache(hub_id, name, revision=commit), str)]
    _refuse_without_room(cache, sum(sizes[name] for name in absent))
    # Not snapshot_download: it asks the Hub even for a commit that is all here, and its threads outlive Ctrl-C. The
    # weights of most checkpoints are one file, so nothing is lost by fetching one after the other.
    with watched(cache / "blobs", sum(sizes[name] for name in absent), on_bytes) as arrived:
        for name in sorted(absent, key=lambda name: sizes[name]):
            _check(_download(hub_id, commit, name))
            arrived(sizes[name])
    return cache / "snapshots" / commit


def _listing(folder: Path) -> Path:
    """The file that holds the names of a commit's files, as the Hub stated them: in the cache, beside its snapshots."""
    return folder.parents[1] / "conch" / f"{folder.name}.txt"


def _remember(folder: Path, revision: str, names: Iterable[str]) -> None:
    """Tell the cache which commit a branch or tag has, and which files that has, for when the Hub cannot be asked."""
    _write(_listing(folder), "\n".join(sorted(names)))
    if revision != folder.name:
        _write(folder.parents[1] / "refs" / revision, folder.name)


def _write(path: Path, content: str) -> None:
    # All files are here, so a cache that can only be read is no reason to fail. huggingface_hub ignores it too.
    with suppress(OSError):
        if not path.exists() or path.read_text("utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")


def _download(hub_id: str, commit: str, name: str, attempts: int = _ATTEMPTS) -> Path:
    try:
        return Path(hf_hub_download(hub_id, name, revision=commit))
    except TransportError as error:  # huggingface_hub resumes after most broken connections, but not after every kind
        if attempts == 1 or not is_interruption(error):
            raise
    return _download(hub_id, commit, name, attempts - 1)


def _check(path: Path) -> None:
    """Compare a downloaded file with its name in the cache, which is the hash that the Hub states."""
    content = path.resolve()
    if content.name not in {path.name, _digest_like(content)}:
        content.unlink()
        path.unlink()
        msg = f"{path.name} arrived damaged and was thrown away: run it again, or set HF_ENDPOINT to another mirror"
        raise SourceError(msg)


def _digest_like(content: Path) -> str:
    """The file's hash, of the kind of its name: SHA-256 of large files, else git's; some mirrors state neither."""
    if re.fullmatch(r"[0-9a-f]{64}", content.name):
        return file(content).sha256
    return git_sha1(content) if re.fullmatch(r"[0-9a-f]{40}", content.name) else content.name


def _refuse_without_room(cache: Path, needed_bytes: int) -> None:
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed_bytes > free:
        sizes = f"{needed_bytes / 1e6:.0f} MB are to come, {there} has room for {free / 1e6:.0f}"
        raise SourceError(f"{sizes}: make room, or set HF_HOME")
