"""The changes in CONTRIBUTING: each is one new file and at most one more line, and what it adds answers requests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIFFS = re.findall(
    r"^```diff\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
DIALECT, BACKEND = (next(diff for diff in DIFFS if f"/{folder}/" in diff) for folder in ("api", "backends"))

ASK = """
import asyncio, httpx
from conch_client import AsyncClient
from conch_client.testing import FakeModel, FakeServer
from conch_gateway import GatewaySettings, create_app


async def main(path, body):
    with FakeServer({"all-minilm-l6-v2": FakeModel()}) as server:
        async with AsyncClient(server.url) as client:
            transport = httpx.ASGITransport(create_app(GatewaySettings(), client))
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
                print((await http.post(path, json=body)).raise_for_status().text)


asyncio.run(main(%r, %r))
"""


@pytest.mark.parametrize("diff", DIFFS, ids=["family", "dialect", "backend"])
def test_a_change_is_one_new_file_and_at_most_one_line(diff: str) -> None:
    kept, made = diff.count("--- a/"), diff.count("--- /dev/null")
    before_the_file = diff.partition("--- /dev/null")[0] if diff.startswith("--- a/") else diff.rpartition("--- a/")[2]
    changed = [line for line in before_the_file.splitlines() if re.match(r"[+-](?![+-])", line)]
    assert made == 1
    assert kept == 0 or (kept == 1 and len(changed) == 1)


@pytest.mark.parametrize(
    ("diff", "path", "body", "answered"),
    [
        pytest.param(
            DIALECT,
            "/pipeline/feature-extraction/all-minilm-l6-v2",
            {"inputs": ["a text"]},
            "[[",
            id="dialect",
        ),
        pytest.param(
            BACKEND, "/v1/embeddings", {"model": "stand-in", "input": ["a", "b"]}, '"model":"stand-in"', id="backend"
        ),
    ],
)
def test_what_a_change_adds_answers(tmp_path: Path, diff: str, path: str, body: object, answered: str) -> None:
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        ["git", "apply", "-"], input=diff, cwd=tmp_path, check=True, text=True, env=_outside_of_git(tmp_path)
    )
    models_file = tmp_path / "models.toml"
    models_file.write_text("[stand-in]\nstub = 8\n" if diff == BACKEND else "")
    models_file.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", ASK % (path, body)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "gateway"), "CONCH_MODELS_FILE": str(models_file)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answered in done.stdout, done.stderr


def _outside_of_git(folder: Path) -> dict[str, str]:
    """An environment in which git takes the folder for no part of a repository, which it would apply changes to."""
    return {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
