"""A tar file whose entries are named by their SHA-256, after a manifest that says what they are.

Hides the format. Nothing in it says where a file goes on the disk, so reading it cannot write anywhere: the reader
gives the places, and gets exactly the bytes of the hash or an error.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import io
import json
import os
import tarfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

from conch_export.errors import SourceError, cannot_read, file_of, fix_of, is_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from conch_export.sources.source import File

MANIFEST = "manifest.json"
_BLOBS = "blobs/"
_UNFINISHED = ".conch-unfinished"
"""Ending of files that are being written. No other file has it, so those that were left over may be removed."""
_BLOCK_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 16 << 20


def write(
    path: Path, manifest: Mapping[str, Any], contents: Mapping[str, Path], on_bytes: Callable[[int], None]
) -> None:
    """Write an archive, whole or not at all; the same bytes for the same contents.

    Args:
        path: where; what is there is replaced.
        manifest: JSON object.
        contents: files by their SHA-256.
        on_bytes: called with the bytes that were added.

    Raises:
        SourceError: the disk refused.
    """
    try:
        _remove_abandoned(path)
        with ExitStack() as stack:
            file = stack.enter_context(
                NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED, delete=False)
            )
            unfinished = Path(file.name)
            stack.callback(unfinished.unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX)
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, MANIFEST, json.dumps(manifest, indent=1).encode())
                for sha256, content in sorted(contents.items()):
                    tar.add(content.resolve(), _BLOBS + sha256, filter=_anonymous)
                    on_bytes(content.stat().st_size)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # a temporary file is its maker's alone
            os.fsync(file.fileno())
            unfinished.replace(path)
    except OSError as error:
        named = file_of(error)
        if named is not None and not is_below(named, [path.parent]):  # one that goes into it
            raise SourceError(cannot_read(named, error)) from error
        raise SourceError(f"cannot write {path}: {error.strerror or error}. {fix_of(error)}") from error


class Archive:
    """An archive that is being read, once and from front to back.

    Attributes:
        manifest: what its maker says is in it; not to be trusted.
    """

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self._path = path
        self._tar = tar
        content = self._read(self._content(self._entry(MANIFEST), _MAX_MANIFEST_BYTES), _MAX_MANIFEST_BYTES)
        try:
            self.manifest = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._damaged(f"its manifest is no JSON ({error})") from error

    def extract(self, places: Mapping[File, list[Path]], on_bytes: Callable[[int], None]) -> None:
        """Write every entry to its places, which are new files in folders that may be new.

        Raises:
            SourceError: an entry is missing, more than was stated, damaged or no plain file, or the disk refused.
        """
        for file in sorted(places, key=lambda file: file.sha256):
            content = self._content(self._entry(_BLOBS + file.sha256), file.size)
            try:
                self._copy(content, file, places[file], on_bytes)
            except OSError as error:
                where = file_of(error) or places[file][0].parent
                raise SourceError(f"cannot write to {where}: {error.strerror or error}. {fix_of(error)}") from error
        if self._next() is not None:
            raise self._damaged("it has more entries than its manifest states")

    def _next(self) -> tarfile.TarInfo | None:
        try:
            return self._tar.next()
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise self._damaged(str(error)) from error

    def _entry(self, name: str) -> tarfile.TarInfo:
        entry = self._next()
        if entry is None:
            raise self._damaged(f"it ends before {name}")
        if entry.name != name or entry.type != tarfile.REGTYPE:
            raise self._damaged(f"it has {entry.name!r} where the plain file {name} should be")
        return entry

    def _content(self, entry: tarfile.TarInfo, most_bytes: int) -> BinaryIO:
        content = self._tar.extractfile(entry)
        if entry.size > most_bytes or content is None:
            raise self._damaged(f"{entry.name} has {entry.size} bytes, where {most_bytes} are stated or allowed")
        return content  # type: ignore[return-value]  # it is one in all that matters

    def _copy(self, content: BinaryIO, file: File, places: list[Path], on_bytes: Callable[[int], None]) -> None:
        digest, size = hashlib.sha256(), 0
        with ExitStack() as stack:
            copies = [stack.enter_context(_new(place)) for place in places]
            while block := self._read(content, _BLOCK_BYTES):
                digest.update(block)
                size += len(block)
                for copy in copies:
                    copy.write(block)
                on_bytes(len(block))
        if (digest.hexdigest(), size) != (file.sha256, file.size):
            raise self._damaged(f"{_BLOBS}{file.sha256} is not what its name says")

    def _read(self, content: BinaryIO, size: int) -> bytes:
        try:
            return content.read(size)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> SourceError:
        return SourceError(f"{self._path} is truncated, damaged or no bundle: {why}. Copy it again, or make it again")


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """An archive to read.

    Raises:
        SourceError: it is not there, or is none.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_Wary(path))
            tar = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))
        except (OSError, tarfile.TarError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"{path} cannot be read as a bundle: {reason}") from error
        yield Archive(path, tar)


class _Wary(io.FileIO):
    """A file that refuses large reads: a tar header can ask for any amount of memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_MANIFEST_BYTES:
            raise tarfile.ReadError(f"an entry's header of {size} bytes")
        return super().read(size) or b""


def _remove_abandoned(path: Path) -> None:
    """Remove unfinished archives of this name, except those that a process still writes and has locked."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
        with left.open("rb") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime, entry.mode = 0, 0o644
    return entry


def _new(place: Path) -> BinaryIO:
    place.parent.mkdir(parents=True, exist_ok=True)
    return place.open("xb")
