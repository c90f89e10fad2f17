"""`conch plan`: what it prints, what it takes, and what it refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conch.app import app
from conch_export import Options, Plan, Precision, capacity
from conch_export.checkpoints.lookups.static import StaticFiles
from typer.testing import CliRunner, Result

from tests import head_checkpoints, lookup_checkpoints
from tests.hub import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints
    from tests.hub import LocalHub


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
    folder = head_checkpoints.splade(tmp_path / "splade", words=30522)
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


@pytest.mark.parametrize(
    ("cores", "precision", "said"),
    [
        (1, "int8", "1 instance at any length: give more memory, or take a smaller model\n"),
        (1, "fp32", "1 instance at any length: give more memory, or take a smaller model or --precision int8\n"),
        (3, "int8", "3 instances at any length: give more memory, or take a smaller model or fewer --cores\n"),
    ],
)
def test_the_command_fails_where_no_length_fits_and_says_what_the_plan_leaves(
    checkpoints: Checkpoints, cores: int, precision: str, said: str
) -> None:
    result = run(checkpoints.jina_bert(), "--cores", cores, "--precision", precision, "--memory", "100MB")
    assert result.exit_code == 1
    assert f"100 MB are too little for {said}" in result.output


@pytest.mark.parametrize(("cores", "said"), [(1, "\n"), (3, " or fewer --cores\n")])
def test_the_command_fails_where_the_length_does_not_fit_and_says_what_does(
    checkpoints: Checkpoints, tmp_path: Path, cores: int, said: str
) -> None:
    planned = capacity(Options(str(checkpoints.jina_bert()), tmp_path, plan=Plan(cores, threads=1)))
    result = run(checkpoints.jina_bert(), "--cores", cores, "--memory", f"{planned.total / 1e6 - 0.002:.3f}MB")
    assert result.exit_code == 1
    assert re.search(rf"; 400 does not fit: choose --max-length \d+{said}", result.output)


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
