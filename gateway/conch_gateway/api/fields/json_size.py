"""Counts the values of a JSON document before it is parsed: parsing makes an object of each, all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conch_gateway.errors import BodyTooLargeError

MOST_VALUES = 2**20
MOST_CONTAINERS = 2**16  # lists and objects, which take longest


def check_json_size(raw: bytes) -> None:
    """Refuse documents of more values than a request needs.

    Raises:
        BodyTooLargeError: there are more.
    """
    if len(raw) <= MOST_CONTAINERS:  # fewer bytes than values are allowed
        return
    # Most documents are small enough even if all letters within strings are taken for JSON's own.
    if not _excess(np.frombuffer(raw, np.uint8)):
        return
    if excess := _excess(_without_strings(raw)):
        raise BodyTooLargeError(f"the body holds more than {excess}; send fewer in one request")


def _excess(letters: NDArray[np.uint8]) -> str:
    """Return the limit that is exceeded, or nothing."""
    if _count(letters, ",") >= MOST_VALUES:
        return f"{MOST_VALUES} values"
    if _count(letters, "[") + _count(letters, "{") > MOST_CONTAINERS:
        return f"{MOST_CONTAINERS} lists and objects"
    return ""


def _count(letters: NDArray[np.uint8], letter: str) -> int:
    # NumPy lets other threads run while it compares; bytes.count() of some megabytes stops them for milliseconds.
    return int(np.count_nonzero(letters == ord(letter)))


def _without_strings(raw: bytes) -> NDArray[np.uint8]:
    """Return the letters outside of strings; of an invalid document, any."""
    letters = np.frombuffer(raw.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    within = np.logical_xor.accumulate(letters == ord('"'))
    return letters[~within]
