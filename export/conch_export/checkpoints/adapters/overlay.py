"""A checkpoint and PEFT's adapter in one folder, laid out as transformers and sentence-transformers read them."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from conch_export.checkpoints.adapters.peft import read_adapter_settings
from conch_export.errors import UnsupportedError
from conch_export.scratch import temporary_writes
from conch_export.sources.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter, joined, weight_names

if TYPE_CHECKING:
    from conch_export.sources.source import Source

_MODULES = "modules.json"
_WEIGHTS_BESIDE = ("config.json", "model.safetensors.index.json")
_TOKENIZER = "tokenizer_config.json"
_STATED_ONCE = ("modules.json", "config_sentence_transformers.json", "sentence_")
"""Beginnings of the names of sentence-transformers' settings, which are those of the folder that it saved."""


class _Holder:
    """Takes a folder away when it is collected itself, or when the process ends."""

    def __init__(self, folder: Path) -> None:
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def overlaid(base: Source, adapter: Source) -> Source:
    """A source whose folder has links to the files of both, and an adapter_config.json that names the base's folder.

    An adapter that sentence-transformers saved brings modules, prompts and tokenizer with it; those of the base do not
    count then.

    Raises:
        UnsupportedError: the adapter is of a kind that is not built.
    """
    if is_adapter(base.files):
        raise UnsupportedError(f"{base.origin} is an adapter itself: merge it into its own base first, with PEFT")
    stated = read_adapter_settings(adapter.folder)
    inner = PurePosixPath(weight_names(base.files)[0]).parent
    place = PurePosixPath() if _MODULES in adapter.files else inner
    with temporary_writes():
        folder = Path(tempfile.mkdtemp(prefix="conch-adapter-"))
    holder = _Holder(folder)
    with temporary_writes(folder):
        for name, path in _links(base, adapter, inner).items():
            link = folder / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        (folder / place / ADAPTER_WEIGHTS).symlink_to((adapter.folder / ADAPTER_WEIGHTS).resolve())
        config = {**stated, "base_model_name_or_path": str((base.folder / inner).resolve())}
        (folder / place / ADAPTER_CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return replace(
        base,
        folder=folder,
        weights_sha256=joined([base.weights_sha256, adapter.weights_sha256]),
        checkpoint_sha256=joined([base.checkpoint_sha256, adapter.checkpoint_sha256]),
        adapter="@".join(filter(None, (adapter.origin, adapter.revision))),
        parts=(base, adapter),
        holder=holder,
    )


def _links(base: Source, adapter: Source, inner: PurePosixPath) -> dict[str, Path]:
    """Where each file is, the adapter's own two left out."""
    both = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    if _MODULES not in adapter.files:
        return {name: base.folder / name for name in base.files if PurePosixPath(name).name not in both}
    theirs = {name: adapter.folder / name for name in adapter.files if name not in both}
    ours = {PurePosixPath(name) for name in base.files if PurePosixPath(name).parent == inner}
    weights = set(map(PurePosixPath, weight_names(base.files)))
    needed = {path for path in ours if path in weights or path.name in _WEIGHTS_BESIDE}
    if _TOKENIZER not in adapter.files:
        needed |= {path for path in ours if not path.name.startswith((*_STATED_ONCE, *both))}
    return theirs | {path.name: base.folder / path for path in needed}
