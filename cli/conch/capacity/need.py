"""The load for which a deployment is planned, and how the options state it: `200/s`, `mixed`, `100ms`."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

import typer

from conch.load.texts import COUNT, Lengths
from conch.texts import text_of

_SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = r"(\d+(?:\.\d+)?)"
_SHOWN = 40  # characters of a line that is no number


@dataclass(frozen=True)
class Need:
    """A load, and the time in which it is to be answered.

    Attributes:
        per_s: Texts in a second, each a request of its own, at random moments.
        lengths: A sample of their lengths in tokens.
        p99_s: Time in which 99 % of them are to be answered.
    """

    per_s: float
    lengths: list[int]
    p99_s: float


def rate(text: str) -> float:
    """Return texts per second from `200/s`, `12000/min`, `1000000/h`, or a number, which is per second."""
    found = re.fullmatch(rf"{_NUMBER}(?:/(\w+))?", text.strip())
    seconds = _SECONDS.get(found[2] or "s") if found else None
    if not found or seconds is None or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is no rate: write it as 200/s, 12000/min or 1000000/h")
    return float(found[1]) / seconds


def duration(text: str) -> float:
    """Return seconds from `100ms` or `0.5s`."""
    found = re.fullmatch(rf"{_NUMBER}\s*(us|ms|s)", text.strip())
    if not found or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is no time: write it as 100ms or 0.5s")
    return float(found[1]) * _UNITS[found[2]]


def sample(text: str) -> list[int]:
    """Return lengths in tokens: those of a file that has a number in every line, or drawn as `conch bench` does.

    Raises:
        BadParameter: The text is neither, or the file cannot be read or has something else in it.
    """
    try:
        if text != "mixed" and Path(text).is_file():
            return _numbers(Path(text))
    except OSError as error:
        how = "name another file, or write mixed, a number, or a range such as 8-256"
        raise typer.BadParameter(f"--lengths {text} cannot be read ({error.strerror}): {how}") from error
    except ValueError as error:
        raise typer.BadParameter(f"--lengths {error}") from error
    try:
        lengths = Lengths.parse(text)
    except ValueError as error:
        msg = f"--lengths {error}, or a file with the tokens of a text in every line"
        raise typer.BadParameter(msg) from error
    source = random.Random(0)  # noqa: S311 - no secret
    return [lengths.draw(source) for _ in range(COUNT)]


def _numbers(path: Path) -> list[int]:
    lines = [line.strip() for line in text_of(path).splitlines()]
    wrong = next((line for line in lines if line and (not line.isdecimal() or not int(line))), None)
    if wrong is not None:
        shown = wrong if len(wrong) <= _SHOWN else f"{wrong[:_SHOWN]}…"
        raise ValueError(f"{path}: {shown!r} is no number of tokens; put the tokens of one text in every line")
    numbers = [int(line) for line in lines if line]
    if not numbers:
        raise ValueError(f"{path} is empty; put the tokens of one text in every line")
    return numbers
