"""The command line: options, progress and tables around the other packages."""

from __future__ import annotations

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""
