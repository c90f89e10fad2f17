"""Checks before Triton starts: its ports are free, and its model repository is there and complete."""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING

from conch_server._errors import PortTakenError, RepositoryError, ServingError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = re.compile(r'^\s*default_model_filename\s*:\s*"([^"]+)"', re.MULTILINE)
ENSEMBLE = re.compile(r'^\s*platform\s*:\s*"ensemble"', re.MULTILINE)
EXPORT = "run `conch export`, or set CONCH_MODEL_REPOSITORY to a folder with exported models"


def check_free(host: str, port: int, host_setting: str, port_setting: str) -> None:
    """Raise ServingError if nothing can listen on `host:port`, with the setting that mends it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Servers set this as well: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except UnicodeError as error:
            raise ServingError(f"cannot listen on {host}:{port} ({error}); change {host_setting}") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                msg = f"port {port} on {host} is already in use; set {port_setting} to a free one"
                raise PortTakenError(msg) from error
            setting = port_setting if error.errno == errno.EACCES else host_setting
            raise ServingError(f"cannot listen on {host}:{port} ({error.strerror}); change {setting}") from error


def check_repository(repository: Path) -> list[str]:
    """Return the names of all models in order; raise RepositoryError if a file that one needs is missing."""
    if not repository.is_dir():
        fault = "is not a folder" if repository.exists() else "does not exist"
        raise RepositoryError(f"the model repository {repository.absolute()} {fault}; {EXPORT}")
    folders = sorted(config.parent for config in repository.glob("[!.]*/config.pbtxt"))
    if not folders:
        raise RepositoryError(f"the model repository {repository.absolute()} has no model; {EXPORT}")
    incomplete = ", ".join(folder.name for folder in folders if not _is_complete(folder))
    if incomplete:
        raise RepositoryError(f"no weights in {repository.absolute()} for {incomplete}; {EXPORT}")
    return [folder.name for folder in folders]


def _is_complete(folder: Path) -> bool:
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
    """Make the empty version folder without which Triton loads no ensemble; git does not keep empty folders."""
    try:
        (ensemble / "1").mkdir(exist_ok=True)
    except OSError as error:
        raise RepositoryError(f"cannot make the empty folder {ensemble / '1'} ({error.strerror}); make it") from error
