"""Whole corpora: files of texts in, Parquet files with vectors or rankings out, on one machine or a Ray cluster.

A run divides its rows into shards before it computes, publishes every shard by one rename, and continues where an
earlier run was stopped. On one kind of machine and with the same releases of the libraries, the bytes that it writes
depend only on its inputs, its model and its options.
"""

from __future__ import annotations

from conch_batch.errors import (
    BatchError,
    ChangedError,
    EngineError,
    InputError,
    InterruptedRun,
    OutputError,
    RowError,
)
from conch_batch.job import Embedding, Job, Numbers, Reranking, TextRows
from conch_batch.run import Report, Watcher, Workers, run
from conch_batch.shards import Done

__all__ = [
    "BatchError",
    "ChangedError",
    "Done",
    "Embedding",
    "EngineError",
    "InputError",
    "InterruptedRun",
    "Job",
    "Numbers",
    "OutputError",
    "Report",
    "Reranking",
    "RowError",
    "TextRows",
    "Watcher",
    "Workers",
    "run",
]
