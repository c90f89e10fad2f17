from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_abacus import AbacusConfig


class AbacusModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    config_class = AbacusConfig
    base_model_prefix = "words"  # of a part, as some on the Hub have it

    def __init__(self, config: AbacusConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> BaseModelOutput:
        x = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        scores = self.query(x) @ x.transpose(1, 2)
        weights = scores.masked_fill(attention_mask[:, None, :] == 0, float("-inf")).softmax(-1)
        return BaseModelOutput(last_hidden_state=self.norm(x + weights @ x))
