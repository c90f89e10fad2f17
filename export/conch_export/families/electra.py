"""ELECTRA: BERT whose embeddings may be narrower than its layers and are then projected (Clark et al. 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from conch_export.families.bert import Bert

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Encoder


class Electra(Bert):
    """There is a projection where the two widths differ."""

    model_types = ("electra",)
    settings: ClassVar = {**Bert.settings, int: f"embedding_size {Bert.settings[int]}"}

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        encoder = super().encoder(config, weights)
        if config["embedding_size"] == config["hidden_size"]:
            return encoder
        return replace(encoder, projection=weights.linear("embeddings_project"))


FAMILY = Electra()
