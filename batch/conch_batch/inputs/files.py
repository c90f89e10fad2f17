"""Finds the files of the inputs, local or remote (fsspec), in a fixed order."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import fsspec
from fsspec.core import get_fs_token_paths, url_to_fs

from conch_batch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
        compression = None if self.kind == PARQUET else "infer"
        try:
            opened: IO[bytes] = fsspec.open(self.url, "rb", compression=compression).open()
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"{self.url} cannot be read: {error}") from error
        return opened

    @cached_property
    def fingerprint(self) -> str:
        """A value that changes with the content: the tag of an object store, or the SHA-256 of the bytes."""
        filesystem, path = url_to_fs(self.url)
        info: dict[str, Any] = filesystem.info(path)
        tag = next((str(info[key]) for key in _TAGS if info.get(key)), None)
        if tag is not None:
            return f"{info['size']}:{tag}"
        digest = hashlib.sha256()
        with filesystem.open(path, "rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()


def find(inputs: Sequence[str]) -> list[File]:
    """The files of all inputs, those of each input in the order of their names.

    Of a folder, these are all files below it in a known format. If the folder contains tables, text files beside them
    (`README.md`) are left out.

    Raises:
        InputError: there is no file, or there are files of several formats.
    """
    files = [file for each in inputs for file in _of(each)]
    kinds = Counter(file.kind for file in files)
    if len(kinds) > 1:
        msg = f"the inputs have files of several formats ({', '.join(sorted(kinds))}); run the command for each of them"
        raise InputError(msg)
    repeated = [name for name, count in Counter(file.url for file in files).items() if count > 1]
    if repeated:
        raise InputError(f"{repeated[0]} is named more than once; name it once")
    return files


def _of(given: str) -> list[File]:
    try:
        filesystem, path = url_to_fs(given)
        if filesystem.isdir(path):
            return _below(filesystem, path, given)
        paths = get_fs_token_paths(given)[2]
        there = [found for found in sorted(paths) if filesystem.isfile(found)]
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{given} cannot be read: {error}") from error
    if not there:
        raise InputError(f"{given} does not exist")
    return [File(filesystem.unstrip_protocol(found), PurePosixPath(found).name, _kind(found)) for found in there]


def _below(filesystem: fsspec.AbstractFileSystem, folder: str, given: str) -> list[File]:
    root = PurePosixPath(folder)
    found = [path for path in sorted(filesystem.find(folder)) if not _is_hidden(PurePosixPath(path).relative_to(root))]
    kinds = {path: _KINDS[suffix] for path in found if (suffix := _suffix(path)) in _KINDS}
    tables = {kind for kind in kinds.values() if kind != TEXT}
    files = [
        File(filesystem.unstrip_protocol(path), str(PurePosixPath(path).relative_to(root)), kind)
        for path, kind in kinds.items()
        if not tables or kind in tables
    ]
    if not files:
        raise InputError(f"{given} has no file that ends in {_named(_KINDS)}")
    return files


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _kind(path: str) -> str:
    suffix = _suffix(path)
    if suffix not in _KINDS:
        raise InputError(f"{path} ends in none of {_named(_KINDS)}: convert it, or rename it to what it is")
    return _KINDS[suffix]


def _suffix(path: str) -> str:
    """The suffix that states the format: `.jsonl` of `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    if suffixes[-1:] and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _named(names: Iterable[str]) -> str:
    return ", ".join(names)
