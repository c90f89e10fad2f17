"""Checkpoints in the layout of Jina's XLM-R compute what the same weights compute in that of transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from conch_export import Options
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.heads import read_pooled
from conch_export.families import family_of
from conch_export.model.description import MultiVectorModel
from conch_export.options import described
from conch_export.verification.plain import PlainEncoder, pool, through
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from tests import hub_checkpoints

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints

IDS = np.random.default_rng(0).integers(5, 500, 60).tolist()
NAMES = {
    "embeddings.LayerNorm": "emb_ln",
    "encoder.layer.": "encoder.layers.",
    "attention.output.dense": "mixer.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "output.LayerNorm": "norm2",
}


def in_jinas_layout(source: Path, folder: Path) -> Path:
    """The cross-encoder of transformers with the names that jina-reranker-v2's tensors have."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    written: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        new = name
        for old, other in NAMES.items():
            new = new.replace(old, other)
        written[new] = tensor
    for name in [name for name in written if "self.query" in name]:
        parts = [written.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        written[name.replace("attention.self.query", "mixer.Wqkv")] = torch.cat(parts)
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "XLMRobertaFlashConfig", "AutoModelForSequenceClassification": "ForSequenceClassification"}
    config |= {
        "auto_map": {name: f"configuration_xlm_roberta.{kind}" for name, kind in code.items()},
        "position_embedding_type": "absolute",
        "rotary_emb_base": 10000.0,
        "lora_adaptations": None,
        "load_trained_adapters": False,
        "use_flash_attn": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def tokens_of(checkpoint: Checkpoint) -> torch.Tensor:
    family = family_of(checkpoint.config)
    assert type(family).__name__ == "XlmRobertaFlash"
    assert family is not None
    return PlainEncoder(family.read_encoder(checkpoint.config, checkpoint.weights))(IDS, [0] * len(IDS))


def test_a_cross_encoder_with_absolute_positions_scores_as_in_transformers(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    source = checkpoints.xlm_roberta_cross_encoder()
    model: Any = AutoModelForSequenceClassification.from_pretrained(source)
    expected = model(torch.tensor([IDS])).logits[0].detach().numpy()
    folder = in_jinas_layout(source, tmp_path / "jina-reranker")
    description, checkpoint = described(Options(str(folder), tmp_path / "models"))
    head = read_pooled(description, checkpoint)
    score = through(head.layers, pool(head.pooling, tokens_of(checkpoint))[None])[0]
    np.testing.assert_allclose(score.numpy(), expected, rtol=0, atol=1e-5)


def test_it_is_read_as_transformers_5_saves_it(checkpoints: Checkpoints, tmp_path: Path) -> None:
    base = Checkpoint(checkpoints.jina_v3(), "none")
    ours = {"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}
    ours |= {"max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "pad_token_id"}
    stated = {key: value for key, value in hub_checkpoints.JINA_V3.items() if key in ours}
    rotary = {"rope_type": "default", "rope_theta": hub_checkpoints.JINA_V3["rotary_emb_base"]}
    changed = {"model_type": "jina_embeddings_v3", "rope_parameters": rotary, "transformers_version": "5.24.0"}
    (tmp_path / "config.json").write_text(json.dumps(stated | changed))
    tensors = load_file(checkpoints.jina_v3() / "model.safetensors")
    kept = {
        name.removeprefix("roberta.").replace(".parametrizations.weight.original", ".weight"): tensor
        for name, tensor in tensors.items()
        if ".lora_" not in name
    }
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.testing.assert_close(tokens_of(Checkpoint(tmp_path)), tokens_of(base), rtol=0, atol=0)


def test_a_colbert_of_it_is_a_multi_vector_model(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """As jina-colbert-v2, whose markers are tokens of its own."""
    folder = Path(shutil.copytree(checkpoints.jina_v3(), tmp_path / "jina-colbert"))
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    tensors = load_file(folder / "model.safetensors")
    kept = {
        name.replace(".parametrizations.weight.original", ".weight"): tensor
        for name, tensor in tensors.items()
        if ".lora_" not in name
    }
    save_file(kept | {"linear.weight": torch.ones(16, 48)}, folder / "model.safetensors", metadata={"format": "pt"})
    config = hub_checkpoints.JINA_V3 | {"architectures": ["HF_ColBERT"], "lora_adaptations": None}
    (folder / "config.json").write_text(json.dumps(config | {"task_instructions": None, "rotary_emb_base": 20000.0}))
    metadata = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 32, "doc_maxlen": 300}
    (folder / "artifact.metadata").write_text(json.dumps(metadata | {"attend_to_mask_tokens": True}))
    description, checkpoint = described(Options(str(folder), tmp_path / "models"))
    assert isinstance(description, MultiVectorModel)
    assert description.dimension == 16
    base = Checkpoint(checkpoints.jina_v3(), "none")
    torch.testing.assert_close(tokens_of(checkpoint), tokens_of(base), rtol=0, atol=0)
