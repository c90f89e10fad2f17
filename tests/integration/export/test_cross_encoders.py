"""A cross-encoder's scores are those that transformers computes from the texts, whatever its architecture's head is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.deadline import Deadline
from conch_export import Options, Overrides, Precision, UnsupportedError, VerificationError, export
from conch_export.onnx.engine import EncoderGraph, HeadGraph, Row
from conch_export.verification.texts import docstrings, spread
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests import head_checkpoints
from tests.exports import ONE_CORE, export_once
from tests.steps import finish

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

QUERY = "Where does the cat sit, and why?"
DOCUMENTS = [
    "The cat sits on the mat.",
    "It is late.",
    "Lists are reversed in place, and nothing is returned. " * 3,
    "Où est le chat? 猫 😀",
    "Where does the cat sit, and why?",
    "word " * 200,
]
FAMILIES = ["bert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra", "distilbert", "modernbert"]
FAMILIES += ["qwen2", "qwen3", "deberta-v2"]
KINDS = [*FAMILIES, "deberta-v2-conv"]  # the last is packed row by row


@torch.inference_mode()
def of_transformers(checkpoint: Path, documents: list[str]) -> Floats:
    """Raw scores of the documents, or logits of all labels, by the authors' library, which reads the texts itself."""
    tokenizers: Any = AutoTokenizer
    tokenizer = tokenizers.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    if model.config.model_type == "modernbert":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    limits = {"truncation": "longest_first", "max_length": 128}
    pairs = (tokenizer(QUERY, each, return_tensors="pt", **limits) for each in documents)
    logits = np.concatenate([model(**pair).logits.numpy() for pair in pairs])
    return np.asarray(logits[:, 0] if logits.shape[1] == 1 else logits, np.float32)


def of_conch(repository: Path, name: str, documents: list[str], query: str = QUERY) -> Floats:
    """Raw scores of the documents, of texts that are tokenised as clients do, all in one run."""
    tokenizer = TextTokenizer((repository / f"{name}.tokenizer" / "1" / "tokenizer.json").read_bytes())
    packed = finish(tokenizer.encode_pairs(query, documents, max_length=128, truncate="end"), Deadline(60))
    assert packed.segments is not None
    types = np.split(packed.segments, np.cumsum(packed.lengths)[:-1])
    rows = [Row(ids, kinds.tolist()) for ids, kinds in zip(packed.tolist(), types, strict=True)]
    tokens = EncoderGraph(repository / f"{name}.encoder" / "1" / "model.onnx")(rows)
    head = HeadGraph(repository / f"{name}.classifier" / "1" / "model.onnx")
    return np.asarray(head(rows, tokens)["score"][:, 0], np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    name, repository = f"{kind}-pairs", tmp_path / "fp32"  # as in `kind_checkpoints`, with which exports are shared
    checkpoint = head_checkpoints.make(tmp_path / name, kind, "ForSequenceClassification", num_labels=1)
    expected = of_transformers(checkpoint, DOCUMENTS)
    export_once(Options(str(checkpoint), repository, precision=Precision.FP32, plan=ONE_CORE))
    np.testing.assert_allclose(of_conch(repository, name, DOCUMENTS), expected, rtol=0, atol=1e-4)
    found = json.loads((repository / name / "report.json").read_text())["verification"][name]
    assert found["max_difference"] < 1e-4
    assert found["rank_correlation"] > 0.999


@pytest.mark.parametrize(
    ("kind", "problem"), [("bert", None), ("modernbert", "multi_label_classification")], ids=["exclusive", "not"]
)
def test_a_named_label_scores_by_its_probability(tmp_path: Path, kind: str, problem: str | None) -> None:
    """The sigmoid of the score is what transformers' pipeline gives the label: its softmax, or its own sigmoid."""
    labels: dict[str, Any] = {"id2label": {0: "contradiction", 1: "entailment", 2: "neutral"}, "problem_type": problem}
    checkpoint = head_checkpoints.make(tmp_path / "nli", kind, "ForSequenceClassification", **labels)
    logits = of_transformers(checkpoint, DOCUMENTS)
    powers = np.exp(logits.astype(np.float64))
    expected = 1 / (1 + np.exp(-logits[:, 1])) if problem else powers[:, 1] / powers.sum(axis=1)
    chosen = Options(
        str(checkpoint), tmp_path / "fp32", precision=Precision.FP32, overrides=Overrides(label="entailment")
    )
    found = export(chosen).verification["nli"]
    scores = of_conch(tmp_path / "fp32", "nli", DOCUMENTS)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), expected, rtol=0, atol=1e-5)
    assert found.max_difference < 1e-4


@pytest.mark.parametrize("kind", ["bert", "electra", "deberta-v2", "deberta-v2-conv", "distilbert"])
def test_scores_in_int8_are_off_by_a_fraction_of_their_spread(tmp_path: Path, kind: str) -> None:
    checkpoint = head_checkpoints.make(tmp_path / "scores", kind, "ForSequenceClassification", num_labels=1)
    documents = spread(docstrings()[2::4], 24)
    expected = of_transformers(checkpoint, documents)
    found = export(Options(str(checkpoint), tmp_path / "int8", precision=Precision.INT8)).verification["scores"]
    difference = of_conch(tmp_path / "int8", "scores", documents) - expected
    assert np.sqrt(np.square(difference).mean()) < 0.25 * expected.std()
    assert found.score_error is not None
    assert found.score_error < 0.2


def test_a_head_of_an_architecture_that_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    checkpoint = head_checkpoints.make(tmp_path / "odd", "roformer", "ForSequenceClassification", num_labels=1)
    (checkpoint / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(UnsupportedError, match="cross-encoders of architecture 'roformer' are not built"):
        export(Options(str(checkpoint), tmp_path / "repository", precision=Precision.FP32))


@pytest.mark.parametrize("labels", [1, 3])
def test_a_decoder_that_scores_the_token_before_the_last_is_refused(tmp_path: Path, labels: int) -> None:
    sizes = {"num_labels": labels, "pad_token_id": 102}
    checkpoint = head_checkpoints.make(tmp_path / "ends", "qwen3", "ForSequenceClassification", **sizes)
    with pytest.raises(
        UnsupportedError, match=r"pad_token_id = 102, which .* behind every text \(\[SEP\]\).*post_proc"
    ):
        export(Options(str(checkpoint), tmp_path / "repository", precision=Precision.FP32))


def test_without_the_last_token_such_a_decoder_has_the_scores_of_transformers(tmp_path: Path) -> None:
    sizes = {"num_labels": 1, "pad_token_id": 102}
    checkpoint = head_checkpoints.make(tmp_path / "ends", "qwen3", "ForSequenceClassification", **sizes)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    templates = [tokenizer["post_processor"][kind] for kind in ("single", "pair")]
    assert templates[1].pop(2)["SpecialToken"]["id"] == "[SEP]", "which ends a pair whose second text is empty, too"
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    documents = DOCUMENTS[:-1]  # the last one is cut, which keeps one more of its tokens
    expected = of_transformers(checkpoint, documents)
    for template in templates:
        assert template.pop()["SpecialToken"]["id"] == "[SEP]"
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    export(Options(str(checkpoint), tmp_path / "repository", precision=Precision.FP32, plan=ONE_CORE))
    np.testing.assert_allclose(of_conch(tmp_path / "repository", "ends", documents), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
@pytest.mark.parametrize(
    ("kind", "mistake", "value"),
    [
        (
            "electra",
            "conch_export.checkpoints.heads._CLASSIFIERS",
            {"electra": ("classifier.dense", None, "classifier.out_proj")},
        ),
        ("bert", "conch_export.families.bert.Bert.has_segments", lambda *_: False),
        ("deberta-v2-conv", "conch_export.onnx.row_by_row._feed", "no segments"),
    ],
    ids=["tanh for gelu", "no segments in a family", "no segments without a family"],
)
def test_a_mistake_in_the_graph_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, mistake: str, value: Any, precision: Precision
) -> None:
    sizes = {"num_labels": 1, "type_vocab_size": 2}
    checkpoint = head_checkpoints.make(tmp_path / "wrong", kind, "ForSequenceClassification", **sizes)
    if mistake.endswith("_CLASSIFIERS"):
        from conch_export.checkpoints.heads import _Layout

        value = {name: _Layout(*layout) for name, layout in value.items()}
    if mistake.endswith("_feed"):
        from conch_export.onnx import row_by_row

        right = row_by_row._feed
        value = lambda g, name, ids, known: right(g, name, ids, {"input_ids": known["input_ids"]})  # noqa: E731
    monkeypatch.setattr(mistake, value)
    with pytest.raises(VerificationError, match="wrong is not published"):
        export(Options(str(checkpoint), tmp_path / "repository", precision=precision))
