"""The PyTorch model a checkpoint was published for, run plainly: one text at a time, float32, eager attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from conch_export.description import Description, Task
from conch_export.graphs.heads import Pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from conch_export.rows import Row


@dataclass(frozen=True)
class Expected:
    """What the reference computed.

    Attributes:
        output: [rows, dimension] vectors, or [rows, 1] raw scores.
        first_tokens: [rows, hidden], the last layer's vector of every row's first token.
    """

    output: NDArray[np.float32]
    first_tokens: NDArray[np.float32]


class Reference:
    """transformers' own implementation of a description's checkpoint."""

    def __init__(self, description: Description) -> None:
        kind = AutoModel if description.task is Task.EMBEDDING else AutoModelForSequenceClassification
        self._description = description
        self._model = kind.from_pretrained(
            description.source.folder, dtype=torch.float32, attn_implementation="eager", use_safetensors=True
        ).eval()

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Row]) -> Expected:
        """The outputs for every row alone."""
        outputs, firsts = [], []
        for row in rows:
            inputs = {"input_ids": torch.tensor([row.ids])}
            if self._description.segments:
                inputs["token_type_ids"] = torch.tensor([row.types])
            result = self._model(**inputs, output_hidden_states=True)
            tokens = result.hidden_states[-1][0]
            firsts.append(tokens[0].numpy())
            outputs.append(self._pool(tokens) if self._description.pooling else result.logits[0].numpy())
        return Expected(np.stack(outputs), np.stack(firsts))

    def _pool(self, tokens: torch.Tensor) -> NDArray[np.float32]:
        pooled = {
            Pooling.MEAN: lambda: tokens.mean(0),
            Pooling.CLS: lambda: tokens[0],
            Pooling.MAX: lambda: tokens.amax(0),
            Pooling.LAST: lambda: tokens[-1],
        }[self._description.pooling or Pooling.MEAN]()
        if self._description.normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=0)
        vector: NDArray[np.float32] = pooled.numpy()
        return vector
