"""Who computes: a model's graphs in this process, or a deployment."""

from __future__ import annotations
