"""`python -m conch`."""

from __future__ import annotations

from conch.app import main

main()
