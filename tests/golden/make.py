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
from tests.hub_checkpoints import (
    BOTH_WAYS,
    EUROBERT,
    GTE,
    GTE_MULTILINGUAL,
    GTE_RERANKER,
    JINA_V3,
    LLAMA_BIDIREC,
    NOMIC_BERT,
    QWEN2_5_VL,
    QWEN3_VL,
    save,
)

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


def gte(stated: dict[str, Any]) -> list[list[float]]:
    """transformers has no fixed NTK scaling: its frequencies are set, by their formula."""
    return _means(_gte("GteModel", stated))


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


@torch.inference_mode()
def gte_scores() -> list[float]:
    """Logits of its sequence classifier."""
    model = _gte("GteForSequenceClassification", GTE_RERANKER, num_labels=1)
    return [round(float(model(input_ids=torch.tensor([row])).logits), 8) for row in ROWS]


def _gte(kind: str, stated: dict[str, Any], **more: Any) -> Any:
    model = _load(kind, stated, stated | {"model_type": "gte"}, theta=stated["rope_theta"], **more)
    width, factor = stated["hidden_size"] // stated["num_attention_heads"], stated["rope_scaling"]["factor"]
    base = stated["rope_theta"] * factor
    frequencies = base ** (-torch.arange(0, width, 2) / width) / factor ** (2 / width)
    model.base_model.rotary_emb.inv_freq.copy_(frequencies)
    return model


def llama(kind: str, stated: dict[str, Any], **more: Any) -> list[list[float]]:
    """What has the tensors of Llama, by a class of transformers, which reads the older keys as well.

    Of a model of more than text all of it is made; what it would see images with has random numbers.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "checkpoint")
        save(folder, stated)
        config = {key: value for key, value in stated.items() if key != "auto_map"} | more
        (folder / "config.json").write_text(json.dumps(config))
        return _means(getattr(transformers, kind).from_pretrained(folder).eval())


def _load(kind: str, made: dict[str, Any], config: dict[str, Any], theta: float, **more: Any) -> Any:
    """The model of that kind, from tensors or from what `save` makes of a configuration."""
    known = {key: config[key] for key in ("model_type", *_COMMON)} | more
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
    means = [model(input_ids=torch.tensor([row])).last_hidden_state[0].mean(0) for row in ROWS]
    return [[round(value, 8) for value in mean.tolist()] for mean in means]


def main() -> None:
    """Write the golden file."""
    content = {
        "transformers": transformers.__version__,
        "rows": ROWS,
        "means": {
            "nomic_bert": nomic_bert(),
            "gte": gte(GTE),
            "gte_multilingual": gte(GTE_MULTILINGUAL),
            "jina_v3": jina_v3(),
            "eurobert": llama("EuroBertModel", EUROBERT),
            "llama_bidirec": llama("LlamaModel", LLAMA_BIDIREC, model_type="llama", is_causal=False),
            "both_ways": llama("MistralModel", BOTH_WAYS),
            "qwen2_5_vl": llama("Qwen2_5_VLModel", QWEN2_5_VL),
            "qwen3_vl": llama("Qwen3VLModel", QWEN3_VL),
        },
        "scores": {"gte_cross_encoder": gte_scores()},
    }
    Path(__file__).with_name("token_means.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
