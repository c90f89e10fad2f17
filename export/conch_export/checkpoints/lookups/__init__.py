"""Texts that no encoder computes: tables of vectors or weights, one entry a token."""
