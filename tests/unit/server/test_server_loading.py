"""What an operator is told of a Triton that is not ready yet, by lines of its log as release 24.10 writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch_server._loading import awaited

if TYPE_CHECKING:
    from pathlib import Path

PLACE = "2026-01-01T00:00:00Z I 7 model_lifecycle.cc:472] "
MODELS = ["m", "m-tokens", "m.encoder", "m.pooling"]


def loading(model: str) -> str:
    return f'{PLACE}"loading: {model}:1"'


def loaded(model: str) -> str:
    return f"{PLACE}\"successfully loaded '{model}'\""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "m.encoder" / "1").mkdir(parents=True)
    (tmp_path / "m.encoder" / "1" / "model.onnx").write_bytes(bytes(7_000_000))
    (tmp_path / "m.encoder" / "1" / "model.data").write_bytes(bytes(5_000_000))
    return tmp_path


@pytest.mark.parametrize(
    ("log", "unready", "told"),
    [
        pytest.param([], [], "it has not answered", id="no model is waited for"),
        pytest.param(
            [], MODELS, "it has not begun to load m, m-tokens, m.encoder, m.pooling", id="nothing is in the log"
        ),
        pytest.param(
            [loading("m.encoder"), loading("m.pooling"), loaded("m.pooling")],
            ["m", "m-tokens", "m.encoder"],
            "it is loading m.encoder (12 MB), with m, m-tokens to load after that, 1 of 4 models ready",
            id="a part is loaded",
        ),
        pytest.param(
            [loading("m.encoder"), loaded("m.encoder"), loading("m"), loaded("m"), loading("m-tokens")],
            ["m-tokens"],
            "it is loading m-tokens, with 3 of 4 models ready",
            id="the last one",
        ),
    ],
)
def test_it_says_what_is_loaded_and_what_comes_after(
    log: list[str], unready: list[str], told: str, repository: Path
) -> None:
    assert awaited(unready, len(MODELS), log, repository) == told


def test_of_many_models_it_names_a_few(tmp_path: Path) -> None:
    many = [f"m{number}" for number in range(9)]
    said = awaited(many, len(many), [loading(model) for model in many[:7]], tmp_path)
    assert said == ("it is loading m0, m1, m2, m3, m4 and 2 more, with m7, m8 to load after that, 0 of 9 models ready")
