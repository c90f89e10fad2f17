"""Cross-encoders as sentence-transformers saves them: what it says of scores and prompts is honoured or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conch_client._transport.catalog import read_model_info
from conch_export import Options, Precision, UnsupportedError, export
from conch_export.triton.repository import read_config
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Normalize, Pooling

from tests import head_checkpoints
from tests.integration.export.test_cross_encoders import DOCUMENTS, QUERY, of_conch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH = head_checkpoints.WIDTH
IDENTITY = torch.nn.Identity()
SCORES: dict[str, Any] = {"activation_function": IDENTITY, "module_output_name": "scores"}


def one_dense() -> list[Any]:
    return [Dense(WIDTH, 1, **SCORES)]


def norm_between() -> list[Any]:
    return [Dense(WIDTH, 24, activation_function=torch.nn.GELU()), LayerNorm(24), Dense(24, 1, **SCORES)]


def unit_before() -> list[Any]:
    return [Normalize(), Dense(WIDTH, 16), Dense(16, 1, bias=False, **SCORES)]


def saved(folder: Path, layers: list[Any], pooling: str = "mean", **settings: Any) -> Path:
    """A cross-encoder of modules, as the library saves it."""
    encoder = Transformer(str(head_checkpoints.make(folder / "encoder", "bert", "Model")))
    modules = [encoder, Pooling(WIDTH, pooling_mode=pooling), *layers]
    CrossEncoder(modules=modules, device="cpu", **settings).save_pretrained(str(folder / "model"))
    return folder / "model"


def of_the_library(folder: Path) -> np.ndarray[Any, Any]:
    """Logits by the library, from the texts."""
    model = CrossEncoder(str(folder), device="cpu")
    pairs = [(QUERY, document) for document in DOCUMENTS]
    return np.asarray(model.predict(pairs, activation_fn=IDENTITY, batch_size=1))


def parameters(repository: Path, name: str) -> Any:
    return read_model_info(read_config(repository, name))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
@pytest.mark.parametrize(
    ("layers", "pooling"),
    [(one_dense, "mean"), (norm_between, "cls"), (unit_before, "max")],
    ids=["one Dense", "Dense, LayerNorm, Dense", "Normalize, Dense, Dense"],
)
def test_scores_of_modules_are_those_of_the_library(
    tmp_path: Path, layers: Callable[[], list[Any]], pooling: str, precision: Precision
) -> None:
    torch.manual_seed(0)
    folder = saved(tmp_path, layers(), pooling)
    expected = of_the_library(folder)
    export(Options(str(folder), tmp_path / "repository", precision=precision))
    allowed = 1e-4 if precision is Precision.FP32 else 0.3 * expected.std()
    np.testing.assert_allclose(of_conch(tmp_path / "repository", "model", DOCUMENTS), expected, rtol=0, atol=allowed)


@pytest.mark.parametrize("kind", ["classifier", "modules"])
def test_the_default_prompt_comes_before_the_query(tmp_path: Path, kind: str) -> None:
    prompt: dict[str, Any] = {"prompts": {"web": "Rank for a web search. Query: "}, "default_prompt_name": "web"}
    if kind == "modules":
        folder = saved(tmp_path, one_dense(), **prompt)
    else:
        plain = head_checkpoints.make(tmp_path / "plain", "bert", "ForSequenceClassification", num_labels=1)
        folder = tmp_path / "model"
        CrossEncoder(str(plain), device="cpu", **prompt).save_pretrained(str(folder))
    expected = of_the_library(folder)
    export(Options(str(folder), tmp_path / "repository", precision=Precision.FP32))
    info = parameters(tmp_path / "repository", "model")
    query = info.prompt_text(None, None) + QUERY
    assert query.startswith("Rank for a web search.")
    np.testing.assert_allclose(
        of_conch(tmp_path / "repository", "model", DOCUMENTS, query), expected, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("activation", [torch.nn.Sigmoid(), torch.nn.Identity()])
def test_logits_are_served_whether_the_library_answers_them_or_their_sigmoid(tmp_path: Path, activation: Any) -> None:
    folder = saved(tmp_path, one_dense(), activation_fn=activation)
    export(Options(str(folder), tmp_path / "repository", precision=Precision.FP32))
    expected = of_the_library(folder)
    np.testing.assert_allclose(of_conch(tmp_path / "repository", "model", DOCUMENTS), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "settings", "message"),
    [
        (lambda: [Dense(WIDTH, 1, activation_function=torch.nn.Sigmoid(), module_output_name="scores")], {}, "Sigmoid"),
        (lambda: [Dense(WIDTH, 3, **SCORES)], {}, "Dense module that is not built"),
        (lambda: [Dense(WIDTH, 1, **SCORES), Normalize()], {}, "Dense module that is not built"),
        (one_dense, {"activation_fn": torch.nn.Tanh()}, "scores go through torch.nn.modules.activation.Tanh"),
    ],
    ids=["activation before the scores", "three scores", "something after the scores", "another activation"],
)
def test_what_is_not_built_is_refused_by_name(
    tmp_path: Path, layers: Callable[[], list[Any]], settings: dict[str, Any], message: str
) -> None:
    folder = saved(tmp_path, layers(), **settings)
    with pytest.raises(UnsupportedError, match=message):
        export(Options(str(folder), tmp_path / "repository", precision=Precision.FP32))


def test_an_embedding_model_whose_config_names_a_classifier_stays_one(tmp_path: Path) -> None:
    folder = head_checkpoints.with_dense(tmp_path / "m", "torch.nn.modules.linear.Identity")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    exported = export(Options(str(folder), tmp_path / "repository", precision=Precision.FP32))
    assert exported.description.task.value == "embedding"


@pytest.mark.parametrize("own", ["own.Own", "own.Dropout"])
def test_a_class_of_the_checkpoints_own_is_not_imported(tmp_path: Path, own: str) -> None:
    plain = head_checkpoints.make(tmp_path / "plain", "bert", "ForSequenceClassification", num_labels=1)
    folder = tmp_path / "model"
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()")
    listed = [*json.loads((folder / "modules.json").read_text()), {"idx": 1, "name": "1", "path": "1_Own", "type": own}]
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(UnsupportedError, match=own.rpartition(".")[2]):
        export(Options(str(folder), tmp_path / "repository", precision=Precision.FP32))
    assert not (tmp_path / "imported").exists()
