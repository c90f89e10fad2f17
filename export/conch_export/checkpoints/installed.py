"""A checkpoint's folder for the installed libraries, which read config.json in the form of transformers 4."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from conch_export.checkpoints.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_export.checkpoints.checkpoint import Checkpoint


@contextmanager
def as_installed(checkpoint: Checkpoint) -> Iterator[Path]:
    """The folder itself where its config.json has that form, else links to its files beside a translated config.json.

    transformers 4 ignores keys of version 5: a rotary base in `rope_parameters` would silently be the default.

    Yields:
        The folder, laid out as the checkpoint's; gone afterwards if it was made.
    """
    path = checkpoint.transformer / "config.json"
    if read_settings(path) == checkpoint.stated_config:
        yield checkpoint.folder
        return
    with tempfile.TemporaryDirectory() as name:
        for file in checkpoint.folder.rglob("*"):
            if file.is_file() and file != path:
                link = Path(name) / file.relative_to(checkpoint.folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())
        new = Path(name) / path.relative_to(checkpoint.folder)
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(checkpoint.stated_config), encoding="utf-8")
        yield Path(name)
