"""The tables. A line is either in `lines`, unanswered, or in `answers`; one transaction moves it.

Files with answers store no content: they are read from the answers of their batch, in the order of the input.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

VERSION = 2
"""Version of the tables. A gateway refuses tables of another version."""
CHUNK_BYTES = 256 * 1024
"""Size of each piece of an uploaded file except the last."""

METADATA = MetaData()

versions = Table("conch_version", METADATA, Column("version", Integer, primary_key=True))

files = Table(
    "conch_files",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),  # 0 while it is being deleted
    Column("expires_at", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),  # False while it is being uploaded or deleted and not visible
    Column("batch_id", String(64)),
    Column("failures", Boolean, nullable=False),
    Index("conch_files_by_owner", "owner", "created_us"),
)

chunks = Table(
    "conch_chunks",
    METADATA,
    Column("file_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

batches = Table(
    "conch_batches",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("completion_window", String(8), nullable=False),
    Column("output_expires_s", BigInteger),
    Column("metadata", Text, nullable=False),
    Column("errors", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("in_progress_at", BigInteger),
    Column("finalizing_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("failed_at", BigInteger),
    Column("expired_at", BigInteger),
    Column("cancelling_at", BigInteger),
    Column("cancelled_at", BigInteger),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("output_bytes", BigInteger, nullable=False),
    Column("error_bytes", BigInteger, nullable=False),
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("turn", BigInteger, nullable=False),  # grows by the bytes of lines that are claimed; the lowest is next
    Column("claim", String(64)),  # the gateway that reads the input file, until `claimed_until`
    Column("claimed_until", Float, nullable=False),
    Index("conch_batches_by_owner", "owner", "created_us"),
    Index("conch_batches_by_status", "status"),
)

lines = Table(
    "conch_lines",
    METADATA,
    Column("batch_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("custom_id", Text, nullable=False),
    Column("begin", BigInteger, nullable=False),  # its offset in the input file
    Column("bytes", Integer, nullable=False),
    Column("tries", Integer, nullable=False),  # how often it could not be computed
    Column("crashes", Integer, nullable=False),  # how often a server failed while it was computed
    Column("claim", String(64)),  # the gateway that computes it
    Column("claimed_until", Float, nullable=False),  # without a claim: the line is not tried before this time
    Index("conch_lines_by_claim", "claim"),
)

answers = Table(
    "conch_answers",
    METADATA,
    Column("batch_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("failed", Boolean, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
