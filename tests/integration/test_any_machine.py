"""On any number of cores the committed files are what is generated, and serving changes none of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conch.app import app
from conch_server._cores import fit_to_cores
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
GENERATE = """
import os, runpy, sys
cores = int(sys.argv[1])
os.cpu_count, os.sched_getaffinity = lambda: cores, lambda _: set(range(cores))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
on_any_machine = pytest.mark.parametrize("cores", [1, 2, 3, 32])


@on_any_machine
def test_generated_pages_are_the_committed_ones(cores: int) -> None:
    command = [sys.executable, "-c", GENERATE, str(cores), str(ROOT / "docs" / "generate.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


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
