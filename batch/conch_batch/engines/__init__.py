"""Engines, which compute answers: a model's graphs in this process, or a gateway."""

from __future__ import annotations
