"""The PyTorch model a checkpoint was published for, run plainly: one text at a time, float32, eager attention.

Where transformers does not implement an architecture or a head, conch's own plain reading of it takes its place.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from conch_export import plain_heads, remote_code
from conch_export.checkpoint import Checkpoint
from conch_export.description import Description, Task
from conch_export.families import family_of, read_encoder
from conch_export.heads import read_lexical, read_pooled, read_projection, read_vocabulary
from conch_export.installed import as_installed
from conch_export.parts import parts
from conch_export.plain import PlainEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from conch_export.graphs.heads import Lexical, Pooled, Vocabulary
    from conch_export.parts import Part
    from conch_export.rows import Row


@dataclass(frozen=True)
class Expected:
    """What the reference computed.

    Attributes:
        answers: by public model: [rows, dimension] vectors, [rows, 1] raw scores (late interaction: of every row as a
            document for the first one), [tokens of all rows, dimension] token vectors or [rows, words] weights.
        first_tokens: [rows, hidden], the last layer's vector of every row's first token.
    """

    answers: dict[str, NDArray[np.float32]]
    first_tokens: NDArray[np.float32]


class Reference:
    """A description's checkpoint as transformers or its own code runs it, or else as `plain` and `plain_heads` do.

    Attributes:
        name: who computes.
    """

    def __init__(self, description: Description) -> None:
        self._description = description
        self._checkpoint = Checkpoint(description.source.folder)
        family = family_of(self._checkpoint.config)
        self._plain: PlainEncoder | None = None
        if family is not None and not family.IN_TRANSFORMERS:
            self.name = "conch's plain PyTorch"
            self._plain = PlainEncoder(read_encoder(family, self._checkpoint))
            return
        logging.getLogger("transformers").setLevel(logging.ERROR)  # it warns of heads that it does not know
        if description.source.code_sha256:
            self.name = "the checkpoint's own code"
            self._model = self._encoder = remote_code.load(self._checkpoint.transformer)
            return
        self.name = f"transformers {transformers.__version__}"
        options = {"dtype": torch.float32, "attn_implementation": "eager", "use_safetensors": True}
        with as_installed(self._checkpoint) as folder:
            transformer = Checkpoint(folder).transformer
            self._model = _kind(description).from_pretrained(transformer, **options).eval()
        self._encoder = self._model.base_model

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Row]) -> Expected:
        """The answers for every row alone."""
        tokens = [self._tokens(row) for row in rows]
        answers = {part.name: self._answer(part, rows, tokens).numpy() for part in parts(self._description)}
        return Expected(answers, torch.stack([each[0] for each in tokens]).numpy())

    @cached_property
    def _pooled_head(self) -> Pooled:
        return read_pooled(self._description, self._checkpoint)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return read_vocabulary(self._description, self._checkpoint)

    @cached_property
    def _lexical(self) -> Lexical:
        return read_lexical(self._description, self._checkpoint)

    def _tokens(self, row: Row) -> torch.Tensor:
        """FP32 [tokens, hidden], as they leave the last layer."""
        if self._plain is not None:
            return self._plain(row.ids, row.types, row.unseen)
        vectors: torch.Tensor = self._encoder(**self._inputs(row)).last_hidden_state[0]
        return vectors

    def _inputs(self, row: Row) -> dict[str, torch.Tensor]:
        mask = [1] * (len(row.ids) - row.unseen) + [0] * row.unseen
        inputs = {"input_ids": torch.tensor([row.ids]), "attention_mask": torch.tensor([mask])}
        return inputs | ({"token_type_ids": torch.tensor([row.types])} if self._description.segments else {})

    def _answer(self, part: Part, rows: Sequence[Row], tokens: Sequence[torch.Tensor]) -> torch.Tensor:
        """What one public model answers."""
        if part.task is Task.MULTI_VECTOR and part.step is None:
            return torch.cat(list(tokens))
        if part.task in (Task.MULTI_VECTOR, Task.LATE_INTERACTION):
            steps = read_projection(self._description, self._checkpoint).whole
            vectors = [plain_heads.through(steps, each) for each in tokens]
            if part.task is Task.MULTI_VECTOR:
                return torch.cat(vectors)
            counted = [each[self._counts(row)] for row, each in zip(rows, vectors, strict=True)]
            return torch.stack([plain_heads.maxsim(vectors[0], document) for document in counted])[:, None]
        if part.task is Task.SPARSE:
            return torch.stack([self._weights(part, row, each) for row, each in zip(rows, tokens, strict=True)])
        return torch.stack([self._pooled(row, each) for row, each in zip(rows, tokens, strict=True)])

    def _counts(self, row: Row) -> torch.Tensor:
        """Which tokens of a document are compared: BOOL [tokens]."""
        rules = self._description.interaction
        return ~torch.isin(torch.tensor(row.ids), torch.tensor(rules.skipped if rules else (), dtype=torch.int64))

    def _weights(self, part: Part, row: Row, tokens: torch.Tensor) -> torch.Tensor:
        if part.base is not None:
            return plain_heads.lexical(self._lexical, tokens, row.ids)
        if self._plain is not None:
            logits = plain_heads.logits(self._vocabulary, tokens)
        else:
            logits = self._model(**self._inputs(row)).logits[0]
        return plain_heads.splade(logits, self._description.logarithms)

    def _pooled(self, row: Row, tokens: torch.Tensor) -> torch.Tensor:
        if self._description.task is Task.CROSS_ENCODER and self._plain is None:
            logits: torch.Tensor = self._model(**self._inputs(row)).logits[0]
            if not self._description.score_tokens:
                return logits
            yes, no = map(self._checkpoint.token_id, self._description.score_tokens)
            return (logits[-1, yes] - logits[-1, no])[None]
        head = self._pooled_head
        return plain_heads.through(head.steps, plain_heads.pool(head.pooling, tokens)[None])[0]


def _kind(description: Description) -> Any:
    if description.task is Task.CROSS_ENCODER:
        return AutoModelForCausalLM if description.score_tokens else AutoModelForSequenceClassification
    return AutoModelForMaskedLM if description.task is Task.SPARSE else AutoModel
