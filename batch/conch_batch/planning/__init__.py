"""What is to be done: the rows of every shard, written down before the first is computed."""

from __future__ import annotations
