"""Vectors that are cut are what their authors make of them, from the checkpoint to the client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conch.app import app
from conch_client._requests.options import VectorOptions
from conch_client._transport.catalog import read_model_info
from conch_export.triton.repository import read_config
from torch.nn import functional
from typer.testing import CliRunner

from tests.merging import Published, padded

if TYPE_CHECKING:
    from conch_client import ModelInfo

    from tests.checkpoints import Checkpoints
    from tests.merging import Floats

GOLDEN = json.loads(Path(__file__).parents[2].joinpath("golden/token_means.json").read_text())


@pytest.fixture(scope="module", params=["--matryoshka-centred", "--no-matryoshka-centred"])
def published(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory
) -> Published:
    """A model whose vectors may be cut, centred first or not."""
    repository = tmp_path_factory.mktemp("models")
    stated = ["--repository", str(repository), "--precision", "fp32", "--matryoshka", "32,16", request.param]
    result = CliRunner().invoke(app, ["export", str(checkpoints.nomic_bert()), "--name", "nomic", *stated])
    assert result.exit_code == 0, result.output
    return Published(repository, "nomic")


def told(published: Published) -> ModelInfo:
    """What a client reads of the model."""
    return read_model_info(read_config(published.repository, published.name))


def cut(published: Published, dimensions: int | None) -> Floats:
    """What a client makes of the vectors that are served."""
    return VectorOptions(dimensions).apply(published.embedder(padded(GOLDEN["rows"]))[0], told(published))


@pytest.mark.parametrize("dimensions", [32, 16])
def test_a_cut_vector_is_that_of_the_authors(published: Published, dimensions: int) -> None:
    means = torch.tensor(GOLDEN["means"]["nomic_bert"], dtype=torch.float32)
    if told(published).matryoshka_centred:
        means = functional.layer_norm(means, means.shape[1:])
    expected = functional.normalize(means[:, :dimensions], dim=1).numpy()
    np.testing.assert_allclose(cut(published, dimensions), expected, rtol=0, atol=1e-5)


def test_a_whole_vector_is_left_as_it_is(published: Published) -> None:
    served = published.embedder(padded(GOLDEN["rows"]))[0]
    for dimensions in (None, 48):
        np.testing.assert_array_equal(cut(published, dimensions), served)


def test_the_configuration_says_so_only_where_it_is_so(published: Published) -> None:
    info = told(published)
    assert info.matryoshka_dimensions == (48, 32, 16)
    stored = read_config(published.repository, published.name).parameters
    assert ("matryoshka_centred" in stored) == info.matryoshka_centred
