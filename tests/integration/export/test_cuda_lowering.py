"""The CUDA graph, evaluated without a GPU: onnx's reference evaluator with the contributed operators written out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from conch_export import Options, Precision, Target, UnsupportedError
from conch_export.build import refuse_unbuildable
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.families import bert
from conch_export.onnx.builder import MICROSOFT
from conch_export.onnx.encoder import as_float16, encoder_graph
from conch_export.onnx.layout import row_lengths
from conch_export.options import described
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests.merging import session, whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints


class Gelu(OpRun):
    op_domain = MICROSOFT

    def _run(self, x: NDArray[Any], approximate: str = "none") -> tuple[NDArray[Any]]:  # noqa: ARG002 - the attribute's name
        exact = np.vectorize(math.erf, otypes=[np.float64])
        return ((x * 0.5 * (1 + exact(x / np.sqrt(2)))).astype(x.dtype),)


class PackedMultiHeadAttention(OpRun):
    """Unpacks by token_offset and packs again by the cumulated lengths, so both have to be right."""

    op_domain = MICROSOFT

    def _run(
        self,
        query: NDArray[Any],
        key: NDArray[Any],
        value: NDArray[Any],
        _bias: None,
        token_offset: NDArray[Any],
        cumulative_sequence_length: NDArray[Any],
        num_heads: int = 0,
        scale: float = 0.0,
    ) -> tuple[NDArray[Any]]:
        rows, longest = token_offset.shape
        padded = []
        for packed in (query, key, value):
            slots = np.zeros((rows * longest, packed.shape[1]))
            slots[token_offset.ravel()[: len(packed)]] = packed
            padded.append(slots.reshape(rows, longest, num_heads, -1))
        result = []
        for row, count in enumerate(np.diff(cumulative_sequence_length)):
            q, k, v = (x[row, :count].transpose(1, 0, 2) for x in padded)
            scores = scale * q @ k.transpose(0, 2, 1)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            result.append(((weights / weights.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(count, -1))
        return (np.concatenate(result).astype(query.dtype),)


OPERATORS = [Gelu, PackedMultiHeadAttention]


@pytest.fixture(scope="module")
def feed() -> dict[str, NDArray[Any]]:
    """Three rows of 5, 2 and 4 real tokens, the second padded to 6 on both sides."""
    random = np.random.default_rng(0)
    mask = np.array([1] * 5 + [0, 0, 1, 1, 0, 0] + [1] * 4)
    return {
        "input_ids": random.integers(0, 30000, mask.size),
        "attention_mask": mask,
        **row_lengths([5, 6, 4], "attention_mask"),
    }


def test_it_computes_what_the_cpu_graph_computes(checkpoints: Checkpoints, feed: dict[str, NDArray[Any]]) -> None:
    checkpoint = Checkpoint(checkpoints.bert())
    encoder = bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights)
    cpu = session(encoder_graph(encoder))
    cuda = ReferenceEvaluator(whole(encoder_graph(encoder, target=Target.CUDA)), new_ops=OPERATORS)

    np.testing.assert_allclose(next(iter(cuda.run(None, feed))), cpu.run(None, feed)[0], atol=1e-5)


def test_in_half_precision_only_the_output_is_in_single(checkpoints: Checkpoints) -> None:
    checkpoint = Checkpoint(checkpoints.bert())
    encoder = as_float16(bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights))
    graph = whole(encoder_graph(encoder, target=Target.CUDA))
    onnx.checker.check_model(graph)
    operators = {node.op_type for node in graph.graph.node}
    singles = {t.name for t in graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims)}

    assert "PackedMultiHeadAttention" in operators
    assert not operators & {"Loop", "If", "MultiHeadAttention"}
    assert singles == {"pad_and_refusal"}
    assert graph.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_rows_without_slots_change_nothing(checkpoints: Checkpoints, feed: dict[str, NDArray[Any]]) -> None:
    checkpoint = Checkpoint(checkpoints.bert())
    encoder = bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights)
    cuda = ReferenceEvaluator(whole(encoder_graph(encoder, target=Target.CUDA)), new_ops=OPERATORS)
    expected = next(iter(cuda.run(None, feed)))
    found = next(iter(cuda.run(None, {**feed, **row_lengths([0, 5, 0, 6, 4, 0], "attention_mask")})))
    np.testing.assert_array_equal(found, expected)

    nothing = {name: values[:0] for name, values in feed.items() if name in ("input_ids", "attention_mask")}
    assert next(iter(cuda.run(None, {**nothing, **row_lengths([0, 0], "attention_mask")}))).size == 0


def test_an_architecture_without_a_family_is_not_built_in_half_precision(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    description, checkpoint = described(Options(str(checkpoints.albert()), tmp_path, precision=Precision.FP16))
    with pytest.raises(UnsupportedError, match=r"albert has no family here.*: choose --precision fp32"):
        refuse_unbuildable(description, checkpoint, Target.CUDA)
    refuse_unbuildable(replace(description, precision=Precision.FP32), checkpoint, Target.CUDA)
