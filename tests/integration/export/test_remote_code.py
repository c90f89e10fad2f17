"""A checkpoint's own code: run where it must be and the operator says so, pinned, recorded, and refused otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conch.app import app
from conch_export import UndecidedError, make_bundle
from conch_export.sources.lock import Lock
from conch_export.triton.repository import read_config
from torch.nn import functional
from typer.testing import CliRunner, Result

from tests.abacus.modeling_abacus import AbacusModel
from tests.merging import Published

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.checkpoints import Checkpoints
    from tests.hub import LocalHub

ID, KEY = "somebody/abacus", "somebody/abacus@{}"
TRUST = "--trust-remote-code"


@pytest.fixture(scope="module", autouse=True)
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """transformers copies code before it runs it, by default below the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture
def folder(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """A checkpoint that brings its code, to do with as one likes."""
    return Path(shutil.copytree(checkpoints.abacus(), tmp_path / "abacus"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


def run(command: str, *arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "400"}).invoke(app, [command, *map(str, arguments)])


def exported(repository: Path, *arguments: object) -> Result:
    return run("export", *arguments, "--repository", repository, "--precision", "fp32")


def refused(result: Result, repository: Path) -> str:
    """What was said, by a command that failed and left no model."""
    assert result.exit_code == 1
    *steps, said = result.stderr.strip().splitlines()
    assert said.startswith("error: ")
    assert all(step.endswith("…") for step in steps)  # what it was about to do, where there is no terminal
    assert not list(repository.glob("*/config.pbtxt"))
    return said


def parameters(repository: Path, name: str) -> dict[str, str]:
    return {key: value.string_value for key, value in read_config(repository, name).parameters.items()}


def edit(folder: Path, **changed: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_it_is_not_run_unless_the_operator_says_so(folder: Path, repository: Path, tmp_path: Path) -> None:
    (folder / "modeling_abacus.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    said = refused(exported(repository, folder), repository)
    assert "names code of its own for this 'abacus' (auto_map, modeling_abacus.AbacusModel)" in said
    assert f"`conch export {TRUST}` runs that, with your rights" in said
    assert not (tmp_path / "ran").exists()


def test_a_model_of_its_own_code_is_served_as_that_computes_it(folder: Path, repository: Path) -> None:
    result = exported(repository, folder, TRUST, "--late-interaction")
    assert result.exit_code == 0, result.output
    assert "run one after the other" in result.output
    digest = parameters(repository, "abacus")["code_sha256"]
    assert digest in result.output
    assert len(digest) == 64
    report = json.loads((repository / "abacus" / "report.json").read_text())
    assert report["code_sha256"] == digest
    assert report["packing"] == "row by row"
    assert report["verification"]["abacus"]["max_difference"] < 1e-5
    row = [101, 2023, 2003, 102]
    with torch.inference_mode():
        vectors = AbacusModel.from_pretrained(folder)(torch.tensor([row]), torch.ones(1, len(row))).last_hidden_state[0]
    expected = functional.normalize(vectors.mean(0), dim=0).numpy()
    assert np.abs(Published(repository, "abacus").embedder.alone(row) - expected).max() < 1e-5


def test_another_code_has_another_hash_and_is_exported_anew(folder: Path, repository: Path) -> None:
    assert exported(repository, folder, TRUST, "--missing").exit_code == 0
    assert "already exported" in exported(repository, folder, TRUST, "--missing").output
    with (folder / "modeling_abacus.py").open("a") as code:
        code.write("# another\n")
    assert "already exported" not in exported(repository, folder, TRUST, "--missing").output


def test_models_that_need_none_say_so(checkpoints: Checkpoints, folder: Path, repository: Path) -> None:
    said = refused(exported(repository, checkpoints.roformer(), TRUST), repository)
    assert f"{TRUST} has nothing to run: config.json names no code" in said
    edit(folder, model_type="nomic_bert")
    said = refused(exported(repository, folder, TRUST), repository)
    assert f"{TRUST} has nothing to run: 'nomic_bert' has a family here. Leave it out" in said


@pytest.mark.parametrize("kind", ["bert", "roformer"])
def test_code_of_its_own_is_not_replaced_by_what_transformers_computes(
    folder: Path, repository: Path, kind: str
) -> None:
    edit(folder, model_type=kind)
    said = refused(exported(repository, folder), repository)
    assert f"names code of its own for this {kind!r}" in said
    assert "export a copy of the folder without auto_map" in said


BOTH_WAYS = """
import torch
from transformers import Qwen3Model


class BothWays(Qwen3Model):
    def forward(self, input_ids=None, attention_mask=None, **more):
        rows, length = input_ids.shape
        unseen = (1 - attention_mask[:, None, None, :].float()).expand(rows, 1, length, length)
        seen = unseen * torch.finfo(torch.float32).min
        return super().forward(input_ids=input_ids, attention_mask={"full_attention": seen}, **more)
"""


def test_a_decoder_that_sees_both_ways_by_its_own_code_does_so_when_it_is_served(
    checkpoints: Checkpoints, repository: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = Path(shutil.copytree(checkpoints.qwen3(), tmp_path / "both-ways"))
    (folder / "modeling_both_ways.py").write_text(BOTH_WAYS)
    edit(folder, auto_map={"AutoModel": "modeling_both_ways.BothWays"}, use_bidirectional_attention=True)
    result = exported(repository, folder, TRUST)
    assert result.exit_code == 0, result.output
    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    ids = model.preprocess(["a cat sat on the mat"])["input_ids"][0].tolist()
    found = Published(repository, "both-ways").embedder.alone(ids)
    assert np.abs(found - model.encode("a cat sat on the mat")).max() < 1e-5


def test_code_that_is_no_encoders_is_refused(folder: Path, repository: Path) -> None:
    edit(folder, model_type="bert", auto_map={"AutoModelForSequenceClassification": "modeling_abacus.AbacusModel"})
    for trust in ([], [TRUST]):
        said = refused(exported(repository, folder, *trust), repository)
        assert "AutoModelForSequenceClassification, which is not run, only an encoder's is" in said


def test_from_the_hub_it_takes_a_commit(hub: LocalHub, folder: Path, repository: Path) -> None:
    commit = hub.push(ID, folder, branch="v1")
    for revision in ([], ["--revision", "v1"], ["--revision", commit[:8]]):
        said = refused(exported(repository, ID, TRUST, *revision), repository)
        assert "no branch or tag does: name that with --revision and all 40 digits" in said
    assert hub.fetched() == []
    assert exported(repository, ID, TRUST, "--revision", commit).exit_code == 0
    code = {"configuration_abacus.py", "modeling_abacus.py"}
    assert code < set(Lock.read(repository).sources[KEY.format(commit)].files)


def test_code_is_fetched_only_where_it_may_be_run(hub: LocalHub, folder: Path, repository: Path) -> None:
    commit = hub.push(ID, folder)
    assert "names code of its own" in refused(exported(repository, ID, "--revision", commit), repository)
    assert not [name for name in hub.fetched() if name.endswith(".py")]
    assert "names code of its own" in refused(run("preload", ID, "--repository", repository), repository)


@pytest.mark.parametrize("place", ["the Hub", "the cache"])
def test_code_that_has_changed_is_refused(hub: LocalHub, folder: Path, repository: Path, place: str) -> None:
    commit = hub.push(ID, folder)
    preloaded = run("preload", ID, "--revision", commit, TRUST, "--repository", repository)
    assert preloaded.exit_code == 0, preloaded.output
    assert not repository.joinpath("abacus").exists()
    if place == "the Hub":
        shutil.rmtree(folder.parent / "cache")
        hub.repos[ID].commits[commit]["modeling_abacus.py"] += b"# evil\n"
    else:
        (code,) = (folder.parent / "cache").rglob("modeling_abacus.py")
        code.write_text(code.read_text() + "# evil\n")
    said = refused(exported(repository, ID, "--revision", commit, TRUST), repository)
    assert "is not what conch.lock says: modeling_abacus.py had SHA-256" in said


def test_code_of_another_repository_is_refused(folder: Path, repository: Path) -> None:
    edit(folder, auto_map={"AutoConfig": "other/one--configuration_abacus.A", "AutoModel": "modeling_abacus.B"})
    said = refused(exported(repository, folder, TRUST), repository)
    assert "code of other/one, which is not pinned" in said
    assert "take 'other/one--' out of its config.json" in said


def test_a_module_of_another_repository_is_refused(folder: Path, repository: Path) -> None:
    path = folder / "modules.json"
    encoder, *others = json.loads(path.read_text())
    path.write_text(json.dumps([{**encoder, "type": "other/one--modeling_one.Transformer"}, *others]))
    said = refused(exported(repository, folder, TRUST), repository)
    assert "modules.json names 'other/one--modeling_one.Transformer', code of other/one, which is not pinned" in said
    assert "take 'other/one--' out of its modules.json" in said


def test_code_that_is_missing_or_fails_is_told(folder: Path, repository: Path) -> None:
    (folder / "modeling_abacus.py").write_text("import abacus_of_nobody\n")
    assert "may need another transformers or further packages" in refused(
        exported(repository, folder, TRUST), repository
    )
    (folder / "modeling_abacus.py").unlink()
    assert "the checkpoint has no modeling_abacus.py" in refused(exported(repository, folder, TRUST), repository)


def test_pickles_stay_refused(folder: Path, repository: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "never fetched or loaded" in refused(exported(repository, folder, TRUST), repository)


def test_a_reranker_by_its_own_code_is_refused(folder: Path, repository: Path) -> None:
    said = refused(exported(repository, folder, TRUST, "--task", "cross-encoder"), repository)
    assert "cross-encoder by a checkpoint's own code is not built" in said


def test_bundles_carry_none(folder: Path, repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UndecidedError, match="bundles carry no code"):
        make_bundle([str(folder)], repository, tmp_path / "bundle.tar")
    assert not (tmp_path / "bundle.tar").exists()


def test_a_verification_runs_it_only_when_told(hub: LocalHub, folder: Path, repository: Path) -> None:
    commit = hub.push(ID, folder)
    assert exported(repository, ID, "--revision", commit, TRUST).exit_code == 0
    card = run("verify", "abacus", "--repository", repository)
    assert "not compared: it was exported by the checkpoint's own code: let that run once more" in card.output
    card = run("verify", "abacus", "--repository", repository, TRUST, "--json")
    told = json.loads(card.stdout)
    assert told["code_sha256"] == parameters(repository, "abacus")["code_sha256"]
    assert told["verification"]["abacus"]["max_difference"] < 1e-5


def test_a_verification_by_other_code_is_refused(folder: Path, repository: Path) -> None:
    assert exported(repository, folder, TRUST).exit_code == 0
    with (folder / "modeling_abacus.py").open("a") as code:
        code.write("# another\n")
    card = run("verify", "abacus", "--repository", repository, "--checkpoint", folder, TRUST)
    assert "has other code than abacus was exported from" in card.stderr
