"""Published graphs compute what transformers computes from the same checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from conch_export.onnx.file import file_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForSequenceClassification

from tests.merging import padded, session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoints import Checkpoints
    from tests.integration.export.conftest import Exports
    from tests.merging import Floats, Published

FAMILIES = ["bert", "xlm_roberta"]
ARCHITECTURES = [*FAMILIES, "roformer"]  # the last is packed row by row
random = np.random.default_rng(0)
ROWS = [random.integers(5, 600, length).tolist() for length in (3, 128, 17, 1, 64, 2)]
TYPES = [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in ROWS]


def products(published: Published) -> list[bool]:
    """Whether each product of tokens with a weight is of 8 bits, of all layers of an encoder."""
    graph = onnx.load(published.encoder, load_external_data=False).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    loops = [attribute.g for node in graph.node for attribute in node.attribute if node.op_type == "Loop"]
    nodes = [node for each in (graph, *loops) for node in each.node]
    return [node.op_type != "MatMul" for node in nodes if "MatMul" in node.op_type and node.input[1] in matrices]


def batch(pad: int, *, segments: bool) -> dict[str, torch.Tensor]:
    """The rows as transformers takes them: padded on the right."""
    request = padded(ROWS, fill=pad, types=TYPES)
    tensors = {"input_ids": torch.from_numpy(request.ids), "attention_mask": torch.from_numpy(request.mask)}
    return {**tensors, "token_type_ids": torch.from_numpy(request.types)} if segments else tensors


@torch.inference_mode()
def token_vectors(folder: Path) -> list[Floats]:
    """Of every row, without its pads."""
    model = AutoModel.from_pretrained(folder).eval()
    hidden = model(**batch(model.config.pad_token_id, segments=False)).last_hidden_state.numpy()
    return [vectors[: len(row)] for vectors, row in zip(hidden, ROWS, strict=True)]


POOLINGS: dict[str, Any] = {
    "mean": lambda tokens: tokens.mean(axis=0),
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.max(axis=0),
    "last": lambda tokens: tokens[-1],
}


@pytest.mark.parametrize("normalize", [None, False], ids=["normalised", "raw"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_transformers(
    exports: Exports, checkpoints: Checkpoints, family: str, pooling: str, normalize: bool | None
) -> None:
    expected = np.stack([POOLINGS[pooling](tokens) for tokens in token_vectors(getattr(checkpoints, family)())])
    if normalize is None:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = exports(family, pooling=pooling, normalize=normalize).embedder(padded(ROWS))[0]
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["roformer", "albert"])
def test_an_architecture_without_a_family_has_the_vectors_of_transformers(
    exports: Exports, checkpoints: Checkpoints, architecture: str
) -> None:
    expected = np.stack([POOLINGS["mean"](tokens) for tokens in token_vectors(getattr(checkpoints, architecture)())])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(exports(architecture).embedder(padded(ROWS))[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["roformer", "albert"])
def test_an_architecture_without_a_family_keeps_the_direction_of_vectors_in_int8(
    exports: Exports, architecture: str
) -> None:
    exact, rounded = (exports(architecture, each).embedder(padded(ROWS))[0] for each in ("fp32", "int8"))
    assert float((exact * rounded).sum(axis=1).mean()) >= 0.99


@pytest.mark.parametrize(("architecture", "count"), [("roformer", 2 * 6), ("albert", 4 * 6 + 1)])
def test_every_product_of_an_architecture_without_a_family_is_of_8_bits(
    exports: Exports, architecture: str, count: int
) -> None:
    """Those of layers that share their weights too; ALBERT has one before its layers."""
    assert products(exports(architecture, "fp32")) == [False] * count
    assert products(exports(architecture, "int8")) == [True] * count


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_cross_encoders_are_those_of_transformers(
    exports: Exports, checkpoints: Checkpoints, family: str
) -> None:
    folder = getattr(checkpoints, f"{family}_cross_encoder")()
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(**batch(model.config.pad_token_id, segments=family == "bert")).logits.numpy()
    scores = exports(f"{family}_cross_encoder").classifier(padded(ROWS, types=TYPES))[0]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_late_interaction_is_the_mean_over_the_query_of_the_best_cosine(
    exports: Exports, checkpoints: Checkpoints, family: str
) -> None:
    units = [
        tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
        for tokens in token_vectors(getattr(checkpoints, family)())
    ]
    expected = [(units[0] @ document.T).max(axis=1).mean() for document in units]
    scores = exports(family).maxsim(padded(ROWS))[0]
    np.testing.assert_allclose(scores[:, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_int8_keeps_the_direction_of_vectors(exports: Exports, family: str) -> None:
    exact, rounded = (exports(family, precision).embedder(padded(ROWS))[0] for precision in ("fp32", "int8"))
    cosines = (exact * rounded).sum(axis=1)
    assert cosines.mean() > 0.998
    assert cosines.min() > 0.99  # of random weights and random tokens


def test_a_file_is_served_in_slices_as_python_would_cut_it(tmp_path: Path) -> None:
    content = bytes(range(256)) * 3
    (tmp_path / "tokenizer.json").write_bytes(content)
    served = session(file_graph("tokenizer.json", len(content)).save(tmp_path))
    edge = st.one_of(st.integers(-1000, 1000), st.sampled_from([2**31, 2**62, -(2**62)]))

    @settings(max_examples=60)
    @given(begin=edge, end=edge)
    def check(begin: int, end: int) -> None:
        answer = served.run(None, {"range": np.array([begin, end])})[0]
        assert answer.tobytes() == content[begin:end]

    check()


@pytest.mark.parametrize("kind", [*ARCHITECTURES, "bert_cross_encoder", "xlm_roberta_cross_encoder"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_any_supported_onnxruntime_can_load_what_is_published(exports: Exports, kind: str, precision: str) -> None:
    published = exports(kind, precision)
    paths = sorted(published.repository.glob("*/1/model.onnx"))
    assert len(paths) == (3 if "cross_encoder" in kind else 4)
    for path in paths:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(str(path))
        opsets = {opset.domain: opset.version for opset in model.opset_import}
        assert opsets.pop("") <= 21
        assert opsets in ({}, {"com.microsoft": 1})
        assert model.ir_version <= 10
        assert not any(0 in tensor.dims for tensor in model.graph.initializer)


def test_int8_is_less_than_a_third_of_fp32(exports: Exports) -> None:
    sizes = {
        precision: (exports("bert", precision).repository / f"bert-{precision}.encoder/1/model.data").stat().st_size
        for precision in ("fp32", "int8")
    }
    assert sizes["int8"] < sizes["fp32"] / 3
