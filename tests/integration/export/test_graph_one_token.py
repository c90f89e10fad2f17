"""Where every answer is made of one token of a text, the last layer computes that token alone, and answers the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_export import Pooling
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.engine import EncoderGraph, Row, feed
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize

from tests.encoders import read_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints
    from tests.integration.export.conftest import Exports

    Floats = NDArray[np.float32]

FAMILIES = [
    "bert",
    "mpnet",
    "modernbert",
    "qwen3",
    "mistral",
    "nomic_moe",
    "gte",
    "jina_bert",
    "gemma3",
    "deberta_v2",
    "t5",
]
"""One for each kind of layer."""
LENGTHS = [3, 1, 170, 40, 2]
"""The third, where a model takes that many, is longer than rows that attend all at once."""
every_token = pytest.mark.parametrize("token", [Pooling.CLS, Pooling.LAST], ids=["first", "last"])
every_family = pytest.mark.parametrize("family", FAMILIES)


def rows(lengths: list[int]) -> list[Row]:
    random = np.random.default_rng(0)
    return [Row(random.integers(5, 500, length).tolist(), [0] * length) for length in lengths]


def places(lengths: list[int], token: Pooling) -> list[int]:
    """Where the token of each row is among the tokens of all rows."""
    ends = np.cumsum(lengths)
    found: list[int] = (ends - 1 if token is Pooling.LAST else ends - lengths).tolist()
    return found


@every_family
@every_token
def test_its_vector_is_that_among_all_and_others_are_zeros(
    family: str, token: Pooling, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    encoder = read_encoder(getattr(checkpoints, family)())
    lengths = [min(length, encoder.max_length) for length in LENGTHS]
    found, expected = (
        EncoderGraph(encoder_graph(encoder, token=one).save(tmp_path))(rows(lengths)) for one in (token, None)
    )
    read_by_head = places(lengths, token)
    np.testing.assert_allclose(found[read_by_head], expected[read_by_head], rtol=0, atol=1e-5)
    assert not np.delete(found, read_by_head, axis=0).any()


@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3", "deberta_v2"])
@every_token
def test_so_it_is_in_int8(family: str, token: Pooling, checkpoints: Checkpoints, tmp_path: Path) -> None:
    encoder = read_encoder(getattr(checkpoints, family)())
    lengths = [min(length, encoder.max_length) for length in LENGTHS]

    def vectors(one: Pooling | None) -> Floats:
        feeds = [feed([row]) for row in rows([60] * 20)]
        chosen = calibrate(encoder_graph(encoder, token=one, chunk_tokens=None), feeds)
        graph = quantize(encoder_graph(encoder, token=one), chosen).save(tmp_path)
        return EncoderGraph(graph)(rows(lengths))[places(lengths, token)]

    np.testing.assert_allclose(vectors(token), vectors(None), rtol=0, atol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_an_embedding_model_that_pools_one_token_is_exported_so(exports: Exports, pooling: str) -> None:
    assert given(exports("electra", pooling=pooling).encoder) == {"cls": [0, 4], "last": [3, 9]}[pooling]


def test_so_is_a_reranker(exports: Exports) -> None:
    assert given(exports("bert_cross_encoder").encoder) == [0, 4]


@pytest.mark.parametrize("kind", ["electra", "bert"], ids=["that pools all", "beside late interaction"])
def test_a_model_whose_heads_read_more_gives_all_tokens(exports: Exports, kind: str) -> None:
    pooling = "cls" if kind == "bert" else None
    assert given(exports(kind, pooling=pooling).encoder) == list(range(10))


def given(encoder: Path) -> list[int]:
    """Which tokens of a row of 4 and one of 6 an exported encoder gives vectors of."""
    found: list[int] = np.flatnonzero(EncoderGraph(encoder)(rows([4, 6])).any(axis=1)).tolist()
    return found
