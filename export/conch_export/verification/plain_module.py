"""An encoder that sentence-transformers cannot load, as the first module of one of its models all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerFast

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.heads import read_pooled, read_vocabulary
from conch_export.model.description import CrossEncoder, Description, SparseModel
from conch_export.verification import plain_heads

if TYPE_CHECKING:
    from collections.abc import Callable


class PlainModule(torch.nn.Module):
    """A tokenizer and an encoder; for a cross-encoder or a sparse model its plain head too.

    Args:
        description: of the model.
        encode: takes ids of a row's tokens, their types and how many of the last are not attended to; gives FP32
            [tokens, hidden].
        positions: most tokens that a row may have.

    Attributes:
        tokenizer: transformers', which reads tokenizer_config.json also.
        max_seq_length: tokens at which texts are cut.
    """

    modalities = ("text",)

    def __init__(
        self, description: Description, encode: Callable[[list[int], list[int], int], torch.Tensor], positions: int
    ) -> None:
        super().__init__()
        self._description = description
        self._checkpoint = Checkpoint(description.source.folder)
        self._encode = encode
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(self._checkpoint.transformer)
        stated = self._checkpoint.transformer_settings.get("max_seq_length")
        self.max_seq_length = min(int(stated or self.tokenizer.model_max_length), positions)
        self.place = torch.nn.Parameter(torch.zeros(0))  # tells the library the device and the element type

    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        """The features of one text or pair, a prompt before its first."""
        texts = [inputs[0]] if isinstance(inputs[0], str) else list(inputs[0])
        texts[0] = (prompt or "") + texts[0]
        options = {"truncation": "longest_first", "max_length": self.max_seq_length, "return_tensors": "pt"}
        return dict(self.tokenizer(*texts, return_token_type_ids=True, **options))

    @torch.inference_mode()
    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """The features of one text with `token_embeddings` [1, tokens, hidden], and what its head makes of them."""
        ids, unseen = features["input_ids"][0].tolist(), int((features["attention_mask"] == 0).sum())
        types = features["token_type_ids"][0].tolist() if self._description.segments else [0] * len(ids)
        tokens = self._encode(ids, types, unseen)
        found = {"token_embeddings": tokens[None]}
        if isinstance(self._description, CrossEncoder):
            head = read_pooled(self._description, self._checkpoint)
            found["scores"] = plain_heads.through(head.steps, plain_heads.pool(head.pooling, tokens)[None])
        if isinstance(self._description, SparseModel):
            logits = plain_heads.logits(read_vocabulary(self._description, self._checkpoint), tokens)
            found["sentence_embedding"] = plain_heads.splade(logits, self._description.logarithms)[None]
        return features | found
