"""Variants of architectures that no installed library computes are told by what their authors add, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from conch_export import ExportError, Options, Precision, UnsupportedError, export
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints


def copied(made: Path, folder: Path, *more: str) -> Options:
    """An export of a copy of a checkpoint that has these tensors more."""
    shutil.copytree(made, folder)
    path = folder / "model.safetensors"
    save_file(load_file(path) | {name: torch.ones(4) for name in more}, path, metadata={"format": "pt"})
    return Options(str(folder), folder.with_name("models"), precision=Precision.FP32)


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("jina_bert", "encoder.layer.1.attention.self.layer_norm_q.weight"),
        ("nomic_bert", "encoder.layers.0.attn.norm_q.weight"),
        ("gte", "encoder.layer.0.mlp.scale"),
        ("eurobert", "layers.1.self_attn.q_norm.weight"),
        ("jina_bert", "embeddings.position_embeddings.weight"),
    ],
)
def test_a_tensor_of_a_layer_that_nothing_reads_is_refused_by_name(
    checkpoints: Checkpoints, tmp_path: Path, kind: str, tensor: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"has a tensor '{tensor}', which no .* that is built has"):
        export(copied(getattr(checkpoints, kind)(), tmp_path / kind, tensor))
    assert not list((tmp_path / "models").glob("*"))


@pytest.mark.parametrize("tensor", ["embeddings.position_ids", "encoder.layer.7.more.weight", "cls.predictions.bias"])
def test_what_is_computed_or_of_no_layer_that_is_read_is_left(
    checkpoints: Checkpoints, tmp_path: Path, tensor: str
) -> None:
    assert export(copied(checkpoints.jina_bert(), tmp_path / "m", tensor)).verification


@pytest.mark.parametrize(
    ("kind", "stated", "told"),
    [
        ("jina_bert", {"is_decoder": True}, "is_decoder = True is not built"),
        ("nomic_bert", {"scale_attn_weights": False}, "scale_attn_weights = False is not built"),
        ("eurobert", {"attention_bias": True}, "attention_bias = True, but those layers lack biases"),
        ("llama_bidirec", {"mlp_bias": True}, "mlp_bias = True, but those layers lack biases"),
    ],
)
def test_a_variant_that_settings_state_is_refused(
    checkpoints: Checkpoints, tmp_path: Path, kind: str, stated: dict[str, bool], told: str
) -> None:
    options = copied(getattr(checkpoints, kind)(), tmp_path / "m")
    path = Path(options.reference, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | stated))
    with pytest.raises(ExportError, match=told):
        export(options)
