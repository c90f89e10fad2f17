"""A clock that can be set for one process: libfaketime, where it is installed.

It is Debian's package libfaketime, or the package of the same name on PyPI.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

OF_DEBIAN = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
IN_PACKAGE = "vendor/libfaketime/src/libfaketime.so.1"
AS_IT_IS = "+0"


def library() -> Path | None:
    """Where libfaketime is, if it is anywhere."""
    found = importlib.util.find_spec("libfaketime")
    places = [OF_DEBIAN, *([Path(found.origin).parent / IN_PACKAGE] if found is not None and found.origin else [])]
    return next((place for place in places if place.exists()), None)


def environment(preloaded: Path, file: Path) -> dict[str, str]:
    """Variables of a process whose time of day is off by what the file says, such as `+3600`."""
    set_to(file, AS_IT_IS)
    return {
        "LD_PRELOAD": str(preloaded),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


def set_to(file: Path, offset: str) -> None:
    """Set the clock; it is noticed within a second."""
    file.write_text(offset, encoding="utf-8")
