"""Progress of downloads, in bytes, by the sizes of files in the cache.

huggingface_hub passes a caller's `tqdm_class` on to the download of a file only since version 1, and transformers 4
needs an older one.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PERIOD_S = 0.2


@contextmanager
def watched(blobs: Path, total_bytes: int, on_bytes: Callable[[int, int], None]) -> Iterator[Callable[[int], None]]:
    """Report progress to `on_bytes` while files arrive one after the other.

    Args:
        blobs: the folder of the cache in which the file under way grows.
        total_bytes: of all files that are to arrive.
        on_bytes: called from a thread of its own with the bytes that have arrived and the total.

    Yields:
        A function that takes the size of every file that has arrived.
    """
    finished: list[int] = []
    over = threading.Event()

    def report() -> None:
        while not over.wait(_PERIOD_S):
            on_bytes(min(total_bytes, sum(finished) + _under_way(blobs)), total_bytes)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        with _no_bars():
            yield finished.append
    finally:
        over.set()
        thread.join()
        if finished:
            on_bytes(sum(finished), total_bytes)


def _under_way(blobs: Path) -> int:
    """Bytes of the newest unfinished file; older ones are remains of downloads that were broken off."""
    sizes = []
    for path in blobs.glob("*.incomplete"):
        try:
            found = path.stat()
        except FileNotFoundError:  # it has just been finished
            continue
        sizes.append((found.st_mtime_ns, found.st_size))
    return max(sizes)[1] if sizes else 0


@contextmanager
def _no_bars() -> Iterator[None]:
    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
