"""Texts to rows of token ids."""

from __future__ import annotations
