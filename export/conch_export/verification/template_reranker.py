"""A reranker that answers in words, run by transformers as its authors' model cards show: a causal language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from conch_export.checkpoints.checkpoint import Checkpoint

if TYPE_CHECKING:
    from conch_export.model.description import GenerativeReranker
    from conch_export.verification.samples import Item


class TemplateReranker:
    """The logit of one word less that of another, after a text that holds the pair.

    Attributes:
        name: who computes.
    """

    def __init__(self, description: GenerativeReranker) -> None:
        folder = Checkpoint(description.source.folder).transformer
        options = {"dtype": torch.float32, "attn_implementation": "eager", "use_safetensors": True}
        self.name = f"transformers {transformers.__version__}"
        self._template = description.pair_template
        tokenizers: Any = AutoTokenizer
        models: Any = AutoModelForCausalLM
        self._tokenizer = tokenizers.from_pretrained(folder)
        self._model = models.from_pretrained(folder, **options).eval()
        self._words = self._tokenizer.convert_tokens_to_ids(list(description.score_tokens))

    def ids(self, item: Item) -> list[int]:
        """Tokens of the text that holds the pair."""
        before, _, rest = self._template.partition("{query}")
        text = before.replace("{document}", item.text) + item.query + rest.replace("{document}", item.text)
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def __call__(self, item: Item) -> tuple[list[int], dict[str, torch.Tensor]]:
        """Its tokens, and `scores` FP32 [1]."""
        ids = self.ids(item)
        logits = self._model(input_ids=torch.tensor([ids])).logits[0, -1]
        yes, no = self._words
        return ids, {"scores": (logits[yes] - logits[no])[None]}
