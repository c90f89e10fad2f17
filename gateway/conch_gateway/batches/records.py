"""Files and batches without their database: the records that the API returns, and the operations that it calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

Item = TypeVar("Item")
Purpose = Literal["batch", "batch_output"]
LinePath = Literal["/v1/embeddings", "/v1/rerank", "/v2/rerank"]
"""The paths that lines may name."""
Status = Literal["validating", "failed", "in_progress", "completed", "expired", "cancelling", "cancelled"]
UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "cancelling")
"""Statuses of batches that have not ended."""


@dataclass(frozen=True, slots=True)
class File:
    """A stored file; times are in seconds since 1970.

    Attributes:
        owner: name of the key that it belongs to; empty if the gateway needs no keys.
        expires_at: when it is deleted.
        batch_id: the batch whose answers it contains; None for an uploaded file.
        failures: whether it contains the answers that are errors.
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
    """Why an input file is refused: an error in a line, counted from 1, or in the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """A request to create a batch.

    Attributes:
        window_s: time after which unanswered lines expire.
        output_expires_s: how long the files with the answers are kept; None for the default retention time.
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
        owner: name of the key that it belongs to; empty if the gateway needs no keys.
        total: lines of its input.
        completed: lines whose answer is not an error.
        failed: lines whose answer is an error.
        tokens: tokens that were computed for it.
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
    """Part of a list, and whether more follows."""

    items: Sequence[Item]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of storage.

    Attributes:
        file_bytes: most bytes of an uploaded file.
        lines: most lines of a batch.
        line_bytes: most bytes of a line.
        key_bytes: most bytes of all files of a key, including answers.
        key_files: most files of a key, including answers.
        key_batches: most unfinished batches of a key.
        retention_s: how long files, and batches that have ended, are kept.
    """

    file_bytes: int
    lines: int
    line_bytes: int
    key_bytes: int
    key_files: int
    key_batches: int
    retention_s: int


class FileUpload(Protocol):
    """A file that is being uploaded; see `files.Upload`."""

    async def write(self, data: bytes) -> None:
        """Add received bytes."""

    async def complete(self, filename: str, expires_s: int | None) -> File:
        """Return the file."""

    async def abandon(self) -> None:
        """Delete what was received."""


class FileStore(Protocol):
    """The files of all keys; see `files.Files`."""

    async def upload(self, owner: str) -> FileUpload:
        """Begin an upload."""

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
        """Start no more lines of a batch."""


class Stored(Protocol):
    """Files and batches as the API uses them; needs none of the packages that a database needs."""

    @property
    def files(self) -> FileStore:
        """The files."""

    @property
    def ledger(self) -> BatchLedger:
        """The batches."""
