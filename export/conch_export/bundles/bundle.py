"""A bundle: checkpoints, and what was exported from them, in one verified file for places without a network.

Hides what goes into it and where that goes when it is opened.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from conch_export.bundles import archive
from conch_export.errors import SourceError
from conch_export.progress import silent
from conch_export.provenance import find
from conch_export.sources import bundled
from conch_export.sources.files import file, record
from conch_export.sources.lock import FILE as LOCK_FILE
from conch_export.sources.lock import Lock, parse_files
from conch_export.sources.source import File
from conch_export.triton.publish import staged_together
from conch_export.triton.repository import configs_in, owned, read_reports, refuse_taken, take_out_earlier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from conch_export.progress import Progress
    from conch_export.sources.source import Source

_MODEL_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/(config\.pbtxt|report\.json|1/[A-Za-z0-9_-]+\.(onnx|data|json))")


@dataclass(frozen=True)
class Bundle:
    """The content of a bundle.

    Attributes:
        lock: its checkpoints.
        models: files of Triton models exported from them, by path in a model repository.
    """

    lock: Lock
    models: Mapping[str, File]

    @property
    def model_names(self) -> list[str]:
        """The Triton models."""
        return sorted({path.split("/")[0] for path in self.models})

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in {*self.models.values(), *(one for _, _, one in self._checkpoint_files())})

    def to_json(self) -> dict[str, Any]:
        """The manifest."""
        return self.lock.to_json() | {"models": {path: asdict(one) for path, one in self.models.items()}}

    @classmethod
    def from_json(cls, manifest: Any) -> Bundle:
        """The bundle that a manifest states.

        Raises:
            SourceError: it is malformed, or lists files that no checkpoint or exported model has.
        """
        try:
            bundle = cls(Lock.from_json(manifest), parse_files(manifest["models"]))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _impossible(error) from error
        for path in bundle.models:
            if not _MODEL_FILE.fullmatch(path):
                raise _impossible(f"{path!r} is no file of an exported model")
        return bundle

    def places(self, checkpoints: Path, repository: Path) -> dict[File, list[Path]]:
        """Where every file goes, below these two folders."""
        places: dict[File, list[Path]] = {}
        for key, path, one in self._checkpoint_files():
            places.setdefault(one, []).append(checkpoints / bundled.folder_name(key) / path)
        for path, one in self.models.items():
            places.setdefault(one, []).append(repository / path)
        return places

    def _checkpoint_files(self) -> Iterator[tuple[str, str, File]]:
        for key, locked in self.lock.sources.items():
            for path, one in locked.files.items():
                yield key, path, one


def make_bundle(
    references: Sequence[str],
    repository: Path,
    output: Path,
    *,
    revision: str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Write checkpoints, and the models that the repository has of them, into one file.

    Args:
        references: catalog names, Hub ids or folders; a folder goes by its name where the bundle is opened.
        repository: whose lock file is enforced, and whose models come along.
        output: the file; appears when it is whole.
        revision: commit, branch or tag on the Hub, for all of them.
        progress: told what is being moved, its bytes that are done and all of them.

    Raises:
        ExportError: nothing was written.
    """
    lock, models, contents = Lock(), dict[str, File](), dict[str, "Path"]()
    for reference in references:
        source = find(reference, revision, repository, on_bytes=partial(progress, reference))
        for part in source.parts or (source,):
            key = part.key or part.folder.name
            if key in lock.sources:
                raise SourceError(f"two checkpoints are called {key!r}: bundle them one by one")
            lock = lock.adding(key, part.locked)
            contents |= {one.sha256: part.folder / path for path, one in part.files.items()}
        exported = record(repository, _exported_files(repository, source))
        contents |= {one.sha256: repository / path for path, one in exported.items()}
        models |= exported
    bundle = Bundle.from_json(Bundle(lock, models).to_json())  # what could not be opened is not written
    archive.write(output, bundle.to_json(), contents, _counted(output.name, bundle.size, progress))
    return bundle


def open_bundle(
    path: Path,
    repository: Path,
    *,
    sha256: str | None = None,
    update_lock: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Verify a bundle, publish its models, record its checkpoints and keep them for exports, all or nothing.

    As after an export, models that an earlier one made beside these and that the bundle does not have are gone.

    Args:
        path: the bundle.
        repository: gets the models and the entries of the lock file.
        sha256: hash of the whole file, from whoever made it; None trusts the file.
        update_lock: take the checkpoints whatever the lock file says.
        progress: told what is being moved, its bytes that are done and all of them.

    Raises:
        ExportError: nothing was put anywhere.
    """
    if sha256 is not None and (found := digest(path)) != sha256.lower():
        msg = f"{path} has SHA-256 {found}, not {sha256.lower()}: copy it again, and ask whoever made it for its hash"
        raise SourceError(msg)
    with archive.opened(path) as contents:
        bundle = Bundle.from_json(contents.manifest)
        # The repository is published first: models without their checkpoint can be served, the other way not.
        with staged_together(repository, bundled.home()) as (models, checkpoints):
            (models / LOCK_FILE).write_text(_joined(repository, bundle.lock, update_lock=update_lock), encoding="utf-8")
            contents.extract(bundle.places(checkpoints, models), _counted(path.name, bundle.size, progress))
            for key, locked in bundle.lock.sources.items():
                lock = Lock({key: locked}).to_text()
                (checkpoints / bundled.folder_name(key) / LOCK_FILE).write_text(lock, encoding="utf-8")
            refuse_taken(repository, configs_in(models))
            take_out_earlier(repository, models)
            for name in bundle.model_names:
                (models / name / "1").mkdir(exist_ok=True)  # Triton wants a version of ensembles too
    return bundle


def digest(path: Path) -> str:
    """SHA-256 of a bundle, for whoever opens it.

    Raises:
        SourceError: it cannot be read.
    """
    return file(path).sha256


def _exported_files(repository: Path, source: Source) -> list[str]:
    """Paths in the repository of the files of all models that were exported from this checkpoint and are whole."""
    paths: list[str] = []
    for public, stated in read_reports(repository).items():
        made_from = (stated.get("source"), stated.get("revision"), stated.get("weights_sha256"))
        if made_from == (source.origin, source.revision, source.weights_sha256):
            folders = (repository / name for name in owned(repository, public))
            files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
            # What else lies there no export wrote: notes, and configs/, which `conch serve` writes for its machine.
            paths += filter(_MODEL_FILE.fullmatch, (path.relative_to(repository).as_posix() for path in files))
    return paths


def _impossible(why: object) -> SourceError:
    return SourceError(f"the bundle's manifest cannot be ({why}): make it again with this version of conch")


def _joined(repository: Path, theirs: Lock, *, update_lock: bool) -> str:
    lock = Lock.read(repository)
    for key, locked in theirs.sources.items():
        if not update_lock:
            lock.check(key, locked)
        lock = lock.adding(key, locked)
    return lock.to_text()


def _counted(what: str, total: int, progress: Progress) -> Callable[[int], None]:
    """Takes numbers of bytes one by one; passes on their sum so far."""
    done = 0

    def more(size: int) -> None:
        nonlocal done
        done += size
        progress(what, done, total)

    return more
