"""What an export takes is planned without reading a matrix, and one that takes too much does not begin."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from conch_export import Aim, Options, Precision, UndecidedError, UnsupportedError, build, capacity, export, plan
from conch_export.checkpoints import weights
from conch_export.errors import MemoryNeededError
from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.graph import Graph
from conch_export.options import described
from conch_export.planning import exporting
from onnx import TensorProto

from deploy.kubernetes.resources import patch, plans

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints


@dataclass(frozen=True)
class Taken:
    """What the memory of an export depends on, of a model whose export was measured.

    Attributes:
        stored: type of its tensors.
        hidden: width of a token's vector.
        largest: numbers of its largest tensor.
        others: numbers of all others.
        tokenizer: bytes of its tokenizer.
        heads: of attention.
        length: most tokens.
    """

    stored: str
    hidden: int
    largest: int
    others: int
    tokenizer: float
    heads: int
    length: int = 512


def test_no_matrix_is_read_for_a_plan(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = set()
    numbers = weights._numbers

    def watched(stored: NDArray[Any]) -> NDArray[np.float32]:
        axes.add(stored.ndim)
        return numbers(stored)

    monkeypatch.setattr(weights, "_numbers", watched)
    capacity(Options(str(checkpoints.bert_cross_encoder()), tmp_path))
    assert axes <= {1}


def test_the_plans_of_the_manifests_are_those_of_the_default_model() -> None:
    root = Path(__file__).parents[3]
    folder, repository = root / "deploy" / "kubernetes", root / "model_repository"
    served = capacity(Options("all-minilm-l6-v2", repository, plan=plan(2)), 8).as_dict()
    on_gpu = Options("all-minilm-l6-v2", repository, precision=Precision.FP32, plan=plan(1))
    assert [served] == plans(folder / "overlays" / "cpu") == plans(folder / "kserve")
    assert [capacity(on_gpu, 64).as_dict()] == plans(folder / "overlays" / "gpu")


@pytest.mark.parametrize("aim", list(Aim))
def test_a_pod_gets_the_cores_that_its_model_is_planned_for(aim: Aim, tmp_path: Path) -> None:
    repository = Path(__file__).parents[3] / "model_repository"
    planned = capacity(Options("all-minilm-l6-v2", repository, plan=plan(4, aim)))
    (tmp_path / "plan.json").write_text(json.dumps(planned.as_dict()))
    triton = yaml.safe_load(patch(tmp_path).split("---\n")[0])
    [container] = triton["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == "4"


def test_a_plan_refuses_what_an_export_would_refuse(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.pbtxt").write_text('name: "bert"')
    options = Options(str(checkpoints.bert()), tmp_path, name="bert")
    with pytest.raises(UnsupportedError) as refused:
        export(options)
    with pytest.raises(UnsupportedError, match=re.escape(str(refused.value))):
        capacity(options)


E5_BASE = Taken("F32", 768, 23_440_896, 86_047_360, 10e6, 12)
E5_LARGE = Taken("F32", 1024, 256_002_048, 303_888_384, 359e6, 16)
BGE_M3 = Taken("F32", 1024, 256_002_048, 311_764_894, 359e6, 16, length=8192)
EMBEDDINGGEMMA = Taken("F32", 768, 201_326_592, 101_545_596, 92e6, 3, length=2048)


@pytest.mark.parametrize(
    ("shape", "precision", "measured"),
    [
        (E5_BASE, "fp32", 797e6),
        (E5_BASE, "int8", 695e6),
        (E5_LARGE, "fp32", 1_688e6),
        (E5_LARGE, "int8", 1_704e6),
        (BGE_M3, "fp32", 1_716e6),
        (BGE_M3, "int8", 1_892e6),
        (EMBEDDINGGEMMA, "fp32", 1_174e6),
        (EMBEDDINGGEMMA, "int8", 1_428e6),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_planned_peak_of_an_export_is_that_which_models_of_true_size_took(
    shape: Taken, precision: str, measured: float, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured with benchmarks/sizes.py, see benchmarks/results/sizes.json."""
    description, checkpoint = described(Options(str(checkpoints.bert()), Path("models")), hashed=False)
    monkeypatch.setattr(weights.Weights, "counts", [shape.largest, *[shape.others // 64] * 64])
    monkeypatch.setattr(weights.Weights, "are_float32", shape.stored == "F32")
    monkeypatch.setattr(exporting, "tokenizer_bytes", lambda _: int(shape.tokenizer))
    monkeypatch.setattr(exporting, "_heads", lambda _: shape.heads)
    described_so = replace(description, hidden=shape.hidden, max_length=shape.length)
    planned = exporting.export_memory(described_so, checkpoint, Precision(precision)).needed
    assert planned == pytest.approx(measured, rel=0.25)


def test_an_export_that_takes_more_memory_than_there_is_does_not_begin(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "available_bytes", lambda: 300_000_000)
    with pytest.raises(
        MemoryNeededError, match=r"takes about [\d,]+ MB of memory, and 300 MB are left: .*--ignore-memory"
    ):
        export(Options(str(checkpoints.bert()), tmp_path))
    assert not list(tmp_path.iterdir())


def test_scores_of_the_longest_text_count_where_they_are_held_at_once(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    description, checkpoint = described(Options(str(checkpoints.roformer()), Path("models")), hashed=False)
    monkeypatch.setattr(exporting, "available_bytes", lambda: 8_000_000_000)
    exporting.refuse_too_large(description, checkpoint)
    long = replace(description, max_length=32_768)  # 4 heads: twice 17 GB
    with pytest.raises(MemoryNeededError, match=r"takes about 3\d,\d+ MB of memory.* shorter texts with --max-length"):
        exporting.refuse_too_large(long, checkpoint)


def test_a_converted_graph_for_whose_longest_text_no_memory_suffices_is_refused(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    description, _ = described(Options(str(checkpoints.roformer()), Path("models")), hashed=False)
    g = GraphBuilder()
    enormous = g.node("Mul", g.node("Shape", "input_ids"), g.int64([2**26, 2**19]))  # 2^52 numbers and more
    g.node("ConstantOfShape", enormous, name="y")
    graph = Graph.of(
        g, "test", [("input_ids", TensorProto.INT64, [1, "n"])], [("y", TensorProto.FLOAT, ["rows", "columns"])]
    )
    with pytest.raises(
        UndecidedError, match=r"roformer fails on 128 tokens.* that fits into memory, with --max-length"
    ):
        build._probe(graph, graph.save(tmp_path), description)
