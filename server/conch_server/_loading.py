"""Says what a starting Triton is doing: which models it loads now, how large they are, and which come after them."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Messages of release 24.10, of level "I".
BEGUN = re.compile(r"\"loading: (?P<model>[^\"]+):\d+\"$")
LOADED = re.compile(r"\"successfully loaded '(?P<model>[^']+)'\"$")
MODELS_NAMED = 5


def awaited(unready: Sequence[str], known: int, log: Sequence[str], repository: Path) -> str:
    """Return what Triton is doing instead of being ready.

    Args:
        unready: Names of the models that are not ready yet.
        known: Number of all models, ready or not.
        log: Lines that this start of tritonserver has written.
        repository: The model repository.
    """
    if not unready:
        return "it has not answered"
    loading = [model for model in _loading(log) if model in unready]
    if not loading:
        return f"it has not begun to load {_named(unready)}"
    now = _named([f"{model}{_size(repository / model)}" for model in loading])
    later = [model for model in unready if model not in loading]
    then = f"{_named(later)} to load after that, " if later else ""
    return f"it is loading {now}, with {then}{known - len(unready)} of {known} models ready"


def _loading(log: Sequence[str]) -> list[str]:
    """Return the models that Triton has begun to load and not loaded, those it began with first."""
    loading: dict[str, None] = {}
    for line in log:
        if begun := BEGUN.search(line):
            loading[begun["model"]] = None
        elif loaded := LOADED.search(line):
            loading.pop(loaded["model"], None)
    return list(loading)


def _named(models: Sequence[str]) -> str:
    more = len(models) - MODELS_NAMED
    return ", ".join(models[:MODELS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _size(folder: Path) -> str:
    """Return what a model's files take, in brackets; nothing for an ensemble, which has none."""
    size = 0
    with suppress(OSError):  # an export that replaces the model meanwhile is no reason for the start to fail
        size = sum(path.stat().st_size for path in folder.glob("[0-9]*/*"))
    return f" ({size / 1e6:,.0f} MB)" if size else ""
