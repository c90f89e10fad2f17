"""The memory that is planned is the memory that is taken, within a quarter, for any shape, precision and length."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch.app import app
from conch_export import Capacity, Options, Plan, Pooling, Precision, UnsupportedError, capacity, export, plan
from conch_export.checkpoints import weights
from conch_export.checkpoints.lookups.static import StaticFiles
from conch_export.errors import MemoryNeededError
from conch_export.model.distances import Alibi
from conch_export.model.heads import Dense, Pooled, Vocabulary
from conch_export.model.network import (
    Activation,
    Attention,
    Encoder,
    FeedForward,
    Layer,
    Linear,
    Norm,
    Rotary,
    rotary_frequencies,
)
from conch_export.onnx.heads import pooled_graph, vocabulary_graph
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize
from conch_export.options import described
from conch_export.planning import exporting
from conch_export.planning.capacity import SHARED_BYTES
from conch_export.planning.gateway import gateway_bytes
from conch_export.planning.memory import Footprint, HeadFootprint
from conch_server.backends.onnxruntime.conch_onnx import packed
from tokenizers import Tokenizer, models
from typer.testing import CliRunner, Result

from deploy.kubernetes.resources import plans
from tests import head_checkpoints, lookup_checkpoints
from tests.hub import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_export.onnx.graph import Graph
    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints
    from tests.hub import LocalHub

LONG = 8192
random = np.random.default_rng(0)


def linear(inputs: int, outputs: int) -> Linear:
    weight = random.standard_normal((inputs, outputs), np.float32) * np.float32(0.02)
    return Linear(weight, np.zeros(outputs, np.float32))


def norm(width: int) -> Norm:
    return Norm(np.ones(width, np.float32), np.zeros(width, np.float32), 1e-12)


def encoder(
    hidden: int, heads: int, inner: int, *, layers: int = 1, gated: bool = False, words: int = 30528
) -> Encoder:
    """Random weights in a true shape; plain attention."""

    def layer() -> Layer:
        query, key, value, output = (linear(hidden, hidden) for _ in range(4))
        attention = Attention(query, key, value, output, heads, heads)
        gate = linear(hidden, inner) if gated else None
        network = FeedForward(linear(hidden, inner), linear(inner, hidden), Activation.GELU, gate)
        return Layer(attention, norm(hidden), network, norm(hidden))

    table = np.zeros((words, hidden), np.float32)
    return Encoder(table, tuple(layer() for _ in range(layers)), LONG, norm=norm(hidden))


def attending(shape: Encoder, **changes: object) -> Encoder:
    """The same with another kind of attention."""
    layers = (replace(layer, attention=replace(layer.attention, **changes)) for layer in shape.layers)  # type: ignore[arg-type]
    return replace(shape, layers=tuple(layers))


def jina_small(layers: int) -> Encoder:
    """The shape of jina-embeddings-v2-small-en, which has 4 layers."""
    return attending(encoder(512, 8, 2048, layers=layers, gated=True), bias=Alibi.of(8))


def planned(shape: Encoder, precision: str, length: int, rows: int = 1) -> Capacity:
    kind = Precision(precision)
    return Capacity(shape, kind, Footprint.of(shape, kind), length, rows, instances=1)


ROTARY = Rotary.of(rotary_frequencies(10000, 64), LONG)
SHAPES = {
    "MiniLM": lambda: encoder(384, 12, 1536, layers=2),
    "nomic": lambda: attending(encoder(768, 12, 3072, gated=True), rotary=ROTARY),
    "ModernBERT": lambda: attending(encoder(512, 8, 768, gated=True), rotary=ROTARY, window=64),
    "many words": lambda: encoder(384, 12, 1536, words=250_002),
    "tiny": lambda: encoder(48, 4, 96),
}


@pytest.mark.parametrize(
    ("shape", "precision", "length"),
    [
        ("MiniLM", "fp32", 128),
        ("MiniLM", "int8", 1024),
        ("nomic", "fp32", 1024),
        ("nomic", "int8", 2048),
        ("ModernBERT", "fp32", 4096),
        ("ModernBERT", "int8", 1024),
        ("many words", "fp32", 128),
        ("tiny", "int8", 1024),
    ],
)
def test_the_planned_peak_is_the_measured_one(shape: str, precision: str, length: int) -> None:
    plan = planned(SHAPES[shape](), precision, length)
    assert plan.budget.total == pytest.approx(plan.measure(), rel=0.25)


@pytest.mark.parametrize(("precision", "length"), [("fp32", LONG), ("int8", LONG // 2)])
def test_so_it_is_for_long_texts(precision: str, length: int) -> None:
    plan = planned(jina_small(layers=1), precision, length)
    assert plan.budget.total == pytest.approx(plan.measure(), rel=0.25)


def test_so_it_is_for_merged_rows() -> None:
    plan = planned(jina_small(layers=1), "int8", 512, rows=8)
    assert plan.budget.total == pytest.approx(plan.measure(), rel=0.25)


def splade(words: int = 30522) -> Vocabulary:
    """The head of naver/splade-cocondenser-ensembledistil's shape."""
    return Vocabulary((Dense(linear(768, 768), "gelu"), norm(768)), linear(768, words))


def splade_of_fewer_words() -> Vocabulary:
    """What is rounded in little time."""
    return splade(words=8000)


def classifier() -> Pooled:
    """The head of BERT base as a cross-encoder."""
    return Pooled(Pooling.CLS, (Dense(linear(768, 768), "tanh"), Dense(linear(768, 1))))


def head_graph(head: Vocabulary | Pooled, precision: str) -> Graph:
    if isinstance(head, Pooled):
        return pooled_graph(768, head, "score", 1)
    graph = vocabulary_graph(768, head)
    if precision == "fp32":
        return graph
    lengths = {"row_lengths": np.array([64], np.int32), "token_embeddings_lengths": np.array([64, 768], np.int32)}
    vectors = random.standard_normal(64 * 768, np.float32)
    feed: dict[str, NDArray[Any]] = {"token_embeddings": vectors, "attention_mask": np.ones(64, np.int64), **lengths}
    return quantize(graph, calibrate(vocabulary_graph(768, head, tile_tokens=None), [feed]))


@pytest.mark.parametrize(
    ("head", "precision", "length", "rows"),
    [
        (splade, "fp32", 512, 1),
        (splade_of_fewer_words, "int8", 512, 8),
        (classifier, "fp32", 64, 1),
        (classifier, "fp32", 512, 8),
    ],
)
def test_so_it_is_for_heads(
    head: Callable[[], Vocabulary | Pooled], precision: str, length: int, rows: int, tmp_path: Path
) -> None:
    shape = head()
    graph = head_graph(shape, precision).save(tmp_path)
    command = [sys.executable, "-I", str(Path(__file__).with_name("head_peak.py")), str(graph)]
    sizes = map(str, (length, rows, 768))
    measured = int(subprocess.run([*command, *sizes], capture_output=True, check=True).stdout)
    footprint = HeadFootprint.of(shape, 768, Precision(precision))
    assert footprint.budget(length, rows).total == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_8192_tokens_of_jina_small_take_less_than_a_gigabyte(precision: str) -> None:
    assert planned(jina_small(layers=4), precision, LONG).total < 1e9


def test_tiles_take_a_twentieth_of_what_whole_scores_would() -> None:
    plan = planned(jina_small(layers=1), "fp32", LONG)
    assert plan.footprint.whole_scores(LONG) == 8 * LONG * LONG * 4
    assert plan.budget.scores < plan.footprint.whole_scores(LONG) / 20


@pytest.mark.parametrize("memory", [400e6, 600e6, 1e9])
def test_the_longest_that_fits_fits_and_one_more_token_does_not(memory: float) -> None:
    plan = planned(jina_small(layers=4), "int8", 512)
    longest = plan.longest(int(memory))
    assert 0 < longest <= LONG
    assert replace(plan, length=longest).total <= memory
    assert longest == LONG or replace(plan, length=longest + 1).total > memory


def test_what_never_fits_has_no_length() -> None:
    assert planned(jina_small(layers=4), "fp32", 512).longest(10**8) == 0


def test_more_instances_take_more() -> None:
    one = planned(jina_small(layers=1), "int8", 512)
    assert replace(one, instances=3).total - one.total == 2 * one.budget.total


def test_instances_share_large_weights() -> None:
    two = replace(planned(jina_small(layers=4), "fp32", 512), instances=2)
    assert two.shares_weights
    assert replace(two, instances=8).total - two.total == 6 * two.budget.own
    assert two.budget.own < 0.6 * two.budget.total


def test_the_server_shares_weights_of_the_same_size() -> None:
    assert SHARED_BYTES == packed.WORTH_BYTES


def unigram() -> Tokenizer:
    """80,000 tokens whose beginnings differ."""
    source = np.random.default_rng(0)
    words = {"".join(map(chr, source.integers(97, 123, source.integers(3, 9)))): -8.0 for _ in range(80_000)}
    return Tokenizer(models.Unigram([("<unk>", 0.0), *words.items()], unk_id=0))


def merges() -> Tokenizer:
    """90,000 tokens, all but the letters merged from two."""
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
    pairs = [(one, other) for one in letters for other in letters]
    vocabulary = {token: number for number, token in enumerate([*letters, *(one + other for one, other in pairs)])}
    return Tokenizer(models.BPE(vocabulary, pairs))


@pytest.mark.parametrize("make", [unigram, merges])
def test_the_planned_memory_of_a_tokenizer_is_what_the_client_takes(
    make: Callable[[], Tokenizer], tmp_path: Path
) -> None:
    make().save(str(tmp_path / "tokenizer.json"))
    code = """if True:
        import sys
        from pathlib import Path
        from conch_client._tokenization.tokenizer import TextTokenizer

        def resident():
            return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024

        content, before = Path(sys.argv[1]).read_bytes(), resident()
        tokenizer = TextTokenizer(content)
        print(resident() - before)
    """
    command = [sys.executable, "-c", code, str(tmp_path / "tokenizer.json")]
    taken = int(subprocess.run(command, capture_output=True, check=True).stdout)
    nothing = gateway_bytes(json.dumps({"model": {"vocab": {}}}).encode())
    held = gateway_bytes((tmp_path / "tokenizer.json").read_bytes()) - nothing
    assert held == pytest.approx(taken, rel=0.25)


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


def test_a_plan_refuses_what_an_export_would_refuse(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.pbtxt").write_text('name: "bert"')
    options = Options(str(checkpoints.bert()), tmp_path, name="bert")
    with pytest.raises(UnsupportedError) as refused:
        export(options)
    with pytest.raises(UnsupportedError, match=re.escape(str(refused.value))):
        capacity(options)


@pytest.mark.parametrize(
    ("precision", "stored", "hidden", "largest", "others", "measured"),
    [
        ("fp32", "F32", 768, 23_440_896, 86_047_360, 797e6),
        ("int8", "F32", 768, 23_440_896, 86_047_360, 695e6),
        ("fp32", "F32", 1024, 256_002_048, 303_888_384, 2_421e6),
        ("int8", "F32", 1024, 256_002_048, 303_888_384, 1_698e6),
        ("fp32", "BF16", 1024, 155_309_056, 440_467_456, 4_160e6),
        ("int8", "BF16", 1024, 155_309_056, 440_467_456, 4_153e6),
    ],
    ids=["e5-base, fp32", "e5-base, int8", "e5-large, fp32", "e5-large, int8", "Qwen3-0.6B, fp32", "Qwen3-0.6B, int8"],
)
def test_the_planned_peak_of_an_export_is_that_which_models_of_true_size_took(
    precision: str,
    stored: str,
    hidden: int,
    largest: int,
    others: int,
    measured: float,
    checkpoints: Checkpoints,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Measured with benchmarks/sizes.py, see benchmarks/results/sizes.json."""
    description, checkpoint = described(Options(str(checkpoints.bert()), Path("models")), hashed=False)
    monkeypatch.setattr(weights.Weights, "counts", [largest, *[others // 64] * 64])
    monkeypatch.setattr(weights.Weights, "are_float32", stored == "F32")
    shape = replace(description, hidden=hidden)
    assert exporting.export_memory(shape, checkpoint, Precision(precision)).needed == pytest.approx(measured, rel=0.25)


def test_an_export_that_takes_more_memory_than_there_is_does_not_begin(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "available_bytes", lambda: 300_000_000)
    with pytest.raises(
        MemoryNeededError, match=r"takes about [\d,]+ MB of memory, and 300 MB are left: .*--ignore-memory"
    ):
        export(Options(str(checkpoints.bert()), tmp_path))
    assert not list(tmp_path.iterdir())


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["plan", *map(str, arguments)])


def test_the_command_prints_the_parts_and_their_sum(checkpoints: Checkpoints) -> None:
    result = run(checkpoints.jina_bert(), "--cores", "3", "--memory", "4GB", "--measure")
    assert result.exit_code == 0, result.output
    for part in (
        "weights",
        "activations",
        "attention scores",
        "an instance",
        "gateway",
        "in all",
        "memory, fp32",
        "disk, int8",
    ):
        assert f" {part} " in result.output
    assert "of 3 instances" in result.output
    assert "4,000 MB: up to 400 tokens (all that it has positions for); 400 fits" in result.output
    off = re.search(r"measured: \d+ MB an instance; the plan is ([+-]\d+)% off", result.output)
    assert off
    assert abs(int(off[1])) <= 25


def test_heads_are_told_one_by_one_and_counted(tmp_path: Path) -> None:
    folder = head_checkpoints.splade(tmp_path / "splade")
    planned = [
        capacity(Options(str(folder), tmp_path, precision=Precision.FP32, plan=Plan(instances, threads=1)))
        for instances in (1, 3)
    ]
    assert [head.instances for head in planned[1].heads] == [3]
    weights = 4 * (48 * 48 + 48 * 30522)
    assert planned[0].heads[0].footprint.budget(64).weights == weights
    assert planned[0].heads[0].footprint.budget(64).scores == 4 * 64 * 30522
    more = planned[1].total - planned[0].total
    # Weights are shared by all instances, and counted once.
    assert more == 2 * (planned[0].budget.total + planned[0].heads[0].footprint.budget(128).total)
    said = run(folder, "--cores", "3", "--precision", "fp32").output
    assert "splade.sparse" in said
    assert "of it 64 tokens' logits; 3 of it" in said


def test_what_only_an_export_needs_to_know_is_not_asked_for(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.bert(), tmp_path / "unsaid"))
    (folder / "modules.json").unlink()
    assert "unsaid.pooling" in run(folder).output


def test_a_checkpoint_that_is_not_here_is_fetched_and_nothing_is_written(
    hub: LocalHub, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    hub.push("somebody/some-model", checkpoints.bert())
    result = run("somebody/some-model", "--repository", tmp_path / "models")
    assert result.exit_code == 0, result.output
    assert "some-model.pooling" in result.output
    assert not (tmp_path / "models").exists()
    hub.faults = Faults(status=404, code="RepoNotFound")
    result = run("somebody/other-model", "--repository", tmp_path / "models")
    assert result.exit_code == 1
    assert "the Hub has no 'somebody/other-model': check the name" in result.stderr


def test_the_command_fails_where_the_length_does_not_fit_and_says_what_does(checkpoints: Checkpoints) -> None:
    result = run(checkpoints.jina_bert(), "--cores", "1", "--memory", "100MB")
    assert result.exit_code == 1
    assert "100 MB are too little for 1 instances at any length: fewer --cores" in result.output


@pytest.mark.parametrize(("preset", "length"), [("short", 1024), ("medium", 2048), ("long", 4096), ("maximum", 8192)])
def test_lengths_have_names(checkpoints: Checkpoints, preset: str, length: int) -> None:
    result = run(checkpoints.jina_bert(), "--max-length", preset)
    assert f"--max-length {length} is outside 3 to 400" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-length", "endless"], "neither a number of tokens nor one of short, medium, long, maximum"),
        (["--memory", "plenty"], "no size: write it as 2GB or 512MiB"),
    ],
)
def test_what_is_no_quantity_is_refused(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", [lookup_checkpoints.static, lookup_checkpoints.quantized])
def test_a_table_is_planned_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path], Path], precision: str
) -> None:
    options = Options(str(kind(tmp_path / "static")), tmp_path / "models", precision=Precision(precision))
    with monkeypatch.context() as patch:
        patch.setattr(StaticFiles, "table", property(lambda _: pytest.fail("the table is read")))
        plan = capacity(options)
    assert plan.heads == ()
    size = 30522 * lookup_checkpoints.WIDTH
    assert plan.footprint.tables == (size if precision == "int8" else 4 * size)
    assert plan.budget.total == pytest.approx(plan.measure(), rel=0.25)
    if precision == "int8":
        assert f" {plan.footprint.tables / 1e6:,.0f} MB of embeddings" in run(options.reference).output


def test_a_reranker_by_one_of_several_labels_is_planned(tmp_path: Path) -> None:
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    folder = head_checkpoints.make(tmp_path / "nli", "bert", "ForSequenceClassification", id2label=labels)
    undecided = run(folder, "--task", "cross-encoder")
    assert undecided.exit_code == 1
    assert "state --label, one of contradiction, entailment, neutral" in undecided.output
    assert "nli.classifier" in run(folder, "--label", "entailment").output


def test_an_architecture_without_a_family_is_measured_instead(checkpoints: Checkpoints) -> None:
    result = run(checkpoints.roformer())
    assert result.exit_code == 1
    assert "'roformer' is not planned" in result.stderr
    assert "conch verify" in result.stderr


def test_a_model_that_no_page_computes_is_not_planned_for_one(tmp_path: Path) -> None:
    result = run(head_checkpoints.splade(tmp_path / "splade"), "--web")
    assert result.exit_code == 1
    assert "splade is for sparse; in a browser conch-web answers embedding" in result.stderr
