"""The backends that a table of the models file can make: a line for each."""

from __future__ import annotations

from collections.abc import Mapping

from conch_gateway.backends.backend import Kind
from conch_gateway.backends.upstream import Upstream
from conch_gateway.backends.upstream_table import UpstreamTable

KINDS: Mapping[str, Kind] = {
    "url": Kind(UpstreamTable, Upstream),
}
"""By the key that marks such a table."""
