"""A JSON object of a checkpoint. Each error in it is a SourceError that names file, expected type and fix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar, cast

from conch_export.errors import SourceError, UnsupportedError, cannot_read

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

T = TypeVar("T", int, float, str, bool, list[Any], dict[str, Any])

_KINDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_LISTED = 16
"""Most known keys that a message lists."""


class Settings(dict[str, Any]):
    """The values by key; access to a missing key, or to a value of another type, is a SourceError.

    Attributes:
        place: the file, as messages name it.
    """

    def __init__(self, place: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.place = place

    def __missing__(self, key: str) -> Any:
        found = ", ".join(self) or "nothing"
        msg = (
            f"{self.place} does not state {key!r}, which is expected there; it states {found}. If a newer library "
            "calls it otherwise, state it under this name in a copy of the folder; else fetch the checkpoint again"
        )
        raise SourceError(msg)

    def of(self, key: str, kind: type[T], default: T) -> T:
        """The value of a key, of this type; the default where the key is missing or null.

        Raises:
            SourceError: it is of another type.
        """
        value = self.get(key)
        if value is None:
            return default
        plain = getattr(kind, "__origin__", kind)
        known = (int, float) if plain is float else plain
        if not isinstance(value, known) or (isinstance(value, bool) and plain is not bool):
            raise self.wrong(key, _KINDS[plain])
        return cast("T", float(value) if isinstance(value, int) and plain is float else value)

    def texts(self, key: str) -> list[str]:
        """A list of texts, empty where the key is missing or null."""
        values = self.of(key, list[Any], [])
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of texts")
        return values

    def inner(self, key: str) -> Settings:
        """An object inside the object, empty where the key is missing or null."""
        return Settings(f"{self.place}, {key}", self.of(key, dict[str, Any], {}))

    def wrong(self, key: str, expected: str) -> SourceError:
        """The error for a value of another kind than expected."""
        stated = repr(self[key])
        shown = stated if len(stated) <= 60 else f"{stated[:60]}…"
        fix = "fetch the checkpoint again, or mend the file"
        return SourceError(f"{self.place} states {key} = {shown}, where {expected} should be: {fix}")

    def refuse_unknown(self, *known: Collection[str]) -> None:
        """Raise UnsupportedError for keys that are in none of the collections and state something."""
        expected = sorted(set().union(*known))
        listed = f" (known: {', '.join(expected)})" if 0 < len(expected) <= _LISTED else ""
        for key, value in self.items():
            if states_something(value) and key not in expected:
                msg = (
                    f"{self.place} states {key} = {value!r}, which is not known here{listed} and may change what the "
                    "model computes: export a copy of the folder without it, if you know that it does not"
                )
                raise UnsupportedError(msg)

    def refuse_others(self, key: str, *built: Any) -> None:
        """Raise UnsupportedError for values of a key other than null and those that are built."""
        if self.get(key) not in (None, *built):
            known = f" (known: {', '.join(map(repr, built))})" if built else ""
            raise UnsupportedError(f"{self.place} states {key} = {self[key]!r}, which is not built{known}")


def states_something(value: Any) -> bool:
    """Whether a value could change anything: null, and empty texts, lists and objects could not."""
    return value is not None and value not in ("", [], {})


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where there is none.

    Raises:
        SourceError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(cannot_read(path, error)) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is damaged (it should hold JSON: {error}): fetch the checkpoint again") from error


def read_settings(path: Path) -> Settings:
    """The content of a JSON file that holds an object, empty where there is no such file.

    Raises:
        SourceError: it cannot be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict | None):
        raise SourceError(f"{path} is damaged (it should hold a JSON object): fetch the checkpoint again")
    return Settings(str(path), content or {})
