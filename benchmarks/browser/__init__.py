"""conch-web in Chromium without a screen: loading, speed against transformers.js, and memory of long texts."""

from __future__ import annotations
