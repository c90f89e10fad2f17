"""The folder for browsers: the repository's own bytes, named by their hashes, and what a client must know of them."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from conch.app import app
from conch_client import Client
from conch_client.testing import FakeModel, FakeServer
from conch_contract import WEB_ENTRY, WEB_MANIFEST, WEB_MODULE, DescriptionError, read_web_model
from conch_export import DEFAULT, ExportError, Options, UnsupportedError, plan, write_web
from conch_export.migration.head import bridge_models
from conch_export.onnx.builder import MICROSOFT
from conch_export.options import described
from conch_export.triton.configuration import save, triton_models
from conch_export.triton.repository import info_of, read_config
from conch_export.web import folder as web_folder
from conch_export.web.model import MOST_BYTES
from onnx import TensorProto, helper
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

NAME = DEFAULT.name


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model's configurations, tokenizer and report, and graphs that stand in for its own."""
    repository = tmp_path_factory.mktemp("models")
    description, checkpoint = described(Options(NAME, repository))
    configs = triton_models(description, plan(1))
    save(configs, repository)
    for name, config in configs.items():
        if config.backend == "onnxruntime":
            write_graph(repository, name)
    (repository / f"{NAME}.encoder" / "1" / "model.data").write_bytes(bytes(4096))
    (repository / f"{NAME}.tokenizer" / "1" / "tokenizer.json").write_bytes(checkpoint.tokenizer)
    write_report(repository)
    return repository


@pytest.fixture(scope="module")
def web(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for browsers, which no test changes."""
    folder = tmp_path_factory.mktemp("web")
    write_web([NAME], exported, folder)
    return folder


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / "models")


def write_graph(repository: Path, name: str, domain: str = MICROSOFT) -> None:
    """A graph of that name with a branch, in which there is an operator of the domain."""
    branch = helper.make_graph([helper.make_node("Gelu", ["x"], [name], domain=domain)], name, [], [_value(name)])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph([node], name, [_value("x"), condition], [_value("y")])
    onnx.save(helper.make_model(graph), repository / name / "1" / "model.onnx")


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])


def write_report(repository: Path) -> None:
    """A report of the files that are there now."""
    sizes = {str(path.relative_to(repository)): path.stat().st_size for path in repository.glob("*/1/*")}
    stated = {"packing": "packed", "files": sizes}
    (repository / NAME / "report.json").write_text(json.dumps(stated), encoding="utf-8")


def manifest_of(output: Path, name: str = NAME) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads((output / name / WEB_MANIFEST).read_text(encoding="utf-8"))
    return stated


def change(repository: Path, name: str, old: str, new: str) -> None:
    path = repository / name / "config.pbtxt"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_files_are_named_by_the_hashes_of_their_content(web: Path) -> None:
    stated = manifest_of(web)["files"]

    there = {path.name: path.read_bytes() for path in (web / NAME).iterdir() if path.suffix != ".gz"}
    there.pop(WEB_MANIFEST)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in there.items()}
    assert stated == {name: {"bytes": len(there[name]), "sha256": sha256} for name, sha256 in hashes.items()}
    assert all(sha256[:16] in name for name, sha256 in hashes.items())


def test_graphs_are_the_repositorys_own_bytes(exported: Path, web: Path) -> None:
    stated = manifest_of(web)

    def written(name: str) -> bytes:
        return (web / NAME / name).read_bytes()

    graphs = {"encoder": stated["encoder"], "pooling": stated["models"][0]["head"]}
    for part, graph in graphs.items():
        assert written(graph["graph"]) == (exported / f"{NAME}.{part}" / "1" / "model.onnx").read_bytes()
    assert list(stated["encoder"]["data"]) == ["model.data"]
    assert written(stated["encoder"]["data"]["model.data"]) == bytes(4096)


def test_a_client_finds_the_facts_of_every_model_that_a_browser_answers(exported: Path, tmp_path: Path) -> None:
    (written,) = write_web([NAME], exported, tmp_path)
    stated = manifest_of(tmp_path)

    info = info_of(NAME, read_config(exported, NAME))
    first, second = stated["models"]
    assert (first["name"], first["task"], second["task"]) == (NAME, "embedding", "late-interaction")
    for fact in ("dimension", "max_length", "pooling", "normalized", "prompts", "space_id", "output", "precision"):
        assert first[fact] == getattr(info, fact)
    assert written.model.left_out == {f"{NAME}-tokens": "multi-vector"}


def test_a_bridge_is_left_out_and_named(repository: Path, tmp_path: Path) -> None:
    new = info_of(NAME, read_config(repository, NAME))
    bridge = replace(new, name="new-as-old", base=NAME, bridge_sha256="3" * 64, bridges_to="0123456789abcdef")
    save(bridge_models(repository, bridge), repository)
    write_graph(repository, "new-as-old.pooling")
    write_report(repository)

    (written,) = write_web([NAME], repository, tmp_path / "web")

    assert written.model.left_out == {f"{NAME}-tokens": "multi-vector", "new-as-old": "bridge"}
    assert [each["name"] for each in manifest_of(tmp_path / "web")["models"]] == [NAME, f"{NAME}-maxsim"]


def test_probes_have_the_ids_that_clients_send(exported: Path, web: Path) -> None:
    stated = manifest_of(web)["probes"]
    content = (exported / f"{NAME}.tokenizer" / "1" / "tokenizer.json").read_bytes()
    model = FakeModel(tokenizer_json=content, parameters={"max_length": "512"})
    with FakeServer({NAME: model}) as server, Client(server.url) as client:
        assert [probe["ids"] for probe in stated] == client.tokenize([probe["text"] for probe in stated])
    assert any("[CLS]" in probe["text"] for probe in stated)


def test_the_compressed_form_is_of_the_same_content_and_not_of_weights(web: Path) -> None:
    short = list((web / NAME).glob("*.gz"))
    assert any(path.name.startswith("tokenizer-") for path in short)
    assert not any(".data" in path.name for path in short)
    for path in short:
        assert gzip.decompress(path.read_bytes()) == path.with_suffix("").read_bytes()


def test_a_gateway_reads_what_it_may_serve(exported: Path, tmp_path: Path) -> None:
    (written,) = write_web([NAME], exported, tmp_path)

    read = read_web_model(tmp_path / NAME / WEB_MANIFEST)
    assert read.files == written.files
    assert read.tasks == {NAME: "embedding", f"{NAME}-maxsim": "late-interaction"}


@pytest.mark.parametrize(
    "name", ["../keys.json", "/etc/passwd", "encoder.onnx", "encoder-0123456789abcdef.onnx/../x", "conch.json"]
)
def test_a_manifest_that_lists_other_files_is_refused(web: Path, tmp_path: Path, name: str) -> None:
    stated = manifest_of(shutil.copytree(web, tmp_path, dirs_exist_ok=True))
    stated["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    (tmp_path / NAME / WEB_MANIFEST).write_text(json.dumps(stated), encoding="utf-8")

    with pytest.raises(DescriptionError, match="it lists"):
        read_web_model(tmp_path / NAME / WEB_MANIFEST)


def test_another_export_replaces_it_and_leaves_no_old_file(repository: Path, tmp_path: Path) -> None:
    write_web([NAME], repository, tmp_path / "web")
    before = manifest_of(tmp_path / "web")["files"]
    (repository / f"{NAME}.encoder" / "1" / "model.data").write_bytes(bytes(8192))
    write_report(repository)
    write_web([NAME], repository, tmp_path / "web")

    after = manifest_of(tmp_path / "web")["files"]
    assert len(before.keys() - after.keys()) == 1
    assert not any((tmp_path / "web" / NAME / name).exists() for name in before.keys() - after.keys())


def test_nothing_is_written_where_one_of_several_cannot_be(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no model 'other'"):
        write_web([NAME, "other"], exported, tmp_path / "web")
    assert not (tmp_path / "web").exists()


def test_a_model_repository_is_not_overwritten(repository: Path) -> None:
    before = sorted(repository.rglob("*"))
    with pytest.raises(ExportError, match="not written by `conch web`"):
        write_web([NAME], repository, repository)
    assert sorted(repository.rglob("*")) == before


def test_a_derived_model_comes_with_the_one_it_is_derived_from(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"derived from {NAME}: name that instead"):
        write_web([f"{NAME}-maxsim"], exported, tmp_path)


class TestWhatABrowserCannotRunIsRefusedByName:
    def refused(self, repository: Path, message: str) -> None:
        write_report(repository)
        with pytest.raises(UnsupportedError, match=message):
            write_web([NAME], repository, repository.parent / "web")

    def test_an_export_for_a_gpu(self, repository: Path) -> None:
        change(repository, f"{NAME}.encoder", "KIND_CPU", "KIND_GPU")
        self.refused(repository, "exported for a GPU")

    def test_a_file_that_no_browser_holds(self, repository: Path) -> None:
        with (repository / f"{NAME}.encoder" / "1" / "model.data").open("wb") as file:
            file.truncate(MOST_BYTES + 1)  # takes no space on the disk
        self.refused(repository, r"model.data of its encoder has 2\.1 GB")

    def test_an_operator_of_somebody_elses(self, repository: Path) -> None:
        write_graph(repository, f"{NAME}.pooling", domain="ai.onnx.ml")
        self.refused(repository, r"its pooling has operators that onnxruntime-web lacks: ai\.onnx\.ml\.Gelu")


class TestTheCommand:
    def run(self, repository: Path, output: Path) -> str:
        arguments = ["web", NAME, "--repository", str(repository), "--output", str(output)]
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.stderr

    def test_the_module_lies_beside_the_models(
        self, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = tmp_path / "module"
        module.mkdir()
        (module / WEB_ENTRY).write_text("export const load = 0; " * 100, encoding="utf-8")
        monkeypatch.setattr(web_folder, "MODULE", module)

        said = self.run(exported, tmp_path / "web")

        assert (tmp_path / "web" / WEB_MODULE / WEB_ENTRY).read_bytes() == (module / WEB_ENTRY).read_bytes()
        assert (tmp_path / "web" / WEB_MODULE / f"{WEB_ENTRY}.gz").exists()
        assert "make web" not in said

    def test_it_says_how_to_get_a_module_that_is_not_built(
        self, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(web_folder, "MODULE", tmp_path / "nowhere")

        said = self.run(exported, tmp_path / "web")

        assert "`make web` in a checkout builds it" in said
        assert not (tmp_path / "web" / WEB_MODULE).exists()
        assert f"{NAME}-tokens (multi-vector)" in said
