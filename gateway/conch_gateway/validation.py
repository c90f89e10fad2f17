"""What pydantic finds wrong, in words."""

from __future__ import annotations

from pydantic_core import ErrorDetails


def place_of(detail: ErrorDetails) -> str:
    """Return where the value is that is wrong: names and numbers, divided by dots; nothing for the whole."""
    return ".".join(map(str, detail["loc"]))


def sentence(detail: ErrorDetails) -> str:
    """Return what is wrong, after the place where it has one."""
    place, message = place_of(detail), detail["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
