"""Jobs: the requests of a call, and its result from the responses; no I/O."""

from __future__ import annotations
