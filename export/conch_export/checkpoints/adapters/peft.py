"""LoRA adapters as PEFT saves them: adapter_config.json and adapter_model.safetensors. Hides their names of tensors.

A tensor of the adapter either belongs to a pair that changes a weight, or takes the place of one of the checkpoint's
(`modules_to_save`, and biases that were trained).
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from conch_export.checkpoints.adapters.low_rank import LowRank
from conch_export.checkpoints.known_keys import ADAPTER
from conch_export.checkpoints.settings import Settings, read_settings
from conch_export.errors import SourceError, UnsupportedError
from conch_export.sources.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from conch_export.checkpoints.adapters.low_rank import Read, Tensors

_READ = ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "init_lora_weights")
_STARTS_FROM_THE_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the checkpoint's own weights as they are."""
_PARTS = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.weight)?")
_WRAPPERS = (".modules_to_save.", ".base_layer.")
"""Parts of names that PEFT puts into those of modules."""


def read_adapter_settings(folder: Path) -> Settings:
    """adapter_config.json of a folder.

    Raises:
        UnsupportedError: it states something that is not built; the message names it.
    """
    stated = read_settings(folder / ADAPTER_CONFIG)
    kind, start = stated.of("peft_type", str, ""), stated.get("init_lora_weights")
    if kind != "LORA":
        raise UnsupportedError(f"{stated.place} states peft_type = {kind!r}, which is not built (known: 'LORA')")
    if start not in _STARTS_FROM_THE_BASE:
        msg = (
            f"{stated.place} states init_lora_weights = {start!r}, which changes the checkpoint's own weights: save it "
            "as a plain LoRA (PEFT's save_pretrained with path_initial_model_for_weight_conversion)"
        )
        raise UnsupportedError(msg)
    for key, value in stated.items():
        # Further kinds of LoRA are off where they are false or empty.
        if value and key not in ADAPTER and key not in _READ:
            msg = (
                f"{stated.place} states {key} = {value!r}, which is not built: merge it with PEFT (merge_and_unload), "
                "and export the result"
            )
            raise UnsupportedError(msg)
    return stated


def changes(folder: Path, adapter: Tensors, weights: Tensors) -> tuple[dict[str, tuple[Path, str]], dict[str, LowRank]]:
    """What an adapter changes of a checkpoint's tensors.

    Args:
        folder: of the adapter.
        adapter: its tensors.
        weights: the checkpoint's.

    Returns:
        The file and stored name of those that take the place of the checkpoint's, or are new, and what is merged into
        others; by the checkpoint's names.

    Raises:
        UnsupportedError: it is of another kind, or changes what the checkpoint does not have.
        SourceError: its tensors do not fit, or one is missing.
    """
    stated = read_adapter_settings(folder)
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    replaced = {}
    for name in adapter.tensors:
        plain = _plain(name)
        if found := _PARTS.fullmatch(plain):
            parts[found[1]][found[2]] = name
        elif ".lora_" in plain:
            raise UnsupportedError(f"{folder / ADAPTER_WEIGHTS} has a tensor {name!r}, which is not built")
        else:
            replaced[_whole(stated, adapter, name, plain, weights)] = adapter.tensors[name]
    changed = {_changed(weights, module, folder): (module, names) for module, names in parts.items()}
    low_ranks = {full: _low_rank(stated, adapter, *one, weights.shape(full)) for full, one in changed.items()}
    return replaced, low_ranks


def _whole(stated: Settings, adapter: Tensors, name: str, plain: str, weights: Tensors) -> str:
    """The checkpoint's name of a tensor that is saved whole: it replaces one of the same shape, or is of a new module.

    Raises:
        UnsupportedError: it is quantized, of another shape, or nothing states that it was trained.
    """
    known, shape = weights.known_as(plain), adapter.shape(name)
    if known is None:
        module, new = plain.rpartition(".")[0], stated.texts("modules_to_save")
        if not any(f".{each}." in f".{module}." for each in new):
            msg = (
                f"the adapter has a tensor {name!r}, which neither the checkpoint has nor modules_to_save names: it is "
                "the adapter of another checkpoint, or of one whose tensors have other names"
            )
            raise UnsupportedError(msg)
        return plain
    if shape != weights.shape(known):
        msg = (
            f"the adapter has a tensor {name!r} of the shape {list(shape)} where the checkpoint's has "
            f"{list(weights.shape(known))}: if it was trained with a longer vocabulary, merge it with PEFT "
            "(merge_and_unload) and export the result; else it is the adapter of another checkpoint"
        )
        raise UnsupportedError(msg)
    return known


def _plain(name: str) -> str:
    name = name.removeprefix("base_model.model.")
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, ".")
    return name


def _changed(weights: Tensors, module: str, folder: Path) -> str:
    found = weights.known_as(f"{module}.weight")
    if found is None:
        msg = (
            f"{folder} changes {module}.weight, which the checkpoint does not have: it is the adapter of another "
            "checkpoint, or of one whose tensors have other names"
        )
        raise UnsupportedError(msg)
    return found


def _low_rank(
    stated: Settings, adapter: Tensors, module: str, names: Mapping[str, str], shape: tuple[int, ...]
) -> LowRank:
    is_table = "lora_embedding_A" in names
    a, b = ("lora_embedding_A", "lora_embedding_B") if is_table else ("lora_A", "lora_B")
    if missing := [part for part in (a, b) if part not in names]:
        raise SourceError(f"the adapter has no tensor {module}.{missing[0]}: {_FIX}")
    rank = adapter.shape(names[a])[0]
    # [outputs, inputs] of a linear layer; PEFT sees a table as a layer from entries to their vectors.
    outputs, inputs = shape[::-1] if is_table else shape
    if (adapter.shape(names[a]), adapter.shape(names[b])) != ((rank, inputs), (outputs, rank)):
        shapes = f"{adapter.shape(names[a])} and {adapter.shape(names[b])}"
        raise SourceError(f"the adapter of {module}.weight {shape} has tensors of the shapes {shapes}: {_FIX}")
    scale = _scale(stated, module, rank)
    left, right = _reader(adapter, names[b]), _reader(adapter, names[a])
    if is_table:
        _refuse_magnitude(names, module)
        return LowRank(lambda: right().T, lambda: left().T, scale)
    magnitude = _magnitude(stated, names, module)
    return LowRank(left, right, scale, _reader(adapter, magnitude) if magnitude else None)


def _reader(adapter: Tensors, name: str) -> Read:
    return lambda: np.asarray(adapter.array(name))


def _scale(stated: Settings, module: str, rank: int) -> float:
    """lora_alpha / r, or lora_alpha / sqrt(r) (Kalajdzievski 2023)."""
    r = _of_pattern(stated, "rank_pattern", module, stated.of("r", int, 8))
    alpha = _of_pattern(stated, "alpha_pattern", module, stated.of("lora_alpha", float, 8.0))
    if r != rank:
        raise SourceError(f"{stated.place} states rank {r:g} for {module}, its tensors are of rank {rank}: {_FIX}")
    return float(alpha) / (rank**0.5 if stated.of("use_rslora", bool, default=False) else rank)


def _of_pattern(stated: Settings, key: str, module: str, default: float) -> float:
    """The value of the first pattern that a module's name ends in."""
    patterns = stated.inner(key)
    matching = (pattern for pattern in patterns if re.fullmatch(rf"(.*\.)?({pattern})", module))
    found = next(matching, None)
    return default if found is None else patterns.of(found, float, default)


def _magnitude(stated: Settings, names: Mapping[str, str], module: str) -> str | None:
    found = names.get("lora_magnitude_vector")
    if (found is not None) != stated.of("use_dora", bool, default=False):
        raise SourceError(f"{stated.place} and the adapter's tensors of {module} do not agree on use_dora: {_FIX}")
    return found


def _refuse_magnitude(names: Mapping[str, str], module: str) -> None:
    if "lora_magnitude_vector" in names:
        raise UnsupportedError(f"use_dora is not built for a table such as {module}: merge it with PEFT, export that")


_FIX = "fetch the adapter again"
