"""On any number of cores the committed files are what is generated, and serving changes none of them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conch.app import app
from conch_server._cores import fit_to_cores
from typer.testing import CliRunner

from tests.integration import generated

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

ROOT = Path(__file__).parents[2]
OF_OTHERS = ["fastapi.openapi.utils", "onnx", "onnxruntime", "prometheus_client", "tritonclient.grpc", "typer"]
"""What conch imports, which counts no cores when it is imported."""
on_any_machine = pytest.mark.parametrize("cores", [1, 2, 3, 32])


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes that have imported what others wrote when they begin, and nothing of conch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(OF_OTHERS)
    return context


@on_any_machine
def test_generated_pages_are_the_committed_ones(cores: int, processes: ForkServerContext) -> None:
    process = processes.Process(target=generated.check, args=(cores,))
    process.start()
    process.join()
    assert process.exitcode == 0, "it says which pages are not"


@on_any_machine
def test_exported_configurations_are_the_committed_ones(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    run = CliRunner().invoke(app, ["export", "--check", f"--repository={ROOT / 'model_repository'}"])
    assert run.exit_code == 0, run.output


@on_any_machine
def test_what_serving_writes_lies_beside_the_committed_files_and_is_ignored(cores: int, tmp_path: Path) -> None:
    committed = {
        path.relative_to(ROOT): path.read_bytes() for path in (ROOT / "model_repository").glob("*/config.pbtxt")
    }
    for path in committed:
        (tmp_path / path.parent / "1").mkdir(parents=True)
        shutil.copy(ROOT / path, tmp_path / path)
    fit_to_cores(tmp_path / "model_repository", cores)
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} - committed.keys()
    assert {path: (tmp_path / path).read_bytes() for path in committed} == committed
    assert bool(written) == (cores != 2)  # what is committed is planned for two
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=ROOT,
        input="\n".join(map(str, written)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert {Path(line) for line in ignored.stdout.splitlines()} == written
