"""Secrets that are sent in a header: one that no header can hold would be taken for a wrong key, again and again."""

from __future__ import annotations


def header_secret(text: str) -> str:
    """Return a secret without the space around it: files of secrets often end in a line end, and headers never do.

    Raises:
        ValueError: nothing is left, or it has a character that no header has; the message does not repeat it.
    """
    secret = text.strip()
    if not secret:
        raise ValueError("is empty; write a key of ASCII letters, digits and signs")
    if not (secret.isascii() and secret.isprintable()):
        raise ValueError("has a character that no header may have; write a key of ASCII letters, digits and signs")
    return secret
