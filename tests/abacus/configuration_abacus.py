from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class AbacusConfig(PretrainedConfig):
    model_type = "abacus"

    def __init__(
        self, vocab_size: int = 30522, hidden_size: int = 48, max_position_embeddings: int = 128, **others: Any
    ) -> None:
        super().__init__(**others)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.max_position_embeddings = max_position_embeddings
