"""A repository that says nothing of cores is fitted to the machine that serves it, and stays as it is in the tree."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from conch_export import Aim, Options, plan
from conch_export.options import described
from conch_export.triton.configuration import to_text, triton_models
from conch_server._cores import fit_to_cores, fitted
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

COMMITTED = Path(__file__).parents[3] / "model_repository"
ENCODER = "all-minilm-l6-v2.encoder"


def parsed(text: str) -> Any:
    return text_format.Parse(text, pb.ModelConfig())


def test_the_committed_repository_says_nothing_of_cores() -> None:
    options = Options("all-minilm-l6-v2", COMMITTED)
    for name, config in triton_models(described(options)[0], options.plan).items():
        assert (COMMITTED / name / "config.pbtxt").read_text(encoding="utf-8") == to_text(config)


@pytest.mark.parametrize("cores", [1, 2, 3, 32])
def test_an_encoder_gets_an_instance_for_each_core(cores: int) -> None:
    config = parsed(fitted((COMMITTED / ENCODER / "config.pbtxt").read_text(encoding="utf-8"), cores))
    assert sum(group.count for group in config.instance_group) == cores
    assert config.instance_group[0].count == 1
    assert config.parameters["intra_op_thread_count"].string_value == "1"


@pytest.mark.parametrize("cores", [1, 2, 3, 32])
def test_for_latency_its_one_instance_gets_a_thread_for_each_core(cores: int) -> None:
    options = Options("all-minilm-l6-v2", COMMITTED, plan=plan(aim=Aim.LATENCY))
    exported = to_text(triton_models(described(options)[0], options.plan)[ENCODER])
    config = parsed(fitted(exported, cores))
    assert sum(group.count for group in config.instance_group) == 1
    assert config.parameters["intra_op_thread_count"].string_value == str(cores)


def test_what_was_planned_for_so_many_cores_stays_so() -> None:
    options = Options("all-minilm-l6-v2", COMMITTED, plan=plan(cores=4))
    for config in triton_models(described(options)[0], options.plan).values():
        assert fitted(to_text(config), 32) == to_text(config)


def test_exported_files_stay_and_each_number_of_cores_has_a_file_of_its_own(tmp_path: Path) -> None:
    repository = shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1", "configs"))
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    exported = (repository / ENCODER / "config.pbtxt").read_text(encoding="utf-8")

    for cores in (3, 2, 8):  # what is committed is planned for two
        fit_to_cores(repository, cores)

    configs = repository / ENCODER / "configs"
    written = {path: path.read_text(encoding="utf-8") for path in repository.rglob("configs/*")}
    assert written == {configs / f"{cores}-cores.pbtxt": fitted(exported, cores) for cores in (3, 8)}
    assert {path: path.read_bytes() for path in before} == before


def test_what_does_not_fit_any_more_goes(tmp_path: Path) -> None:
    repository = shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1", "configs"))
    fit_to_cores(repository, 3)
    options = Options("all-minilm-l6-v2", COMMITTED, plan=plan(cores=3))
    fixed = triton_models(described(options)[0], options.plan)[ENCODER]
    (repository / ENCODER / "config.pbtxt").write_text(to_text(fixed), encoding="utf-8")
    fit_to_cores(repository, 3)
    assert not list(repository.rglob("configs/*"))


def test_what_fits_already_is_not_written_again(tmp_path: Path) -> None:
    repository = shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1", "configs"))
    written = repository / ENCODER / "configs" / "3-cores.pbtxt"
    fit_to_cores(repository, 3)
    before = written.stat()
    fit_to_cores(repository, 3)
    assert (written.stat().st_ino, written.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_where_nothing_can_be_written_it_is_served_as_planned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1", "configs"))
    (repository / ENCODER / "configs").write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="conch_server"):
        fit_to_cores(repository, 3)
    assert f"{ENCODER} is served as it was planned, not for 3 cores" in caplog.text


def test_tritons_that_start_together_do_not_take_each_others_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    repository = shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1", "configs"))
    both_have_written, replace = Barrier(2), Path.replace

    def replace_together(path: Path, target: Path) -> Path:
        both_have_written.wait(60)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_together)
    with ThreadPoolExecutor() as tritons, caplog.at_level(logging.WARNING, logger="conch_server"):
        list(tritons.map(fit_to_cores, [repository] * 2, [3] * 2))
    exported = (repository / ENCODER / "config.pbtxt").read_text(encoding="utf-8")
    [written] = (repository / ENCODER / "configs").iterdir()
    assert written.read_text(encoding="utf-8") == fitted(exported, 3)
    assert not caplog.records


@pytest.mark.parametrize("broken", [b"per_core {", b"per_core \xff"])
def test_a_broken_configuration_is_what_triton_reads(tmp_path: Path, broken: bytes) -> None:
    repository = shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1", "configs"))
    fit_to_cores(repository, 3)
    (repository / ENCODER / "config.pbtxt").write_bytes(broken)
    fit_to_cores(repository, 3)
    assert not list(repository.rglob("configs/*"))
