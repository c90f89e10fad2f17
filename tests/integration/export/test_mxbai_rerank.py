"""mxbai-rerank-v2 reads pairs, and scores them, as the package of its authors does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from conch_contract import Task, encoder_name, head_name
from conch_export import Options, Overrides, Precision, export
from conch_export.onnx.engine import EncoderGraph, HeadGraph
from conch_export.sources import catalog
from conch_export.triton.repository import graph_path
from conch_export.verification.rows import Rows
from conch_export.verification.samples import Item, Role

from tests.saved_checkpoints import MXBAI, golden, restore

if TYPE_CHECKING:
    from pathlib import Path


def test_pairs_have_the_tokens_and_the_scores_of_its_authors_package(tmp_path: Path) -> None:
    expected = golden(MXBAI)["checkpoints"]["mxbai"]["answers"]
    folder, repository = restore("mxbai", tmp_path, MXBAI), tmp_path / "models"
    usage = catalog.usage_of("mixedbread-ai/mxbai-rerank-base-v2")
    yes, no = usage.score_tokens
    overrides = Overrides(score_tokens=(yes, no), pair_template=usage.pair_template)
    description = export(Options(str(folder), repository, precision=Precision.FP32, overrides=overrides)).description
    rows = [Rows(description)(Item(Role.PAIR, text, query)) for query, text in expected["pairs"]]
    assert [row.ids for row in rows] == expected["ids"]
    encode = EncoderGraph(graph_path(repository, encoder_name("mxbai")))
    score = HeadGraph(graph_path(repository, head_name("mxbai", Task.CROSS_ENCODER)))
    found = [score([row], encode([row]))["score"][0, 0] for row in rows]
    np.testing.assert_allclose(found, expected["scores"], rtol=0, atol=1e-5)
