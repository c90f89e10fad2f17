"""The tensors of safetensors files, by the names of the base model. Hides prefixes and older names.

Matrices and tables are read when their numbers are needed, vectors at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from conch_export.errors import SourceError, UnsupportedError, cannot_read
from conch_export.model.arrays import LazyArray
from conch_export.model.network import Linear, Norm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from conch_export.checkpoints.adapters.low_rank import LowRank

_RENAMED = {
    "LayerNorm.gamma": "LayerNorm.weight",
    "LayerNorm.beta": "LayerNorm.bias",
    ".parametrizations.weight.original": ".weight",
}
"""Endings of names: of BERT checkpoints from TensorFlow, which transformers reads too, and of parametrised modules."""
_SAVED_AS = {
    "camembert": "roberta",
    "deberta-v2": "deberta",
    "jina_embeddings_v3": "roberta",
    "xlm-roberta": "roberta",
}
"""Architectures whose tensors transformers saves under the name of another."""
_INNER = ("model.language_model.", "language_model.")
"""Before the names of a language model that is part of a model of more than text."""
_NUMBERS = {"F64", "F32", "F16", "BF16"}
"""Types that hold plain numbers; quantized ones need a scale, which is not read."""
_PARTS = re.compile(r"(.*\b(?:layers?\.\d+|embeddings))\.(.+)")
"""A layer or the embeddings, and the name of a tensor in it."""
_COMPUTED = ("position_ids", "token_type_ids", "inv_freq", "norm_factor")
"""Ends of names of what modules compute from their settings, and some save."""
_COMPARED_ROWS = 4096
"""Rows of two tensors that are read at a time to compare them."""


@dataclass(frozen=True)
class Weights:
    """Named tensors; a missing one is an error that names it.

    Attributes:
        tensors: file and stored name, by today's name.
        prefix: stands before the base model's names.
        prefixes: those that stand before them in checkpoints of its architecture.
        low_ranks: adapters that are merged into tensors when those are read, by the names of `tensors`.
    """

    tensors: dict[str, tuple[Path, str]]
    prefix: str
    prefixes: tuple[str, ...] = ("",)
    low_ranks: Mapping[str, LowRank] = field(default_factory=dict)
    _open: dict[Path, Any] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, files: Sequence[Path], model_type: str = "") -> Weights:
        """Index the tensors of safetensors files.

        Raises:
            SourceError: a file is truncated or damaged.
        """
        tensors = {_renamed(name): (path, name) for path in files for name in _tensor_names(path)}
        candidates = (f"{_SAVED_AS.get(model_type, model_type)}.", *_INNER, "model.", "")
        prefix = next(p for p in candidates if not tensors or any(name.startswith(p) for name in tensors))
        return cls(tensors, prefix, candidates)

    def __contains__(self, name: str) -> bool:
        return self._resolve(name) in self.tensors

    @property
    def counts(self) -> list[int]:
        """How many numbers each tensor has."""
        return [math.prod(self._stored(path, name).get_shape()) for path, name in self.tensors.values()]

    @property
    def are_float32(self) -> bool:
        """Whether all tensors are stored in the type that they are computed with, and as they are."""
        return not self.low_ranks and all(
            self._stored(path, name).get_dtype() == "F32" for path, name in self.tensors.values()
        )

    def array(self, name: str) -> LazyArray:
        """One tensor as float32.

        Raises:
            SourceError: the checkpoint has no such tensor.
            UnsupportedError: it is quantized.
        """
        full = self._resolve(name)
        if full not in self.tensors:
            raise self._missing(name)
        self._used.add(full)
        stored = _Stored(self._of_numbers(full))
        return _Merged(stored, self.low_ranks[full]) if full in self.low_ranks else stored

    def known_as(self, name: str) -> str | None:
        """The name in `tensors` of a tensor that may have another prefix than those; None where there is none."""
        bare = next((name.removeprefix(each) for each in self.prefixes if each and name.startswith(each)), name)
        return next((each for each in map(self._resolve, (name, bare)) if each in self.tensors), None)

    @property
    def unused(self) -> list[str]:
        """Tensors beside those that were asked for, in the same layers or embeddings; adapters aside."""
        used = {found[1] for found in map(_PARTS.fullmatch, self._used) if found}
        others = (name for name in self.tensors if name not in self._used and ".parametrizations." not in name)
        found = ((name, _PARTS.fullmatch(name)) for name in others if not name.endswith(_COMPUTED))
        return [name for name, part in found if part is not None and part[1] in used]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; raises SourceError where there is none."""
        full = self._resolve(name)
        if full not in self.tensors:
            raise self._missing(name)
        return tuple(self._of_numbers(full).get_shape())

    def refuse_apart(self, one: str, other: str, why: str) -> None:
        """Refuse two tensors that should be one, and are stored as two that differ. Some rows are read at a time.

        Args:
            one: name of a tensor; there need not be any.
            other: name of the other.
            why: they should be one.

        Raises:
            UnsupportedError: they differ.
        """
        if one in self and other in self and not _are_equal(self.array(one), self.array(other)):
            msg = (
                f"{why}, but the tensor {one!r} is not {other!r}. Versions of transformers differ in which they take: "
                "export a copy of the folder without the wrong one"
            )
            raise UnsupportedError(msg)

    def part(self, name: str, index: int) -> NDArray[np.float32]:
        """One of several tensors that lie one behind the other in one; the others are not read."""
        return _numbers(self._of_numbers(self._resolve(name))[index])

    def _of_numbers(self, full: str) -> Any:
        """A tensor by its name in `tensors`; raises UnsupportedError where it is quantized."""
        path, stored = self.tensors[full]
        tensor = self._stored(path, stored)
        if (kind := tensor.get_dtype()) not in _NUMBERS:
            known = ", ".join(sorted(_NUMBERS))
            msg = (
                f"tensor {stored!r} of {path} is of type {kind}, which is not read (known: {known}): "
                "convert it with model.float().save_pretrained(FOLDER)"
            )
            raise UnsupportedError(msg)
        return tensor

    def linear(self, name: str) -> Linear:
        """A torch `nn.Linear`, with or without a bias."""
        stored, bias = self._linear(name)
        return Linear(stored.T, bias)

    def split_linear(self, name: str, parts: int) -> list[Linear]:
        """A torch `nn.Linear` whose outputs are those of several, joined."""
        stored, bias = self._linear(name)
        outputs = len(stored)
        if outputs % parts:
            msg = f"tensor {name}.weight has {outputs} outputs, which are not {parts} parts: {_FIX}"
            raise SourceError(msg)
        size = outputs // parts
        rows = [slice(part * size, (part + 1) * size) for part in range(parts)]
        return [Linear(stored[part].T, None if bias is None else bias[part]) for part in rows]

    def stacked(self, name: str, parts: int) -> list[LazyArray]:
        """Matrices that lie one below the other in one tensor, of as many rows each."""
        tensor = self._shaped(name, 2)
        if len(tensor) % parts:
            raise SourceError(f"tensor {name} has {len(tensor)} rows, which are not {parts} parts: {_FIX}")
        size = len(tensor) // parts
        return [tensor[part * size : (part + 1) * size] for part in range(parts)]

    def table(self, name: str) -> LazyArray:
        """A torch `nn.Embedding`: [entries, width]."""
        return self._shaped(f"{name}.weight", 2)

    def norm(self, name: str, epsilon: float) -> Norm:
        """A torch `nn.LayerNorm`, with or without a bias."""
        return Norm(self._vector(f"{name}.weight"), self._bias(name), epsilon)

    def rms_norm(self, name: str, epsilon: float) -> Norm:
        """A torch `nn.RMSNorm`."""
        return Norm(self._vector(f"{name}.weight"), None, epsilon, rms=True)

    def _stored(self, path: Path, name: str) -> Any:
        """A tensor of a file, none of whose numbers is read yet."""
        if path not in self._open:
            self._open[path] = safe_open(path, "numpy")
        return self._open[path].get_slice(name)

    def _linear(self, name: str) -> tuple[LazyArray, NDArray[np.float32] | None]:
        """The weight as it is stored, [outputs, inputs], and the bias if there is one."""
        weight, bias = self._shaped(f"{name}.weight", 2), self._bias(name)
        if bias is not None and bias.shape != weight.shape[:1]:
            raise SourceError(f"tensors {name}.weight {weight.shape} and {name}.bias {bias.shape} do not fit: {_FIX}")
        return weight, bias

    def _shaped(self, name: str, axes: int) -> LazyArray:
        array = self.array(name)
        if array.ndim != axes:
            raise SourceError(f"tensor {name!r} has the shape {array.shape}, where {axes} axes should be: {_FIX}")
        return array

    def _vector(self, name: str) -> NDArray[np.float32]:
        return np.asarray(self._shaped(name, 1))

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        return self._vector(f"{name}.bias") if f"{name}.bias" in self else None

    def _resolve(self, name: str) -> str:
        prefixed = f"{self.prefix}{name}"
        return prefixed if prefixed in self.tensors else name

    def _missing(self, name: str) -> SourceError:
        alike = next((stored for full, (_, stored) in self.tensors.items() if full.endswith(f".{name}")), None)
        if alike is not None:
            msg = (
                f"the checkpoint has no tensor {name!r}, but one called {alike!r}, which transformers does not load "
                f"either: take {alike.removesuffix(name)!r} off the names of its tensors"
            )
            return SourceError(msg)
        return SourceError(f"the checkpoint has no tensor {name!r}: it is not what its config.json says, {_FIX}")


_FIX = "fetch it again"


class _Stored(LazyArray):
    """A tensor of a file. Of some of its rows no others are read."""

    def __init__(self, tensor: Any) -> None:
        super().__init__(tensor.get_shape(), lambda: _numbers(tensor[...]))
        self._tensor = tensor

    def __getitem__(self, key: Any) -> LazyArray:
        part = super().__getitem__(key)
        if not isinstance(key, slice):
            return part
        begin, end, step = key.indices(len(self))
        return LazyArray(part.shape, lambda: _numbers(self._tensor[begin:end:step]))


class _Merged(LazyArray):
    """A tensor with an adapter in it; of some of its rows no others are read."""

    def __init__(self, stored: LazyArray, low_rank: LowRank) -> None:
        super().__init__(stored.shape, lambda: low_rank.merged(np.asarray(stored)))
        self._stored, self._low_rank = stored, low_rank

    def __getitem__(self, key: Any) -> LazyArray:
        part = super().__getitem__(key)
        if not isinstance(key, slice):
            return part
        return LazyArray(part.shape, lambda: self._low_rank.merged(np.asarray(self._stored[key]), key))


def _numbers(stored: NDArray[Any]) -> NDArray[np.float32]:
    return stored.astype(np.float32, copy=False)


def _are_equal(one: LazyArray, other: LazyArray) -> bool:
    parts = (slice(begin, begin + _COMPARED_ROWS) for begin in range(0, len(one), _COMPARED_ROWS))
    return one.shape == other.shape and all(np.array_equal(one[part], other[part]) for part in parts)


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _tensor_names(path: Path) -> Iterable[str]:
    try:
        with safe_open(path, "numpy") as file:
            return list(file.keys())
    except OSError as error:
        raise SourceError(cannot_read(path, error)) from error
    except (SafetensorError, ValueError) as error:
        raise SourceError(f"{path} is truncated or damaged ({error}): fetch the checkpoint again") from error
