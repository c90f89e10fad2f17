"""Files and batches as the rest of the gateway sees them: what is known of them, and what can be done with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

Item = TypeVar("Item")
Purpose = Literal["batch", "batch_output"]
LinePath = Literal["/v1/embeddings", "/v1/rerank", "/v2/rerank"]
"""The paths that lines may name."""
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "cancelling")
"""Statuses of batches that are not over. `finalizing` is never seen: the end of a batch is one transaction."""


@dataclass(frozen=True, slots=True)
class File:
    """A stored file; times are in seconds since 1970.

    Attributes:
        owner: name of the key that it belongs to; empty where no key is needed.
        expires_at: when it is deleted.
        batch_id: for what a batch has answered: the batch; None for a file that was uploaded.
        failures: whether these are the answers that are errors.
    """

    id: str
    owner: str
    filename: str
    purpose: Purpose
    bytes: int
    created_at: int
    expires_at: int
    batch_id: str | None
    failures: bool


@dataclass(frozen=True, slots=True)
class LineError:
    """Why an input file is refused: a line of it, counted from 1, or the whole of it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """What the creation of a batch asks for.

    Attributes:
        window_s: the time after which what is not answered expires.
        output_expires_s: how long the files with the answers are kept; None as long as others.
    """

    endpoint: str
    input_file_id: str
    completion_window: str
    window_s: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    output_expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch; times are in seconds since 1970.

    Attributes:
        owner: name of the key that it belongs to; empty where no key is needed.
        total: lines of its input.
        completed: lines that were answered.
        failed: lines whose answer is an error.
        tokens: that its answers took.
        errors: why its input was refused.
    """

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    total: int
    completed: int
    failed: int
    tokens: int
    output_file_id: str | None
    error_file_id: str | None
    metadata: Mapping[str, str]
    errors: Sequence[LineError]


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Part of a list, and whether there is more behind it."""

    items: Sequence[Item]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What is stored at most.

    Attributes:
        file_bytes: of an uploaded file.
        lines: of a batch.
        line_bytes: of a line.
        key_bytes: of all files of a key, answers included.
        key_files: files of a key, answers included.
        key_batches: of a key that are not over.
        retention_s: how long files, and batches that are over, are kept.
    """

    file_bytes: int
    lines: int
    line_bytes: int
    key_bytes: int
    key_files: int
    key_batches: int
    retention_s: int


class FileUpload(Protocol):
    """A file that is being sent; see `files.Upload`."""

    async def write(self, data: bytes) -> None:
        """Take what has come."""

    async def complete(self, filename: str, expires_s: int | None) -> File:
        """Return the file."""

    async def abandon(self) -> None:
        """Delete what has come."""


class FileStore(Protocol):
    """The files of all keys; see `files.Files`."""

    async def upload(self, owner: str) -> FileUpload:
        """Begin a file."""

    async def get(self, owner: str, file_id: str) -> File:
        """Return a file."""

    async def listed(
        self, owner: str, *, limit: int, after: str | None, ascending: bool, purpose: str | None
    ) -> Page[File]:
        """Return some files."""

    async def delete(self, owner: str, file_id: str) -> None:
        """Delete a file."""

    def content(self, file: File) -> AsyncIterator[bytes]:
        """Yield the content."""


class BatchLedger(Protocol):
    """The batches of all keys; see `ledger.Ledger`."""

    async def create(self, owner: str, order: BatchOrder) -> Batch:
        """Add a batch."""

    async def get(self, owner: str, batch_id: str) -> Batch:
        """Return a batch."""

    async def listed(self, owner: str, *, limit: int, after: str | None) -> Page[Batch]:
        """Return some batches."""

    async def cancel(self, owner: str, batch_id: str) -> Batch:
        """Have no more lines begun."""


class Stored(Protocol):
    """What the API works on; it is there without the packages that a database needs."""

    @property
    def files(self) -> FileStore:
        """The files."""

    @property
    def ledger(self) -> BatchLedger:
        """The batches."""
