"""The backends that a table of the models file can make: a line for each."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from conch_gateway.backends.backend import Kind

MODULES: Mapping[str, str] = {
    "url": "upstream",
}
"""The module of each, by the key that marks its tables."""


def kinds() -> Mapping[str, Kind]:
    """Return every module's `KIND`, by that key."""
    return {key: import_module(f"conch_gateway.backends.{name}").KIND for key, name in MODULES.items()}
