"""A static model run by Model2Vec, its authors' library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import model2vec
import numpy as np
import torch

from conch_export.checkpoints.lookups.static import LONGEST
from conch_export.verification.loading import loading

if TYPE_CHECKING:
    from conch_export.model.description import Overrides, StaticModel
    from conch_export.verification.samples import Item

_UNSTATED_LENGTH = 512
"""Of all versions: the default of `encode` before 0.10, and of the model since."""


class Model2Vec:
    """The checkpoint of a description, computed in float32.

    Attributes:
        name: who computes.
    """

    def __init__(self, description: StaticModel, overrides: Overrides) -> None:
        self.name = f"model2vec {model2vec.__version__}"
        self._description = description
        folder = description.source.folder
        with loading(description.name, "model2vec"):
            self._model = model2vec.StaticModel.from_pretrained(folder, normalize=overrides.normalize)
        self._model.embedding = self._model.embedding.astype(np.float32)
        # Neither config.json nor any other file says by which version a checkpoint was saved, and all load it alike. So
        # the newest counts, whichever is installed: no pad is averaged, and a text is cut at the length in config.json,
        # which versions before 0.10 load and do not go by, before unknown tokens are taken out.
        stated = self._model.config.get("max_length", _UNSTATED_LENGTH)
        self._length: int = overrides.max_length or stated or LONGEST
        self._model.tokenizer.no_padding()
        self._model.tokenizer.enable_truncation(self._length)

    def ids(self, item: Item) -> list[int]:
        """The tokens of an item, unknown ones included."""
        text = self._prompted(item)[: self._length * self._model.median_token_length]
        ids: list[int] = self._model.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def __call__(self, item: Item) -> tuple[list[int], dict[str, torch.Tensor]]:
        """Return the tokens of an item, and `sentence_embedding` FP32 [dimension]."""
        vector = self._model.encode([self._prompted(item)], max_length=self._length)[0]
        return self.ids(item), {"sentence_embedding": torch.from_numpy(vector.astype(np.float32))}

    def _prompted(self, item: Item) -> str:
        """A text with its prompt, which this library knows nothing of."""
        name = self._description.default_prompt_name if item.prompt_name is None else item.prompt_name
        return self._description.prompts.get(name, "") + item.text
