"""A checkpoint's folder for the installed libraries, which read config.json as it was before transformers 5."""

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
    """The folder itself where nothing changes for them, else links to its files beside another config.json.

    What is not translated would be ignored: a rotary base in `rope_parameters` is silently the default one.

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
