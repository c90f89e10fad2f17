"""Memory that an earlier step has freed, and that the C library would keep while the next step needs as much."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def give_back() -> None:
    """Give the system what has been freed."""
    gc.collect()  # modules of PyTorch refer to themselves, so that they are not freed when nothing else does
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
