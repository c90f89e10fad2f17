"""What is written: Parquet files, each published whole."""

from __future__ import annotations
