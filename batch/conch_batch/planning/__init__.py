"""The plan: the rows of every shard, written to the manifest before the first shard is computed."""

from __future__ import annotations
