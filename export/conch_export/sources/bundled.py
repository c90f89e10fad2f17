"""Checkpoints that came in a bundle. Hides where they are kept: among the assets of the Hugging Face cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from huggingface_hub import constants

from conch_export.errors import SourceError
from conch_export.sources.lock import FILE, Lock

if TYPE_CHECKING:
    from conch_export.sources.source import Locked


def home() -> Path:
    """The folder with a folder for every bundled checkpoint; it need not exist."""
    return Path(constants.HF_ASSETS_CACHE) / "conch" / "checkpoints"


def folder_name(key: str) -> str:
    """The name of the folder of this checkpoint, whatever the key."""
    return f"checkpoint--{quote(key, safe='@')}"


def find(key: str) -> tuple[Path, Locked] | None:
    """The folder of the checkpoint of this name, and its lock from where the bundle was made; None if none was bundled.

    Raises:
        SourceError: the folder lacks its lock.
    """
    folder = home() / folder_name(key)
    if not folder.is_dir():
        return None
    locked = Lock.read(folder).sources.get(key)
    if locked is None:
        raise SourceError(f"{folder / FILE} does not say what {key} is: unbundle it again, or delete {folder}")
    return folder, locked
