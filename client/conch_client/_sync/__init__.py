"""The client and its session for threads, generated from `_async` by `make docs`."""

from __future__ import annotations
