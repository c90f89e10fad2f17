"""Inputs: files of several formats, as rows in a fixed order."""

from __future__ import annotations
