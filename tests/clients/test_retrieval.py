"""mteb's own harness, unmodified and current, scores the gateway as it scores the graphs and the authors' model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch_export.sources.finder import resolve
from conch_export.verification.texts import docstrings

from benchmarks import retrieval
from benchmarks.models import NAME
from tests.serving import Serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.conftest import Served

OF_FP32 = 0.99
"""Rounding moves the score of so few queries by 0.003 of it in either direction (standard error of the mean); that it
costs less than that, `benchmarks/retrieval.py` measures with more of them."""


def test_int8_finds_what_the_authors_fp32_finds(served: Served, repository: Path, tmp_path: Path) -> None:
    queries, documents = retrieval.pairs(docstrings())
    parts = {"encoder": f"{NAME}.encoder", "head": f"{NAME}.pooling"}
    graphs = {part: str(repository / name / "1" / "model.onnx") for part, name in parts.items()}
    checkpoint = resolve(NAME).folder
    # mteb asks for the list of models without a key, so it gets a gateway that wants none, over the same Triton.
    with Serving(None, tmp_path, CONCH_TRITON_URL=served.grpc_url) as gateway:
        _, found = retrieval.scores(
            queries,
            documents,
            {
                "authors": {"checkpoint": str(checkpoint)},
                "gateway": {"url": gateway.url, "model": NAME},
                "graphs": {**graphs, "tokenizer": str(checkpoint / "tokenizer.json"), "max_length": 256},
            },
        )
    assert found["gateway"] == pytest.approx(found["graphs"], abs=1e-4)
    assert found["gateway"] >= OF_FP32 * found["authors"]
