"""The folder of an output: shards, failed rows, and the manifest. Each file is complete or absent.

    part-00000.parquet …          the shards
    _failed/part-00000.jsonl …    rows of a shard that could not be computed, and why
    _conch/manifest.json          see `planning.manifest`
    _conch/repeated/…             the items that occur in several shards, see `repeats`
    _conch/unfinished/…           partial files, and answers to repeated items, until the run is done

Readers of Parquet folders ignore names that begin with an underscore.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from conch_batch.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MANIFEST = "_conch/manifest.json"
_UNFINISHED = "_conch/unfinished"
_REPEATED = "_conch/repeated"
_LOCK = "_conch/lock"
_HELD = {errno.EWOULDBLOCK, errno.EACCES}
_SHARD = re.compile(r"part-(\d{5,})\.parquet")


class Store:
    """Reads and writes an output.

    Args:
        url: URL of the folder for fsspec; it need not exist.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._filesystem, self._root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise OutputError(f"{url} cannot be written to: {error}") from error
        self._is_local = isinstance(self._filesystem, LocalFileSystem)
        # Object stores have no rename, and leave `mv` to the base class, which copies.
        self._renames = type(self._filesystem).mv is not AbstractFileSystem.mv

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs on this file system out until the end of the block, or of the process; others have no locks.

        Raises:
            OutputError: another run writes to the folder, or it cannot be written.
        """
        if not self._is_local:
            yield
            return
        with self._writable():
            path = Path(self._path(_LOCK))
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:  # a network file system may have no locks either
                if error.errno in _HELD:
                    msg = f"another run writes to {self.url}: wait for its end, or name another --output"
                    raise OutputError(msg) from error
            yield

    def read_manifest(self) -> bytes | None:
        """The manifest; None in a new folder.

        Raises:
            OutputError: it cannot be read, or the folder has shards and no manifest.
        """
        path = self._path(_MANIFEST)
        with self._readable():
            if self._filesystem.exists(path):
                content: bytes = self._filesystem.cat_file(path)
                return content
        if self.done():
            msg = f"{self.url} has files part-….parquet and no manifest: name an empty or a new folder"
            raise OutputError(msg)
        return None

    def write_manifest(self, content: bytes) -> None:
        """Write the manifest."""
        self._put(_MANIFEST, content)

    def done(self) -> set[int]:
        """Numbers of the published shards; raises OutputError."""
        with self._readable():
            if not self._filesystem.isdir(self._root):
                return set()
            self._filesystem.invalidate_cache()
            names = [path.rpartition("/")[2] for path in self._filesystem.ls(self._root, detail=False)]
        return {int(found[1]) for name in names if (found := _SHARD.fullmatch(name))}

    def publish(self, shard: int, table: pa.Table, failed: bytes) -> None:
        """Write a shard and its failed rows (JSON Lines); these first, so that a shard that exists is complete.

        If none failed, the rows that failed in a run that was killed before it wrote the shard are removed.
        """
        side = f"_failed/part-{shard:05}.jsonl"
        if failed:
            self._put(side, failed)
        else:
            self._remove(side)
        self._put(_name(shard), _parquet(table))

    def read(self, shard: int, columns: Sequence[str]) -> pa.Table:
        """Columns of a published shard; raises OutputError."""
        path = self._path(_name(shard))
        # `pq.read_table` takes twice the time for a small file.
        with self._readable(), self._filesystem.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
            return parquet.read(list(columns), use_threads=False)

    def write_repeated(self, tables: Iterable[pa.Table]) -> list[int]:
        """Write tables of items that occur in several shards; remove those, and the answers, of an earlier plan.

        Returns:
            The number of rows of each.
        """
        self._remove(_REPEATED)
        self.clear_unfinished()
        rows = []
        for number, table in enumerate(tables):
            self._put(f"{_REPEATED}/{_name(number)}", _parquet(table))
            rows.append(len(table))
        return rows

    def repeated(self, number: int) -> str:
        """The URL of such a table."""
        return self._below(f"{_REPEATED}/{_name(number)}")

    @property
    def repeated_answers(self) -> str:
        """The URL of a folder for the answers to these items, which is there until the run is done."""
        return self._below(f"{_UNFINISHED}/answers")

    def clear_unfinished(self) -> None:
        """Remove partial files of runs that were killed, and the answers to repeated items."""
        self._remove(_UNFINISHED)

    def _put(self, name: str, content: bytes | pa.Buffer) -> None:
        path = self._path(name)
        with self._writable():
            self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            if self._renames:
                self._rename(path, content)
            else:  # object stores publish an object when its upload is complete
                self._filesystem.pipe_file(path, bytes(content))

    def _remove(self, name: str) -> None:
        path = self._path(name)
        with self._writable():
            if self._filesystem.exists(path):
                self._filesystem.rm(path, recursive=True)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.url} cannot be read: {error}") from error

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.url} cannot be written: {error}") from error

    def _rename(self, path: str, content: bytes | pa.Buffer) -> None:
        folder = self._path(_UNFINISHED)
        unfinished = f"{folder}/{path.rpartition('/')[2]}.{uuid.uuid4().hex}"
        self._filesystem.makedirs(folder, exist_ok=True)
        if self._is_local:
            with Path(unfinished).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).replace(path)
            return
        self._filesystem.pipe_file(unfinished, bytes(content))
        if self._filesystem.exists(path):  # FTP, SMB and HDFS do not rename onto a file
            self._filesystem.rm_file(path)
        self._filesystem.mv(unfinished, path)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _below(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{name}"


def refuse_unwritable(schema: pa.Schema) -> None:
    """Refuse columns that Parquet files have no type for, before anything is computed for them.

    Raises:
        InputError: there is one.
    """
    try:
        _parquet(schema.empty_table())
    except pa.ArrowException as error:
        msg = f"the input has a column that Parquet files cannot hold ({error}): convert it, or leave it out"
        raise InputError(msg) from error


def _name(shard: int) -> str:
    return f"part-{shard:05}.parquet"


def _parquet(table: pa.Table) -> pa.Buffer:
    buffer = pa.BufferOutputStream()
    # The numbers of vectors hardly repeat: with a dictionary of them too, writing takes four times as long, and half as
    # much room again.
    flat = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    pq.write_table(table, buffer, compression="zstd", use_dictionary=flat)
    return buffer.getvalue()
