"""For how long reading a body of 8 MB stops the other threads of a process, by what reads it.

    python benchmarks/json_pause.py

A thread reads the body once while the main thread looks at the clock as often as it can; printed is the longest pause
between two looks, the median of nine.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from typing import TYPE_CHECKING

import orjson
from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES = 8_000_000
KINDS = {"words": "reverse the list ", "escapes": '"', "commas and brackets": "[a,", "Japanese": "日本語 "}
READERS: dict[str, Callable[[bytes], object]] = {
    "orjson": orjson.loads,
    "json": json.loads,
    "pydantic_core": from_json,
    "bytes.decode": bytes.decode,
}


def longest_pause_s(read: Callable[[bytes], object], body: bytes) -> float:
    """Of this thread while another one reads the body."""
    thread, longest = threading.Thread(target=read, args=(body,)), 0.0
    last = time.perf_counter()
    thread.start()
    while thread.is_alive():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return max(longest, time.perf_counter() - last)


def main() -> None:
    """Print a line for each kind of text."""
    for kind, unit in KINDS.items():
        encoded = len(json.dumps(unit, ensure_ascii=False)[1:-1].encode())
        body = json.dumps({"input": unit * (BYTES // encoded)}, ensure_ascii=False).encode()
        pauses = {
            name: statistics.median(longest_pause_s(read, body) for _ in range(9)) for name, read in READERS.items()
        }
        print(f"{kind}: {', '.join(f'{name} {1e3 * pause:.1f} ms' for name, pause in pauses.items())}")


if __name__ == "__main__":
    main()
