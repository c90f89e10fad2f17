"""Measurements of conch beside its peers, and the tables made from them. `run.py` is where to begin."""

from __future__ import annotations

import os

# Said before anything is imported that would: nothing here talks to other machines.
os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
