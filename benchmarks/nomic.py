"""The true shape of nomic-embed-text-v1.5 with random weights: a checkpoint, and its int8 export."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
from conch_export import Options, export, is_complete
from conch_export.sources.finder import resolve
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nomic-shape"
HIDDEN, INNER, LAYERS, HEADS, VOCABULARY, LENGTH = 768, 3072, 12, 12, 30528, 8192
CONFIG = {
    "model_type": "nomic_bert",
    "architectures": ["NomicBertModel"],
    "vocab_size": VOCABULARY,
    "n_embd": HIDDEN,
    "n_inner": INNER,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_positions": LENGTH,
    "type_vocab_size": 2,
    "layer_norm_epsilon": 1e-12,
    "activation_function": "swiglu",
    "prenorm": False,
    "parallel_block": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "use_rms_norm": False,
}
_POOLING = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_DEVIATION = 0.02  # of the initial weights, as the authors' configuration says


def exported(folder: Path) -> Path:
    """The model repository with the export, made if it is not there: 90 s and 7 GB of memory on two cores."""
    repository, checkpoint = folder / "models", folder / "checkpoint"
    if not (checkpoint / "model.safetensors").exists():
        save(checkpoint)
    options = Options(str(checkpoint), repository, name=NAME, late_interaction=False)
    if not is_complete(options):
        export(options)
    return repository


def save(folder: Path) -> None:
    """Write the checkpoint, with the tokenizer of all-MiniLM-L6-v2: both have the one of bert-base-uncased."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "modules.json").write_text(json.dumps(_MODULES))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(_POOLING))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LENGTH, "do_lower_case": False}))
    source = resolve("all-minilm-l6-v2").folder
    for name in _TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
    random = np.random.default_rng(0)
    weights = {
        "embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    for index in range(LAYERS):
        layer = f"encoder.layers.{index}"
        weights[f"{layer}.attn.Wqkv.weight"] = (3 * HIDDEN, HIDDEN)
        weights[f"{layer}.attn.out_proj.weight"] = (HIDDEN, HIDDEN)
        weights[f"{layer}.mlp.fc11.weight"] = (INNER, HIDDEN)
        weights[f"{layer}.mlp.fc12.weight"] = (INNER, HIDDEN)
        weights[f"{layer}.mlp.fc2.weight"] = (HIDDEN, INNER)
    tensors = {
        name: (_DEVIATION * random.standard_normal(shape, np.float32)).astype(np.float32)
        for name, shape in weights.items()
    }
    norms = ["emb_ln", *(f"encoder.layers.{index}.{norm}" for index in range(LAYERS) for norm in ("norm1", "norm2"))]
    for norm in norms:
        tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    save_file(tensors, folder / "model.safetensors")
