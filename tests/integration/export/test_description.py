"""What the authors' libraries save is described as they mean it, and what is not built is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Overrides, Pooling, Precision, UnsupportedError
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.describe import describe
from conch_export.families import bert
from conch_export.model.description import EmbeddingModel
from conch_export.sources.source import Source
from sentence_transformers import SentenceTransformer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoints import Checkpoints


def test_what_sentence_transformers_saves_today_is_understood(checkpoints: Checkpoints, tmp_path: Path) -> None:
    SentenceTransformer(str(checkpoints.bert()), device="cpu").save_pretrained(str(tmp_path))
    source = Source(tmp_path, "folder:saved", "", "0" * 64)
    description = describe(Checkpoint(tmp_path), source, "saved", Precision.FP32, Overrides())
    assert isinstance(description, EmbeddingModel)
    assert (description.pooling, description.normalize, description.max_length) == (Pooling.MEAN, True, 128)


@pytest.mark.parametrize(
    "variant",
    [{"hidden_act": "relu"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True}],
    ids=lambda variant: next(iter(variant)),
)
def test_a_variant_that_is_not_built_is_named(
    tmp_path: Path, checkpoints: Checkpoints, variant: dict[str, Any]
) -> None:
    original = checkpoints.bert()
    (tmp_path / "model.safetensors").symlink_to(original / "model.safetensors")
    settings = json.loads((original / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, **variant}))
    (key, value), *_ = variant.items()
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(UnsupportedError, match=f"{key} = {value!r} is not built for bert"):
        bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights)
