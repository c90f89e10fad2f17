"""The PyTorch model a checkpoint was published for, run plainly: one text at a time, float32, eager attention.

Where transformers does not implement an architecture, conch's own plain reading of it takes its place for embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from transformers import AutoModel, AutoModelForSequenceClassification

from conch_export.checkpoint import Checkpoint
from conch_export.description import Description, Task
from conch_export.families import family_of
from conch_export.graphs.heads import Pooling
from conch_export.plain import PlainEncoder

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
    """A description's checkpoint as transformers runs it, or else as `plain` does.

    Attributes:
        name: who computes.
    """

    def __init__(self, description: Description) -> None:
        checkpoint = Checkpoint(description.source.folder)
        family = family_of(checkpoint.config)
        self._plain: PlainEncoder | None = None
        if family is not None and not family.IN_TRANSFORMERS:
            self.name = "conch's plain PyTorch"
            self._plain, self._description = PlainEncoder(family.read_encoder(checkpoint)), description
            return
        self.name = f"transformers {transformers.__version__}"
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
            tokens, logits = self._run(row)
            firsts.append(tokens[0].numpy())
            outputs.append(self._pool(tokens) if logits is None else logits.numpy())
        return Expected(np.stack(outputs), np.stack(firsts))

    def _run(self, row: Row) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors of the tokens and, of a sequence classifier, its logits."""
        if self._plain is not None:
            return self._plain(row.ids, row.types), None
        inputs = {"input_ids": torch.tensor([row.ids])}
        if self._description.segments:
            inputs["token_type_ids"] = torch.tensor([row.types])
        tokens = self._model.base_model(**inputs).last_hidden_state[0]
        return tokens, None if self._description.pooling else self._model(**inputs).logits[0]

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
