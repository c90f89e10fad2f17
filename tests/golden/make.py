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
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.hub_checkpoints import GTE, JINA_V3, NOMIC_BERT, save

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


def jina_v3() -> list[list[float]]:
    """Of the adapter for classification, the fourth of five, which is added to the weights that it changes."""
    with tempfile.TemporaryDirectory() as scratch:
        save(Path(scratch, "made"), JINA_V3)
        tensors = load_file(Path(scratch, "made", "model.safetensors"))
    merged = {name: tensor for name, tensor in tensors.items() if ".parametrizations." not in name}
    for name, tensor in tensors.items():
        base, found, part = name.partition(".parametrizations.weight.")
        if found and part == "original":
            a, b = (tensors[f"{base}{found}0.lora_{each}"][3] for each in "AB")
            delta = a @ b if "embeddings" in base else b @ a
            merged[f"{base}.weight"] = tensor + delta * (JINA_V3["lora_alpha"] / JINA_V3["lora_rank"])
    config = JINA_V3 | {"model_type": "jina_embeddings_v3"}
    return _means(_load("JinaEmbeddingsV3Model", merged, config, theta=JINA_V3["rotary_emb_base"]))


def _load(kind: str, made: dict[str, Any], config: dict[str, Any], theta: float) -> Any:
    """The model of that kind, from tensors or from what `save` makes of a configuration."""
    known = {key: config[key] for key in ("model_type", *_COMMON)}
    rotary = {"rope_type": "default", "rope_theta": float(theta)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "checkpoint")
        if "model_type" in made:
            save(folder, made)
        else:
            folder.mkdir()
            save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
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
        "means": {"nomic_bert": nomic_bert(), "gte": gte(), "jina_v3": jina_v3()},
    }
    Path(__file__).with_name("token_means.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
