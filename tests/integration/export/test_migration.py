"""`conch migrate`: two published models are compared, and a bridge between them is learned, verified and published."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch.app import app
from conch_export import (
    ExportError,
    Options,
    Overrides,
    Precision,
    SourceError,
    UnsupportedError,
    VerificationError,
    compare,
    fit,
    inspect,
)
from conch_export.migration import learning
from conch_export.migration.in_process import InProcess
from conch_export.triton.ensemble import Published
from conch_export.triton.repository import owned
from conch_export.verification.texts import docstrings, spread
from typer.testing import CliRunner

from tests import head_checkpoints, lookup_checkpoints
from tests.documented import keys_of
from tests.exports import ONE_CORE, export_once

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.export.conftest import Exports

TEXTS = spread(docstrings(), 300)
MEAN, CLS, DENSE = "bert-fp32", "bert-fp32-cls", "dense"


@pytest.fixture(scope="module")
def exported(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One encoder pooled in two ways, and another one with shorter vectors, after a Dense layer."""
    folder = tmp_path_factory.mktemp("migration")
    for published in (exports("bert"), exports("bert", pooling="cls")):
        shutil.copytree(published.repository, folder / "models", dirs_exist_ok=True)
    dense = head_checkpoints.with_dense(folder / DENSE, "torch.nn.modules.activation.Tanh")
    options: dict[str, Any] = {"precision": Precision.FP32, "plan": ONE_CORE}
    export_once(Options(str(dense), folder / "models", overrides=Overrides(late_chunking=True), **options))
    return folder / "models"


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(exported, tmp_path / "models")


def contents(repository: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def found_by(queries: Any, index: Any, own: Any) -> list[set[int]]:
    """The ten entries with the largest cosine to each query, but for its own."""
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, index)]
    scores = units[0] @ units[1].T
    scores[np.arange(len(queries)), own] = -2
    return [set(np.argsort(-row)[:10].tolist()) for row in scores]


@pytest.mark.parametrize(
    ("new", "old"), [(CLS, MEAN), (MEAN, DENSE), (DENSE, MEAN)], ids=["alike", "shorter", "longer"]
)
def test_a_bridge_answers_what_its_map_makes_of_the_new_models_vectors(repository: Path, new: str, old: str) -> None:
    before = contents(repository)
    bridge = fit(old, new, repository, TEXTS, least_recall=0.0)

    assert bridge.name == f"{new}-as-{old}"
    assert set(owned(repository, new)) >= {bridge.name, f"{bridge.name}.pooling"}
    after = contents(repository)
    assert {name: after[name] for name in before} == before
    info, olds = Published.find(repository, bridge.name).info, Published.find(repository, old).info
    assert (info.base, info.bridges_to, info.dimension) == (new, olds.space_id, olds.dimension)
    assert len({info.space_id, olds.space_id, Published.find(repository, new).info.space_id, None}) == 4

    # Recall once more, from the vectors of the three published models alone.
    places = np.random.default_rng(0).permutation(len(TEXTS))[45:90]  # the part that is held out
    held_out = [TEXTS[place] for place in places]
    bridged, index = InProcess(repository, bridge.name).embed(held_out).vectors, vectors(repository, old)
    np.testing.assert_allclose(np.linalg.norm(bridged, axis=1), 1, rtol=1e-5)
    wanted = found_by(index[places], index, places)
    found = found_by(bridged, index, places)
    recall = np.mean([len(one & other) / 10 for one, other in zip(found, wanted, strict=True)])
    assert recall == pytest.approx(bridge.held_out.bridged, abs=0.005)
    assert bridge.held_out.queries == len(places)
    assert bridge.held_out.bridged > (bridge.held_out.unbridged or 10 / len(TEXTS)) + 0.1
    assert bridge.method == max(bridge.validation, key=lambda method: bridge.validation[method])

    report = json.loads((repository / bridge.name / "report.json").read_text())
    assert set(report["bridge"]) == keys_of("conch migrate fit")
    assert report["bridge"]["held_out"]["bridged"] == bridge.held_out.bridged
    assert report["bridge_sha256"] == info.bridge_sha256


def vectors(repository: Path, name: str) -> Any:
    return InProcess(repository, name).embed(TEXTS).vectors


def test_the_same_texts_give_the_same_bridge(repository: Path) -> None:
    spaces = {fit(MEAN, CLS, repository, TEXTS, least_recall=0.0).space_id for _ in range(2)}
    assert len(spaces) == 1
    assert Published.find(repository, f"{CLS}-as-{MEAN}").info.space_id in spaces


def refused(repository: Path, message: str, error: type[Exception], new: str, old: str, **options: Any) -> None:
    before = contents(repository)
    with pytest.raises(error, match=message):
        fit(old, new, repository, **{"texts": TEXTS, **options})
    assert contents(repository) == before


def test_what_cannot_be_bridged_is_refused_and_nothing_is_changed(exported: Path) -> None:
    refused(exported, "answer in the same vector space", UnsupportedError, MEAN, MEAN)
    refused(exported, "has no model 'none'", SourceError, "none", MEAN)
    refused(exported, "is for late-interaction", UnsupportedError, f"{MEAN}-maxsim", CLS)
    refused(exported, "too few", UnsupportedError, CLS, MEAN, texts=TEXTS[:100])
    refused(exported, "has no prompt 'query'; it has: none", UnsupportedError, CLS, MEAN, new_prompt="query")
    refused(exported, "is not published: it finds", VerificationError, CLS, MEAN, least_recall=1.0)


def test_a_new_model_that_is_exported_again_meanwhile_gets_no_bridge(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = repository / Published.find(repository, CLS).steps[0] / "1"
    learned = learning.learned

    def meanwhile(*arguments: Any) -> Any:
        (encoder / "new").write_bytes((encoder / "model.data").read_bytes()[::-1])  # of the size in the report
        (encoder / "new").replace(encoder / "model.data")
        return learned(*arguments)

    monkeypatch.setattr(learning, "learned", meanwhile)
    with pytest.raises(ExportError, match=f"{CLS} was exported again while its bridge was learned"):
        fit(MEAN, CLS, repository, TEXTS, least_recall=0.0)
    assert not (repository / f"{CLS}-as-{MEAN}").exists()


def test_a_bridge_is_verified_with_the_model_that_it_is_derived_from(repository: Path) -> None:
    bridge = fit(MEAN, CLS, repository, TEXTS, least_recall=0.0)
    with pytest.raises(SourceError, match=f"is derived from {CLS}"):
        inspect(bridge.name, repository)
    with pytest.raises(UnsupportedError, match=f"is derived from {CLS}: name an exported model"):
        fit(DENSE, bridge.name, repository, TEXTS)


def compared(repository: Path, *arguments: str) -> Any:
    texts = repository.parent / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    command = ["migrate", "compare", *arguments, f"--texts={texts}", f"--repository={repository}"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout) if "--json" in arguments else ran.stdout


def test_models_are_compared_on_texts(exported: Path) -> None:
    found = compared(exported, MEAN, DENSE, "--json", "--threshold=0.2")
    assert set(found) == keys_of("conch migrate compare")
    assert (found["texts"], found["same_space"]) == (len(TEXTS), False)
    assert [found[side]["dimension"] for side in ("old", "new")] == [48, 16]
    assert all(found[side]["processor_s_per_million_texts"] > 0 for side in ("old", "new"))
    assert all(found[side]["peak_bytes"] > 50e6 for side in ("old", "new"))
    assert found["old"]["index_bytes_per_million_texts"] == 48 * 4 * 10**6
    assert 0 < found["neighbours_at_10"] < 0.9
    index = {name: vectors(exported, name) for name in (MEAN, DENSE)}
    both = (found_by(each, each, np.arange(len(TEXTS))) for each in index.values())
    shared = [len(one & other) / 10 for one, other in zip(*both, strict=True)]
    assert found["neighbours_at_10"] == pytest.approx(np.mean(shared), abs=0.005)


def test_a_model_agrees_with_itself(exported: Path) -> None:
    found = compared(exported, MEAN, MEAN, "--json")
    assert (found["neighbours_at_10"], found["nearest"], found["same_space"]) == (1, 1, True)
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["thresholds"]
    assert all(each["new"] == pytest.approx(each["old"], abs=0.01) for each in found["thresholds"])
    told = compared(exported, MEAN, MEAN)
    assert "100.0% of the old model's are the new one's" in told


def test_texts_of_which_a_model_reads_no_token_do_not_count(repository: Path, tmp_path: Path) -> None:
    export_once(Options(str(lookup_checkpoints.static(tmp_path / "static")), repository, precision=Precision.FP32))
    sample = [*TEXTS, "\u200b"]  # which its tokenizer leaves out, and it adds no special tokens
    found = compare("static", MEAN, repository, sample)
    assert found.texts == len(TEXTS)
    assert 0 < found.rank_correlation < 1
    assert fit("static", MEAN, repository, sample, least_recall=0.0).texts == len(TEXTS)
