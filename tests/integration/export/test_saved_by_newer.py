"""Checkpoints that transformers 5 and sentence-transformers 6 saved are read as those libraries read them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_contract import Task, encoder_name
from conch_export import Options, Overrides, Precision, SourceError, UnsupportedError, VerificationError, export
from conch_export.checkpoints import heads
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.tokenizer import read_tokenizer
from conch_export.model.description import interaction_of
from conch_export.model.public_models import public_models
from conch_export.onnx.engine import EncoderGraph, HeadGraph, QueryGraph
from conch_export.triton.repository import graph_path
from conch_export.verification.plain import PlainEncoder
from conch_export.verification.rows import Rows
from conch_export.verification.samples import Item, Role
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from tests.encoders import read_encoder
from tests.saved_checkpoints import TEXTS, golden, restore

if TYPE_CHECKING:
    from pathlib import Path

    from conch_export import Description
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SAVED = golden()["checkpoints"]
FAMILIES = [name for name, saved in SAVED.items() if "means" in saved["answers"]]
TOKENIZERS = [name.removesuffix("-tokenizer") for name in SAVED if name.endswith("-tokenizer")]
SIDES = {"query": Role.QUERY, "document": Role.DOCUMENT}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_has_the_vectors_of_transformers_5(tmp_path: Path, family: str) -> None:
    encode = PlainEncoder(read_encoder(restore(family, tmp_path)))
    found = [encode(row, [0] * len(row)).numpy().mean(axis=0) for row in golden()["rows"]]
    np.testing.assert_allclose(found, SAVED[family]["answers"]["means"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_have_the_tokens_of_transformers_5(tmp_path: Path, kind: str) -> None:
    name, expected = f"{kind}-tokenizer", SAVED[f"{kind}-tokenizer"]["answers"]
    read = read_tokenizer(restore(name, tmp_path), kind, None)
    served = Tokenizer.from_str(read.content.decode())
    assert [served.encode(text).ids for text in TEXTS] == expected["ids"]
    assert served.encode(*TEXTS[:2]).ids == expected["pair"]
    assert read.segments == expected["segments"]


def answers(description: Description, repository: Path, items: list[Item]) -> list[Floats]:
    """What the exported graphs answer to rows as clients send them, each alone."""
    model, rows_of = public_models(description)[0], Rows(description)
    encode = EncoderGraph(graph_path(repository, encoder_name(description.name)))
    rows = list(map(rows_of, items))
    if model.head is None:
        return [encode([row])[0] for row in rows]
    head = HeadGraph(graph_path(repository, model.head))
    if items[0].role is Role.QUERY and model.queries is not None:
        outputs = list(map(QueryGraph(graph_path(repository, model.queries)), ([row] for row in rows)))
    else:
        outputs = [head([row], encode([row])) for row in rows]
    if model.task is Task.SPARSE:
        return [_dense(found["indices"][0], found["weights"][0], description.vocabulary) for found in outputs]
    vectors = [next(iter(found.values())) for found in outputs]
    if (rules := interaction_of(description)) is not None:
        return [each[rules.compared(np.asarray(row.ids))] for each, row in zip(vectors, rows, strict=True)]
    return [each[0] for each in vectors]


def _dense(indices: NDArray[np.int32], weights: Floats, size: int) -> Floats:
    vector = np.zeros(size, np.float32)
    vector[indices] += weights
    return vector


@pytest.mark.parametrize("kind", ["splade", "multi-vector", "inference-free", "static"])
def test_a_model_answers_as_sentence_transformers_6_does(tmp_path: Path, kind: str) -> None:
    folder, repository = restore(kind, tmp_path), tmp_path / "models"
    description = export(Options(str(folder), repository, precision=Precision.FP32)).description
    for side, expected in SAVED[kind]["answers"].items():
        found = answers(description, repository, [Item(SIDES[side], text) for text in TEXTS])
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_layers_that_add_what_comes_in_and_prompts_are_those_of_sentence_transformers_6(tmp_path: Path) -> None:
    folder, repository = restore("embedding", tmp_path), tmp_path / "models"
    description = export(Options(str(folder), repository, precision=Precision.FP32)).description
    assert (description.prompts, description.default_prompt) == ({"query": "query: ", "document": ""}, "")
    for side, expected in SAVED["embedding"]["answers"].items():
        texts = [description.prompts[side] + text for text in TEXTS]
        found = answers(description, repository, [Item(Role.TEXT, text) for text in texts])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_pairs_have_the_scores_of_sentence_transformers_6(tmp_path: Path) -> None:
    folder, repository = restore("cross-encoder", tmp_path), tmp_path / "models"
    description = export(Options(str(folder), repository, precision=Precision.FP32)).description
    found = answers(description, repository, [Item(Role.PAIR, text, TEXTS[0]) for text in TEXTS])
    np.testing.assert_allclose(np.ravel(found), SAVED["cross-encoder"]["answers"]["scores"], rtol=0, atol=1e-5)


def test_prompts_are_left_out_of_the_pooling_as_by_sentence_transformers_6(tmp_path: Path) -> None:
    folder, repository = restore("unprompted", tmp_path), tmp_path / "models"
    options = Options(str(folder), repository, precision=Precision.FP32, overrides=Overrides(default_prompt="query"))
    found = answers(export(options).description, repository, [Item(Role.TEXT, text) for text in TEXTS])
    np.testing.assert_allclose(found, SAVED["unprompted"]["answers"]["query"], rtol=0, atol=1e-5)


def test_texts_go_through_the_chat_template_as_by_sentence_transformers_6(tmp_path: Path) -> None:
    folder, repository = restore("chat", tmp_path), tmp_path / "models"
    description = export(Options(str(folder), repository, precision=Precision.FP32)).description
    assert description.architecture == "qwen3_vl_text"
    assert description.default_prompt_name == "plain"
    for name, expected in SAVED["chat"]["answers"].items():
        chosen = replace(description, default_prompt_name=name)
        found = answers(chosen, repository, [Item(Role.TEXT, text) for text in TEXTS])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("instruction", "answer"), [(None, "scores"), ("lazy dog", "lazy")])
def test_pairs_go_through_the_chat_template_as_by_sentence_transformers_6(
    tmp_path: Path, instruction: str | None, answer: str
) -> None:
    folder, repository = restore("judge", tmp_path), tmp_path / "models"
    overrides = Overrides(default_instruction=instruction)
    options = Options(str(folder), repository, precision=Precision.FP32, overrides=overrides)
    items = [Item(Role.PAIR, text, TEXTS[0]) for text in TEXTS[:3]]
    found = answers(export(options).description, repository, items)
    np.testing.assert_allclose(np.ravel(found), SAVED["judge"]["answers"][answer], rtol=0, atol=1e-5)


def with_a_head(folder: Path, *, tied: bool, stored: bool = True) -> Path:
    """A model of more than text with a head of its own, or said to be tied to the embedding table."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if stored:
        table = tensors["model.language_model.embed_tokens.weight"]
        save_file({**tensors, "lm_head.weight": np.ascontiguousarray(table[::-1])}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    return folder


def test_the_head_of_a_language_model_is_read_by_its_reference_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_a_head(restore("judge", tmp_path), tied=False)
    options = Options(str(folder), tmp_path / "models", precision=Precision.FP32)
    export(options)
    table = Checkpoint(folder).weights.array("embed_tokens.weight")
    monkeypatch.setattr(heads, "_decoder_table", lambda *_: table)
    with pytest.raises(VerificationError, match="judge is not published"):
        export(options)


@pytest.mark.parametrize(
    ("tied", "stored", "error", "told"),
    [
        (True, True, UnsupportedError, "tie_word_embeddings = false, but the tensor 'lm_head.weight' is not 'embed_"),
        (False, False, SourceError, "no tensor 'lm_head.weight', and config.json does not say that it is the"),
    ],
    ids=["two heads", "no head"],
)
def test_which_head_a_language_model_has_is_not_guessed(
    tmp_path: Path, error: type[Exception], told: str, *, tied: bool, stored: bool
) -> None:
    folder = with_a_head(restore("judge", tmp_path), tied=tied, stored=stored)
    with pytest.raises(error, match=told):
        export(Options(str(folder), tmp_path / "models", precision=Precision.FP32))


def test_sides_with_other_modules_are_refused_together_and_are_models_of_their_own(tmp_path: Path) -> None:
    repository, expected = tmp_path / "models", SAVED["asymmetric"]["answers"]
    with pytest.raises(UnsupportedError, match=r"go through StaticEmbedding .* each side as a model of its own"):
        export(Options(str(restore("asymmetric", tmp_path)), repository, precision=Precision.FP32))
    for side in ("query", "document"):
        folder = restore(f"asymmetric-{side}", tmp_path)  # saved as the refusal says
        description = export(Options(str(folder), repository, precision=Precision.FP32)).description
        found = answers(description, repository, [Item(Role.TEXT, text) for text in TEXTS])
        np.testing.assert_allclose(found, expected[side], rtol=0, atol=1e-5)
