"""Reads a file that an operator names in a setting: keys, models, the key of an upstream."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MAX_BYTES = 16 * 2**20


def read_operators_file(path: Path) -> bytes:
    """Return its content; raises OSError where it cannot be read, or has more than `MAX_BYTES`."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content
