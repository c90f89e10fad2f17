"""Comparing exported graphs with their authors' libraries."""
