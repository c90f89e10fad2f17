"""The folder of models for the browser, which `conch web` writes, the gateway serves, and the module conch-web loads.

It has a folder for each model with its manifest, which lists the other files, and one for the module. A model's files
have the beginning of their SHA-256 in their names: a name never gets another content, and may be cached for ever.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from conch_contract.errors import DescriptionError
from conch_contract.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WEB_FORMAT = 1
"""Version of the manifest."""
WEB_MANIFEST = "conch.json"
"""Name of the manifest, in a model's folder."""
WEB_MODULE = "conch-web"
"""Name of the module's folder; no model can have it."""
WEB_ENTRY = "conch-web.js"
"""The module's file that pages import."""

WEB_TASKS = (Task.EMBEDDING, Task.LATE_INTERACTION, Task.CROSS_ENCODER)
"""Tasks that the module computes."""

_HASH_LETTERS = 16
_STORED = re.compile(r"[a-z]+-[0-9a-f]{16}\.(onnx|data|json)")


class WebFile(NamedTuple):
    """One file of a model.

    Attributes:
        bytes: Its size.
        sha256: Of its content, in hexadecimal digits.
    """

    bytes: int
    sha256: str


class WebModel(NamedTuple):
    """The part of a manifest that servers of its files read.

    Attributes:
        tasks: What each of its models answers, by name.
        files: Those beside the manifest, by name.
    """

    tasks: Mapping[str, str]
    files: Mapping[str, WebFile]


def stored_name(stem: str, suffix: str, sha256: str) -> str:
    """The name of a file with this content: ``encoder-0123456789abcdef.onnx``."""
    return f"{stem}-{sha256[:_HASH_LETTERS]}{suffix}"


def read_web_model(manifest: Path) -> WebModel:
    """Reads a manifest.

    Raises:
        OSError: It cannot be read.
        DescriptionError: It is malformed, of another format, or lists files that `conch web` does not write.
    """
    try:
        stated: Any = json.loads(manifest.read_bytes())
        if stated["format"] != WEB_FORMAT:
            raise ValueError(f"it is in format {stated['format']}, not {WEB_FORMAT}")
        files = {name: WebFile(int(file["bytes"]), str(file["sha256"])) for name, file in stated["files"].items()}
        if strange := [name for name in files if not _STORED.fullmatch(name)]:
            raise ValueError(f"it lists {strange[0]!r}")
        return WebModel({str(model["name"]): str(model["task"]) for model in stated["models"]}, files)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DescriptionError(f"{manifest} cannot be read ({error!r}): write it again with `conch web`") from error
