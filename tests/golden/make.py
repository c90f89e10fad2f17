"""Token vectors that transformers 5 computes from the checkpoints of `tests/hub_checkpoints.py`, kept as golden files.

pip install torch "transformers>=5" && python tests/golden/make.py      in an environment of its own
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.hub_checkpoints import GTE, NOMIC_BERT, save

ROWS = [np.random.default_rng(0).integers(5, 30000, length).tolist() for length in (3, 17, 130, 170, 300)]


_NAMES = {
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
}
_COMMON = (
    "vocab_size",
    "type_vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "layer_norm_eps",
    "hidden_act",
)


def nomic_bert() -> list[list[float]]:
    """By the names that transformers gives the Hub's settings."""
    config = {_NAMES.get(key, key): value for key, value in NOMIC_BERT.items()} | {"hidden_act": "silu"}
    return _means(_load("NomicBertModel", NOMIC_BERT, config, theta=NOMIC_BERT["rotary_emb_base"]))


def gte() -> list[list[float]]:
    """transformers has no fixed NTK scaling: its frequencies are set, by their formula."""
    model = _load("GteModel", GTE, GTE | {"model_type": "gte"}, theta=GTE["rope_theta"])
    width, factor = GTE["hidden_size"] // GTE["num_attention_heads"], GTE["rope_scaling"]["factor"]
    base = GTE["rope_theta"] * factor
    model.rotary_emb.inv_freq.copy_(base ** (-torch.arange(0, width, 2) / width) / factor ** (2 / width))
    return _means(model)


def _load(kind: str, made: dict[str, Any], config: dict[str, Any], theta: float) -> Any:
    known = {key: config[key] for key in ("model_type", *_COMMON)}
    rotary = {"rope_type": "default", "rope_theta": float(theta)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "checkpoint")
        save(folder, made)
        (folder / "config.json").write_text(json.dumps(known | {"rope_parameters": rotary}))
        return getattr(transformers, kind).from_pretrained(folder).eval()


@torch.inference_mode()
def _means(model: Any) -> list[list[float]]:
    return [model(input_ids=torch.tensor([row])).last_hidden_state[0].mean(0).tolist() for row in ROWS]


def main() -> None:
    """Write the golden file."""
    content = {
        "transformers": transformers.__version__,
        "rows": ROWS,
        "means": {"nomic_bert": nomic_bert(), "gte": gte()},
    }
    Path(__file__).with_name("token_means.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
