"""The page about changing the model, from top to bottom, on a folder of text files and a real server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from conch.app import app
from conch_export import Options, Overrides, Pooling, Precision

from tests.exports import ONE_CORE, export_once
from tests.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.checkpoints import Checkpoints

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OLD, NEW, SPACE = "all-minilm-l6-v2", "bge-small-en-v1-5", "3a15529b48ddb6a0"
ADMIN_KEY = "key-of-the-administrator"
CORPUS = ("export.md", "models.md", "rest.md", "serving.md", "gateway.md", "compose.md")
CURL = 'curl() {{ command curl --silent --noproxy "*" --output "{0}" --write-out "%{{http_code}}" "$@"; }}; {1}'


@pytest.fixture
def repository(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """Small models under the names of the page: one encoder, whose tokens count alike or more and more."""
    reference, folder = str(checkpoints.bert()), tmp_path / "models"
    for name, pooling in ((OLD, Pooling.MEAN), (NEW, Pooling.WEIGHTED_MEAN)):
        overrides = Overrides(pooling=pooling)
        export_once(Options(reference, folder, name, precision=Precision.FP32, plan=ONE_CORE, overrides=overrides))
    return folder


@pytest.fixture
def serving(repository: Path, tmp_path: Path) -> Iterator[Serving]:
    (tmp_path / "models.toml").write_text("")
    keys = {"CONCH_TRITON_ADMIN_KEY": "key-of-triton-in-tests", "CONCH_ADMIN_KEY": ADMIN_KEY}
    with Serving(repository, tmp_path, CONCH_MODELS_FILE=str(tmp_path / "models.toml"), **keys) as serving:
        yield serving


def test_the_page_can_be_followed(serving: Serving, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for name in CORPUS:
        shutil.copy(ROOT / "docs" / name, tmp_path / "corpus")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CONCH_ADMIN_KEY": ADMIN_KEY,
        "CONCH_MODEL_REPOSITORY": str(repository),
    }
    spaces = {model: serving.http.get(f"/v1/models/{model}").json()["space_id"] for model in (OLD, NEW)}

    def ran(line: str) -> str:
        here = line.replace("http://127.0.0.1:8080", serving.url).replace(SPACE, spaces[OLD])
        command = ["sh", "-c", CURL.format(tmp_path / "answer", here)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{line}: {done.stderr}{done.stdout}"
        return done.stdout

    commands = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
    assert sum(line.startswith("conch migrate") for line in commands) == 2
    assert sum(line.startswith("curl") for line in commands) > 10
    for language, text in BLOCKS:
        if language == "toml":
            (tmp_path / "models.toml").write_text(text)
        for line in text.splitlines() if language == "bash" else ():
            if line.startswith("conch embed"):  # tests/integration/test_corpus.py runs it
                group: Any = typer.main.get_command(app)
                group.commands["embed"].make_context("embed", shlex.split(line)[2:])
                continue
            told = ran(line)
            if line.startswith("curl"):
                expected = re.search(r"# (\d{3})$", line)
                assert told == (expected[1] if expected else "200"), (line, (tmp_path / "answer").read_text())

    bridge = serving.http.get(f"/v1/models/{NEW}-as-{OLD}").json()
    assert (bridge["base"], bridge["bridges_to"]) == (NEW, spaces[OLD])
