"""The commands and the Python of the page about corpora, run in a folder of real text files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import pytest

from tests.exports import export_once, minilm

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8")
ELSEWHERE = ("pip", "s3://", "--server")  # installs, a cluster with a bucket, a gateway


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader of the page is: text files, questions about them, and the default models."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "notes").mkdir()
    for page in ("corpus.md", "glossary.md", "adr/0004-int8-schemes.md"):
        shutil.copy(ROOT / "docs" / page, folder / "notes")
    documents = ["A cat sat on the mat.", "It is late.", "The cat is on the roof."]
    question = {"query": "Where is the cat?", "documents": documents}
    (folder / "questions.jsonl").write_text(json.dumps(question), encoding="utf-8")
    export_once(minilm(folder / "model_repository", "fp32"))
    return folder


def run(command: list[str], folder: Path, given: str = "") -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def blocks() -> Iterator[tuple[str, str]]:
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_what_the_page_shows_can_be_done(folder: Path) -> None:
    said = []
    for language, text in blocks():
        if language == "python":
            said.append(run([sys.executable, "-W", "error", "-"], folder, given=text))
        elif not any(word in text for word in ELSEWHERE):
            said.append(run(shlex.split(text), folder))
    embedded, neighbours, again, ranked = said
    rows = ds.dataset(folder / "vectors").count_rows()
    assert f"{rows:,} rows, 0 of them are there already" in embedded
    assert re.match(r"\S+\.md:1 # ", neighbours)
    assert re.search(r"^[0-9a-f]{16}$", neighbours, re.MULTILINE)
    assert f"{rows:,} rows, {rows:,} of them are there already" in again
    assert "1 rows" in ranked
    (row,) = ds.dataset(folder / "rankings").to_table().to_pylist()
    assert sorted(row["ranking"]) == [0, 2]
    assert row["scores"] == sorted(row["scores"], reverse=True)


def test_every_option_that_the_page_names_exists() -> None:
    known = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    # What was measured names the command of a benchmark, which has options of its own.
    written = re.sub(r"<!-- measured -->.*<!-- /measured -->", "", PAGE, flags=re.DOTALL)
    options = set(re.findall(r"--[a-z-]+", written))
    assert "--output" in options
    assert {option for option in options if option not in known} == set()
