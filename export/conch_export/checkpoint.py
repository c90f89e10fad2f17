"""A checkpoint's files as values: configuration, weights, tokenizer. Hides file names and tensor prefixes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from conch_export.errors import SourceError, UnsupportedError
from conch_export.graphs.network import Linear, Norm
from conch_export.sources import weight_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Checkpoint:
    """What lies in a checkpoint's folder; nothing is read before it is asked for."""

    folder: Path

    def json(self, name: str) -> Any:
        """The content of a JSON file, or None where there is no such file.

        Raises:
            SourceError: the file is damaged.
        """
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            message = f"{path} is damaged ({error}): fetch the checkpoint again"
            raise SourceError(message) from error

    def settings(self, name: str) -> dict[str, Any]:
        """The content of a JSON file that holds an object, empty where there is no such file.

        Raises:
            SourceError: the file is damaged.
        """
        content = self.json(name)
        if not isinstance(content, dict | None):
            message = f"{self.folder / name} is damaged (it holds no JSON object): fetch the checkpoint again"
            raise SourceError(message)
        return content or {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; asking it for something that it lacks is a SourceError."""
        config = _Config(self.settings("config.json"))
        if "model_type" not in config:
            message = f"{self.folder} has no config.json with a model_type: is it a transformers checkpoint?"
            raise SourceError(message)
        return config

    @property
    def model_type(self) -> str:
        """The architecture, as transformers calls it."""
        return str(self.config["model_type"])

    @cached_property
    def tokenizer(self) -> bytes:
        """tokenizer.json, byte for byte."""
        if not self.settings("tokenizer.json"):
            fix = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            message = f"{self.folder} has no tokenizer.json: make one with {fix}"
            raise UnsupportedError(message)
        return (self.folder / "tokenizer.json").read_bytes()

    def token_id(self, token: str) -> int:
        """The id of a token of the vocabulary.

        Raises:
            UnsupportedError: the tokenizer has no such token.
        """
        if not self.has_token(token):
            message = f"the tokenizer has no token {token!r}: the checkpoint's settings are of another tokenizer"
            raise UnsupportedError(message)
        return int(self._tokenizer.token_to_id(token))

    def token(self, number: int) -> str:
        """The token of that id; raises UnsupportedError where there is none."""
        found: str | None = self._tokenizer.id_to_token(number)
        if found is None:
            message = f"the tokenizer has no token {number}: the checkpoint's settings are of another tokenizer"
            raise UnsupportedError(message)
        return found

    def has_token(self, token: str) -> bool:
        """Whether the vocabulary has it."""
        return self._tokenizer.token_to_id(token) is not None

    def token_ids(self, text: str) -> list[int]:
        """Ids of a text's tokens, without special ones."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def mask_id(self) -> int:
        """The id of the token that stands for a hidden one; raises UnsupportedError where there is none."""
        stated = self.settings("tokenizer_config.json").get("mask_token") or "[MASK]"
        return self.token_id(stated["content"] if isinstance(stated, dict) else str(stated))

    def special_ids(self) -> list[int]:
        """Ids of tokens that stand for no text."""
        return [number for number, token in self._tokenizer.get_added_tokens_decoder().items() if token.special]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self.tokenizer.decode())

    @cached_property
    def weights(self) -> Weights:
        """The weights under the names of the base model."""
        return Weights.load(weight_files(self.folder), self.model_type)


class _Config(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        message = f"config.json does not state {key!r}: it is not whole, fetch the checkpoint again"
        raise SourceError(message)


@dataclass(frozen=True)
class Weights:
    """Named tensors; a missing one is an error that names it."""

    tensors: dict[str, Path]
    prefix: str
    _open: dict[Path, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, files: Sequence[Path], model_type: str = "") -> Weights:
        """Index the tensors of safetensors files.

        Raises:
            SourceError: a file is truncated or damaged.
        """
        tensors = {}
        for path in files:
            tensors.update(dict.fromkeys(_tensor_names(path), path))
        candidates = (f"{model_type}.", f"{model_type.rsplit('-', maxsplit=1)[-1]}.", "model.", "")
        prefix = next(p for p in candidates if not tensors or any(name.startswith(p) for name in tensors))
        return cls(tensors, prefix)

    def __contains__(self, name: str) -> bool:
        return self._resolve(name) in self.tensors

    def array(self, name: str) -> NDArray[np.float32]:
        """One tensor as float32.

        Raises:
            SourceError: the checkpoint has no such tensor.
        """
        full = self._resolve(name)
        if full not in self.tensors:
            message = f"the checkpoint has no tensor {name!r}: it is not what its config.json says, fetch it again"
            raise SourceError(message)
        path = self.tensors[full]
        file = self._open.setdefault(path, safe_open(path, "numpy"))
        return cast("NDArray[np.float32]", file.get_tensor(full)).astype(np.float32)

    def linear(self, name: str) -> Linear:
        """A torch `nn.Linear`, with or without a bias."""
        return Linear(np.ascontiguousarray(self.array(f"{name}.weight").T), self._bias(name))

    def split_linear(self, name: str, parts: int) -> list[Linear]:
        """A torch `nn.Linear` whose outputs are those of several, joined."""
        joined = self.linear(name)
        weights = np.split(joined.weight, parts, axis=1)
        biases = [None] * parts if joined.bias is None else np.split(joined.bias, parts)
        return [Linear(np.ascontiguousarray(w), b) for w, b in zip(weights, biases, strict=True)]

    def norm(self, name: str, epsilon: float) -> Norm:
        """A torch `nn.LayerNorm`, with or without a bias."""
        return Norm(self.array(f"{name}.weight"), self._bias(name), epsilon)

    def rms_norm(self, name: str, epsilon: float) -> Norm:
        """A torch `nn.RMSNorm`."""
        return Norm(self.array(f"{name}.weight"), None, epsilon, rms=True)

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        return self.array(f"{name}.bias") if f"{name}.bias" in self else None

    def _resolve(self, name: str) -> str:
        prefixed = f"{self.prefix}{name}"
        return prefixed if prefixed in self.tensors else name


def _tensor_names(path: Path) -> list[str]:
    try:
        with safe_open(path, "numpy") as file:
            return list(file.keys())
    except SafetensorError as error:
        message = f"{path} is truncated or damaged ({error}): fetch the checkpoint again"
        raise SourceError(message) from error
