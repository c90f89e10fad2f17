"""The verification finds mistakes in reading a checkpoint, because its reference reads the checkpoint by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_export import Options, Overrides, Pooling, Precision, Task, VerificationError, export
from conch_export.families import Family
from conch_export.model.network import Rotary
from conch_export.model.public_models import PublicModel
from conch_export.onnx.feed_forward import _OPERATORS
from conch_export.verification import rows
from conch_export.verification.agreement import (
    Verification,
    agreement,
    score_agreement,
    sparse_agreement,
    vector_agreement,
)
from conch_export.verification.standards import judge
from tokenizers import Tokenizer, normalizers

from tests import head_checkpoints
from tests.checkpoints import add_modules
from tests.exports import export_once
from tests.kind_checkpoints import TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conch_export.model.description import Description
    from conch_export.model.network import Encoder, Layer

TANH, CLASSIFIER = "torch.nn.modules.activation.Tanh", "ForSequenceClassification"
MEAN = {"word_embedding_dimension": 48, "pooling_mode": "mean"}


def embedding(folder: Path, **settings: Any) -> Path:
    """A mean-pooled model with these settings of sentence-transformers."""
    head_checkpoints.make(folder, "bert", "Model")
    add_modules(folder, MEAN)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}, **settings}))
    return folder


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
@pytest.mark.parametrize(
    ("mistake", "value"),
    [
        ("conch_export.checkpoints.modules.Modules.pooling", lambda *_: Pooling.CLS),
        ("conch_export.checkpoints.describe.read_prompts", lambda *_: ({}, "")),
        ("conch_export.checkpoints.describe.read_max_length", lambda *_, **__: 64),
    ],
    ids=["pooling", "prompt", "length"],
)
def test_a_setting_that_was_misread_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mistake: str, value: Any, precision: Precision
) -> None:
    folder = embedding(tmp_path / "m", prompts={"passage": "passage: "}, default_prompt_name="passage")
    options = Options(str(folder), tmp_path / "repository", precision=precision)
    export_once(options)  # as it is, it is published
    monkeypatch.setattr(mistake, value)
    with pytest.raises(VerificationError, match="m is not published"):
        export(options)


def test_a_misread_prompt_of_requests_that_name_it_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = embedding(tmp_path / "m", prompts={"query": "query: ", "passage": "passage: "})
    options = Options(str(folder), tmp_path / "repository", precision=Precision.INT8)
    export(options)
    misread = ({"query": "query: ", "passage": "query: "}, "")
    monkeypatch.setattr("conch_export.checkpoints.describe.read_prompts", lambda *_: misread)
    with pytest.raises(VerificationError, match="m is not published"):
        export(options)


LONG = {"max_position_embeddings": 2048}
IN_WORDS = Overrides(score_tokens=("yes", "no"), pair_template=TEMPLATE, default_instruction="does")


def reading_more(folder: Path) -> Path:
    """The checkpoint, whose positions are rotary, for longer texts."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | LONG))
    return folder


OF_LONG_TEXTS: dict[str, Callable[[Path], Path]] = {
    "embedding": lambda folder: reading_more(head_checkpoints.with_dense(folder, TANH, kind="modernbert")),
    "sparse": lambda folder: reading_more(head_checkpoints.splade(folder, "modernbert")),
    "multi-vector": lambda folder: reading_more(head_checkpoints.pylate(folder, "modernbert", document_length=1500)),
    "cross-encoder": lambda folder: head_checkpoints.make(folder, "bert", CLASSIFIER, num_labels=1, **LONG),
    "in words": lambda folder: head_checkpoints.make(folder, "qwen3", "ForCausalLM", **LONG),
}


@pytest.mark.parametrize("kind", OF_LONG_TEXTS)
def test_a_mistake_that_only_a_long_text_or_pair_shows_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    overrides = IN_WORDS if kind == "in words" else Overrides()
    folder = OF_LONG_TEXTS[kind](tmp_path / "m")
    options = Options(str(folder), tmp_path / "repository", precision=Precision.FP32, overrides=overrides)
    export_once(options)  # as it is, it is published
    right = Family.read_encoder

    def repeated(table: Any) -> Any:
        rows = np.array(table)
        rows[896:] = rows[895]
        return rows

    def with_repeated_angles(layer: Layer) -> Layer:
        rotary = layer.attention.rotary
        assert rotary is not None
        angles = Rotary(repeated(rotary.cos), repeated(rotary.sin))
        return replace(layer, attention=replace(layer.attention, rotary=angles))

    def with_repeated_positions(self: Family, *files: Any) -> Encoder:
        encoder = right(self, *files)
        if encoder.positions is not None:
            return replace(encoder, positions=repeated(encoder.positions))
        return replace(encoder, layers=tuple(map(with_repeated_angles, encoder.layers)))

    monkeypatch.setattr(Family, "read_encoder", with_repeated_positions)
    with pytest.raises(VerificationError, match="m is not published"):
        export(options)


def test_layers_that_were_left_out_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = head_checkpoints.with_dense(tmp_path / "m", TANH, TANH)
    monkeypatch.setattr("conch_export.onnx.feed_forward._OPERATORS", {**_OPERATORS, "tanh": ("Relu", {})})
    with pytest.raises(VerificationError, match="m is not published"):
        export(Options(str(folder), tmp_path / "repository", precision=Precision.INT8))


def test_a_chat_template_that_was_overlooked_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = head_checkpoints.make(tmp_path / "m", "bert", CLASSIFIER, num_labels=1)
    options = Options(str(folder), tmp_path / "repository", precision=Precision.FP32)
    export_once(options)  # as it is, it is published
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }} . {% endfor %}")
    monkeypatch.setattr("conch_export.checkpoints.describe.refuse_undecided_template", lambda _: None)
    with pytest.raises(VerificationError, match="m is not published"):
        export(options)


def test_what_the_operator_settles_counts_and_is_kept(tmp_path: Path) -> None:
    folder = embedding(tmp_path / "m", prompts={"passage": "passage: "}, default_prompt_name="passage")
    overrides = Overrides(pooling=Pooling.CLS, normalize=False, max_length=64, prompts={"q": "query: "})
    options = Options(str(folder), tmp_path / "repository", precision=Precision.FP32, overrides=overrides)
    assert export(options).verification["m"].max_difference < 1e-5
    report = json.loads((options.repository / "m" / "report.json").read_text())
    assert Overrides.of(report["overrides"]) == overrides


def test_a_tokenizer_file_that_does_not_do_what_the_library_does_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = embedding(tmp_path / "m")
    right = rows._tokenizer

    def cased(description: Description) -> Tokenizer:
        tokenizer = right(description)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        return tokenizer

    monkeypatch.setattr(rows, "_tokenizer", cased)
    with pytest.raises(VerificationError, match=r"clients would send \d+ tokens, and .*save_pretrained"):
        export(Options(str(folder), tmp_path / "repository", precision=Precision.FP32))


def test_errors_of_narrow_vectors_are_seen_without_what_they_share() -> None:
    random = np.random.default_rng(0)
    own = random.normal(size=(200, 64)).astype(np.float32)
    expected = 20 * np.ones(64, np.float32) + own
    found = expected + 0.3 * random.normal(size=own.shape).astype(np.float32)
    measured = vector_agreement(found, expected)
    assert measured["mean_cosine"] > 0.9995
    assert measured["centred_cosine"] == pytest.approx(1 / np.sqrt(1 + 0.3**2), abs=0.005)


@pytest.mark.parametrize("precision", Precision)
def test_vectors_that_are_too_long_are_not_published_though_all_directions_are_right(precision: Precision) -> None:
    model, expected = PublicModel("m", Task.EMBEDDING, None), np.repeat(np.eye(8, dtype=np.float32), 2, axis=0)
    expected[::2] *= -1  # so that their mean is zero
    same, longer = (agreement(Task.EMBEDDING, found, expected, 0) for found in (expected, 1.3 * expected))
    judge(precision, model, Verification("x", 16, 99, 0.0, 0.0, **same))
    with pytest.raises(VerificationError, match="lengths of vectors are off by"):
        judge(precision, model, Verification("x", 16, 99, 0.0, 0.0, **longer))


def test_a_vector_of_zeros_agrees_with_zeros_alone() -> None:
    expected = np.array([[1, 2], [0, 0]], np.float32)
    assert vector_agreement(expected, expected)["mean_cosine"] == 1
    zeros = np.zeros_like(expected)
    for one, other in ((zeros, expected), (expected, zeros)):
        measured = vector_agreement(one, other)
        assert (measured["mean_cosine"], measured["min_cosine"]) == (0.5, 0)


def test_a_text_whose_tokens_weigh_next_to_nothing_says_nothing_of_a_sparse_model() -> None:
    expected = np.array([[0, 1.0], [0.5, 0.5], [0, 0.002]], np.float32)
    rounded = np.where(expected < 0.01, 0, expected).astype(np.float32)
    assert sparse_agreement(rounded, expected) == {"mean_cosine": pytest.approx(1, abs=0.002), "min_cosine": 0}
    for one, other in ((expected[:, ::-1], expected), (np.zeros_like(expected), expected), (expected, 0 * expected)):
        assert sparse_agreement(one, other)["mean_cosine"] < 0.5
    assert sparse_agreement(0 * expected, 0 * expected) == {"mean_cosine": 1, "min_cosine": 1}
    assert np.isnan(sparse_agreement(np.nan * expected, expected)["mean_cosine"])


@pytest.mark.parametrize("task", [Task.EMBEDDING, Task.SPARSE, Task.CROSS_ENCODER])
def test_numbers_that_are_none_among_other_texts_alone_are_found(task: Task) -> None:
    model = PublicModel("m", task, None)
    good = Verification("x", texts=2, tokens=9, max_difference=0.0, max_merged_difference=0.0, mean_cosine=1.0)
    judge(Precision.FP32, model, good)
    with pytest.raises(VerificationError, match=r"m is not published.* merging changes a vector by nan"):
        judge(Precision.FP32, model, replace(good, max_merged_difference=float("nan")))


def test_scores_are_judged_by_their_order_and_their_spread() -> None:
    random = np.random.default_rng(0)
    expected = (10 + random.normal(size=(4, 500))).astype(np.float32)
    found = expected + 0.5 * random.normal(size=expected.shape).astype(np.float32)
    measured = score_agreement(found, expected)
    assert measured["score_error"] == pytest.approx(0.5, abs=0.03)
    assert 0.85 < measured["rank_correlation"] < 0.92
    assert score_agreement(-expected, expected)["rank_correlation"] == pytest.approx(-1)
    assert score_agreement(np.full_like(expected, np.nan), expected)["score_error"] != pytest.approx(0)


def test_the_order_of_documents_that_all_score_alike_counts_as_little_as_they_differ() -> None:
    random = np.random.default_rng(0)
    spreads = np.array([[1.0], [1.0], [0.01]])
    expected = (spreads * random.normal(size=(3, 500))).astype(np.float32)
    found = expected + 0.05 * random.normal(size=expected.shape).astype(np.float32)
    assert score_agreement(found[2:], expected[2:])["rank_correlation"] < 0.5
    assert score_agreement(found, expected)["rank_correlation"] > 0.99
    # An error is one wherever it is.
    found[2] += 1
    assert score_agreement(found, expected)["score_error"] > 0.5
