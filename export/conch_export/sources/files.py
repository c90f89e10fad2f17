"""The files of a checkpoint. Hides their names, and how a file is recognised: by size and SHA-256."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from conch_export.errors import SourceError, cannot_read
from conch_export.sources.source import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

WEIGHTS = "model.safetensors"
BLOCK_BYTES = 1 << 20
_DECIDING = {"config.json", "modules.json", "adapter_config.json", "router_config.json"}
"""Settings of networks; those of tokenizers show in tokenizer.json, those of prompts and lengths are stated."""
_SHARD = re.compile(r"model-\d+-of-(\d+)\.safetensors")
_SETTINGS = {".json", ".txt", ".model"}
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Of PEFT's adapters."""
_BESIDE = {
    *("artifact.metadata", "chat_template.jinja", "sparse_linear.safetensors", "colbert_linear.safetensors"),
    ADAPTER_WEIGHTS,
}
"""ColBERT's settings, chat templates, BGE-M3's further heads, and an adapter's weights."""
_MODULE_FILES = {"config.json", WEIGHTS}
"""Of the modules that sentence-transformers keeps in folders: `1_Pooling`, `2_Dense`."""
_MODULE_FOLDER = re.compile(r"((query|document)_)?\d+_\w+")
_TRANSFORMER_FOLDER = re.compile(r"(document_)?0_\w+")
"""Of the encoder with its tokenizer: in older checkpoints of sentence-transformers (`0_Transformer`, `0_BERT`), and
where a Router has other modules for queries."""
_QUERY_FOLDER = re.compile(r"query_0_\w+")


def needed(names: Iterable[str], *, code: bool = False) -> list[str]:
    """The files of a checkpoint that an export reads, sorted; weights only as safetensors, and once.

    Args:
        names: all of its files.
        code: whether the checkpoint's own code belongs to them.
    """
    names = set(names)
    others = {name for name in names if _is_setting(PurePosixPath(name))}
    return sorted(others.union(weight_names(names), code_names(names) if code else ()))


def weight_names(names: Iterable[str]) -> list[str]:
    """The encoder's weights: one file, or several shards in order."""
    names = sorted(names)
    for folder in ("", *dict.fromkeys(f"{name.split('/')[0]}/" for name in names if is_in_transformer_folder(name))):
        if folder + WEIGHTS in names:
            return [folder + WEIGHTS]
        if shards := [name for name in names if _SHARD.fullmatch(name.removeprefix(folder))]:
            return shards
    return []


def is_transformer_folder(name: str) -> bool:
    """Whether a folder of a checkpoint is named as that of its encoder."""
    return bool(_TRANSFORMER_FOLDER.fullmatch(name))


def is_in_transformer_folder(path: str) -> bool:
    """Whether a file of a checkpoint is directly in its encoder's folder."""
    folder, _, name = path.partition("/")
    return is_transformer_folder(folder) and bool(name) and "/" not in name


def code_names(names: Iterable[str]) -> list[str]:
    """The checkpoint's own code: all Python beside its settings, which is as far as transformers can reach; sorted."""
    return sorted(name for name in names if "/" not in name and name.endswith(".py"))


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's safetensors files, one or several shards.

    Raises:
        SourceError: there are none.
    """
    patterns = ("*", "0_*/*", "document_0_*/*")
    paths = (path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    there = [path.relative_to(folder).as_posix() for path in paths]
    refuse_without_weights(str(folder), there)
    return [folder / name for name in weight_names(there)]


def is_adapter(names: Iterable[str]) -> bool:
    """Whether these files are an adapter of another checkpoint, which libraries load even where there are weights."""
    return {ADAPTER_CONFIG, ADAPTER_WEIGHTS} <= set(names)


def refuse_without_weights(checkpoint: str, names: Iterable[str]) -> None:
    """Refuse a checkpoint, or a folder of a module, without safetensors among its files, or without all of them.

    Raises:
        SourceError: there are none, or not as many shards as their names say.
    """
    names = list(names)
    weights = weight_names(names)
    counts = {int(found[1]) for found in map(_SHARD.search, weights) if found}
    if counts and counts != {len(weights)}:
        there = f"has {len(weights)} shards of weights, whose names say {' and '.join(map(str, sorted(counts)))}"
        raise SourceError(f"{checkpoint} {there}: fetch it again, into an empty folder")
    if weights or is_adapter(names):
        return
    pickles = ", ".join(sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))))
    msg = (
        f"{checkpoint} has no {WEIGHTS}{f' (found: {pickles})' if pickles else ''}. Pickled weights can run code and "
        "are never fetched or loaded: look among the pull requests of its page for one in which SFconvertbot, the "
        "Hub's own converter, adds safetensors (--revision refs/pr/NUMBER), or convert the pickle on a machine you "
        "can afford to lose (`safetensors.torch.save_file`), and export that folder."
    )
    raise SourceError(msg)


def record(folder: Path, names: Iterable[str]) -> dict[str, File]:
    """Size and hash of the folder's files of these names, in order of their names.

    Raises:
        SourceError: one is not there or cannot be read.
    """
    return {name: file(folder / name) for name in sorted(names)}


def file(path: Path) -> File:
    """Size and hash of a file.

    Raises:
        SourceError: it is not there or cannot be read.
    """
    try:
        return File(_digest(path, hashlib.sha256()), path.stat().st_size)
    except OSError as error:
        raise SourceError(cannot_read(path, error)) from error


def weights_sha256(files: Mapping[str, File]) -> str:
    """SHA-256 of the weight file; of several shards, of their SHA-256 in order; of an adapter, that of its own."""
    names = [ADAPTER_WEIGHTS] if is_adapter(files) else weight_names(files)
    return joined([files[name].sha256 for name in names])


def checkpoint_sha256(files: Mapping[str, File]) -> str:
    """SHA-256 of what decides the numbers: paths and content of all modules' weights and settings."""
    paths = map(PurePosixPath, sorted(files))
    deciding = [str(path) for path in paths if path.suffix == ".safetensors" or path.name in _DECIDING]
    return hashlib.sha256("".join(f"{name} {files[name].sha256}\n" for name in deciding).encode()).hexdigest()


def code_sha256(files: Mapping[str, File]) -> str:
    """SHA-256 of the file of code; of several, of their SHA-256 in order of their names."""
    return joined([files[name].sha256 for name in code_names(files)])


def git_sha1(path: Path) -> str:
    """The name that git gives to a file's content."""
    return _digest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))


def _is_setting(path: PurePosixPath) -> bool:
    folder, *rest = path.parts
    if not rest or is_in_transformer_folder(str(path)):
        return path.suffix in _SETTINGS or path.name in _BESIDE
    if len(rest) == 1 and _QUERY_FOLDER.fullmatch(folder) and path.suffix in _SETTINGS:
        return True  # the tokenizer of queries
    return len(rest) == 1 and bool(_MODULE_FOLDER.fullmatch(folder)) and path.name in _MODULE_FILES


def joined(digests: list[str]) -> str:
    """The digest itself; of several, the SHA-256 of all of them in order."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as content:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
