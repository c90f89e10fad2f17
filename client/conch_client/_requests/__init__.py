"""What a call sends and what it makes of the answers; no I/O."""

from __future__ import annotations
