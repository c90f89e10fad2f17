"""Encoder families: one module each, whose `FAMILY` reads a checkpoint into the encoder of `model.network`.

Adding a family is adding its module, here or in a folder below: nothing lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from conch_export.errors import SourceError, UnsupportedError
from conch_export.model.shapes import refuse_misfits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Encoder


class Family(ABC):
    """An encoder family: which config.json is of it, and what its tensors are called.

    Attributes:
        model_types: transformers' names of its architectures.
        in_transformers: whether transformers itself implements it, to compare with.
        settings: the keys of config.json that it reads, by the type of their values. A key that is neither here nor
            among those without effect (`checkpoints.known_keys`) is refused when it states something.
        built: the values that are built, of keys that may have others.
        unread: further keys that published checkpoints state, though its authors' implementation never reads them.
        ends_rows: whether the architecture itself limits the length of rows, as positions do.
        key_mapping: regular expressions for tensors that transformers does not find by itself, as it takes them.
    """

    model_types: ClassVar[tuple[str, ...]]
    in_transformers: ClassVar[bool] = True
    settings: ClassVar[Mapping[type, str]]
    built: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    unread: ClassVar[str] = ""
    ends_rows: ClassVar[bool] = True
    key_mapping: ClassVar[Mapping[str, str]] = {}

    @property
    def keys(self) -> dict[str, type]:
        """The keys of config.json that it reads, with the types of their values."""
        return {key: kind for kind, keys in self.settings.items() for key in keys.split()}

    @property
    def known_keys(self) -> set[str]:
        """The keys of config.json that it reads, and those that nothing reads."""
        return {*self.keys, *self.unread.split()}

    def reads(self, config: Mapping[str, Any]) -> bool:
        """Whether this config.json is of the family."""
        return config["model_type"] in self.model_types

    def position_count(self, config: Settings) -> int:
        """Most tokens that a row may have; rotary positions and ALiBi have no table that ends."""
        return int(config["max_position_embeddings"])

    def outlasts_positions(self, config: Settings) -> bool:  # noqa: ARG002
        """Whether transformers computes longer rows than that too, as it has no table of positions."""
        return not self.ends_rows

    def has_segments(self, config: Settings) -> bool:
        """Whether text pairs are told apart by token_type_ids."""
        return int(config.get("type_vocab_size") or 0) > 1

    @abstractmethod
    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights, its variant checked and its shapes not."""

    def read_encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights, which fit each other.

        Raises:
            UnsupportedError: a variant that the family does not know, by its settings or its tensors.
            SourceError: a tensor is missing, or of another model.
        """
        for key, values in self.built.items():
            if config.get(key) not in values:
                known = f"{config['model_type']} (known: {', '.join(map(repr, values))})"
                raise UnsupportedError(f"{key} = {config.get(key)!r} is not built for {known}")
        encoder = self.encoder(config, weights)
        # What transformers computes is compared with it; of the others nothing else would tell a variant.
        if not self.in_transformers and (unused := weights.unused):
            msg = (
                f"the checkpoint has a tensor {unused[0]!r}, which no {config['model_type']!r} that is built has: "
                "it is of a variant that computes something else"
            )
            raise UnsupportedError(msg)
        widths = (next((config[key] for key in keys if key in config), None) for keys in _WIDTHS)
        refuse_misfits(encoder, config["vocab_size"], *(int(width or 0) for width in widths))
        if encoder.max_length != self.position_count(config):
            msg = (
                f"{config.place} states {self.position_count(config)} positions, the checkpoint has "
                f"{encoder.max_length}: its files are not of one model, fetch it again"
            )
            raise SourceError(msg)
        return encoder


_HIDDEN = ("n_embd", "dim", "d_model", "hidden_size")
_WIDTHS = (("embedding_size", *_HIDDEN), _HIDDEN, ("n_inner", "hidden_dim", "d_ff", "intermediate_size"))
"""config.json's keys for widths of embeddings, layers and feed-forward networks; the first that is there holds."""


def modules() -> dict[str, ModuleType]:
    """The families' modules, by the name of the family."""
    found = sorted(each.name for each in pkgutil.walk_packages(__path__, f"{__name__}.") if not each.ispkg)
    return {name.rpartition(".")[2]: importlib.import_module(name) for name in found}


@cache
def _families() -> tuple[Family, ...]:
    return tuple(module.FAMILY for module in modules().values())


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family that reads this config.json, if there is one.

    None for a checkpoint with code of its own (`auto_map`) whose architecture transformers implements: its own code
    may compute something else, whatever architecture it claims to be.
    """
    own_code = any(name.startswith("AutoModel") for name in config.get("auto_map") or {})
    family = next((family for family in _families() if family.reads(config)), None)
    return None if family and own_code and family.in_transformers else family
