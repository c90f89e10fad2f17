"""DeBERTa v1: DeBERTa whose relative positions have projections of their own and no buckets (He et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conch_export.errors import SourceError
from conch_export.families.deberta_v2 import DebertaV2
from conch_export.model.network import Linear

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights


class Deberta(DebertaV2):
    """Queries, keys and values of a head are neighbours in one matrix, and keys have no bias."""

    model_types = ("deberta",)
    settings: ClassVar = {
        int: "embedding_size hidden_size intermediate_size max_position_embeddings max_relative_positions "
        "num_attention_heads num_hidden_layers pad_token_id type_vocab_size vocab_size",
        float: "layer_norm_eps",
        bool: "position_biased_input relative_attention talking_head",
        str: "hidden_act model_type pooler_hidden_act",
        list: "pos_att_type",
    }
    built: ClassVar = {"hidden_act": ("gelu",), "talking_head": (False, None)}

    def projections(self, config: Settings, weights: Weights, name: str) -> tuple[list[Linear], list[Linear]]:
        """Query, key and value of an attention; and the key and query of relative positions."""
        joined = weights.linear(f"{name}.in_proj").weight
        outputs, heads = joined.shape[1], config["num_attention_heads"]
        if outputs % (3 * heads):
            msg = f"tensor {name}.in_proj.weight has {outputs} outputs, which are not 3 for each of {heads} heads"
            raise SourceError(f"{msg}: fetch the checkpoint again")
        columns = np.arange(outputs).reshape(heads, 3, -1)
        biases = (np.asarray(weights.array(f"{name}.q_bias")), None, np.asarray(weights.array(f"{name}.v_bias")))
        contents = [Linear(joined[:, columns[:, part].ravel()], bias) for part, bias in enumerate(biases)]
        return contents, [weights.linear(f"{name}.{part}") for part in ("pos_proj", "pos_q_proj")]


FAMILY = Deberta()
