"""The model repository, looked at before Triton starts: is it there, and is it complete?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from conch_server._errors import RepositoryError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = re.compile(r'^\s*default_model_filename\s*:\s*"([^"]+)"', re.MULTILINE)
ENSEMBLE = re.compile(r'^\s*platform\s*:\s*"ensemble"', re.MULTILINE)
EXPORT = "run `conch export`, or set CONCH_MODEL_REPOSITORY to a folder with exported models"


def check_repository(repository: Path) -> list[str]:
    """Names of all models, in order; raises RepositoryError when one could not load for want of a file."""
    if not repository.is_dir():
        raise RepositoryError(f"the model repository {repository.absolute()} does not exist; {EXPORT}")
    folders = sorted(config.parent for config in repository.glob("[!.]*/config.pbtxt"))
    if not folders:
        raise RepositoryError(f"the model repository {repository.absolute()} has no model; {EXPORT}")
    without = [folder.name for folder in folders if not _complete(folder)]
    if without:
        names = ", ".join(without)
        raise RepositoryError(f"no weights in {repository.absolute()} for {names}; {EXPORT}")
    return [folder.name for folder in folders]


def _complete(folder: Path) -> bool:
    try:
        config = (folder / "config.pbtxt").read_text(encoding="utf-8")
        versions = [version for version in folder.iterdir() if version.is_dir() and version.name.isdigit()]
    except (OSError, UnicodeDecodeError) as error:
        fix = "make it readable, or export the model again with `conch export`"
        raise RepositoryError(f"{folder.absolute() / 'config.pbtxt'} cannot be read ({error}); {fix}") from error
    if ENSEMBLE.search(config):
        if not versions:
            _make_version(folder)
        return True
    named = FILE_NAME.search(config)
    return any((version / (named.group(1) if named else "model.onnx")).exists() for version in versions)


def _make_version(ensemble: Path) -> None:
    """Make the version folder without which Triton does not load an ensemble, and which git cannot keep."""
    try:
        (ensemble / "1").mkdir(exist_ok=True)
    except OSError as error:
        raise RepositoryError(f"cannot make the empty folder {ensemble / '1'} ({error.strerror}); make it") from error
