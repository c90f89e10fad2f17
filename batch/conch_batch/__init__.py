"""Whole corpora: files of texts in, Parquet files with vectors or rankings out, on one machine or a Ray cluster.

A run is planned before it computes, every shard is published whole, and a run that was stopped at any moment goes on
where it was. The bytes that it writes follow from its inputs, its model and its options, on one kind of machine with
one set of releases.
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
