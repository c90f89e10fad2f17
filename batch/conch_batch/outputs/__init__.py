"""Outputs: Parquet files, each published by one rename."""

from __future__ import annotations
