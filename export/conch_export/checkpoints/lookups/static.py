"""Models without an encoder: a text's vector is the mean of its tokens' vectors, which a table holds.

Model2Vec (Tulkens and van Dongen 2024) and sentence-transformers' StaticEmbedding save such tables alike and read texts
differently: Model2Vec leaves unknown tokens out and cuts long texts, first by characters and then by tokens.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from conch_export.checkpoints.settings import Settings, read_settings
from conch_export.errors import SourceError, UnsupportedError, cannot_read
from conch_export.sources.files import weight_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MODEL2VEC = "model2vec"
_TOKENIZER = "tokenizer.json"
LONGEST = 8192
"""Tokens at which texts are cut where a checkpoint states no limit, so that no row takes more memory than this."""
_READ = frozenset({"max_length", "normalize"})
_OF_ITS_MAKING = frozenset(
    (
        "apply_pca", "apply_zipf", "architectures", "embedding_dtype", "hidden_dim", "model_type", "pooling",
        "seq_length", "sif_coefficient", "tokenizer_name", "vocabulary_quantization",
    )
)  # fmt: skip
"""Keys of Model2Vec's config.json that say how the table was made."""
_TABLES = ("embeddings", "embedding.weight")
"""Model2Vec's name of the table, and sentence-transformers'."""
_MODEL2VEC_LENGTH = 512
"""Model2Vec's own limit, where the checkpoint states none."""


@dataclass(frozen=True)
class StaticFiles:
    """The files of a static model.

    Attributes:
        folder: of its weights and its tokenizer.
        config: Model2Vec's settings; empty where sentence-transformers saved the model.
    """

    folder: Path
    config: Settings

    @classmethod
    def of(cls, folder: Path, first_module: str) -> StaticFiles | None:
        """Return the files of a static model in a folder, or None if it holds another kind of model.

        Args:
            folder: of the first module.
            first_module: its kind; empty where modules are not listed.

        Raises:
            UnsupportedError: Model2Vec's settings state something that is not built.
        """
        config = read_settings(folder / "config.json")
        if config.get("model_type") == MODEL2VEC:
            config.refuse_unknown(_READ, _OF_ITS_MAKING)
            return cls(folder, config)
        return cls(folder, Settings(config.place, {})) if first_module == "StaticEmbedding" else None

    @property
    def is_model2vec(self) -> bool:
        """Whether texts are read as Model2Vec reads them."""
        return bool(self.config)

    @property
    def architecture(self) -> str:
        """Name in place of an architecture, for which transformers has none."""
        return MODEL2VEC if self.is_model2vec else "static"

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Of the table, which is not read for it."""
        with self._tensors() as (stored, table):
            rows, width = stored[table].get_shape()
            return (stored["mapping"].get_shape()[0] if "mapping" in stored else rows), width

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """[vocabulary, dimension]: a vector for each token, its weight included."""
        path = weight_files(self.folder)[0]
        with self._tensors() as (tensors, table):
            stored = {name: tensor[...] for name, tensor in tensors.items()}
        # Model2Vec's int8 are the numbers themselves, without a scale.
        vectors = stored[table].astype(np.float32)
        try:
            if "mapping" in stored:  # of a quantized vocabulary, whose tokens share vectors
                vectors = vectors[stored["mapping"]]
            if "weights" in stored:
                vectors = vectors * stored["weights"][:, None]
        except (IndexError, ValueError) as error:
            msg = f"{path} has a mapping or weights of another table ({error}): fetch the checkpoint again"
            raise SourceError(msg) from error
        return np.ascontiguousarray(vectors, np.float32)

    @contextmanager
    def _tensors(self) -> Iterator[tuple[dict[str, Any], str]]:
        """The stored tensors by name, none of which is read yet, and the name of the table.

        Raises:
            SourceError: the file is damaged, or has no table.
        """
        path = weight_files(self.folder)[0]
        try:
            with safe_open(path, "numpy") as file:
                stored = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
                found = next((name for name in _TABLES if name in stored), None)
                if found is None or len(stored[found].get_shape()) != 2:
                    names = " or ".join(_TABLES)
                    raise SourceError(f"{path} has no table {names}, but {', '.join(stored)}: it is no static model's")
                yield stored, found
        except OSError as error:
            raise SourceError(cannot_read(path, error)) from error
        except (SafetensorError, ValueError) as error:
            raise SourceError(f"{path} is truncated or damaged ({error}): fetch the checkpoint again") from error

    @cached_property
    def tokenizer(self) -> bytes:
        """tokenizer.json without special tokens, which neither library adds.

        Raises:
            SourceError: it cannot be read, or the table has no vector for one of its tokens.
        """
        path = self.folder / _TOKENIZER
        if (last := max(self._vocabulary.values(), default=-1)) >= self.shape[0]:
            msg = f"{path} has {last + 1} tokens, the table {self.shape[0]} vectors: fetch the checkpoint again"
            raise SourceError(msg)
        stated = dict(read_settings(path))
        served = stated | {"truncation": None, "padding": None, "post_processor": None}
        return path.read_bytes() if served == stated else json.dumps(served, ensure_ascii=False).encode()

    @cached_property
    def max_length(self) -> int:
        """Tokens at which texts are cut.

        Raises:
            UnsupportedError: they are cut at their beginning.
        """
        if self.is_model2vec:
            stated = self.config.of("max_length", int, 0) if "max_length" in self.config else _MODEL2VEC_LENGTH
            return stated or LONGEST
        truncation = read_settings(self.folder / _TOKENIZER).inner("truncation")
        if truncation.get("direction", "Right") != "Right":
            raise UnsupportedError(f"{truncation.place} cuts texts at their beginning, which is not built")
        return truncation.of("max_length", int, LONGEST)

    def max_characters(self, length: int) -> int | None:
        """Characters that Model2Vec reads of a text of at most so many tokens: as many of them of the median length."""
        return length * int(median(map(len, self._vocabulary))) if self.is_model2vec else None

    @cached_property
    def unknown(self) -> int | None:
        """The token that does not count, which Model2Vec takes out of texts; None for none.

        That of a Unigram vocabulary, which has a number and no name there (`unk_id`), Model2Vec leaves in.
        """
        token = json.loads(self._tokenizer.to_str())["model"].get("unk_token") if self.is_model2vec else None
        number = None if token is None else self._tokenizer.token_to_id(token)
        return None if number is None else int(number)

    @property
    def normalize(self) -> bool | None:
        """Whether Model2Vec's vectors have length 1; None where the modules say it."""
        return self.config.of("normalize", bool, default=False) if self.is_model2vec else None

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        path = self.folder / _TOKENIZER
        try:
            return Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # `tokenizers` raises nothing more precise
            raise SourceError(f"{path} is damaged ({error}): fetch the checkpoint again") from error

    @property
    def _vocabulary(self) -> dict[str, int]:
        found: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return found
