"""Inputs that were right before something happened to them; the same seed gives the same ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.clients.mutations import mutated

if TYPE_CHECKING:
    from random import Random


def changed_value(data: bytes, random: Random) -> bytes:
    """JSON with another value or structure; empty where the data holds no JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return b""
    return mutated(value, random) if isinstance(value, dict) else b""


def changed_bytes(data: bytes, random: Random) -> bytes:
    """The same with some bytes replaced, removed, repeated or inserted."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        begin = random.randrange(len(changed) + 1)
        end = min(len(changed), begin + random.choice((0, 1, 4, 64)))
        changed[begin:end] = random.choice((b"", random.randbytes(end - begin or 1), bytes(changed[begin:end]) * 3))
    return bytes(changed)
