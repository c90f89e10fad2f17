"""How many values a JSON document has, counted before it is parsed: parsing makes an object of each, all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conch_gateway.errors import BodyTooLargeError

Letters = NDArray[np.uint8]
MOST_VALUES = 2**20
MOST_CONTAINERS = 2**16  # lists and objects, which take longest


def check_json_size(raw: bytes) -> None:
    """Refuse documents of more values than a request needs.

    Raises:
        BodyTooLargeError: there are more.
    """
    letters = np.frombuffer(raw, np.uint8)
    if _values(letters) <= MOST_VALUES and _containers(letters) <= MOST_CONTAINERS:
        return  # even if all of them are in strings
    bare = _without_strings(raw)
    for found, most, what in (
        (_values(bare), MOST_VALUES, "values"),
        (_containers(bare), MOST_CONTAINERS, "lists and objects"),
    ):
        if found > most:
            msg = f"the body holds more than {most} {what}; send fewer in one request"
            raise BodyTooLargeError(msg)


# NumPy lets other threads run while it compares; bytes.count() of some megabytes stops them for milliseconds.
def _count(letters: Letters, letter: str) -> int:
    return int(np.count_nonzero(letters == ord(letter)))


def _values(letters: Letters) -> int:
    return _count(letters, ",") + 1


def _containers(letters: Letters) -> int:
    return _count(letters, "[") + _count(letters, "{")


def _without_strings(raw: bytes) -> Letters:
    """What is outside of strings; of invalid documents anything may be left."""
    letters = np.frombuffer(raw.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    within = np.logical_xor.accumulate(letters == ord('"'))
    return letters[~within]
