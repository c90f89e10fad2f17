"""A checkpoint's own code: whether it has to be run, whether it may be, and running it.

It is Python by the checkpoint's authors, and runs with all rights of the operator. So it runs only where there is no
other way to compute the model and the operator says so each time; `sources` pins the code to one commit.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.errors import SourceError, UndecidedError, UnsupportedError, reason_of
from conch_export.families import family_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conch_export.checkpoints.settings import Settings
    from conch_export.sources.source import Source

FLAG = "--trust-remote-code"


def authorise(source: Source, *, trusted: bool) -> None:
    """Decide whether a checkpoint's code is run, before anything else is done with the checkpoint.

    Args:
        source: the checkpoint.
        trusted: whether the operator allows its code to run.

    Raises:
        UndecidedError: it has to be run, and the operator does not allow it.
        UnsupportedError: it is allowed and need not be run, or imports code from elsewhere, which is not pinned.
        SourceError: the checkpoint is damaged, or lacks a file of its code.
    """
    checkpoint = Checkpoint(source.folder)
    config = checkpoint.stated_config
    entries = config.inner("auto_map")
    reason = _needless(config, entries)
    if reason and trusted:
        raise UnsupportedError(f"{FLAG} has nothing to run: {reason}. Leave it out")
    if reason:
        return
    if "AutoModel" not in entries:
        msg = (
            f"{config.place} names code of its own for {', '.join(entries)}, which is not run, only an encoder's is "
            "(AutoModel); export a copy of the folder without auto_map if its authors mean the plain architecture"
        )
        raise UnsupportedError(msg)
    if not trusted:
        msg = (
            f"{config.place} names code of its own for this {config['model_type']!r} (auto_map, "
            f"{entries['AutoModel']}). `conch export {FLAG}` runs that, with your rights, to convert and to verify: "
            "read it first. From the Hub it takes --revision with a full commit; bundles carry no code. Where "
            "transformers computes the same, export a copy of the folder without auto_map; where a decoder's tokens "
            "see both ways and nothing else differs, with is_causal = false in that copy"
        )
        raise UndecidedError(msg)
    for kind in checkpoint.classes:
        _refuse_elsewhere(kind, "modules.json")
    for entry in _strings(entries):
        _refuse_elsewhere(entry, "config.json")
        if (name := f"{PurePosixPath(entry).stem}.py") not in source.files:
            raise SourceError(f"auto_map names {entry!r}, but the checkpoint has no {name}: fetch it again")


def load(folder: Path) -> Any:
    """The model as a checkpoint's own code loads it, float32; only of a checkpoint whose code is authorised.

    Raises:
        UnsupportedError: its code fails, or imports packages that are not installed.
    """
    # Imported late: they load PyTorch.
    import torch  # noqa: PLC0415
    from transformers import AutoModel  # noqa: PLC0415

    options = {"dtype": torch.float32, "attn_implementation": "eager", "use_safetensors": True}
    try:
        return AutoModel.from_pretrained(folder, trust_remote_code=True, **options).eval()
    except Exception as error:  # code of others raises what it likes
        msg = (
            f"the code of {folder.name} fails here ({reason_of(error)}): it may need another transformers or further "
            "packages"
        )
        raise UnsupportedError(msg) from error


def _needless(config: Settings, entries: Settings) -> str:
    """Why a checkpoint's code need not be run; empty if it must."""
    if not any(name.startswith("AutoModel") for name in entries):
        return "config.json names no code for an encoder (auto_map, AutoModel)"
    return f"{config['model_type']!r} has a family here" if family_of(config) is not None else ""


def _refuse_elsewhere(entry: str, file: str) -> None:
    repository, elsewhere, _ = entry.rpartition("--")
    if elsewhere:
        msg = (
            f"{file} names {entry!r}, code of {repository}, which is not pinned with this checkpoint: copy that code "
            f"into a folder with the checkpoint, take '{repository}--' out of its {file}, and export the folder"
        )
        raise UnsupportedError(msg)


def _strings(value: Any) -> Iterator[str]:
    """All texts in nested lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
