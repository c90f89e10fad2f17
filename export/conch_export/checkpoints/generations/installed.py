"""A checkpoint's folder for the installed libraries, in whose form settings of newer ones are translated."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from conch_export.checkpoints.chat import OF_PROCESSORS
from conch_export.checkpoints.generations.tokenizer import tokenizer_changes
from conch_export.checkpoints.known_keys import kind_of
from conch_export.checkpoints.lookups.router import FILE as ROUTER_FILE
from conch_export.checkpoints.settings import read_json, read_settings
from conch_export.errors import UnsupportedError
from conch_export.scratch import temporary_folder, temporary_writes
from conch_export.sources.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conch_export.checkpoints.checkpoint import Checkpoint

_ST = "sentence_transformers"
_CLASSES = {
    "Transformer": f"{_ST}.base.modules.transformer.Transformer",
    "MLMTransformer": f"{_ST}.sparse_encoder.modules.mlm_transformer.MLMTransformer",
    "Pooling": f"{_ST}.sentence_transformer.modules.pooling.Pooling",
    "Dense": f"{__package__}.dense.Dense",
    "Normalize": f"{_ST}.sentence_transformer.modules.normalize.Normalize",
    "LayerNorm": f"{_ST}.sentence_transformer.modules.layer_norm.LayerNorm",
    "SpladePooling": f"{_ST}.sparse_encoder.modules.splade_pooling.SpladePooling",
    "StaticEmbedding": f"{_ST}.sentence_transformer.modules.static_embedding.StaticEmbedding",
    "SparseStaticEmbedding": f"{_ST}.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding",
    **dict.fromkeys(("Router", "Asym"), f"{_ST}.base.modules.router.Router"),
    "LogitScore": f"{_ST}.cross_encoder.modules.logit_score.LogitScore",
}
"""The installed class of each kind of module. The library would import whatever class a checkpoint names."""
_OF_LATE_INTERACTION = ("query_length", "document_length", "query_expansion")
"""Keys of sentence-transformers' settings of an encoder that the installed version does not know; read here."""


@contextmanager
def as_installed(checkpoint: Checkpoint, *, trusted: bool = False) -> Iterator[Path]:
    """The folder itself where its files have that form, else links to its files beside translated ones.

    The installed libraries ignore keys of newer ones: a rotary base in `rope_parameters` would silently be the default.

    Args:
        checkpoint: whose folder it is.
        trusted: whether classes of the checkpoint's own code may be imported, which modules.json may name.

    Yields:
        The folder, laid out as the checkpoint's; gone afterwards if it was made.

    Raises:
        UnsupportedError: a module's class is not sentence-transformers', and may not be imported.
    """
    folder, translated = checkpoint.folder, _translated(checkpoint, trusted=trusted)
    if not translated:
        yield folder
        return
    with temporary_folder() as copy:
        with temporary_writes(copy):
            for file in _files(folder):
                if file not in translated and file.name not in OF_PROCESSORS:
                    _place(file, folder, copy).symlink_to(file.resolve())
            for file, content in translated.items():
                _place(file, folder, copy).write_text(json.dumps(content), encoding="utf-8")
        with _adapted(checkpoint, copy, translated):
            yield copy


@contextmanager
def _adapted(checkpoint: Checkpoint, copy: Path, translated: dict[Path, Any]) -> Iterator[None]:
    """Have an adapter in the copy name a base whose config.json is translated too, if it has to be."""
    config = checkpoint.transformer / "config.json"
    if not checkpoint.has_peft_adapter or config not in translated:
        yield
        return
    with temporary_folder() as base:
        with temporary_writes(base, copy):
            for file in checkpoint.transformer.glob("*"):
                if file.is_file() and file.name not in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, config.name):
                    (base / file.name).symlink_to(file.resolve())
            (base / config.name).write_text(json.dumps(translated[config]), encoding="utf-8")
            adapter = copy / checkpoint.transformer.relative_to(checkpoint.folder) / ADAPTER_CONFIG
            stated = read_settings(adapter) | {"base_model_name_or_path": str(base)}
            adapter.unlink()
            adapter.write_text(json.dumps(stated), encoding="utf-8")
        yield


def _translated(checkpoint: Checkpoint, *, trusted: bool) -> dict[Path, Any]:
    """New contents of the JSON files that have another form, by path."""
    config = checkpoint.transformer / "config.json"
    changed: dict[Path, Any] = {config: checkpoint.stated_config} if config.exists() else {}
    for path in (each for each in _files(checkpoint.folder) if each.name == "tokenizer_config.json"):
        stated = read_settings(path)
        changed[path] = {key: value for key, value in stated.items() if key != "processor_class"}
        changed[path] |= tokenizer_changes(stated)
    for path in checkpoint.transformer.glob("sentence_*_config.json"):
        changed[path] = {key: value for key, value in read_settings(path).items() if key not in _OF_LATE_INTERACTION}
    if not trusted:
        modules = checkpoint.folder / "modules.json"
        changed[modules] = [{**module, "type": _installed(module["type"])} for module in read_json(modules) or []]
        # config.json was the file of a Router before sentence-transformers 5, which is read as well.
        for router in (checkpoint.folder / ROUTER_FILE, checkpoint.folder / "config.json"):
            if checkpoint.routes is not None and "types" in (stated := read_settings(router)):
                types = {name: _installed(kind) for name, kind in stated.inner("types").items()}
                changed[router] = {**stated, "types": types}
    return {path: content for path, content in changed.items() if path.exists() and content != read_json(path)}


def _files(folder: Path) -> Iterator[Path]:
    """The files of a checkpoint: in its folder and in those of its modules, which may be links to other folders."""
    return (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())


def _installed(path: str) -> str:
    """The installed class of a module's kind; where there is none, the class that is stated if it is the library's."""
    found = _CLASSES.get(kind_of(path), path)
    if found == path and not path.startswith(f"{_ST}."):
        raise UnsupportedError(f"the checkpoint names a module {path!r}, code of its own, which is not imported")
    return found


def _place(file: Path, folder: Path, copy: Path) -> Path:
    """Where a file of the folder is in its copy."""
    place = copy / file.relative_to(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
