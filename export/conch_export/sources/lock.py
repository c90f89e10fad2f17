"""`conch.lock`: the checkpoints that a model repository was made from, recorded the first time and enforced afterwards.

Hides the file's format. Its hashes were computed when a checkpoint was first seen: an unknown checkpoint is trusted
once, a known one must be unchanged.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from conch_export.errors import SourceError, cannot_read
from conch_export.sources.files import needed
from conch_export.sources.source import File, Locked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "conch.lock"
_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Lock:
    """The checkpoints of a model repository, by name (`finder.key_of`).

    Attributes:
        sources: each checkpoint as it was recorded.
    """

    sources: Mapping[str, Locked] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Lock:
        """The lock file in the folder; empty where there is none.

        Raises:
            SourceError: it is damaged.
        """
        path = folder / FILE
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")), code=True) if path.exists() else cls()
        except OSError as error:
            raise SourceError(cannot_read(path, error)) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            msg = f"{path} is damaged ({error}): restore it, or delete it to record anew what is found"
            raise SourceError(msg) from error

    def to_text(self) -> str:
        """The file's content, the same for the same checkpoints."""
        return json.dumps(self.to_json(), indent=2) + "\n"

    def to_json(self) -> dict[str, Any]:
        """The content that `from_json` reads, sorted."""
        sources = {key: asdict(self.sources[key]) for key in sorted(self.sources)}
        for locked in sources.values():
            locked["files"] = dict(sorted(locked["files"].items()))
        return {"format": _FORMAT, "sources": sources}

    @classmethod
    def from_json(cls, stated: Mapping[str, Any], *, code: bool = False) -> Lock:
        """The checkpoints that a lock file or a bundle's manifest states; with `code`, code may be among their files.

        Raises:
            ValueError: it is of another format, or names files that no checkpoint of ours has.
            LookupError, TypeError, AttributeError: it has another shape.
        """
        if stated["format"] != _FORMAT:
            raise ValueError(f"format {stated['format']} is of another version of conch")
        return cls({str(key): _locked(source, code=code) for key, source in stated["sources"].items()})

    def adding(self, key: str, locked: Locked) -> Lock:
        """The lock with this checkpoint added or replaced."""
        return Lock({**self.sources, key: locked})

    def without(self, key: str) -> Lock:
        """The lock without this checkpoint."""
        return Lock({other: locked for other, locked in self.sources.items() if other != key})

    def check(self, key: str, found: Locked) -> None:
        """Raise SourceError for a checkpoint that is not as it was recorded."""
        known = self.sources.get(key)
        if known is not None and known != found:
            msg = (
                f"{key} is not what {FILE} says: {_difference(known, found)}. Restore what it was, or accept what it "
                "is with --update-lock"
            )
            raise SourceError(msg)


def parse_files(stated: Mapping[str, Any]) -> dict[str, File]:
    """Files of a lock or manifest; every path is relative and stays inside its folder.

    Raises:
        ValueError: a path leads elsewhere, or a hash or size cannot be.
        LookupError, TypeError, AttributeError: it has another shape.
    """
    return {_inner(path): _file(file) for path, file in stated.items()}


def _locked(stated: Mapping[str, Any], *, code: bool) -> Locked:
    files = parse_files(stated["files"])
    strange = sorted(set(files) - set(needed(files, code=code)))
    if strange:
        raise ValueError(f"{strange[0]!r} is no file of a checkpoint")
    return Locked(str(stated["origin"]), str(stated["revision"]), files)


def _inner(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or "/".join(parts) != path or ".." in parts or "\\" in path or "\0" in path or path.startswith("/"):
        raise ValueError(f"{path!r} is no path inside a folder")
    return path


def _file(stated: Mapping[str, Any]) -> File:
    sha256, size = stated["sha256"], stated["size"]
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256) and type(size) is int and size >= 0):
        raise ValueError(f"{stated} is no size and SHA-256")
    return File(sha256, size)


def _difference(known: Locked, found: Locked) -> str:
    if (known.origin, known.revision) != (found.origin, found.revision):
        return f"it was {known.origin} {known.revision}".rstrip() + f" and is {found.origin} {found.revision}".rstrip()
    changed = sorted(name for name in {*known.files, *found.files} if known.files.get(name) != found.files.get(name))
    name = changed[0]
    more = f" (and {len(changed) - 1} more files differ)" if len(changed) > 1 else ""
    if name not in found.files:
        return f"{name} is missing{more}"
    if name not in known.files:
        return f"{name} is new{more}"
    return f"{name} had SHA-256 {known.files[name].sha256} and has {found.files[name].sha256}{more}"
