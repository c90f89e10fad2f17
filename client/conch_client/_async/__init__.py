"""The client and its session for an event loop; `_sync` is generated from it."""

from __future__ import annotations
