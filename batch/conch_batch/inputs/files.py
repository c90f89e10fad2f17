"""Finds the files of the inputs, local or remote (fsspec), in a fixed order."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import infer_compression

from conch_batch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsspec import AbstractFileSystem

PARQUET, ARROW, JSONL, CSV, TEXT = "parquet", "arrow", "jsonl", "csv", "text"
_KINDS = {
    ".parquet": PARQUET,
    ".arrow": ARROW,
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".csv": CSV,
    ".tsv": CSV,
    ".txt": TEXT,
    ".md": TEXT,
    ".rst": TEXT,
}
_COMPRESSED = {".gz", ".bz2", ".xz"}
_TAGS = ("ETag", "etag", "md5Hash", "checksum")
"""Keys under which object stores state the version of a file's content."""
_HIDDEN = (".", "_")
_PIECE = 1 << 22


@dataclass(frozen=True)
class File:
    """A file of the input.

    Attributes:
        url: its URL for fsspec.
        name: path below the folder that was given, or file name; stays the same when a corpus is moved.
        kind: format of its rows.
    """

    url: str
    name: str
    kind: str

    def open(self) -> IO[bytes]:
        """Open the file for reading, decompressed and seekable."""
        # Parquet compresses its own pages.
        compression = None if self.kind == PARQUET else infer_compression(self.name)
        with _readable(self.url):
            filesystem, path = url_to_fs(self.url)
            # Not `fsspec.open`, which takes `[` and `*` in a name for a pattern.
            opened: IO[bytes] = filesystem.open(path, "rb", compression=compression)
            return opened

    @cached_property
    def fingerprint(self) -> str:
        """A value that changes with the content: the tag of an object store, or the SHA-256 of the bytes."""
        info = self._info()
        tag = next((str(info[key]) for key in _TAGS if info.get(key)), None)
        if tag is not None:
            return f"{info['size']}:{tag}"
        digest = hashlib.sha256()
        with _readable(self.url):
            filesystem, path = url_to_fs(self.url)
            with filesystem.open(path, "rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
        return digest.hexdigest()

    def stamp(self) -> str:
        """Size and time of the last change: whether a file is changed while it is read is told without reading it."""
        info = self._info()
        return str([info.get(key) for key in ("size", "mtime", "LastModified", *_TAGS)])

    def _info(self) -> dict[str, Any]:
        with _readable(self.url):
            filesystem, path = url_to_fs(self.url)
            filesystem.invalidate_cache(path)
            info: dict[str, Any] = filesystem.info(path)
            return info


def find(inputs: Sequence[str], output: str = "") -> list[File]:
    """The files of all inputs, those of each input in the order of their names.

    Of a folder, these are all files below it in a known format. If the folder contains tables, text files beside them
    (`README.md`) are left out. So are, of folders and patterns, the files of the output.

    Raises:
        InputError: there is no file, or there are files of several formats.
    """
    ours = _place(*url_to_fs(output)) if output else None
    files = [file for each in inputs for file in _of(each, ours)]
    kinds = Counter(file.kind for file in files)
    if len(kinds) > 1:
        msg = f"the inputs have files of several formats ({', '.join(sorted(kinds))}); run the command for each of them"
        raise InputError(msg)
    repeated = [name for name, count in Counter(file.url for file in files).items() if count > 1]
    if repeated:
        raise InputError(f"{repeated[0]} is named more than once; name it once")
    return files


def _of(given: str, ours: str | None) -> list[File]:
    with _readable(given):
        filesystem, path = url_to_fs(given)
        if filesystem.isdir(path):
            return _below(filesystem, path, given, ours)
        # A file of this very name comes before what the name matches as a pattern.
        paths = [path] if filesystem.isfile(path) else _foreign(filesystem, filesystem.glob(path), ours)
        there = [found for found in sorted(paths) if filesystem.isfile(found)]
    if not there:
        raise InputError(f"{given} does not exist, or only in the output: name a file, a folder or a pattern that does")
    return [File(filesystem.unstrip_protocol(found), PurePosixPath(_path(found)).name, _kind(found)) for found in there]


def _below(filesystem: AbstractFileSystem, folder: str, given: str, ours: str | None) -> list[File]:
    root = PurePosixPath(folder)
    found = [
        path for path in sorted(_paths(filesystem, folder)) if not _is_hidden(PurePosixPath(path).relative_to(root))
    ]
    kinds = {
        path: _KINDS[suffix] for path in _foreign(filesystem, found, ours) if (suffix := suffix_of(path)) in _KINDS
    }
    tables = {kind for kind in kinds.values() if kind != TEXT}
    files = [
        File(filesystem.unstrip_protocol(path), str(PurePosixPath(path).relative_to(root)), kind)
        for path, kind in kinds.items()
        if not tables or kind in tables
    ]
    if not files:
        raise InputError(f"{given} has no file that ends in {', '.join(_KINDS)}, or only in the output")
    return files


def _foreign(filesystem: AbstractFileSystem, paths: Sequence[str], ours: str | None) -> list[str]:
    """The paths that are not below the output."""
    return [path for path in paths if ours is None or not _place(filesystem, path).startswith(f"{ours}/")]


def _place(filesystem: AbstractFileSystem, path: str) -> str:
    """The URL of a file or folder, without links and `..`."""
    real = os.path.realpath(path) if isinstance(filesystem, LocalFileSystem) else path
    url: str = filesystem.unstrip_protocol(real)
    return url.rstrip("/")


def _paths(filesystem: AbstractFileSystem, folder: str) -> list[str]:
    if isinstance(filesystem, LocalFileSystem):  # whose `find` leaves out folders that are links or cannot be read
        return [f"{where}/{name}" for where, names in _walk(folder) for name in names]
    found: list[str] = filesystem.find(folder)
    return found


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders below one with the names of their files. Links are followed, and each folder is read once."""
    seen = {os.path.realpath(folder)}
    for where, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        yield where, names
        shown = (name for name in sorted(folders, reverse=True) if not name.startswith(_HIDDEN))
        places = {os.path.realpath(f"{where}/{name}"): name for name in shown}
        folders[:] = sorted(name for place, name in places.items() if place not in seen)
        seen.update(places)


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """Name what cannot be read in errors of its file system."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{url} cannot be read: {error}") from error


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(_HIDDEN) for part in path.parts)


def _kind(path: str) -> str:
    suffix = suffix_of(path)
    if suffix not in _KINDS:
        raise InputError(f"{path} ends in none of {', '.join(_KINDS)}: convert it, or rename it to what it is")
    return _KINDS[suffix]


def suffix_of(path: str) -> str:
    """The suffix that states the format: `.jsonl` of `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(_path(path)).suffixes]
    if suffixes[-1:] and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _path(url: str) -> str:
    """What a file is called: without a query behind it, such as a signature, which may be another one next time."""
    return url.partition("?")[0] if url.startswith(("http://", "https://")) else url
