"""Checkpoints that came in a bundle. Hides where they are kept: among the assets of the Hugging Face cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from huggingface_hub import constants

from conch_export.errors import SourceError
from conch_export.sources.lock import FILE, Lock

if TYPE_CHECKING:
    from conch_export.sources.source import Locked


@dataclass(frozen=True)
class Bundled:
    """A checkpoint's folder, and what it was where the bundle was made."""

    folder: Path
    locked: Locked


def home() -> Path:
    """The folder that holds a folder for every checkpoint; it need not be there."""
    return Path(constants.HF_ASSETS_CACHE) / "conch" / "checkpoints"


def folder_name(key: str) -> str:
    """What the folder of this checkpoint is called, whatever the key."""
    return f"checkpoint--{quote(key, safe='@')}"


def find(key: str) -> Bundled | None:
    """The checkpoint of this name, if it came in a bundle.

    Raises:
        SourceError: nothing says what it is.
    """
    folder = home() / folder_name(key)
    if not folder.is_dir():
        return None
    locked = Lock.read(folder).sources.get(key)
    if locked is None:
        message = f"{folder / FILE} does not say what {key} is: unbundle it again, or delete {folder}"
        raise SourceError(message)
    return Bundled(folder, locked)
